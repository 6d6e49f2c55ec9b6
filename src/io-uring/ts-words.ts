// What both halves of the TypeScript twin share: words of a memory, by byte address.

/** The u32 words of a linear memory. Addresses are multiples of 4. */
export class Words {
  readonly #u32: Uint32Array;

  /** Over all of `memory`, shared or not; it must not grow. */
  constructor(memory: WebAssembly.Memory) {
    this.#u32 = new Uint32Array(memory.buffer);
  }

  /** The word at `address`, read plainly. */
  get(address: number): number {
    return this.#u32[address >>> 2] as number;
  }

  /** Writes `value` modulo 2^32, plainly. */
  set(address: number, value: number): void {
    this.#u32[address >>> 2] = value;
  }

  /** The word at `address`, read atomically. */
  load(address: number): number {
    return Atomics.load(this.#u32, address >>> 2);
  }

  /** Writes `value` modulo 2^32 atomically. */
  store(address: number, value: number): void {
    Atomics.store(this.#u32, address >>> 2, value);
  }

  /** Copies `bytes` bytes, a multiple of 4, word by word; each is read once. */
  copy(to: number, from: number, bytes: number): void {
    for (let at = 0; at < bytes; at += 4) this.set(to + at, this.get(from + at));
  }
}

/** Address of slot `index` of the table of `entries`, a power of two, at `table`. */
export function slot(table: number, index: number, entries: number, bytes: number): number {
  return table + ((index & (entries - 1)) >>> 0) * bytes;
}
