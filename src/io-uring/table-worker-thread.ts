import { eventfdWaker } from "../kernel/eventfd-waker.js";
import type { CurrentTask } from "../kernel/task-thread.js";
import { TASK_INTERRUPTIBLE, TASK_RUNNING } from "../spec/sched.js";
import { runJob } from "./job-runner.js";
import { WorkTable } from "./work-table.js";

/** What the thread is given when it starts. */
export interface TableWorkerArg {
  /** The owner's. */
  readonly memory: WebAssembly.Memory;
  readonly table: SharedArrayBuffer;
  /** Its number in the table. */
  readonly worker: number;
  /** The words of the submitter's task, who is woken for results. */
  readonly submitter: SharedArrayBuffer;
  /** An eventfd that must be written to when it sleeps; `undefined`: none. */
  readonly wakeFd: number | undefined;
  /** Milliseconds without work after which it ends. */
  readonly idleMs: number;
}

/**
 * What the thread of an io worker runs that takes its work from a table: it does what it finds, on
 * its owner's memory, and ends when it is told to, or found nothing for a while and is not the
 * last. Between two jobs it is stopped, frozen, and held for its group's CPU time. Blocks. Linux:
 * io_wq_worker().
 */
export function tableWorker(arg: TableWorkerArg, current: CurrentTask): void {
  const { memory, worker, wakeFd, idleMs } = arg;
  const table = new WorkTable(arg.table);
  const waker = eventfdWaker(arg.submitter, wakeFd);
  let slot = 0;
  const work = () => {
    const found = table.take(worker, slot);
    if (found < 0) return false;
    slot = found;
    current.setState(TASK_RUNNING);
    const { job, hostFd } = table.job(slot);
    table.finish(worker, slot, runJob({ job, hostFd, memory, current }));
    waker.wake(); // S1: the result is there
    return true;
  };
  for (;;) {
    if (current.shouldStop()) break;
    if (!current.mayRun()) {
      table.rest(worker);
      current.hold();
      continue;
    }
    const seen = table.workSeq; // W3: before the look
    current.setState(TASK_INTERRUPTIBLE);
    if (work() || current.signalPending()) continue;
    let isLate = false;
    current.scheduleBy(() => {
      isLate = !table.sleep(worker, seen, idleMs);
    });
    if (isLate && table.leave(worker) && !work()) break;
  }
  current.setState(TASK_RUNNING);
}
