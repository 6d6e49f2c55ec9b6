import type { Task } from "../../kernel/task.js";
import { VhostError } from "../../spec/errno.js";
import {
  VHOST_GET_BACKEND_FEATURES,
  VHOST_GET_FEATURES,
  VHOST_SET_BACKEND_FEATURES,
  VHOST_SET_FEATURES,
} from "../../spec/vhost.js";
import { asVhostError } from "../control.js";
import { UserMemory } from "../user-access.js";
import { fileOf, type Handler, type IoctlCall } from "./call.js";
import {
  devIoctl,
  getBackendFeatures,
  getFeatures,
  setBackendFeatures,
  setFeatures,
} from "./dev-requests.js";
import { VhostFile } from "./file.js";
import { NET_REQUESTS } from "./net-requests.js";
import type { VhostKind } from "./state.js";
import { vringIoctl } from "./vring-requests.js";
import { VSOCK_REQUESTS } from "./vsock-requests.js";
import { WORKER_REQUESTS } from "./worker-requests.js";

const FEATURES: [number, Handler][] = [
  [VHOST_GET_FEATURES, getFeatures],
  [VHOST_SET_FEATURES, setFeatures],
];
const BACKEND_FEATURES: [number, Handler][] = [
  [VHOST_GET_BACKEND_FEATURES, getBackendFeatures],
  [VHOST_SET_BACKEND_FEATURES, setBackendFeatures],
];

/** What a device looks at first; everything else is common to all. */
const OWN: Record<VhostKind, ReadonlyMap<number, Handler>> = {
  vsock: new Map([...FEATURES, ...BACKEND_FEATURES, ...VSOCK_REQUESTS]),
  net: new Map([...FEATURES, ...BACKEND_FEATURES, ...NET_REQUESTS]),
  scsi: new Map([...FEATURES, ...WORKER_REQUESTS]),
};

/** An ioctl that has done what it does, and may have to wait for the workers yet. */
export interface BegunIoctl {
  /** Why it was refused. */
  readonly error: VhostError | undefined;
  /** Whether the workers have come so far that it may return. */
  isDone(): boolean;
}

/**
 * `flush` is called where the workers are to be waited for: behind what every device has, refused
 * or not, and when a kick eventfd went. Linux: vhost_vsock_flush(), vhost_net_flush().
 */
function dispatch(request: number, call: IoctlCall, flush: () => void): void {
  const own = OWN[call.dev.kind].get(request);
  if (own) {
    own(call);
    return;
  }
  let isCommon = true;
  try {
    isCommon = devIoctl(request, call);
  } finally {
    if (isCommon && call.dev.kind !== "scsi") flush();
  }
  if (!isCommon && vringIoctl(request, call)) flush();
}

/**
 * ioctl(2) on a vhost device, but for the wait at its end. `arg` is a user address of the caller's.
 * What is not an ioctl of the device is the owner's to ask for: EPERM, then EFAULT for the first
 * four bytes, ENOBUFS, ENOTTY. EBADF: no such descriptor. Linux: vhost_vsock_dev_ioctl() and its
 * like.
 */
export function beginIoctl(task: Task, fd: number, request: number, arg: bigint): BegunIoctl {
  try {
    return fileIoctl(task, vhostFileOf(task, fd), request, arg);
  } catch (error) {
    return { error: asVhostError(error), isDone: () => true };
  }
}

/** A device that the caller has open. EBADF: no such descriptor; ENOTTY: it is something else. */
export function vhostFileOf(task: Task, fd: number): VhostFile {
  const file = fileOf(task, fd);
  if (file instanceof VhostFile) return file;
  throw new VhostError("ENOTTY", `${fd} is no vhost device`);
}

/** As `beginIoctl`, on what is open. */
export function fileIoctl(task: Task, file: VhostFile, request: number, arg: bigint): BegunIoctl {
  const { workers } = file.state;
  let isDone = () => workers.isSettled;
  let error: VhostError | undefined;
  try {
    const call = { dev: file.state, task, memory: UserMemory.of(task), arg };
    dispatch(request >>> 0, call, () => {
      const isFlushed = workers.flush();
      isDone = () => isFlushed() && workers.isSettled;
    });
  } catch (thrown) {
    error = asVhostError(thrown);
  }
  return { error, isDone };
}
