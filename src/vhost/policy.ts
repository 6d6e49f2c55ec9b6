import type { Policy } from "../ring/state-block.js";
import { VhostError } from "../spec/errno.js";
import { featureMask } from "../spec/features.js";
import {
  VIRTIO_F_EVENT_IDX,
  VIRTIO_F_IN_ORDER,
  VIRTIO_F_INDIRECT_DESC,
  VIRTIO_F_NOTIFICATION_DATA,
  VIRTIO_F_RING_PACKED,
  VIRTIO_F_RING_RESET,
  VIRTIO_F_VERSION_1,
} from "../spec/virtio-config.js";
import type { DeviceInfo } from "./device.js";
import type { WorkerOptions } from "./worker-handle.js";

const COMMON = [VIRTIO_F_INDIRECT_DESC, VIRTIO_F_EVENT_IDX, VIRTIO_F_VERSION_1];

/** What only the doorbell can carry: an eventfd says that it was kicked, and no more. */
const KICK_DATA = featureMask(VIRTIO_F_NOTIFICATION_DATA);
const IN_ORDER = featureMask(VIRTIO_F_IN_ORDER);

/** Features that the rings bring to every device, as masks. Linux's vhost knows no others. */
export const RING_FEATURES: Record<Policy, bigint> = {
  strict: featureMask(
    ...COMMON,
    VIRTIO_F_RING_PACKED,
    VIRTIO_F_IN_ORDER,
    VIRTIO_F_NOTIFICATION_DATA,
    VIRTIO_F_RING_RESET,
  ),
  linux: featureMask(...COMMON),
};

/** Throws EINVAL for what is no policy. */
export function checkPolicy(policy: Policy = "strict"): Policy {
  if (policy === "strict" || policy === "linux") return policy;
  const message = `policy is "strict" or "linux", not ${String(policy)}`;
  throw new VhostError("EINVAL", message, { policy });
}

/** Features on offer by a device and its rings; `hasEventfds`: kicks come by eventfds. */
export function offeredFeatures(
  { features, answersLater }: DeviceInfo,
  policy: Policy,
  hasEventfds: boolean,
): bigint {
  const all = features | RING_FEATURES[policy];
  const kicks = hasEventfds ? all & ~KICK_DATA : all;
  return answersLater ? kicks & ~IN_ORDER : kicks;
}

/** How a worker is run under `policy`: Linux polls only when it is told to. */
export function withPolicy(options: WorkerOptions, policy: Policy): WorkerOptions {
  const { pollMicroseconds = 0 } = options;
  return policy === "linux" ? { ...options, pollMicroseconds } : options;
}
