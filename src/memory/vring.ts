import { VhostError } from "../spec/errno.js";
import {
  INFLIGHT_PACKED_DESC_BYTES,
  INFLIGHT_PACKED_DESCS,
  INFLIGHT_REGION_ALIGN,
  INFLIGHT_SPLIT_DESC_BYTES,
  INFLIGHT_SPLIT_DESCS,
} from "../spec/inflight.js";
import {
  PVIRTQ_EVENT_ALIGN,
  PVIRTQ_EVENT_BYTES,
  VIRTQ_AVAIL_ALIGN,
  VIRTQ_AVAIL_ELEM_BYTES,
  VIRTQ_DESC_ALIGN,
  VIRTQ_DESC_BYTES,
  VIRTQ_RING_ELEMENTS,
  VIRTQ_SIZE_MAX,
  VIRTQ_USED_ALIGN,
  VIRTQ_USED_ELEM_BYTES,
} from "../spec/virtio-ring.js";

/** Bytes of an event word at the end of either ring. */
const EVENT_BYTES = 2;

/** Throws EINVAL unless `num` is a queue size that a ring can have: split, if it is not packed. */
export function checkQueueSize(num: number, isPacked = false): void {
  const isSize = Number.isInteger(num) && num >= 1 && num <= VIRTQ_SIZE_MAX;
  if (isSize && (isPacked || (num & (num - 1)) === 0)) return;
  const which = isPacked ? "packed ring's size is" : "split ring's size is a power of two";
  throw new VhostError("EINVAL", `a ${which} from 1 to ${VIRTQ_SIZE_MAX}, not ${num}`, {
    num,
  });
}

/** What one of a ring's areas takes: bytes, and the alignment that it must have. */
export interface VringArea {
  bytes: number;
  align: number;
}

/** The three areas of a ring of `num` entries. virtio 1.3, 2.7 and 2.8.10.1. */
export function vringAreas(
  num: number,
  isPacked: boolean,
): Record<"desc" | "driver" | "device", VringArea> {
  const desc = { bytes: descBytes(num), align: VIRTQ_DESC_ALIGN };
  if (isPacked) {
    const event = { bytes: PVIRTQ_EVENT_BYTES, align: PVIRTQ_EVENT_ALIGN };
    return { desc, driver: event, device: event };
  }
  return {
    desc,
    driver: { bytes: driverAreaBytes(num), align: VIRTQ_AVAIL_ALIGN },
    device: { bytes: deviceAreaBytes(num), align: VIRTQ_USED_ALIGN },
  };
}

/** Bytes of a split ring's descriptor table, or of a packed one's ring. virtio 1.3, 2.7, 2.8. */
export function descBytes(num: number): number {
  return num * VIRTQ_DESC_BYTES;
}

/** Bytes of a split ring's driver area with its event word. virtio 1.3, 2.7 Split Virtqueues. */
export function driverAreaBytes(num: number): number {
  return VIRTQ_RING_ELEMENTS + num * VIRTQ_AVAIL_ELEM_BYTES + EVENT_BYTES;
}

/** Bytes of a split ring's device area with its event word. virtio 1.3, 2.7 Split Virtqueues. */
export function deviceAreaBytes(num: number): number {
  return VIRTQ_RING_ELEMENTS + num * VIRTQ_USED_ELEM_BYTES + EVENT_BYTES;
}

/** Bytes of a queue's region, for rings of `num` entries. vhost-user, "Inflight I/O tracking". */
export function inflightRegionBytes(num: number, isPacked: boolean): number {
  const bytes = isPacked
    ? INFLIGHT_PACKED_DESCS + num * INFLIGHT_PACKED_DESC_BYTES
    : INFLIGHT_SPLIT_DESCS + num * INFLIGHT_SPLIT_DESC_BYTES;
  return Math.ceil(bytes / INFLIGHT_REGION_ALIGN) * INFLIGHT_REGION_ALIGN;
}
