import { instantiate, type RingKind } from "./load.js";

/**
 * The Internet's checksum over linear memory (RFC 1071), by two implementations that give the same
 * answers. Words are little-endian, and so is what is made of their sum: the sum of swapped words
 * is the swapped sum.
 */
export interface Checksum {
  /**
   * The sum of the 16-bit words of `bytes` bytes from `address` on, 2^31 at most, a last odd byte
   * as a word with 0 above it; folded, so 0 only for zeroes. Any alignment.
   */
  sum(address: number, bytes: number): number;
}

/** The sum in TypeScript. */
class TsChecksum implements Checksum {
  readonly #view: DataView<ArrayBufferLike>;

  constructor(memory: WebAssembly.Memory) {
    this.#view = new DataView(memory.buffer);
  }

  sum(address: number, bytes: number): number {
    const view = this.#view;
    const end = address + bytes;
    let sum = 0;
    let at = address;
    for (; at + 2 <= end; at += 2) sum += view.getUint16(at, true);
    if (at < end) sum += view.getUint8(at);
    while (sum > 0xffff) sum = (sum % 0x10000) + Math.floor(sum / 0x10000);
    return sum;
  }
}

/** The sum of `kind` over `memory`, for the thread that calls: in WebAssembly, 16 bytes a step. */
export function loadChecksum(memory: WebAssembly.Memory, kind: RingKind = "wasm"): Checksum {
  if (kind === "ts") return new TsChecksum(memory);
  const { checksumSum } = instantiate(memory);
  return { sum: checksumSum };
}
