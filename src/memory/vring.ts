import { VhostError } from "../spec/errno.js";
import {
  VIRTQ_AVAIL_ELEM_BYTES,
  VIRTQ_DESC_BYTES,
  VIRTQ_RING_ELEMENTS,
  VIRTQ_SIZE_MAX,
  VIRTQ_USED_ELEM_BYTES,
} from "../spec/virtio-ring.js";

/** Bytes of an event word at the end of either ring. */
const EVENT_BYTES = 2;

/** Throws EINVAL unless `num` is a queue size that a split ring can have. */
export function checkQueueSize(num: number): void {
  if (Number.isInteger(num) && num >= 1 && num <= VIRTQ_SIZE_MAX && (num & (num - 1)) === 0) return;
  throw new VhostError("EINVAL", "a split ring's size is a power of two from 1 to 32768", { num });
}

/** Bytes of the descriptor table. virtio 1.3, 2.7 Split Virtqueues. */
export function descBytes(num: number): number {
  return num * VIRTQ_DESC_BYTES;
}

/** Bytes of the driver area with its event word. virtio 1.3, 2.7 Split Virtqueues. */
export function driverAreaBytes(num: number): number {
  return VIRTQ_RING_ELEMENTS + num * VIRTQ_AVAIL_ELEM_BYTES + EVENT_BYTES;
}

/** Bytes of the device area with its event word. virtio 1.3, 2.7 Split Virtqueues. */
export function deviceAreaBytes(num: number): number {
  return VIRTQ_RING_ELEMENTS + num * VIRTQ_USED_ELEM_BYTES + EVENT_BYTES;
}
