import { VhostError } from "../../spec/errno.js";
import { hasFeature } from "../../spec/features.js";
import {
  VHOST_BACKEND_FEATURES,
  VHOST_F_LOG_ALL,
  VHOST_GET_FORK_FROM_OWNER,
  VHOST_NET_FEATURES,
  VHOST_SCSI_FEATURES,
  VHOST_SET_FORK_FROM_OWNER,
  VHOST_SET_LOG_BASE,
  VHOST_SET_LOG_FD,
  VHOST_SET_MEM_TABLE,
  VHOST_SET_OWNER,
  VHOST_VSOCK_FEATURES,
} from "../../spec/vhost.js";
import { VIRTIO_F_ACCESS_PLATFORM } from "../../spec/virtio-config.js";
import { mustBeOffered } from "../vring-settings.js";
import { eventfdOf, type Handler, type IoctlCall, putU64, s32Of, u64Of } from "./call.js";
import { readMemoryTable } from "./memory-table.js";
import type { VhostKind } from "./state.js";

/** Features on offer. */
const FEATURES: Record<VhostKind, bigint> = {
  vsock: VHOST_VSOCK_FEATURES,
  net: VHOST_NET_FEATURES,
  scsi: VHOST_SCSI_FEATURES,
};

/** Anyone's. Linux: VHOST_GET_FEATURES. */
export const getFeatures: Handler = (call) => putU64(call, FEATURES[call.dev.kind]);

/**
 * Anyone's, also while rings run. With VIRTIO_F_ACCESS_PLATFORM, each time, the device begins with
 * no translation; without it, those that it has stay. Linux: VHOST_SET_FEATURES.
 */
export const setFeatures: Handler = (call) => {
  const { dev } = call;
  const features = u64Of(call);
  mustBeOffered(features, FEATURES[dev.kind]);
  if (hasFeature(features, VHOST_F_LOG_ALL) && !dev.isMemoryAccessible(dev.regions, true)) {
    throw new VhostError("EFAULT", "the dirty log can't be where it is set to be");
  }
  if (hasFeature(features, VIRTIO_F_ACCESS_PLATFORM)) dev.iotlb.init();
  dev.set({ features });
};

/** Anyone's, where the device has them. Linux: VHOST_GET_BACKEND_FEATURES. */
export const getBackendFeatures: Handler = (call) => putU64(call, VHOST_BACKEND_FEATURES);

/** Anyone's, where the device has them. Linux: VHOST_SET_BACKEND_FEATURES. */
export const setBackendFeatures: Handler = (call) => {
  const features = u64Of(call);
  mustBeOffered(features, VHOST_BACKEND_FEATURES);
  call.dev.backendFeatures = features;
};

function setForkFromOwner({ dev, memory, arg }: IoctlCall): void {
  if (dev.owner.isSet) throw new VhostError("EBUSY", "the device has an owner");
  const [mode] = memory.read(arg, 1);
  if (mode !== 0 && mode !== 1) throw new VhostError("EINVAL", "the mode is 0 or 1", { mode });
  dev.forkFromOwner = mode === 1;
}

function setMemTable({ dev, memory, arg }: IoctlCall): void {
  const regions = readMemoryTable(memory, arg);
  if (!dev.isMemoryAccessible(regions)) {
    throw new VhostError("EFAULT", "a region, or its part of the dirty log, can't be there");
  }
  dev.set({ regions });
}

/** A ring that runs and can't have the log there keeps the one it has; the others do not. */
function setLogBase(call: IoctlCall): void {
  const base = u64Of(call);
  let isRefused = false;
  for (const vq of call.dev.vqs) {
    const log = { ...vq.log, base };
    if (vq.isActive && !vq.isLogAccessible(log)) {
      isRefused = true;
      continue;
    }
    vq.log = log;
    vq.update();
  }
  if (isRefused) throw new VhostError("EFAULT", "the dirty log can't be there", { base });
}

/** Anyone's, of any device. */
const OPEN = new Map<number, Handler>([
  [VHOST_SET_OWNER, ({ dev, task }) => dev.setOwner(task)],
  [VHOST_SET_FORK_FROM_OWNER, setForkFromOwner],
  [
    VHOST_GET_FORK_FROM_OWNER,
    ({ dev, memory, arg }) => memory.write(arg, Uint8Array.of(dev.forkFromOwner ? 1 : 0)),
  ],
]);

/** The owner's, of any device. */
const OWNERS = new Map<number, Handler>([
  [VHOST_SET_MEM_TABLE, setMemTable],
  [VHOST_SET_LOG_BASE, setLogBase],
  [VHOST_SET_LOG_FD, (call) => call.dev.setLogFd(eventfdOf(call.task, s32Of(call)))],
]);

/**
 * What every device has. False: it is none of these, and the caller is the owner. EPERM: whatever
 * it is, the caller is not. Linux: vhost_dev_ioctl().
 */
export function devIoctl(request: number, call: IoctlCall): boolean {
  const open = OPEN.get(request);
  if (!open) call.dev.owner.mustBe(call.task);
  const handler = open ?? OWNERS.get(request);
  handler?.(call);
  return handler !== undefined;
}
