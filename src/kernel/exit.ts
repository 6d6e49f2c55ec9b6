import { VhostError } from "../spec/errno.js";
import {
  __WCLONE,
  EXIT_DEAD,
  EXIT_ZOMBIE,
  PF_IO_WORKER,
  PF_USER_WORKER,
  SIGCHLD,
  TASK_DEAD,
} from "../spec/sched.js";
import { putFiles } from "./files.js";
import type { Kernel } from "./kernel.js";
import { mmput } from "./mm.js";
import { type Task, threadGroupEmpty } from "./task.js";

/**
 * Ends one task: its thread (if it still runs), its hold on mm and files, its children's parent.
 * Its counts go when it is released: at once, or when its parent waits for it. Nothing happens to a
 * task that has exited. EINVAL: init and kthreadd, which never exit. Linux: do_exit().
 */
export function doExit(kernel: Kernel, task: Task, code: number): void {
  if (task.exitState !== 0) return;
  if (task === kernel.init || task === kernel.kthreadd) {
    throw new VhostError("EINVAL", `attempted to kill ${task.comm}`, { pid: task.pid });
  }
  const { mm, files } = task;
  exitPtrace(task);
  task.mm = null;
  task.files = null;
  task.exitCode = code;
  task.exitState = EXIT_ZOMBIE;
  task.state = TASK_DEAD;
  mmput(mm);
  forgetOriginalParent(kernel, task);
  exitNotify(kernel, task);
  endThread(task);
  putFiles(files);
}

/**
 * Ends every thread of the task's process, but vhost workers in an epoch where they go on until
 * they are stopped. What it ended with is `code`, whatever its leader may have exited with before;
 * the first such end counts. Errors as doExit. Linux: do_group_exit().
 */
export function doGroupExit(kernel: Kernel, task: Task, code: number): void {
  task.signal.groupExitCode ??= code;
  const { groupExitCode, threads } = task.signal;
  for (const thread of [...threads]) {
    if (endsWithGroup(kernel, thread)) doExit(kernel, thread, groupExitCode);
  }
}

/** Whether it ends with its process: in some epochs a vhost worker goes on until it is stopped. */
export const endsWithGroup = (kernel: Kernel, thread: Task): boolean =>
  kernel.epoch.endsWithGroup || !isVhostThread(thread);

/** Whether it is a vhost worker within its owner's process. */
const isVhostThread = ({ flags, groupLeader, pid }: Task): boolean =>
  (flags & (PF_USER_WORKER | PF_IO_WORKER)) === PF_USER_WORKER && groupLeader.pid !== pid;

/**
 * What became of child `pid` of the caller's process: its exit code, and the child is released; or
 * `null` while it lives (never blocks: WNOHANG). `options`: __WCLONE for children whose exit signal
 * is not SIGCHLD. ECHILD: no such child. Linux: kernel_wait4().
 */
export function kernelWait4(
  kernel: Kernel,
  current: Task,
  pid: number,
  options = 0,
): number | null {
  const child = kernel.task(pid);
  const clone = (options & __WCLONE) !== 0;
  if (
    child?.parent.signal !== current.signal ||
    child !== child.groupLeader ||
    (child.exitSignal !== SIGCHLD) !== clone
  ) {
    throw new VhostError("ECHILD", `${pid} is no such child`, {
      pid,
      parent: current.pid,
      options,
    });
  }
  return reap(kernel, child) ? (child.signal.groupExitCode ?? child.exitCode) : null;
}

/** Releases a process that has ended with all its threads; `false`: it is not that far, or gone. */
export function reap(kernel: Kernel, task: Task): boolean {
  if (task.exitState !== EXIT_ZOMBIE || !threadGroupEmpty(task)) return false;
  releaseTask(kernel, task);
  return true;
}

/**
 * Takes a zombie out of the tables and gives its counts back. The last thread of a process whose
 * leader is a zombie lets the leader be reaped. Linux: release_task().
 */
function releaseTask(kernel: Kernel, task: Task): void {
  task.exitState = EXIT_DEAD;
  kernel.detach(task);
  kernel.ucounts.dec(task.cred);
  task.cgroup.uncharge();
  const leader = task.groupLeader;
  if (leader !== task && leader.exitState === EXIT_ZOMBIE) exitNotify(kernel, leader);
}

/** Nobody traces it, nor does it trace: who was held goes on. Linux: exit_ptrace(). */
function exitPtrace(task: Task): void {
  task.tracer?.tracees.delete(task);
  for (const tracee of [task, ...task.tracees])
    Object.assign(tracee, { tracer: null, tracedStop: 0 });
  task.tracees.clear();
}

/** Children go to a thread of the same process that still lives, or to init. */
function forgetOriginalParent(kernel: Kernel, task: Task): void {
  const thread = [...task.signal.threads].find(({ exitState }) => exitState === 0);
  for (const child of task.children) {
    adopt(thread ?? kernel.init, child);
    if (thread !== undefined) continue;
    child.exitSignal = SIGCHLD;
    if (child.exitState === EXIT_ZOMBIE) exitNotify(kernel, child);
  }
  task.children.clear();
}

function adopt(parent: Task, child: Task): void {
  for (const thread of child.signal.threads) thread.parent = parent;
  parent.children.add(child);
}

/** Releases a zombie that nobody will wait for. Linux: exit_notify(), do_notify_parent(). */
function exitNotify(kernel: Kernel, task: Task): void {
  const isThread = task.groupLeader !== task;
  if (isThread || (threadGroupEmpty(task) && parentReaps(kernel, task))) releaseTask(kernel, task);
}

/** Init waits for every SIGCHLD; a parent that ignores it gets no zombies. Other signals: wait. */
const parentReaps = (kernel: Kernel, { exitSignal, parent }: Task): boolean =>
  exitSignal === SIGCHLD &&
  (parent === kernel.init ||
    parent.sighand.ignoreAll ||
    parent.sighand.actions.get(SIGCHLD) === "SIG_IGN");

function endThread({ thread, pid }: Task): void {
  void thread?.terminate(new VhostError("EINTR", `task ${pid} has exited`, { pid }));
}
