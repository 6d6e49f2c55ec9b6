import { CpuBandwidth, nowUs, type Throttle } from "./cpu-bandwidth.js";
import { type CpuClock, threadCpuClock } from "./cpu-clock.js";
import { LONG_CPU_US, WORD_CGROUP } from "./wait.js";

/** A task without a limit looks at its clock once in so many passes: a few ns for each. */
const PASSES_A_LOOK = 1024;
/** How long a limited task runs between two looks, in microseconds. */
const LOOK_US = 500;
/** Before a sleep, less than this is left for the next look, in milliseconds. */
const SLEEP_CHARGE_MS = 1;

/** What a thread counts with; a test brings its own. */
export interface AccountClocks {
  readonly cpu: CpuClock;
  /** As `nowUs`. */
  readonly now: () => number;
}

/**
 * The CPU time of one task, charged by its own thread: to the task, its group and all above,
 * through shared words. The group is looked up each time: a task that was moved is charged where
 * it now is. Linux: account_cfs_rq_runtime(), check_cfs_rq_runtime().
 */
export class CpuAccount {
  readonly #words: Int32Array<SharedArrayBuffer>;
  readonly #long: BigInt64Array<SharedArrayBuffer>;
  readonly #groups: CpuBandwidth;
  readonly #clocks: AccountClocks;
  /** Passes until the next look. 1: at each, there is a limit. */
  #passes = PASSES_A_LOOK;
  #isLimited = false;
  #throttle: Throttle | undefined;
  #lookedUs = 0;
  #charged: number;
  #chargedMs = performance.now();

  /** `words`: the task's; `groups`: the machine's table of them. Of the calling thread. */
  constructor(
    words: SharedArrayBuffer,
    groups: SharedArrayBuffer,
    clocks: AccountClocks = { cpu: threadCpuClock(), now: nowUs },
  ) {
    this.#words = new Int32Array(words);
    this.#long = new BigInt64Array(words);
    this.#groups = new CpuBandwidth(groups);
    this.#clocks = clocks;
    this.#charged = 0; // what starting the thread took counts, too
    if (clocks.cpu.isWall) this.#charged = clocks.cpu.read();
    this.look();
  }

  /** Once a pass. False: the budget is used up, so the task has to wait. */
  tick(): boolean {
    if (--this.#passes > 0) return true;
    this.#passes = 1;
    const isSoon = this.#isLimited && this.#clocks.now() - this.#lookedUs < LOOK_US;
    return (isSoon && !this.#throttle) || this.look();
  }

  /** Charges, and looks at the budget. False: it is used up. */
  look(): boolean {
    const now = this.#clocks.now();
    this.charge();
    const group = this.#group;
    this.#lookedUs = now;
    this.#isLimited = this.#groups.isLimited(group);
    this.#throttle = this.#isLimited ? this.#groups.throttle(group, now) : undefined;
    this.#passes = this.#isLimited ? 1 : PASSES_A_LOOK;
    return this.#throttle === undefined;
  }

  /** Milliseconds to wait, as of the last look; 0: none. */
  get waitMs(): number {
    if (this.#throttle === undefined) return 0;
    return Math.max(0, (this.#throttle.untilUs - this.#clocks.now()) / 1000);
  }

  /** Waits for the budget by `wait`, and counts how long that took. */
  waitBy(wait: (ms: number) => void): void {
    const throttle = this.#throttle;
    if (throttle === undefined) return;
    const from = this.#clocks.now();
    wait(this.waitMs);
    this.#groups.addThrottled(throttle, this.#clocks.now() - from);
    this.afterSleep();
  }

  /** Charges what has run since the last time. */
  charge(): void {
    const ran = this.#clocks.cpu.read();
    const us = ran - this.#charged;
    this.#charged = ran;
    this.#chargedMs = performance.now();
    if (us <= 0) return;
    Atomics.add(this.#long, LONG_CPU_US, BigInt(us));
    this.#groups.charge(this.#group, us);
  }

  /** Charges, unless it is not worth it. */
  beforeSleep(): void {
    const { cpu } = this.#clocks;
    if (cpu.isWall || performance.now() - this.#chargedMs >= SLEEP_CHARGE_MS) this.charge();
  }

  /** The time asleep is nobody's. */
  afterSleep(): void {
    const { cpu } = this.#clocks;
    if (cpu.isWall) this.#charged = cpu.read();
  }

  get #group(): number {
    return Atomics.load(this.#words, WORD_CGROUP);
  }
}
