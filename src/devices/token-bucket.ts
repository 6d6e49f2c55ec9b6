/**
 * How much may be given by now: so much a second, and what was not taken of the last second. Times
 * in milliseconds. One thread.
 */
export class TokenBucket {
  readonly #perSecond: number;
  readonly #now: () => number;
  #tokens: number;
  #at: number;

  /** Full. `now`: a clock that never goes back. */
  constructor(perSecond: number, now: () => number) {
    this.#perSecond = perSecond;
    this.#now = now;
    this.#tokens = perSecond;
    this.#at = now();
  }

  /** What may be taken now; it may not be whole. */
  get tokens(): number {
    const now = this.#now();
    const grown = this.#tokens + ((now - this.#at) * this.#perSecond) / 1000;
    this.#tokens = Math.min(this.#perSecond, grown);
    this.#at = now;
    return this.#tokens;
  }

  /** Takes so many of them. */
  take(count: number): void {
    this.#tokens -= count;
  }

  /** How long it takes until there are so many: 0, there are. */
  msUntil(count: number): number {
    return Math.max(0, ((count - this.tokens) * 1000) / this.#perSecond);
  }
}
