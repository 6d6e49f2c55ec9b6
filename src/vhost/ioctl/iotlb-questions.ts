import { VHOST_ACCESS_RW } from "../../spec/vhost-iotlb.js";

/** Questions that wait at once. */
export const QUESTIONS_MAX = 64;

// Indices of i32 words. One writer each: the worker, the kernel's thread, both (by exchange).
const WRITTEN = 0;
const READ = 1;
const IS_FULL = 2;
const HEADER_BYTES = 16;

/** In each question: the address (u64), then ring, access and table (i32). */
const QUESTION_BYTES = 24;
const INDEX = 2;
const PERM = 3;
const SEEN = 4;

/** What a ring in its worker asks. */
export interface IotlbQuestion {
  /** The ring's number. */
  readonly index: number;
  /** Where is that? */
  readonly iova: bigint;
  /** VHOST_ACCESS_RO or _WO. */
  readonly perm: number;
  /** `IotlbView.seen`: the table in which it is not. */
  readonly seen: number;
}

/**
 * What the rings of one worker ask the kernel's thread, in shared memory: one thread writes, one
 * reads, neither waits. That something was added is told otherwise, by the doorbell.
 */
export class IotlbQuestions {
  /** For the other thread. */
  readonly buffer: SharedArrayBuffer;
  readonly #words: Int32Array<SharedArrayBuffer>;
  readonly #iovas: BigUint64Array<SharedArrayBuffer>;

  /** A new one, or another thread's. */
  constructor(buffer = new SharedArrayBuffer(HEADER_BYTES + QUESTIONS_MAX * QUESTION_BYTES)) {
    this.buffer = buffer;
    this.#words = new Int32Array(buffer);
    this.#iovas = new BigUint64Array(buffer);
  }

  /** Byte offset of the question of that number; they wrap, as u32. */
  #at(number: number): number {
    return HEADER_BYTES + ((number >>> 0) % QUESTIONS_MAX) * QUESTION_BYTES;
  }

  get #room(): number {
    const written = Atomics.load(this.#words, WRITTEN);
    return QUESTIONS_MAX - ((written - Atomics.load(this.#words, READ)) >>> 0);
  }

  /**
   * Worker: asks. False: there is no room, and the question is dropped. Then, or when there was
   * none for a moment, `takeFull` says so: whoever makes room sees that it was wanted, or this sees
   * the room.
   */
  add({ index, iova, perm, seen }: IotlbQuestion): boolean {
    if (this.#room === 0) {
      Atomics.store(this.#words, IS_FULL, 1); // then it looks once more
      if (this.#room === 0) return false;
    }
    const written = Atomics.load(this.#words, WRITTEN);
    const at = this.#at(written);
    this.#iovas[at / 8] = iova;
    this.#words[at / 4 + INDEX] = index;
    this.#words[at / 4 + PERM] = perm;
    this.#words[at / 4 + SEEN] = seen;
    Atomics.store(this.#words, WRITTEN, (written + 1) | 0); // last: pairs with the load in `take`
    return true;
  }

  /** Kernel's thread: takes the oldest; `undefined`: there is none. */
  take(): IotlbQuestion | undefined {
    const read = Atomics.load(this.#words, READ);
    if (read === Atomics.load(this.#words, WRITTEN)) return undefined;
    const at = this.#at(read);
    const question = {
      iova: this.#iovas[at / 8] as bigint,
      index: this.#words[at / 4 + INDEX] as number,
      perm: (this.#words[at / 4 + PERM] as number) & VHOST_ACCESS_RW,
      seen: this.#words[at / 4 + SEEN] as number,
    };
    Atomics.store(this.#words, READ, (read + 1) | 0); // its room is the worker's
    return question;
  }

  /** Kernel's thread, having taken some: whether a ring has found no room, and is to ask again. */
  takeFull(): boolean {
    const isFull = Atomics.load(this.#words, IS_FULL) !== 0;
    return isFull && Atomics.exchange(this.#words, IS_FULL, 0) !== 0;
  }
}
