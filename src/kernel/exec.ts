import { PF_FORKNOEXEC, SIGCHLD } from "../spec/sched.js";
import { doExit, endsWithGroup } from "./exit.js";
import { closeOnExec, unshareFiles } from "./files.js";
import type { Kernel } from "./kernel.js";
import { Mm, mmput } from "./mm.js";
import { type Task, truncateComm } from "./task.js";

/** A new program. */
export interface ExecOptions {
  readonly comm: string;
  /** Size of its memory, in bytes, as `checkMemoryBytes` allows. */
  readonly memoryBytes: number;
}

/**
 * A new program in a new address space: the process's other threads end (its vhost workers too, in
 * an epoch where they end with it), what asked for it is called (its io_uring rings end), files
 * marked so are closed, signal handlers are the default again (what was ignored still is), and its
 * end will be told by SIGCHLD. The task must lead its process. ENOMEM: no room for the mm, or its
 * cgroup's memory.max; nothing was done. Linux: begin_new_exec(), de_thread(), exec_mmap().
 */
export function beginNewExec(kernel: Kernel, task: Task, options: ExecOptions): void {
  const mm = new Mm(options.memoryBytes, task.cgroup);
  for (const thread of [...task.signal.threads]) {
    if (thread !== task && endsWithGroup(kernel, thread)) doExit(kernel, thread, 0);
  }
  callAtExec(task);
  task.files = unshareFiles(task.files);
  mmput(task.mm);
  task.mm = mm;
  const { ignoreAll, actions } = task.sighand;
  const ignored = [...actions].filter(([, action]) => action === "SIG_IGN");
  task.sighand = { ignoreAll, actions: new Map(ignored) };
  task.comm = truncateComm(options.comm);
  task.flags &= ~PF_FORKNOEXEC;
  task.exitSignal = SIGCHLD;
  closeOnExec(task.files);
}

function callAtExec({ signal }: Task): void {
  const all = [...signal.atExec];
  signal.atExec.clear();
  for (const call of all) call();
}
