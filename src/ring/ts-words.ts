// What both halves of the TypeScript twin share: the event rule, and how errors are counted.

import { VQ_ERROR, VQ_ERROR_COUNTS } from "../spec/ring-state.js";

const ERROR = VQ_ERROR >>> 2;
const ERROR_COUNTS = VQ_ERROR_COUNTS >>> 2;

/**
 * Whether a side that went from index `old` to `next` (u16, free-running) went past `event`, the
 * entry at which the other side wants to be told. Pure. virtio 1.3, 2.7.7 Used Buffer Notification
 * Suppression. Linux: vring_need_event().
 */
export function needEvent(event: number, next: number, old: number): boolean {
  return ((next - event - 1) & 0xffff) < ((next - old) & 0xffff);
}

/**
 * Counts an error in the state block whose first u32 has index `w`. Side effect: its count
 * and that of all errors go up by one, modulo 2^32. @returns the negative code, as calls answer it.
 */
export function countError(u32: Uint32Array, w: number, code: number): number {
  u32[w + ERROR_COUNTS]++;
  u32[w + ERROR_COUNTS + code]++;
  return -code;
}

/**
 * Lets a refusal stand in the state block whose first u32 has index `w`. Side effect: VQ_ERROR is
 * the code; counted when it was not that code before. @returns the negative code.
 */
export function refuse(u32: Uint32Array, w: number, code: number): number {
  if (u32[w + ERROR] === code) return -code;
  u32[w + ERROR] = code;
  return countError(u32, w, code);
}
