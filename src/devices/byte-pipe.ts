// Indices of u32 words, each with one writer. They wrap at 2^32, which a size divides.
const WRITTEN = 0;
const READ = 16;
/** Where the bytes begin; the two sides' words lie on cache lines of their own. */
const START = 128;

/**
 * Bytes one way between two threads, in memory that neither the owner nor a guest can reach. One
 * thread writes, one reads; neither waits.
 */
export class BytePipe {
  /** Send this to the other thread and make a `BytePipe` of it there. */
  readonly buffer: SharedArrayBuffer;
  readonly #words: Uint32Array;
  readonly #bytes: Uint8Array<SharedArrayBuffer>;

  /** A new one with room for `from` bytes, a power of two; or another thread's. */
  constructor(from: number | SharedArrayBuffer) {
    this.buffer = typeof from === "number" ? new SharedArrayBuffer(START + from) : from;
    this.#words = new Uint32Array(this.buffer, 0, START / 4);
    this.#bytes = new Uint8Array(this.buffer, START);
  }

  /** Bytes that were written and not read. */
  get bytes(): number {
    return (Atomics.load(this.#words, WRITTEN) - Atomics.load(this.#words, READ)) >>> 0;
  }

  /** Bytes that there is room for. */
  get room(): number {
    return this.#bytes.length - this.bytes;
  }

  /** Writer: the next place to write to, as far as it is in one piece. */
  place(): Uint8Array<SharedArrayBuffer> {
    return this.#piece(Atomics.load(this.#words, WRITTEN), this.room);
  }

  /** Writer: so many bytes of `place` were written. Publishes them. */
  wrote(count: number): void {
    Atomics.add(this.#words, WRITTEN, count); // last: pairs with the load of `bytes`
  }

  /** Writer: as much of `source` as there is room for; how much. */
  write(source: Uint8Array): number {
    let done = 0;
    for (let place = this.place(); done < source.length && place.length > 0; place = this.place()) {
      const part = source.subarray(done, done + place.length);
      place.set(part);
      this.wrote(part.length);
      done += part.length;
    }
    return done;
  }

  /** Reader: the oldest bytes, as far as they are in one piece; the reader's until `took`. */
  peek(): Uint8Array<SharedArrayBuffer> {
    return this.#piece(Atomics.load(this.#words, READ), this.bytes);
  }

  /** Reader: is done with so many bytes of `peek`. */
  took(count: number): void {
    Atomics.add(this.#words, READ, count);
  }

  #piece(count: number, length: number): Uint8Array<SharedArrayBuffer> {
    const at = count % this.#bytes.length;
    return this.#bytes.subarray(at, Math.min(at + length, this.#bytes.length));
  }
}
