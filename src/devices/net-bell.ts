import type { Waker } from "../kernel/wait.js";

/**
 * Says that a reader of packets may be asleep, or a writer waits for room; the other side wakes it
 * once. One word, which who waits sets before it sleeps and the first to see it clears. Reader:
 * `expect`, then a last look. Writer: the packet, then `ring`. Both words are sequentially
 * consistent: one of the two sees the other.
 */
export class NetBell {
  readonly #words: Int32Array<SharedArrayBuffer>;
  readonly #index: number;

  /** `index`: of a word that starts as 0. */
  constructor(words: Int32Array<SharedArrayBuffer>, index: number) {
    this.#words = words;
    this.#index = index;
  }

  /** Reader: is about to sleep. */
  expect(): void {
    Atomics.store(this.#words, this.#index, 1);
  }

  /** Reader: is awake. */
  ignore(): void {
    if (Atomics.load(this.#words, this.#index) !== 0) Atomics.store(this.#words, this.#index, 0);
  }

  /** Writer: whether the reader is to be woken, by the one who asks. */
  ring(): boolean {
    if (Atomics.load(this.#words, this.#index) === 0) return false;
    return Atomics.exchange(this.#words, this.#index, 0) !== 0;
  }

  /** Writer: wakes it if it may be asleep. */
  wake(waker: Waker): void {
    if (this.ring()) waker.wake();
  }
}
