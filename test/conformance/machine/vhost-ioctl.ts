// The ioctls of /dev/vhost-vsock, -net and -scsi that scenarios of processes need, with their
// checks in Linux's order. An ioctl that is not here is refused as an unknown one would be.

import type { Task } from "#dist/kernel/task.js";
import { ScriptError, SyscallError } from "./errors.js";
import { Ring } from "./ring.js";
import type { VhostDevice, Vq } from "./vhost-device.js";

/** What an ioctl points to; results are written into it. `undefined`: NULL. */
export type IoctlArg = Record<string, unknown> | number | bigint | undefined;

/** What one ioctl works on. */
interface Call {
  dev: VhostDevice;
  task: Task;
  arg: IoctlArg;
  /** The devices of the machine, for what must be unique. */
  others: Iterable<VhostDevice>;
}

const FEATURES = { vsock: 0x33d000002n, net: 0x1033d008000n, scsi: 0x13d00000an } as const;

const fail = (code: string): never => {
  throw new SyscallError(code);
};

/** Fields of what the argument points to. EFAULT: it points nowhere. */
function fields(arg: IoctlArg): Record<string, unknown> {
  return typeof arg === "object" && arg !== null ? arg : fail("EFAULT");
}

function number({ arg }: Call): number {
  return typeof arg === "number" || typeof arg === "bigint" ? Number(arg) : fail("EFAULT");
}

/** Anyone's, owner or not. */
const OPEN: Record<string, (call: Call) => void> = {
  VHOST_GET_FEATURES: ({ dev, arg }) => {
    fields(arg).features = FEATURES[dev.kind];
  },
  VHOST_SET_FEATURES: ({ dev, arg }) => {
    const isOne = typeof arg === "bigint" || typeof arg === "number";
    const features = isOne ? BigInt(arg) : fail("EFAULT");
    if (features & ~FEATURES[dev.kind]) fail("EOPNOTSUPP");
    dev.features = features;
  },
  VHOST_SET_OWNER: ({ dev, task }) => dev.setOwner(task),
  VHOST_GET_FORK_FROM_OWNER: ({ dev, arg }) => {
    fields(arg).value = dev.forkFromOwner ? 1 : 0;
  },
  VHOST_SET_FORK_FROM_OWNER: (call) => {
    if (call.dev.isOwned) fail("EBUSY");
    const mode = number(call);
    if (mode !== 0 && mode !== 1) fail("EINVAL");
    call.dev.forkFromOwner = mode === 1;
  },
};

const VSOCK: Record<string, (call: Call) => void> = {
  VHOST_VSOCK_SET_GUEST_CID: (call) => {
    const cid = number(call);
    if (!(cid > 2 && cid < 0xffffffff)) fail("EINVAL");
    for (const dev of call.others) if (dev !== call.dev && dev.cid === cid) fail("EADDRINUSE");
    call.dev.cid = cid;
  },
  VHOST_VSOCK_SET_RUNNING: (call) => {
    const start = number(call);
    if (!call.dev.isOwner(call.task)) fail("EPERM");
    const isReady = call.dev.hasMemory && call.dev.vqs.every(({ ring }) => ring !== undefined);
    if (start && !isReady) fail("EFAULT");
    for (const vq of call.dev.vqs) vq.isActive = start !== 0;
  },
};

/** Anyone's, where the device has them. */
const BACKEND: Record<string, (call: Call) => void> = {
  VHOST_GET_BACKEND_FEATURES: ({ arg }) => {
    fields(arg).features = IOTLB_MSG_V2;
  },
  VHOST_SET_BACKEND_FEATURES: (call) => {
    if ((number(call) & ~IOTLB_MSG_V2) !== 0) fail("EOPNOTSUPP");
  },
};

/** Linux: 1 << VHOST_BACKEND_F_IOTLB_MSG_V2. */
const IOTLB_MSG_V2 = 2;

const WORKERS: Record<string, (call: Call) => void> = {
  VHOST_NEW_WORKER: ({ dev, task, arg }) => {
    const id = dev.newWorker(task);
    fields(arg).worker_id = id;
  },
  VHOST_FREE_WORKER: ({ dev, arg }) => dev.freeWorker(Number(fields(arg).worker_id)),
  VHOST_ATTACH_VRING_WORKER: ({ dev, arg }) =>
    dev.attachWorker(vqOf(dev, arg), Number(fields(arg).worker_id)),
  VHOST_GET_VRING_WORKER: ({ dev, arg }) => {
    fields(arg).worker_id = dev.workerOf(vqOf(dev, arg));
  },
};

