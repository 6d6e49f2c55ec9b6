import { BURST_MAX } from "../ring/state-block.js";

/** Milliseconds after which a turn ends with the burst it is at. */
const TURN_MS_MAX = 2;
/** Chains popped at once, unless the device says more: what they cost is published together. */
const BURST_CHAINS_MAX = 16;
/** So few chains are not timed, unless others took long: the time costs as much as a request. */
const UNTIMED_CHAINS_MAX = 4;
/** A burst that took longer, in milliseconds, is followed by one of a single chain. */
const BURST_MS_MAX = 0.5;

/**
 * How many chains of a queue are popped at once, and for how long a turn goes on. A burst is
 * finished once begun, so it is short where chains take long. One in which something was wrong is
 * the last of its turn, and the next is of one chain: a chain that is malformed may cost more than
 * a good one, and the other queues do not wait for a ring that is full of them. Worker thread.
 */
export class Pace {
  readonly #now: () => number;
  /** One after a burst that took long or erred, then more. */
  #count = BURST_CHAINS_MAX;
  #began = 0;
  #turnEnd = 0;

  /** `now`: a clock, in milliseconds. */
  constructor(now: () => number) {
    this.#now = now;
  }

  /** A turn begins. */
  begin(): void {
    this.#turnEnd = 0;
  }

  /** How many to pop at once, of `left` that may be popped. */
  ask(left: number): number {
    return Math.min(this.#count, left);
  }

  /** Of `asked` there were `got`: their burst begins. */
  popped(asked: number, got: number): void {
    const isTimed = got > UNTIMED_CHAINS_MAX || asked < BURST_CHAINS_MAX;
    this.#began = isTimed ? this.#now() : 0;
  }

  /**
   * The burst is over, and with it the turn if `isDone` or the answer is true. `max`: chains of a
   * burst of this device, at most; 0: as a rule.
   */
  ended(asked: number, isDone: boolean, hasErred: boolean, max = 0): boolean {
    if (isDone && this.#began === 0) return true;
    const ended = this.#now();
    const isLong = this.#began > 0 && ended - this.#began > BURST_MS_MAX;
    const most = Math.min(max || BURST_CHAINS_MAX, BURST_MAX);
    this.#count = isLong || hasErred ? 1 : Math.min(asked * 2, most);
    if (hasErred) return true;
    if (this.#turnEnd === 0) this.#turnEnd = (this.#began || ended) + TURN_MS_MAX;
    return ended >= this.#turnEnd;
  }
}
