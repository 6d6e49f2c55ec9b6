/** So many times as long as a turn took, its queue rests afterwards: seven eighths are others'. */
const REST_FACTOR = 7;

/**
 * The rests of a queue whose driver breaks rules. A chain that is malformed can cost more than many
 * good ones (it may have 1024 entries before its mistake) and moves nothing, so no weight in
 * requests or bytes bounds it. A queue that erred in two turns in a row gives its neighbours the
 * worker for a while after each further one. Linux has no such thing: there it stands still.
 * Times in milliseconds. Worker thread.
 */
export class Rest {
  readonly #now: () => number;
  #isSuspect = false;
  #began = 0;
  #until = 0;

  constructor(now: () => number) {
    this.#now = now;
  }

  /** A turn begins. A good queue does not ask for the time. */
  begin(): void {
    if (this.#isSuspect) this.#began = this.#now();
  }

  /** It ended; `hasErred`: something was wrong in it. */
  end(hasErred: boolean): void {
    this.#until = 0;
    if (hasErred && this.#isSuspect) {
      const ended = this.#now();
      this.#until = ended + REST_FACTOR * (ended - this.#began);
    }
    this.#isSuspect = hasErred;
  }

  /** Whether the queue is to wait. */
  get isOn(): boolean {
    return this.#until !== 0 && this.#now() < this.#until;
  }
}
