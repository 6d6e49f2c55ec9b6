import { TASK_RUNNING } from "../spec/sched.js";

/** Index of the word that holds TASK_…; written by the task, and by the kernel outside its life. */
export const WORD_STATE = 0;
/** Index of the word that counts wake-ups, modulo 2^32; written by wakers alone. */
export const WORD_WAKE = 1;
/**
 * Index of the word that is not 0 when the task is to leave its work: VHOST_TASK_FLAGS_… bits and
 * TASK_FLAG_…; written by the kernel's thread, and TASK_FLAG_RESCHED taken by the task's.
 */
export const WORD_FLAGS = 2;
/** Index of the word that holds the number of its control group; written by the kernel's thread. */
export const WORD_CGROUP = 3;
/** Index, among the words of 64 bits, of its CPU time in microseconds; only added to. */
export const LONG_CPU_US = 2;
/** Index of the word of UNCUT_… bits; see `CurrentTask.uncut`. */
export const WORD_UNCUT = 6;
/** Bytes of a task's shared words. They are kernel memory: never inside the owner's mm. */
export const TASK_WORDS_BYTES = 32;

/** In WORD_UNCUT: the thread must not be ended now. The thread's. */
export const UNCUT_BUSY = 1 << 0;
/** In WORD_UNCUT: it is in a turn of its work, which it should end. The thread's. */
export const UNCUT_TURN = 1 << 1;
/** In WORD_UNCUT: it is to be ended after its turn: none begins any more. The kernel's thread's. */
export const UNCUT_LAST_TURN = 1 << 2;
/** In WORD_UNCUT: it is being ended: nothing begins that must not be cut. The kernel's thread's. */
export const UNCUT_ENDING = 1 << 3;

/** In WORD_FLAGS: stopped by a signal, or by its tracer. Linux: JOBCTL_STOP_PENDING. */
export const TASK_FLAG_STOPPED = 1 << 1;
/** In WORD_FLAGS: its cgroup is frozen. Linux: JOBCTL_TRAP_FREEZE. */
export const TASK_FLAG_FROZEN = 1 << 2;
/** In WORD_FLAGS: its group or a budget is another; once. Linux: TIF_NEED_RESCHED. */
export const TASK_FLAG_RESCHED = 1 << 3;

/**
 * Wakes one task, from any thread that was handed the task's words. Linux: wake_up_process().
 *
 * A waker publishes its work first (an atomic store, pairing S1) and calls `wake` then.
 */
export class Waker {
  readonly #words: Int32Array<SharedArrayBuffer>;
  readonly #alsoWake: (() => void) | undefined;

  /**
   * `words`: the task's shared words (`Task.words`, `VhostTask.words`). `alsoWake` ends a sleep
   * that is not `schedule`'s, see `CurrentTask.scheduleBy`.
   */
  constructor(words: SharedArrayBuffer, alsoWake?: () => void) {
    this.#words = new Int32Array(words);
    this.#alsoWake = alsoWake;
  }

  /** Ends the sleep the task is in or about to begin. Never blocks; harmless on a dead task. */
  wake(): void {
    Atomics.add(this.#words, WORD_WAKE, 1); // S1, S2: see task-thread.ts
    // S2: the count is bumped before the state is looked at. A task that went to sleep on the old
    // count had stored INTERRUPTIBLE before, so it is seen here; any other will not sleep at all.
    if (Atomics.load(this.#words, WORD_STATE) !== TASK_RUNNING) {
      Atomics.notify(this.#words, WORD_WAKE);
      this.#alsoWake?.();
    }
  }
}
