import type { Task } from "../kernel/task.js";
import type { VhostError } from "../spec/errno.js";
import type { VhostDev } from "./dev.js";

/** The part of an open device that is about its workers. */
export abstract class OpenWorkers {
  /** The control side underneath. */
  abstract get dev(): VhostDev;

  /** Calls `listener` for each queue that stands still because a further worker died. */
  onQueueDeath(listener: (index: number, error: VhostError) => void): void {
    this.dev.workers.onQueueDeath(listener);
  }

  /** Tasks of its workers, by their numbers. */
  get workerTasks(): ReadonlyMap<number, Task> {
    return this.dev.workers.tasks;
  }

  /** One more worker; gives its number. See `VhostDev.newWorker`. */
  newWorker(): Promise<number> {
    return this.dev.newWorker();
  }

  /** Ends a worker that no queue is attached to. See `VhostDev.freeWorker`. */
  freeWorker(id: number): Promise<void> {
    return this.dev.freeWorker(id);
  }

  /** Gives a queue to a worker, also while it is in use. See `VhostDev.attachVringWorker`. */
  attachQueue(index: number, id: number): Promise<void> {
    return this.dev.attachVringWorker(index, id);
  }

  /** The number of a queue's worker. See `VhostDev.getVringWorker`. */
  workerOf(index: number): number {
    return this.dev.getVringWorker(index);
  }
}
