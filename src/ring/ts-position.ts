// Positions of a packed ring: the index of a descriptor in bits 0 to 14, the wrap counter in bit
// 15. All functions are pure. virtio 1.3, 2.8.1 Driver and Device Ring Wrap Counters.

import { VIRTQ_DESC_F_AVAIL, VIRTQ_DESC_F_USED } from "../spec/virtio-ring.js";
import { needEvent } from "./ts-words.js";

const WRAP = 0x8000;
const MARKS = VIRTQ_DESC_F_AVAIL | VIRTQ_DESC_F_USED;

/** The first position of a ring. */
export const POSITION_FIRST = WRAP;

/** The index of the descriptor at a position. */
export function indexOf(position: number): number {
  return position & (WRAP - 1);
}

/** The position `count` descriptors, `num` at most, after another, in a ring of `num`. */
export function moved(position: number, count: number, num: number): number {
  const index = indexOf(position) + count;
  const wrap = position & WRAP;
  return index < num ? wrap | index : (wrap ^ WRAP) | (index - num);
}

/** Descriptors from one position to another, modulo 2 × `num`: after so many both repeat. */
export function distance(from: number, to: number, num: number): number {
  const steps = indexOf(to) - indexOf(from);
  if (((from ^ to) & WRAP) !== 0) return steps + num;
  return steps < 0 ? steps + 2 * num : steps;
}

/** AVAIL and USED of a descriptor that the driver makes available at a position. */
export function availableMarks(position: number): number {
  return (position & WRAP) !== 0 ? VIRTQ_DESC_F_AVAIL : VIRTQ_DESC_F_USED;
}

/** AVAIL and USED of a descriptor that the device uses at a position. */
export function usedMarks(position: number): number {
  return (position & WRAP) !== 0 ? MARKS : 0;
}

/** Whether a descriptor with these flags is available at a position. */
export function isAvailable(flags: number, position: number): boolean {
  return (flags & MARKS) === availableMarks(position);
}

/** Whether a descriptor with these flags is used at a position. */
export function isUsed(flags: number, position: number): boolean {
  return (flags & MARKS) === usedMarks(position);
}

/**
 * Whether the last `count` descriptors before a position went past `event`, the position at which
 * the other side wants to be told. virtio 1.3, 2.8.10 Driver and Device Event Suppression. Linux:
 * virtqueue_kick_prepare_packed().
 */
export function passed(event: number, position: number, count: number, num: number): boolean {
  const isSameLap = ((event ^ position) & WRAP) === 0;
  const index = indexOf(position);
  return needEvent(isSameLap ? indexOf(event) : indexOf(event) - num, index, index - count);
}
