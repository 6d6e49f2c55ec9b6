import { DmaBuffer } from "#dist/driver/dma.js";
import type { Piece } from "#dist/driver/queue.js";
import type { Random } from "#dist/fuzz/random.js";
import type { SharedMemory } from "#dist/memory/shared-memory.js";
import { must } from "./world.js";

const GUARD_BYTES = 16;
const GUARD = 0xc5;
/** What writable bytes hold before the device writes them. */
const UNWRITTEN = 0xee;
/** What memory holds that is the device's no more. */
const DEAD = 0xdd;
/** So many dead buffers are watched. */
const DEAD_MAX = 12;

/** A length cut in so many pieces of one byte or more. */
function cutLengths(random: Random, length: number, pieces: number): number[] {
  const cuts = Array.from({ length: pieces - 1 }, () => random.between(1, length - 1));
  const ends = [...new Set(cuts), length].sort((a, b) => a - b);
  return ends.map((end, i) => end - (ends[i - 1] ?? 0));
}

/** The memory of a request, in pieces with guards between them. */
export class GuardedBuffer {
  readonly readable: Piece[];
  readonly writable: Piece[];
  readonly buffer: DmaBuffer;
  readonly #sent: Uint8Array;
  readonly #shared: SharedMemory;

  /** `sent`: what the device gets to read. `pieces`: at most so many, 2 or more. */
  constructor(
    shared: SharedMemory,
    random: Random,
    sent: Uint8Array,
    writableBytes: number,
    pieces: number,
  ) {
    this.#shared = shared;
    this.#sent = sent;
    const forOut = random.between(1, Math.min(pieces - 1, 4, sent.length));
    const forIn = random.between(1, Math.min(pieces - forOut, 4, writableBytes));
    const out = cutLengths(random, sent.length, forOut);
    const in_ = cutLengths(random, writableBytes, forIn);
    const bytes = sent.length + writableBytes + GUARD_BYTES * (out.length + in_.length + 1);
    this.buffer = new DmaBuffer(shared, bytes, 8);
    this.buffer.bytes.fill(GUARD);
    let address = this.buffer.address + GUARD_BYTES;
    const place = (length: number): Piece => {
      const piece = { address, length };
      address += length + GUARD_BYTES;
      return piece;
    };
    this.readable = out.map(place);
    this.writable = in_.map(place);
    let from = 0;
    for (const { address: at, length } of this.readable) {
      shared.bytes.set(sent.subarray(from, from + length), at);
      from += length;
    }
    for (const { address: at, length } of this.writable) {
      shared.bytes.fill(UNWRITTEN, at, at + length);
    }
  }

  /** What the device wrote. Guards and what it was to read must be as they were. */
  received(what: string): Uint8Array {
    const { bytes } = this.#shared;
    const read = Buffer.concat(
      this.readable.map(({ address, length }) => bytes.subarray(address, address + length)),
    );
    must(read.equals(this.#sent), `${what}: the device wrote to what it was to read`);
    let at = this.buffer.address;
    for (const { address, length } of [...this.readable, ...this.writable]) {
      this.#checkGuard(at, what);
      at = address + length;
    }
    this.#checkGuard(at, what);
    return Buffer.concat(
      this.writable.map(({ address, length }) => bytes.subarray(address, address + length)),
    );
  }

  #checkGuard(at: number, what: string): void {
    const guard = this.#shared.bytes.subarray(at, at + GUARD_BYTES);
    must(
      guard.every((byte) => byte === GUARD),
      `${what}: the device wrote beside its buffer`,
    );
  }
}

/** Memory that the device has no business with any more, watched for a while before it is freed. */
export class Graveyard {
  readonly #dead: { buffer: DmaBuffer; what: string }[] = [];

  /** Takes over a request's memory. */
  add(buffer: DmaBuffer, what: string): void {
    buffer.bytes.fill(DEAD);
    this.#dead.push({ buffer, what });
    if (this.#dead.length > DEAD_MAX) this.#bury();
  }

  #bury(): void {
    const { buffer, what } = this.#dead.shift() as { buffer: DmaBuffer; what: string };
    const isStill = buffer.bytes.every((byte) => byte === DEAD);
    must(isStill, `${what}: its memory was written after its end`);
    buffer.free();
  }

  /** Looks at all of them, and frees them. */
  empty(): void {
    while (this.#dead.length > 0) this.#bury();
  }
}
