import type { Checksum } from "../ring/checksum.js";
import type { ChainSide } from "../vhost/chain.js";

/** A u16 in the other byte order. */
export const swap16 = (value: number) => ((value & 0xff) << 8) | (value >>> 8);

/** A sum of 16-bit words as one of 16 bits; 0 for no other sum than 0. */
export function fold16(sum: number): number {
  let folded = sum;
  while (folded > 0xffff) folded = (folded & 0xffff) + Math.floor(folded / 0x10000);
  return folded;
}

/** The sum of `length` bytes, an even number, as little-endian words; not folded. */
export function sumWords(bytes: Uint8Array, at: number, length: number): number {
  let sum = 0;
  for (let i = at; i < at + length; i += 2) {
    sum += (bytes[i] as number) | ((bytes[i + 1] as number) << 8);
  }
  return sum;
}

/**
 * The field for such a sum, a little-endian u16 as it lies in the packet; never 0, which in UDP
 * says that there is none.
 */
export const checksumOf = (sum: number) => ~fold16(sum) & 0xffff || 0xffff;

/** Adds up a packet in the guest's memory. See `Checksum`. */
export class NetSum {
  readonly #checksum: Checksum;

  constructor(checksum: Checksum) {
    this.#checksum = checksum;
  }

  /** `length` bytes from `from` on as little-endian words, whatever pieces they are in; folded. */
  of(packet: ChainSide, from: number, length: number): number {
    let sum = 0;
    let isOdd = false;
    packet.forEach(from, length, (address, bytes) => {
      const part = this.#checksum.sum(address, bytes);
      sum = fold16(sum + (isOdd ? swap16(part) : part));
      isOdd = isOdd !== ((bytes & 1) === 1);
    });
    return sum;
  }
}

/** Writes a little-endian u16: a checksum, say. */
export function putU16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value & 0xff;
  bytes[at + 1] = value >>> 8;
}
