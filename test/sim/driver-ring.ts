// What is done to a driver's ring behind its back: by the words of its state block.

import type { Piece } from "#dist/driver/queue.js";
import type { SharedMemory } from "#dist/memory/shared-memory.js";
import * as s from "#dist/spec/ring-state.js";
import { VIRTQ_DESC_BYTES, VIRTQ_RING_IDX } from "#dist/spec/virtio-ring.js";

/** A driver's split ring that was reset becomes one that has had so many requests; a u16. */
export function moveTo({ view }: SharedMemory, vq: number, position: number): void {
  for (const word of [s.VQ_AVAIL_NEXT, s.VQ_AVAIL_PUBLISHED, s.VQ_KICKED, s.VQ_LAST_USED]) {
    view.setUint32(vq + word, position, true);
  }
  for (const area of [s.VQ_DRIVER, s.VQ_DEVICE]) {
    view.setUint16(view.getUint32(vq + area, true) + VIRTQ_RING_IDX, position, true);
  }
}

/** A driver's split ring shows an available index that is `ahead` of what was published. */
export function setIndex({ view }: SharedMemory, vq: number, ahead: number): void {
  const at = view.getUint32(vq + s.VQ_DRIVER, true) + VIRTQ_RING_IDX;
  view.setUint16(at, (view.getUint32(vq + s.VQ_AVAIL_PUBLISHED, true) + ahead) & 0xffff, true);
}

/** Where the device tells a driver's ring what it used: a split ring's index, or descriptors. */
export function usedArea({ view }: SharedMemory, vq: number): Piece {
  const isPacked = (view.getUint32(vq + s.VQ_FLAGS, true) & s.VQ_F_PACKED) !== 0;
  const address = view.getUint32(vq + (isPacked ? s.VQ_DESC : s.VQ_DEVICE), true);
  if (!isPacked) return { address: address + VIRTQ_RING_IDX, length: 2 };
  return { address, length: view.getUint32(vq + s.VQ_NUM, true) * VIRTQ_DESC_BYTES };
}
