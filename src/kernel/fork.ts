import { VhostError } from "../spec/errno.js";
import {
  CLONE_DETACHED,
  CLONE_FILES,
  CLONE_FS,
  CLONE_IO,
  CLONE_NEWCGROUP,
  CLONE_NEWIPC,
  CLONE_NEWNET,
  CLONE_NEWNS,
  CLONE_NEWPID,
  CLONE_NEWTIME,
  CLONE_NEWUSER,
  CLONE_NEWUTS,
  CLONE_PARENT,
  CLONE_PARENT_SETTID,
  CLONE_PIDFD,
  CLONE_SIGHAND,
  CLONE_SYSVSEM,
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
import type { Cgroup } from "./cgroup.js";
import { checkNproc, copyCreds } from "./cred.js";
import { doExit } from "./exit.js";
import { copyFiles, putFiles } from "./files.js";
import { hasThread, showHalt, updateHalt } from "./halt.js";
import type { Kernel } from "./kernel.js";
import { copyMm, mmput } from "./mm.js";
import { copyNamespaces } from "./nsproxy.js";
import { schedFork } from "./sched.js";
import { signalPending } from "./send-signal.js";
import { copyBlocked, copySighand, copySignal } from "./signal.js";
import { mustLive, Task } from "./task.js";
import type { Thread } from "./thread.js";

const CLONE_SHARED = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_IO;
const CLONE_NEW =
  CLONE_NEWNS |
  CLONE_NEWUTS |
  CLONE_NEWIPC |
  CLONE_NEWNET |
  CLONE_NEWCGROUP |
  CLONE_NEWTIME |
  CLONE_NEWUSER |
  CLONE_NEWPID;
const CLONE_ACCEPTED =
  CLONE_UNTRACED | CLONE_SYSVSEM | CLONE_PARENT | CLONE_PARENT_SETTID | CLONE_DETACHED;
const CLONE_MODELLED = CLONE_SHARED | CLONE_NEW | CLONE_ACCEPTED;

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
  /** The control group it is born in; without it, the caller's. Linux: CLONE_INTO_CGROUP. */
  readonly cgroup?: Cgroup;
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
 * Refusals, in this order; nothing is left behind by any: ESRCH `current` has exited; EINVAL flags
 * that do not go together; EOPNOTSUPP flags not modelled; ERESTARTNOINTR a signal waits; EAGAIN
 * RLIMIT_NPROC, threads-max, a deadline caller; ENOMEM no room to copy the mm; EPERM, EINVAL new
 * namespaces; ENOMEM a pid namespace without its init; EAGAIN pid_max (with `setTid`: EEXIST it is
 * taken, EINVAL it is none), pids.max of a cgroup on the path. Linux: copy_process().
 */
export function copyProcess(kernel: Kernel, current: Task, args: KernelCloneArgs): Task {
  mustLive(current);
  checkFlags(kernel, current, args.flags);
  checkSignals(current);
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
  if (!hasThread(task)) showHalt(task);
  task.thread?.start();
}

function checkFlags(kernel: Kernel, current: Task, flags: number): void {
  const isKnown = Number.isInteger(flags) && flags <= 0xffffffff;
  const misfit = isKnown && illegalFlags(kernel, current, flags);
  if (misfit) throw new VhostError("EINVAL", misfit, { flags });
  if (isKnown && (flags & ~CLONE_MODELLED) === 0) return;
  throw new VhostError("EOPNOTSUPP", "a CLONE_ flag that this kernel does not model", { flags });
}

/** What does not go together, in copy_process's order; `undefined`: all does. */
function illegalFlags(kernel: Kernel, current: Task, flags: number): string | undefined {
  const has = (...bits: number[]) => bits.every((bit) => (flags & bit) !== 0);
  if (has(CLONE_NEWNS, CLONE_FS)) return "CLONE_NEWNS does not go with CLONE_FS";
  if (has(CLONE_NEWUSER, CLONE_FS)) return "CLONE_NEWUSER does not go with CLONE_FS";
  if (has(CLONE_THREAD) && !has(CLONE_SIGHAND)) return "CLONE_THREAD needs CLONE_SIGHAND";
  if (has(CLONE_SIGHAND) && !has(CLONE_VM)) return "CLONE_SIGHAND needs CLONE_VM";
  if (has(CLONE_PARENT) && isInit(kernel, current)) return "init has no siblings";
  const movesPids = current.nsproxy.pidForChildren !== current.pidNs;
  if (has(CLONE_THREAD) && (has(CLONE_NEWUSER) || has(CLONE_NEWPID) || movesPids)) {
    return "a thread lives in its process's user and pid namespaces";
  }
  return has(CLONE_PIDFD, CLONE_DETACHED) ? "no pidfd for CLONE_DETACHED" : undefined;
}

/** Of the machine or of a pid namespace. Linux: SIGNAL_UNKILLABLE. */
const isInit = (kernel: Kernel, { signal, pidNs }: Task): boolean =>
  signal === (kernel.pidNamespaces.reaper(pidNs) ?? kernel.init.signal);

/** Who is about to handle a signal forks afterwards. */
function checkSignals(current: Task): void {
  if (!current.inKernel || !signalPending(current)) return;
  throw new VhostError("ERESTARTNOINTR", "a signal is to be handled first", { pid: current.pid });
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
  undo.push(() => kernel.ucounts.dec(cred));
  checkNproc(kernel, current, cred);
  kernel.checkThreadsMax();
  const sched = schedFork(current);
  const files = copyFiles(current, args);
  undo.push(() => putFiles(files));
  const sighand = copySighand(current, args);
  const signal = copySignal(current, flags);
  const mm = copyMm(current, flags, args.cgroup ?? current.cgroup);
  undo.push(() => mmput(mm));
  const nsproxy = copyNamespaces(kernel, current, cred, flags);
  kernel.pidNamespaces.checkOpen(nsproxy.pidForChildren);
  const pid = kernel.allocPid(args.setTid);
  const cgroup = args.cgroup ?? current.cgroup;
  cgroup.tryCharge();
  undo.push(() => cgroup.uncharge());
  const kin = kinship(current, args);
  const comm = args.name ?? current.comm;
  const pf = processFlags(current, args);
  const pidNs = nsproxy.pidForChildren;
  const shared = { cred, signal, sighand, cgroup, mm, files, nsproxy, pidNs };
  const own = { pid, comm, flags: pf, sched, blocked: copyBlocked(kernel, current, pf) };
  const task = new Task({ ...kin, ...shared, ...own, ...inherited(current, flags) });
  copyThread(kernel, task, args);
  kernel.attach(task);
  updateHalt(task); // born into a stopped process, a frozen group
  kernel.pidNamespaces.enter(current, task);
  return task;
}

/** What needs no counting. Linux: copy_fs(), copy_seccomp(). */
function inherited({ fs, confinement }: Task, flags: number) {
  return { fs: flags & CLONE_FS ? fs : { ...fs }, confinement };
}

/** PF_KTHREAD comes from the bit alone; what else the caller has is inherited. */
function processFlags(current: Task, args: KernelCloneArgs): number {
  let flags = (current.flags & ~PF_KTHREAD) | PF_FORKNOEXEC;
  if (args.kthread) flags |= PF_KTHREAD;
  if (args.userWorker) flags |= PF_USER_WORKER;
  if (args.ioThread) flags |= PF_IO_WORKER;
  return flags;
}

/**
 * A thread is its caller's sibling and nobody waits for it; a process is its caller's child, or
 * with CLONE_PARENT its sibling.
 */
function kinship(current: Task, { flags, exitSignal = 0 }: KernelCloneArgs) {
  const { groupLeader, parent } = current;
  if (flags & CLONE_THREAD) return { groupLeader, parent, exitSignal: -1 };
  if (flags & CLONE_PARENT)
    return { groupLeader: null, parent, exitSignal: groupLeader.exitSignal };
  return { groupLeader: null, parent: current, exitSignal };
}

/** However the thread ends, the task exits with it. Linux: copy_thread(), ret_from_fork(). */
function copyThread(kernel: Kernel, task: Task, { fn }: KernelCloneArgs): void {
  const thread = fn?.(task);
  if (thread === undefined) return;
  task.thread = thread;
  void thread.exited.then(({ code }) => doExit(kernel, task, code));
}
