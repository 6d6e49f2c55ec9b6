import { VhostError } from "../spec/errno.js";

interface Span {
  address: number;
  bytes: number;
}

/**
 * Hands out byte ranges of [start, end): first fit, neighbours merged when freed. It keeps its
 * lists outside the memory that it hands out, so nothing written there can mislead it. One thread.
 */
export class Arena {
  readonly #name: string;
  readonly #free: Span[]; // by address, never touching one another
  readonly #used = new Map<number, number>();

  /** `name` is what errors call it. */
  constructor(name: string, start: number, end: number) {
    this.#name = name;
    this.#free = end > start ? [{ address: start, bytes: end - start }] : [];
  }

  /** Bytes that are not handed out. */
  get freeBytes(): number {
    return this.#free.reduce((sum, span) => sum + span.bytes, 0);
  }

  /** The address of `bytes` bytes, aligned to `align` (a power of two). Throws ENOMEM. */
  alloc(bytes: number, align = 8): number {
    if (!Number.isInteger(bytes) || bytes <= 0) {
      throw new VhostError("EINVAL", "an allocation needs a positive whole number of bytes", {
        bytes,
      });
    }
    for (const [index, span] of this.#free.entries()) {
      const address = Math.ceil(span.address / align) * align;
      if (address + bytes > span.address + span.bytes) continue;
      this.#carve(index, address, bytes);
      this.#used.set(address, bytes);
      return address;
    }
    throw new VhostError(
      "ENOMEM",
      `no ${bytes} bytes left for ${this.#name}; spawn the process with \
more memoryBytes`,
      { bytes, freeBytes: this.freeBytes },
    );
  }

  /** Takes back what `alloc` gave. Throws EINVAL for any other address. */
  free(address: number): void {
    const bytes = this.#used.get(address);
    if (bytes === undefined)
      throw new VhostError("EINVAL", "freed twice, or never given", { address });
    this.#used.delete(address);
    const at = this.#free.findIndex((span) => span.address > address);
    const index = at < 0 ? this.#free.length : at;
    this.#free.splice(index, 0, { address, bytes });
    this.#merge(index);
    if (index > 0) this.#merge(index - 1);
  }

  #carve(index: number, address: number, bytes: number): void {
    const { address: start, bytes: size } = this.#free[index] as Span;
    const before = { address: start, bytes: address - start };
    const after = { address: address + bytes, bytes: start + size - address - bytes };
    this.#free.splice(index, 1, ...[before, after].filter((span) => span.bytes > 0));
  }

  #merge(index: number): void {
    const [span, next] = [this.#free[index], this.#free[index + 1]];
    if (!span || !next || span.address + span.bytes !== next.address) return;
    span.bytes += next.bytes;
    this.#free.splice(index + 1, 1);
  }
}
