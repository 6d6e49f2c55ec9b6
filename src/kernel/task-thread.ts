import { type TASK_INTERRUPTIBLE, TASK_RUNNING, VHOST_TASK_FLAGS_STOP } from "../spec/sched.js";
import { WORD_FLAGS, WORD_STATE, WORD_WAKE } from "./wait.js";

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
 */
export class CurrentTask {
  readonly #words: Int32Array<SharedArrayBuffer>;
  #seen = 0;

  /** `words`: the task's shared words, as they reached this thread. */
  constructor(words: SharedArrayBuffer) {
    this.#words = new Int32Array(words);
  }

  /** Says whether this task is about to sleep. Linux: set_current_state(). */
  setState(state: typeof TASK_RUNNING | typeof TASK_INTERRUPTIBLE): void {
    this.#seen = Atomics.load(this.#words, WORD_WAKE); // S1: before any look for work
    Atomics.store(this.#words, WORD_STATE, state); // S2: before the sleep in schedule()
  }

  /**
   * Sleeps until woken since the state was set to TASK_INTERRUPTIBLE, `timeoutMs` at most (default:
   * no limit); returns at once in TASK_RUNNING. Blocks the thread. The state is TASK_RUNNING
   * afterwards. `false`: the time ran out. Linux: schedule(), schedule_timeout().
   */
  schedule(timeoutMs = Number.POSITIVE_INFINITY): boolean {
    if (Atomics.load(this.#words, WORD_STATE) === TASK_RUNNING) return true;
    const woken = Atomics.wait(this.#words, WORD_WAKE, this.#seen, timeoutMs); // S2
    Atomics.store(this.#words, WORD_STATE, TASK_RUNNING);
    return woken !== "timed-out";
  }

  /**
   * Sleeps in a way of its own: `sleep` blocks, in a system call say, until something of its own
   * or the waker's `alsoWake` ends it, also when that came just before it. Not called when woken
   * since the state was set. The state is TASK_RUNNING afterwards.
   */
  scheduleBy(sleep: () => void): void {
    const isRunning = Atomics.load(this.#words, WORD_STATE) === TASK_RUNNING;
    if (!isRunning && Atomics.load(this.#words, WORD_WAKE) === this.#seen) sleep(); // S2
    Atomics.store(this.#words, WORD_STATE, TASK_RUNNING);
  }

  /** Whether vhostTaskStop was called; the thread function must return then. Linux: same name. */
  shouldStop(): boolean {
    // S1 with vhostTaskStop: it sets the bit, then wakes.
    return (Atomics.load(this.#words, WORD_FLAGS) & (1 << VHOST_TASK_FLAGS_STOP)) !== 0;
  }
}
