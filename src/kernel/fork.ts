import { VhostError } from "../spec/errno.js";
import {
  CLONE_FILES,
  CLONE_FS,
  CLONE_IO,
  CLONE_SIGHAND,
  CLONE_THREAD,
  CLONE_UNTRACED,
  CLONE_VM,
  PF_FORKNOEXEC,
  PF_IO_WORKER,
  PF_KTHREAD,
  PF_USER_WORKER,
  TASK_NEW,
  TASK_RUNNING,
} from "../spec/sched.js";
import { checkNproc, copyCreds } from "./cred.js";
import { doExit } from "./exit.js";
import { copyFiles, putFiles } from "./files.js";
import type { Kernel } from "./kernel.js";
import { copyMm, mmput } from "./mm.js";
import { copySighand, copySignal } from "./signal.js";
import { mustLive, Task } from "./task.js";
import type { Thread } from "./thread.js";

const CLONE_MODELLED =
  CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_UNTRACED | CLONE_IO;

/** What a new task is to be. Linux: kernel_clone_args. */
export interface KernelCloneArgs {
  /** CLONE_ bits. Linux: flags. */
  readonly flags: number;
  /** Signal to the parent at exit; 0, the default: none. Linux: exit_signal. */
  readonly exitSignal?: number;
  /** A kernel thread: PF_KTHREAD. Linux: kthread:1. */
  readonly kthread?: boolean;
  /** An io_uring worker: PF_IO_WORKER; its caller sets `userWorker` too. Linux: io_thread:1. */
  readonly ioThread?: boolean;
  /** Works for the process it is made from: PF_USER_WORKER. Linux: user_worker:1. */
  readonly userWorker?: boolean;
  /** Gets no table of open files, neither shared nor copied. Linux: no_files:1. */
  readonly noFiles?: boolean;
  /** Every signal, SIGKILL too, is ignored. Linux: ignore_signals:1, up to 6.4-rc. */
  readonly ignoreSignals?: boolean;
  /** The number it gets; without it, the next that is free. Linux: set_tid. */
  readonly setTid?: number;
  /** Its comm; without it, the caller's. Linux: name. */
  readonly name?: string;
  /**
   * Makes what will run it, asleep; called once. Without it the caller's own code acts for the
   * task. Linux: fn and fn_arg (a closure is both).
   */
  readonly fn?: (task: Task) => Thread;
}

/**
 * Makes a task from `current`: with its credentials, limits and cgroup, and what the flags say
 * shared or copied. It is in the tables and in TASK_NEW: `wakeUpNewTask` starts it.
 *
 * Refusals, in this order; nothing is left behind by any: ESRCH `current` has exited; EOPNOTSUPP
 * flags not modelled; EINVAL THREAD without SIGHAND, SIGHAND without VM; EAGAIN RLIMIT_NPROC,
 * threads-max; ENOMEM no room to copy the mm; EAGAIN pid_max (with `setTid`: EEXIST it
 * is taken, EINVAL it is none), pids.max of a cgroup on the path.
 * Linux: copy_process().
 */
export function copyProcess(kernel: Kernel, current: Task, args: KernelCloneArgs): Task {
  mustLive(current);
  checkFlags(args.flags);
  const undo: (() => void)[] = [];
  try {
    return buildTask(kernel, current, args, undo);
  } catch (error) {
    for (const step of undo.reverse()) step();
    throw error;
  }
}

/**
 * Starts a task that copyProcess made. EINVAL: it has been started, or has exited.
 * Linux: wake_up_new_task().
 */
export function wakeUpNewTask(task: Task): void {
  if (task.state !== TASK_NEW) {
    throw new VhostError("EINVAL", "a task is started once", { pid: task.pid });
  }
  task.state = TASK_RUNNING;
  task.thread?.start();
}

function checkFlags(flags: number): void {
  const facts = { flags };
  if (!Number.isInteger(flags) || flags > 0xffffffff || (flags & ~CLONE_MODELLED) !== 0) {
    throw new VhostError("EOPNOTSUPP", "a CLONE_ flag that this kernel does not model", facts);
  }
  if (flags & CLONE_THREAD && !(flags & CLONE_SIGHAND)) {
    throw new VhostError("EINVAL", "CLONE_THREAD needs CLONE_SIGHAND", facts);
  }
  if (flags & CLONE_SIGHAND && !(flags & CLONE_VM)) {
    throw new VhostError("EINVAL", "CLONE_SIGHAND needs CLONE_VM", facts);
  }
}

/** The steps of copy_process in their order; each that takes something leaves its undoing. */
function buildTask(
  kernel: Kernel,
  current: Task,
  args: KernelCloneArgs,
  undo: (() => void)[],
): Task {
  const { flags } = args;
  const cred = copyCreds(kernel, current, flags);
  undo.push(() => kernel.ucounts.dec(cred.uid));
  checkNproc(kernel, current);
  kernel.checkThreadsMax();
  const files = copyFiles(current, args);
  undo.push(() => putFiles(files));
  const sighand = copySighand(current, args);
  const signal = copySignal(current, flags);
  const mm = copyMm(current, flags);
  undo.push(() => mmput(mm));
  const pid = kernel.allocPid(args.setTid);
  const { cgroup } = current;
  cgroup.tryCharge();
  undo.push(() => cgroup.uncharge());
  const kin = kinship(current, args);
  const comm = args.name ?? current.comm;
  const pf = processFlags(current, args);
  const task = new Task({ pid, ...kin, comm, flags: pf, cred, signal, sighand, cgroup, mm, files });
  copyThread(kernel, task, args);
  kernel.attach(task);
  return task;
}

/** PF_KTHREAD comes from the bit alone; what else the caller has is inherited. */
function processFlags(current: Task, args: KernelCloneArgs): number {
  let flags = (current.flags & ~PF_KTHREAD) | PF_FORKNOEXEC;
  if (args.kthread) flags |= PF_KTHREAD;
  if (args.userWorker) flags |= PF_USER_WORKER;
  if (args.ioThread) flags |= PF_IO_WORKER;
  return flags;
}

/** A thread is its caller's sibling and nobody waits for it; a process is its caller's child. */
function kinship(current: Task, { flags, exitSignal = 0 }: KernelCloneArgs) {
  return flags & CLONE_THREAD
    ? { groupLeader: current.groupLeader, parent: current.parent, exitSignal: -1 }
    : { groupLeader: null, parent: current, exitSignal };
}

/** However the thread ends, the task exits with it. Linux: copy_thread(), ret_from_fork(). */
function copyThread(kernel: Kernel, task: Task, { fn }: KernelCloneArgs): void {
  const thread = fn?.(task);
  if (thread === undefined) return;
  task.thread = thread;
  void thread.exited.then(({ code }) => doExit(kernel, task, code));
}
