import { VhostError } from "../spec/errno.js";
import {
  __TASK_STOPPED,
  TASK_INTERRUPTIBLE,
  TASK_RUNNING,
  TASK_THROTTLED,
  VHOST_TASK_FLAGS_STOP,
} from "../spec/sched.js";
import type { CpuAccount } from "./cpu-account.js";
import {
  TASK_FLAG_FROZEN,
  TASK_FLAG_RESCHED,
  TASK_FLAG_STOPPED,
  UNCUT_BUSY,
  UNCUT_ENDING,
  UNCUT_LAST_TURN,
  UNCUT_TURN,
  WORD_FLAGS,
  WORD_STATE,
  WORD_UNCUT,
  WORD_WAKE,
} from "./wait.js";

/** What a thread says that it does. */
type ThreadState =
  | typeof TASK_RUNNING
  | typeof TASK_INTERRUPTIBLE
  | typeof __TASK_STOPPED
  | typeof TASK_THROTTLED;

/**
 * What a task knows of itself, in its own thread. Linux: current.
 *
 * The sleeping loop is "state first, then test": `setState(TASK_INTERRUPTIBLE)`; look for work and
 * `shouldStop()`; nothing: `schedule()`; something: `setState(TASK_RUNNING)` and do it. No wake-up
 * is lost, by two pairs (all accesses are sequentially consistent):
 *
 * - S1: the waker stores work, then bumps WAKE; the task reads WAKE, then looks for work. A bump
 *   that the task has read stands for work that it will find.
 * - S2: the task stores STATE, then sleeps only if WAKE is what it read; the waker bumps WAKE, then
 *   reads STATE. A bump that came before the sleep stops it; one that came after finds the state.
 *
 * Between two pieces of work it asks `mayRun()`, and calls `hold()` when it may not.
 */
export class CurrentTask {
  readonly #words: Int32Array<SharedArrayBuffer>;
  readonly #cpu: CpuAccount | undefined;
  #seen = 0;

  /**
   * `words`: the task's shared words, as they reached this thread. `cpu` counts its time and limits
   * it; without one, nothing does.
   */
  constructor(words: SharedArrayBuffer, cpu?: CpuAccount) {
    this.#words = new Int32Array(words);
    this.#cpu = cpu;
  }

