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

  /** Opening thread: the number for `wait`, read before looking. */
  get sequence(): number {
    return Atomics.load(this.#words, this.#index);
  }

  /** Opening thread: resolves when it was rung since `seen` was read. */
  async wait(seen: number): Promise<void> {
    const wait = Atomics.waitAsync(this.#words, this.#index, seen);
    if (wait.async) await wait.value;
  }
}
