import { VQ_DESC } from "../src/spec/ring-state";
import {
  PVIRTQ_DESC_FLAGS,
  RING_EVENT_FLAGS_DESC,
  RING_EVENT_FLAGS_DISABLE,
  RING_EVENT_FLAGS_MASK,
  VIRTQ_DESC_BYTES,
  VIRTQ_DESC_F_AVAIL,
  VIRTQ_DESC_F_USED,
} from "../src/spec/virtio-ring";
import { needEvent } from "./event";

/** The first position of a ring: index 0, wrap counter 1. */
export const POSITION_FIRST: u32 = 0x8000;
/** The wrap counter of a position. */
export const WRAP: u32 = 0x8000;
/** The index of a position. */
export const INDEX: u32 = 0x7fff;
/** VQ_KICKED and VQ_SIGNALLED count no further: more than a lap of the largest ring. */
const COUNT_MAX: u32 = 0xffff;

/** `position`, `count` descriptors on; `count` is at most `num`. */
export function moved(position: u32, count: u32, num: u32): u32 {
  const index = (position & INDEX) + count;
  return index < num ? index | (position & WRAP) : (index - num) | (~position & WRAP);
}

/** Whether `position` is one that a ring of `num` entries has. */
export function isPosition(position: u32, num: u32): bool {
  return position <= 0xffff && (position & INDEX) < num;
}

/** Descriptors from one position on to another: less than twice `num`. */
export function distance(from: u32, to: u32, num: u32): u32 {
  const gap = (to & INDEX) - (from & INDEX) + ((from ^ to) & WRAP ? num : 0);
  return <i32>gap < 0 ? gap + num + num : gap;
}

/** Address of the descriptor at `position` of the ring at `ring`. */
export function descOf(ring: usize, position: u32): usize {
  return ring + <usize>(position & INDEX) * VIRTQ_DESC_BYTES;
}

/** Address of the descriptor at `position`. */
export function descAt(vq: usize, position: u32): usize {
  return descOf(load<usize>(vq, VQ_DESC), position);
}

/** AVAIL and USED of a descriptor that becomes available at `position`. */
export function availFlags(position: u32): u32 {
  return position & WRAP ? VIRTQ_DESC_F_AVAIL : VIRTQ_DESC_F_USED;
}

/** AVAIL and USED of a descriptor that is used at `position`. */
export function usedFlags(position: u32): u32 {
  return position & WRAP ? VIRTQ_DESC_F_AVAIL | VIRTQ_DESC_F_USED : 0;
}

/** Whether these flags say that the descriptor at `position` is available. */
export function isAvail(flags: u32, position: u32): bool {
  return (flags & (VIRTQ_DESC_F_AVAIL | VIRTQ_DESC_F_USED)) == availFlags(position);
}

/** Whether these flags say that the descriptor at `position` is used. */
export function isUsed(flags: u32, position: u32): bool {
  return (flags & (VIRTQ_DESC_F_AVAIL | VIRTQ_DESC_F_USED)) == usedFlags(position);
}

/**
 * The flags of the descriptor at address `desc`. Acquire: what the other side wrote before them is
 * visible after it.
 */
export function loadFlags(desc: usize): u32 {
  return <u32>atomic.load<u16>(desc, PVIRTQ_DESC_FLAGS);
}

/** `count` more were published: what a word of that kind becomes. */
export function countOn(known: u32, count: u32): u32 {
  return min(known + count, COUNT_MAX);
}

/**
 * What the event structure at `area` asks for, after `count` descriptors up to `position` were
 * published. `isFirst`: an event position counts as passed.
 */
export function isAskedFor(
  area: usize,
  position: u32,
  count: u32,
  num: u32,
  hasEventIdx: bool,
  isFirst: bool,
): bool {
  const event = atomic.load<u32>(area);
  const flags = (event >> 16) & RING_EVENT_FLAGS_MASK;
  if (flags == RING_EVENT_FLAGS_DISABLE) return false;
  if (flags != RING_EVENT_FLAGS_DESC || !hasEventIdx || isFirst) return true;
  const index = position & INDEX;
  const lap = (event ^ position) & WRAP ? num : 0;
  return needEvent((event & INDEX) - lap, index, index - count);
}
