/** Fewer bytes cost no more by bytes than what the C library's copy needs. */
const MANY_BYTES = 192;
/** V8 copies shared memory by words where both sides are aligned alike, else by bytes. */
const ALIGNMENT_MASK = 7;

/** Whether `from`, copied to `to` from `at` on, goes by words, whichever memory is shared. */
export function isAlignedAlike(to: Uint8Array, at: number, from: Uint8Array): boolean {
  return ((from.byteOffset - (to.byteOffset + at)) & ALIGNMENT_MASK) === 0;
}

/**
 * Copies all of `from` to `to`, from `at` on: quick also where one of them is shared memory, which
 * `set` may copy 15 times as slowly. Others may change it meanwhile. Throws RangeError when there
 * is no room.
 */
export function copyTo(to: Buffer, at: number, from: Uint8Array): void {
  const end = at + from.length;
  const isSlow = from.length >= MANY_BYTES && !isAlignedAlike(to, at, from);
  if (!isSlow || end > to.length) to.set(from, at);
  else to.fill(from, at, end); // with as many bytes: one memcpy()
}

/** A copy in memory of its own. */
export function copyOf(from: Uint8Array): Uint8Array<ArrayBuffer> {
  const own = Buffer.allocUnsafeSlow(from.length); // of a pool's, all would be kept
  copyTo(own, 0, from);
  return new Uint8Array(own.buffer);
}

/** The same bytes, shared or not, as `copyTo` and streams need them: no copy. */
export function bufferOf({ buffer, byteOffset, length }: Uint8Array): Buffer {
  return Buffer.from(buffer as ArrayBuffer, byteOffset, length);
}
