const WRITEBACK = 0;
const STARTED = 1;
const WORDS = 2;

/** In the word of how it was started: not since the last reset, or without or with FLUSH. */
const NOT_STARTED = 0;
const WITHOUT_FLUSH = 1;
const WITH_FLUSH = 2;

/**
 * The mode of a disk's cache, one for all instances of it, in whichever worker they live. Who turns
 * it to write-through flushes afterwards: a write of another worker that was not seen by that flush
 * sees the mode (both go by Atomics: written, then looked at; set, then flushed). virtio 1.3,
 * 5.2.6.2 and 5.2.5.2.
 */
export class BlkMode {
  readonly #words: Int32Array<SharedArrayBuffer>;

  /** `buffer`: of `make`, as it reached this thread. */
  constructor(buffer: SharedArrayBuffer) {
    this.#words = new Int32Array(buffer);
  }

  /** A new one: written back. */
  static make(): SharedArrayBuffer {
    const buffer = new SharedArrayBuffer(WORDS * 4);
    new BlkMode(buffer).reset();
    return buffer;
  }

  /** False: what was written is made stable before the request is done. */
  get isWriteback(): boolean {
    return Atomics.load(this.#words, WRITEBACK) !== 0;
  }

  set isWriteback(isWriteback: boolean) {
    Atomics.store(this.#words, WRITEBACK, isWriteback ? 1 : 0);
  }

  /** The queues start. Started again, by another instance say, the mode stays what it was. */
  start(hasFlush: boolean): void {
    const how = hasFlush ? WITH_FLUSH : WITHOUT_FLUSH;
    if (Atomics.exchange(this.#words, STARTED, how) !== how) this.isWriteback = hasFlush;
  }

  /** Device reset. */
  reset(): void {
    Atomics.store(this.#words, STARTED, NOT_STARTED);
    this.isWriteback = true;
  }
}
