import { setImmediate as nextTurn } from "node:timers/promises";

/** How long to go on looking before waiting, in milliseconds. */
const POLL_MS = 0.1;

/**
 * How a device in its worker tells the opening thread to look. One word of shared memory that
 * changes with each ring; the one reads it, looks, and waits for another value: what comes after
 * the look ends the wait.
 */
export class HostBell {
  readonly #words: Int32Array<SharedArrayBuffer>;
  readonly #index: number;

  /** `index`: of a word that nobody else writes. */
  constructor(words: Int32Array<SharedArrayBuffer>, index: number) {
    this.#words = words;
    this.#index = index;
  }

  /** Worker: there is something for the opening thread to look at. */
  ring(): void {
    Atomics.add(this.#words, this.#index, 1);
    Atomics.notify(this.#words, this.#index);
  }

  /**
   * Opening thread: looks whenever it is rung, until `isOver`; as long as `look` finds something,
   * and a moment longer, a turn of the event loop at a time.
   */
  async answer(look: () => boolean, isOver: () => boolean): Promise<void> {
    let pollUntil = 0;
    while (!isOver()) {
      const seen = Atomics.load(this.#words, this.#index); // before it looks
      if (look()) pollUntil = performance.now() + POLL_MS;
      else if (performance.now() >= pollUntil) {
        await this.#rung(seen);
        continue;
      }
      await nextTurn();
    }
  }

  /** Resolves when it was rung since `seen` was read. */
  async #rung(seen: number): Promise<void> {
    const wait = Atomics.waitAsync(this.#words, this.#index, seen);
    if (wait.async) await wait.value;
  }
}
