// Positions of a packed ring, and the rule of its event suppression, in the words of
// `src/spec/ring-state.ts` and `src/ring/packed-ring.ts`.

/** Bit 15 of a position: the wrap counter. */
export const WRAP = 0x8000;

/** `position`, `n` descriptors on. `n`: 0 to `num`. */
export function moved(position: number, n: number, num: number): number {
  const index = (position & ~WRAP) + n;
  return index < num ? index | (position & WRAP) : (index - num) | ((position & WRAP) ^ WRAP);
}

/** Descriptors from `from` on to `to`: 0 to `num`, which is a whole lap. */
export function between(from: number, to: number, num: number): number {
  const indices = (to & ~WRAP) - (from & ~WRAP);
  return (from & WRAP) === (to & WRAP) ? indices : indices + num;
}

/**
 * Whether moving from `old` to `next` went past `event`: `kickNeeded` of packed-ring.ts, of a wish
 * that is DESC. virtio 1.3, 2.8.7.1; Linux: virtqueue_kick_prepare_packed().
 */
export function passedEvent(event: number, next: number, old: number, num: number): boolean {
  const now = next & ~WRAP;
  const then = now - between(old, next, num);
  const lap = (event & WRAP) === (next & WRAP) ? 0 : num;
  const at = (event & ~WRAP) - lap;
  return ((now - at - 1) & 0xffff) < ((now - then) & 0xffff);
}