  /** Says whether this task is about to sleep. Linux: set_current_state(). */
  setState(state: ThreadState): void {
    this.#seen = Atomics.load(this.#words, WORD_WAKE); // S1: before any look for work
    Atomics.store(this.#words, WORD_STATE, state); // S2: before the sleep in schedule()
  }

  /**
   * Sleeps until woken since the state was set to another than TASK_RUNNING, `timeoutMs` at most
   * (default: no limit); returns at once in TASK_RUNNING. Blocks the thread. The state is
   * TASK_RUNNING afterwards. `false`: the time ran out. Linux: schedule(), schedule_timeout().
   */
  schedule(timeoutMs = Number.POSITIVE_INFINITY): boolean {
    if (Atomics.load(this.#words, WORD_STATE) === TASK_RUNNING) return true;
    this.#cpu?.beforeSleep();
    const woken = Atomics.wait(this.#words, WORD_WAKE, this.#seen, timeoutMs); // S2
    Atomics.store(this.#words, WORD_STATE, TASK_RUNNING);
    this.#cpu?.afterSleep();
    return woken !== "timed-out";
  }

  /**
   * Sleeps in a way of its own: `sleep` blocks, in a system call say, until something of its own
   * or the waker's `alsoWake` ends it, also when that came just before it. Not called when woken
   * since the state was set. The state is TASK_RUNNING afterwards.
   */
  scheduleBy(sleep: () => void): void {
    const isRunning = Atomics.load(this.#words, WORD_STATE) === TASK_RUNNING;
    if (!isRunning && Atomics.load(this.#words, WORD_WAKE) === this.#seen) {
      this.#cpu?.beforeSleep();
      sleep(); // S2
      this.#cpu?.afterSleep();
    }
    Atomics.store(this.#words, WORD_STATE, TASK_RUNNING);
  }

  /** Whether vhostTaskStop was called; the thread function must return then. Linux: same name. */
  shouldStop(): boolean {
    // S1 with vhostTaskStop: it sets the bit, then wakes.
    return (this.#flags & (1 << VHOST_TASK_FLAGS_STOP)) !== 0;
  }

  /** Whether it is told something, to stop say: no time to sleep. Linux: same name. */
  signalPending(): boolean {
    return this.#flags !== 0; // S1 with updateHalt, resched and vhostTaskStop
  }

  /**
   * Whether it may go on with its work, asked once a pass: not when it is told to end or to stop,
   * or its group has used up its CPU time. Cheap. Linux: need_resched().
   */
  mayRun(): boolean {
    return this.#flags === 0 && (this.#cpu === undefined || this.#cpu.tick());
  }

  /**
   * Does what must not be cut short, with `terminate` waiting for it: calls of native code, which
   * would abort the whole program. Throws EINTR when the thread is being ended already. Linux:
   * TASK_UNINTERRUPTIBLE.
   */
  uncut<T>(work: () => T): T {
    if (Atomics.or(this.#words, WORD_UNCUT, UNCUT_BUSY) & UNCUT_ENDING) {
      throw new VhostError("EINTR", "the thread is being ended");
    }
    try {
      return work();
    } finally {
      Atomics.and(this.#words, WORD_UNCUT, ~UNCUT_BUSY);
      Atomics.notify(this.#words, WORD_UNCUT);
    }
  }

  /**
   * Takes turns for as long as it may run and `turn` says that there is more. Who is killed ends
   * the turn that it is in, if that does not take long: what it has taken, it gives back. Linux: a
   * signal ends no work of vhost_run_work_list().
   */
  takeTurns(turn: () => boolean): void {
    const words = this.#words;
    Atomics.or(words, WORD_UNCUT, UNCUT_TURN);
    try {
      while (this.mayRun() && (Atomics.load(words, WORD_UNCUT) & UNCUT_LAST_TURN) === 0) {
        if (!turn()) break;
      }
    } finally {
      const before = Atomics.and(words, WORD_UNCUT, ~UNCUT_TURN);
      if (before & UNCUT_LAST_TURN) Atomics.notify(words, WORD_UNCUT);
    }
  }

  /**
   * Waits until it may run, or is told to end: stopped, frozen, or for its group's next period. It
   * ends early for what `isUrgent` finds, and every wake-up makes it look again. Linux:
   * do_signal_stop(), cgroup_enter_frozen(), throttle_cfs_rq().
   */
  hold(isUrgent: () => boolean = () => false): void {
    const cpu = this.#cpu;
    do {
      this.#stayHalted(isUrgent);
      this.setState(TASK_THROTTLED); // S1: before the look at orders and budget
      Atomics.and(this.#words, WORD_FLAGS, ~TASK_FLAG_RESCHED);
      if (this.shouldStop() || isUrgent()) break;
      if (this.#flags === 0 && cpu && !cpu.look()) cpu.waitBy((ms) => this.schedule(ms));
    } while (!this.mayRun());
    this.setState(TASK_RUNNING);
  }

  #stayHalted(isUrgent: () => boolean): void {
    for (;;) {
      this.setState(this.#halted & TASK_FLAG_STOPPED ? __TASK_STOPPED : TASK_INTERRUPTIBLE);
      if (this.#halted === 0 || isUrgent()) return;
      this.schedule();
    }
  }

  /** Charges the time that it has run and not charged yet; the last thing that it does. */
  chargeCpu(): void {
    this.#cpu?.charge();
  }

  /** Who is told to end is not held any more. */
  get #halted(): number {
    return this.shouldStop() ? 0 : this.#flags & (TASK_FLAG_STOPPED | TASK_FLAG_FROZEN);
  }

  get #flags(): number {
    return Atomics.load(this.#words, WORD_FLAGS);
  }
}
