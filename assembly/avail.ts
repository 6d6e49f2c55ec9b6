import { VQ_DRIVER } from "../src/spec/ring-state";
import { VIRTQ_RING_IDX } from "../src/spec/virtio-ring";

/** Acquire A1: the elements below idx are visible after it. Pairs with A1 in split-driver.ts. */
export function loadAvailIdx(vq: usize): u32 {
  return <u32>atomic.load<u16>(load<usize>(vq, VQ_DRIVER), VIRTQ_RING_IDX);
}
