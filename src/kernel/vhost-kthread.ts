import { cgroupAttachTask } from "./cgroup.js";
import type { Kernel } from "./kernel.js";
import { kthreadCreate, kthreadUseMm } from "./kthread.js";
import { mustLive, type Task } from "./task.js";
import type { Thread } from "./thread.js";
import { makeWorkerThread, VhostTask, type VhostTaskOptions } from "./vhost-task.js";

/**
 * A worker as before 6.4, and since 6.12 at the owner's wish: a kernel thread, so root's, with
 * kthreadd's limits, deaf to signals, and no part of the owner's process. By hand it is put in the
 * owner's cgroup, once and whatever pids.max says, and works in the owner's memory, which whoever
 * made it keeps alive. Not started: `vhostTaskStart`. ESRCH: the owner has exited; EAGAIN: the
 * machine is full. Linux: vhost_kthread_worker_create(), vhost_attach_task_to_cgroups().
 */
export function vhostKthreadCreate(
  kernel: Kernel,
  owner: Task,
  options: VhostTaskOptions,
): VhostTask {
  mustLive(owner);
  let thread!: Thread;
  const task = kthreadCreate(kernel, {
    name: options.name,
    fn: (child) => {
      thread = makeWorkerThread(child, options);
      return thread;
    },
  });
  cgroupAttachTask(owner.cgroup, task);
  kthreadUseMm(task, owner.mm);
  return new VhostTask(kernel, task, thread, options.run === "inline" ? undefined : options.wake);
}
