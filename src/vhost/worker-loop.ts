import type { CurrentTask } from "../kernel/task-thread.js";
import { TASK_INTERRUPTIBLE } from "../spec/sched.js";
import type { Doorbell } from "./notify.js";
import type { VhostWorker } from "./worker.js";

/** An idle worker asks for the time once in so many passes: a pass is shorter than the asking. */
const PASSES_A_CLOCK = 8;

/**
 * What a worker does between two messages of its owner, a step at a time: it polls and, when there
 * was no work for a while, prepares to sleep. It never sleeps itself: that is for who takes the
 * steps, a thread or a simulation.
 */
export class WorkerLoop {
  readonly #worker: VhostWorker;
  readonly #forMs: number;
  readonly #now: () => number;
  #idle = 0;
  #until = 0;

  /**
   * `forMs`: how long it polls after the last work, unless its queues say something else (see
   * `VhostWorker.busyloopMs`). `now`: a clock, in milliseconds.
   */
  constructor(worker: VhostWorker, forMs: number, now: () => number) {
    this.#worker = worker;
    this.#forMs = forMs;
    this.#now = now;
  }

  /** Begins to poll: after a sleep or a message. */
  begin(): void {
    this.#idle = 0;
  }

  /** One pass over the rings. False: there was no work for a while, so the worker should sleep. */
  poll(): boolean {
    const worker = this.#worker;
    if (worker.runWorkList()) {
      this.#idle = 0;
      if (!worker.hasRefused) return true;
    }
    if (this.#idle++ % PASSES_A_CLOCK !== 0) return true;
    const now = this.#now();
    worker.recheckRefused(now);
    if (this.#idle === 1) this.#until = now + (worker.busyloopMs ?? this.#forMs);
    return now < this.#until;
  }

  /**
   * Gets ready to sleep; the caller then sleeps for as long as the answer says at most, in
   * milliseconds, and sets TASK_RUNNING. 0: there is something to do, no sleep. The order is what
   * makes a lost wake-up impossible: first the state, then the kicks asked for, then a last look at
   * all that could be due. Linux: prepare_to_wait().
   */
  prepareToSleep(task: CurrentTask, doorbell: Doorbell): number {
    task.setState(TASK_INTERRUPTIBLE);
    return this.lastLook(task, doorbell);
  }

  /** What comes after the state is set, for each of the workers that sleep together. */
  lastLook(task: CurrentTask, doorbell: Doorbell): number {
    const isBusy = this.#worker.enableKicks();
    if (isBusy || doorbell.isControlPending() || task.shouldStop()) return 0;
    return this.#worker.sleepMsMax;
  }
}
