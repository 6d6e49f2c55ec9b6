// A worker of a vhost device: a task and a list of work. There is no thread: the machine runs the
// list whenever the task may run.

import { accountCpu, cgroupAttachTask } from "#dist/kernel/cgroup.js";
import { doExit } from "#dist/kernel/exit.js";
import type { Kernel } from "#dist/kernel/kernel.js";
import { kthreadRun } from "#dist/kernel/kthread.js";
import { isHalted } from "#dist/kernel/send-signal.js";
import type { Task } from "#dist/kernel/task.js";
import { InlineThread } from "#dist/kernel/thread.js";
import { vhostTaskCreate, vhostTaskStart, vhostTaskStop } from "#dist/kernel/vhost-task.js";

/** Something to do, and the microseconds it takes. Linux: vhost_work. */
export interface Work {
  run(): void;
  readonly costUs: number;
}

/** Linux: vhost_worker. */
export interface Worker {
  readonly task: Task;
  /** Rings that it works on. Linux: attachment_cnt. */
  attachments: number;
  readonly works: Work[];
  /** Ends the task at once. */
  stop(): void;
}

/** A worker made from `owner`, which the kernel counts and limits as the owner's. */
export function userWorker(kernel: Kernel, owner: Task): Worker {
  const vtsk = vhostTaskCreate(kernel, owner, { name: `vhost-${owner.pid}`, run: "inline" });
  vhostTaskStart(vtsk);
  return { task: vtsk.task, attachments: 0, works: [], stop: () => void vhostTaskStop(vtsk) };
}

/** A worker as before user workers: a kernel thread, put in its owner's cgroup once. */
export function kthreadWorker(kernel: Kernel, owner: Task): Worker {
  const fn = () => new InlineThread();
  const task = kthreadRun(kernel, { name: `vhost-${owner.pid}`, fn });
  cgroupAttachTask(owner.cgroup, task);
  return { task, attachments: 0, works: [], stop: () => doExit(kernel, task, 0) };
}

/** Whether its task has ended. Linux: killed. */
export const isKilled = ({ task }: Worker): boolean => task.exitState !== 0;

/** Does what there is to do, if the task may run. Returns whether there was anything. */
export function runWorker(worker: Worker): boolean {
  const { task, works } = worker;
  if (works.length === 0 || (!isKilled(worker) && isHalted(task))) return false;
  for (const work of works.splice(0)) {
    work.run();
    if (!isKilled(worker)) accountCpu(task, work.costUs);
  }
  return true;
}
