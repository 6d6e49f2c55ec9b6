import {
  CLONE_FILES,
  CLONE_FS,
  CLONE_IO,
  CLONE_SIGHAND,
  CLONE_THREAD,
  CLONE_UNTRACED,
  CLONE_VM,
  PF_NOFREEZE,
  SIGCHLD,
} from "../spec/sched.js";
import { copyProcess, type KernelCloneArgs, wakeUpNewTask } from "./fork.js";
import type { Kernel } from "./kernel.js";
import type { Mm } from "./mm.js";
import { ignoreSignals } from "./signal.js";
import type { Task } from "./task.js";

/**
 * A kernel thread made from `current` (kthreadd, or pid 0 at boot), whose limits and credentials it
 * has: no user process's. Started. Errors: copyProcess. Linux: kernel_thread().
 */
export function kernelThread(
  kernel: Kernel,
  current: Task,
  args: Pick<KernelCloneArgs, "flags" | "name" | "fn" | "exitSignal">,
): Task {
  const flags = args.flags | CLONE_VM | CLONE_UNTRACED;
  const task = copyProcess(kernel, current, { ...args, flags, kthread: true });
  wakeUpNewTask(task);
  return task;
}

/** Pid 2, the parent of every kernel thread; deaf to all signals. Linux: kthreadd(). */
export function makeKthreadd(kernel: Kernel, swapper: Task): Task {
  const flags = CLONE_FS | CLONE_FILES;
  const task = kernelThread(kernel, swapper, { flags, name: "kthreadd" });
  task.flags |= PF_NOFREEZE;
  ignoreSignals(task.sighand);
  return task;
}

/**
 * A child of kthreadd that has its name from the start. Not counted against any process's limits.
 * Not started: `wakeUpNewTask`. Errors: copyProcess. Linux: kthread_create().
 */
export function kthreadCreate(
  kernel: Kernel,
  args: Required<Pick<KernelCloneArgs, "name" | "fn">>,
): Task {
  const flags = CLONE_FS | CLONE_FILES | CLONE_VM | CLONE_UNTRACED;
  const kthread = { ...args, flags, exitSignal: SIGCHLD, kthread: true };
  return copyProcess(kernel, kernel.kthreadd, kthread);
}

/**
 * Lends `mm` to a kernel thread, which has none of its own: it works there without being one of
 * its users, so whoever lends it keeps it alive. Ends with the thread. Linux: kthread_use_mm().
 */
export function kthreadUseMm(task: Task, mm: Mm | null): void {
  task.activeMm = mm;
}

/**
 * A worker of io_uring: a thread of `current`'s own process. Not started: `wakeUpNewTask`. Errors:
 * copyProcess. Linux: create_io_thread().
 */
export function createIoThread(
  kernel: Kernel,
  current: Task,
  args: Pick<KernelCloneArgs, "name" | "fn">,
): Task {
  const flags =
    CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_IO | CLONE_VM | CLONE_UNTRACED;
  return copyProcess(kernel, current, { ...args, flags, ioThread: true, userWorker: true });
}