const VRING: Record<string, (call: Call, vq: Vq) => void> = {
  VHOST_SET_VRING_NUM: ({ arg }, vq) => {
    if (vq.isActive) fail("EBUSY");
    const num = Number(fields(arg).num);
    if (!(num > 0 && num <= 0xffff && (num & (num - 1)) === 0)) fail("EINVAL");
    vq.num = num;
  },
  VHOST_SET_VRING_BASE: ({ arg }, vq) => {
    if (vq.isActive) fail("EBUSY");
    const base = Number(fields(arg).num);
    if (!(base >= 0 && base <= 0xffff)) fail("EINVAL");
    vq.lastAvail = base;
  },
  VHOST_GET_VRING_BASE: ({ arg }, vq) => {
    fields(arg).num = vq.lastAvail;
  },
  VHOST_SET_VRING_ADDR: ({ arg }, vq) => {
    vq.ring = ringOf(fields(arg).ring, "EINVAL");
  },
  VHOST_SET_VRING_KICK: ({ dev, arg }, vq) => {
    const ring = ringOf(fields(arg).ring, "EBADF");
    if (vq.kick) vq.kick.kick.onWrite = undefined;
    vq.kick = ring;
    ring.kick.onWrite = () => dev.queueKick(vq);
  },
  VHOST_SET_VRING_BUSYLOOP_TIMEOUT: ({ arg }, vq) => {
    vq.busyloopTimeout = Number(fields(arg).num);
  },
  VHOST_GET_VRING_BUSYLOOP_TIMEOUT: ({ arg }, vq) => {
    fields(arg).num = vq.busyloopTimeout;
  },
  VHOST_SET_VRING_CALL: ({ arg }) => {
    fields(arg);
  },
  VHOST_SET_VRING_ERR: ({ arg }) => {
    fields(arg);
  },
};

const ringOf = (ring: unknown, code: string): Ring => (ring instanceof Ring ? ring : fail(code));

/** The ring that the first four bytes behind the argument name. EFAULT: NULL. ENOBUFS: none. */
function vqOf(dev: VhostDevice, arg: IoctlArg): Vq {
  return dev.vqs[firstU32(arg)] ?? fail("ENOBUFS");
}

/** Structs begin with `index`, or with what else is in them; without anything, with 0. */
function firstU32(arg: IoctlArg): number {
  if (arg === undefined) return fail("EFAULT");
  if (typeof arg !== "object") return Number(BigInt.asUintN(32, BigInt(arg)));
  const first = arg.index ?? Object.values(arg).find((value) => typeof value === "number") ?? 0;
  return Number(first) >>> 0;
}

/** What the name does on such a device; who may is tested within. */
function handlerOf(name: string, { kind }: VhostDevice): (call: Call) => void {
  if (kind === "vsock" && VSOCK[name]) return VSOCK[name];
  if (kind !== "scsi" && BACKEND[name]) return BACKEND[name];
  if (OPEN[name]) return OPEN[name];
  if (kind === "scsi" && WORKERS[name]) return (call) => workers(WORKERS[name], call);
  return (call) => ownersOnly(name, call);
}

function workers(handler: ((call: Call) => void) | undefined, call: Call): void {
  if (!call.dev.isOwned) fail("EINVAL");
  if (!call.dev.isOwner(call.task)) fail("EPERM");
  handler?.(call);
}

function ownersOnly(name: string, call: Call): void {
  const { dev, task, arg } = call;
  if (!dev.isOwner(task)) fail("EPERM");
  if (name === "VHOST_SET_MEM_TABLE") {
    fields(arg);
    dev.hasMemory = true;
  } else if (name === "VHOST_SET_LOG_BASE" || name === "VHOST_SET_LOG_FD") {
    number(call);
  } else if (name === "VHOST_RESET_OWNER" && dev.kind === "net") {
    dev.release();
  } else {
    const vq = vqOf(dev, arg);
    const vring = VRING[name] ?? fail("ENOTTY");
    vring(call, vq);
  }
}

/** Those that are known by name, but refused here or handled above. */
const NAMED = [
  ...["VHOST_SET_MEM_TABLE", "VHOST_RESET_OWNER", "VHOST_SET_LOG_BASE", "VHOST_SET_LOG_FD"],
  ...["VHOST_SET_VRING_ENDIAN", "VHOST_GET_VRING_ENDIAN"],
  ...[OPEN, VSOCK, BACKEND, WORKERS, VRING].flatMap(Object.keys),
];

/** Makes the call, short of the flush that ends it. Throws SyscallError. */
export function vhostIoctl(name: string, call: Call): void {
  if (!NAMED.includes(name) && !/^0x[0-9a-f]+$/i.test(name)) {
    throw new ScriptError(`${name} is no ioctl that the machine has: a name, or "0xaf7f"`);
  }
  handlerOf(name, call.dev)(call);
}

/** Whether the call ends by waiting for the workers. Linux: vhost_dev_flush() in the ioctls. */
export const flushes = (name: string, { kind }: VhostDevice): boolean =>
  kind !== "scsi" && !name.startsWith("VHOST_VSOCK_") && !/_FEATURES$/.test(name);
