import { availableParallelism } from "node:os";
import type { Kernel } from "../kernel/kernel.js";
import type { Mm } from "../kernel/mm.js";
import type { Task } from "../kernel/task.js";
import type { Clock } from "./io-work.js";
import { IoWorkerThread } from "./io-worker.js";
import { IoWq } from "./io-wq.js";
import { type TaskOwner, taskOf } from "./owner.js";
import type { RequestWork } from "./ring-ctx.js";

/** The time of this machine. A timer does not keep the program alive. */
const HOST_CLOCK: Clock = {
  after(ms, fn) {
    const timer = setTimeout(fn, ms).unref();
    return () => clearTimeout(timer);
  },
};

const queues = new WeakMap<Task, IoWq<RequestWork>>();

/**
 * The io-wq of `task`, made with its first ring and for all its rings: as many bounded workers as
 * that one has SQ entries, 4 a CPU at most; each a thread of its own. Linux: io_uring_task,
 * __io_uring_add_tctx_node().
 */
export function ioWqOf(kernel: Kernel, task: Task, sqEntries: number): IoWq<RequestWork> {
  let wq = queues.get(task);
  if (wq === undefined) {
    const { memory } = task.mm as Mm;
    wq = new IoWq<RequestWork>({
      kernel,
      task,
      clock: HOST_CLOCK,
      bounded: Math.min(sqEntries, 4 * availableParallelism()),
      makeThread: (worker, done) => new IoWorkerThread(worker, memory, done),
    });
    queues.set(task, wq);
  }
  return wq;
}

/**
 * Ends the io workers of a process, if it has any; its next ring begins anew. See IoWq.exit.
 * Rejects with EINVAL for what is no process. Linux: io_uring_cancel_generic(), at the task's end.
 */
export async function exitIoWq(owner: TaskOwner): Promise<void> {
  const task = taskOf(owner);
  const wq = queues.get(task);
  queues.delete(task);
  await wq?.exit();
}
