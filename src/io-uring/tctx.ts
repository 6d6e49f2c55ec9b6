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

/** Linux: io_uring_task. */
interface Tctx {
  readonly wq: IoWq<RequestWork>;
  /** What a new program calls. */
  readonly atExec: () => void;
}

const contexts = new WeakMap<Task, Tctx>();

/**
 * The io-wq of `task`, made with its first ring and for all its rings: as many bounded workers as
 * that one has SQ entries, 4 a CPU at most; each a thread of its own, on the memory that the task
 * has now. It ends when the process executes another program. Linux: __io_uring_add_tctx_node(),
 * io_uring_task_cancel().
 */
export function ioWqOf(kernel: Kernel, task: Task, sqEntries: number): IoWq<RequestWork> {
  const context = contexts.get(task);
  if (context !== undefined) return context.wq;
  const { memory } = task.mm as Mm;
  const wq = new IoWq<RequestWork>({
    kernel,
    task,
    clock: HOST_CLOCK,
    bounded: Math.min(sqEntries, 4 * availableParallelism()),
    makeThread: (worker, done) => new IoWorkerThread(worker, memory, done),
  });
  const atExec = () => void exitIoWq(task);
  contexts.set(task, { wq, atExec });
  task.signal.atExec.add(atExec);
  return wq;
}

/**
 * Ends the io workers of a process, if it has any; its next ring begins anew. See IoWq.exit.
 * Rejects with EINVAL for what is no process. Linux: io_uring_cancel_generic(), at the task's end.
 */
export async function exitIoWq(owner: TaskOwner): Promise<void> {
  const task = taskOf(owner);
  const context = contexts.get(task);
  if (context === undefined) return;
  contexts.delete(task);
  task.signal.atExec.delete(context.atExec);
  await context.wq.exit();
}
