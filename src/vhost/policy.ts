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

const COMMON = [VIRTIO_F_INDIRECT_DESC, VIRTIO_F_EVENT_IDX, VIRTIO_F_VERSION_1];

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
