// The workers of io_uring, as far as their being tasks goes. Requests do nothing.

import { doExit } from "#dist/kernel/exit.js";
import { wakeUpNewTask } from "#dist/kernel/fork.js";
import type { Kernel } from "#dist/kernel/kernel.js";
import { createIoThread } from "#dist/kernel/kthread.js";
import type { Task } from "#dist/kernel/task.js";
import { InlineThread } from "#dist/kernel/thread.js";

/** A ring: its polling thread, and the worker of each thread that has submitted to it. */
export class IoUring {
  readonly #workers = new Map<Task, Task>();

  constructor(
    readonly kernel: Kernel,
    /** Where the tasks of the machine sleep. */
    readonly sleepsIn: WeakMap<Task, string>,
  ) {}

  /** A thread that polls the ring for `task`. Throws what copyProcess throws. */
  pollFor(task: Task): void {
    this.#make(task, `iou-sqp-${task.pid}`, "io_sq_thread");
  }

  /** A request of `task` that a worker takes up; one worker serves all of a thread's. */
  work(task: Task): void {
    const worker = this.#workers.get(task);
    if (worker?.exitState === 0) return;
    this.#make(task, `iou-wrk-${task.pid}`, "io_wq_worker");
  }

  /** The ring is closed: its tasks end. */
  release(): void {
    for (const worker of this.#workers.values()) doExit(this.kernel, worker, 0);
    this.#workers.clear();
  }

  #make(task: Task, name: string, fn: string): void {
    const worker = createIoThread(this.kernel, task, { name, fn: () => new InlineThread() });
    wakeUpNewTask(worker);
    this.#workers.set(task, worker);
    this.sleepsIn.set(worker, fn);
  }
}
