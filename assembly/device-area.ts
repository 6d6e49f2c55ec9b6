// What the device writes to a split ring's device area beside the elements and idx.

import { VQ_DEVICE, VQ_F_LOG_USED, VQ_NUM } from "../src/spec/ring-state";
import {
  VIRTQ_RING_ELEMENTS,
  VIRTQ_RING_FLAGS,
  VIRTQ_USED_ELEM_BYTES,
} from "../src/spec/virtio-ring";
import { markDeviceArea } from "./log";
import { has } from "./state";

/** Stores used.flags. */
export function writeUsedFlags(vq: usize, flags: u32): void {
  atomic.store<u16>(load<usize>(vq, VQ_DEVICE), <u16>flags, VIRTQ_RING_FLAGS);
  if (has(vq, VQ_F_LOG_USED)) markDeviceArea(vq, 0, VIRTQ_RING_ELEMENTS);
}

/** Stores avail_event. */
export function writeAvailEvent(vq: usize, index: u32): void {
  const offset = VIRTQ_RING_ELEMENTS + load<u32>(vq, VQ_NUM) * VIRTQ_USED_ELEM_BYTES;
  atomic.store<u16>(load<usize>(vq, VQ_DEVICE) + offset, <u16>index);
  if (has(vq, VQ_F_LOG_USED)) markDeviceArea(vq, offset, 2);
}
