import { VhostError } from "../spec/errno.js";
import {
  __WALL,
  __WCLONE,
  __WNOTHREAD,
  EXIT_DEAD,
  EXIT_ZOMBIE,
  PF_IO_WORKER,
  PF_USER_WORKER,
  SIGCHLD,
  TASK_DEAD,
} from "../spec/sched.js";
import { putFiles } from "./files.js";
import { updateHalt } from "./halt.js";
import type { Kernel } from "./kernel.js";
import { mmput } from "./mm.js";
import { exitPtrace } from "./ptrace.js";
import { forgetOriginalParent } from "./reparent.js";
import { sendSignal } from "./send-signal.js";
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
  exitPtrace(kernel, task);
  task.mm = null;
  task.activeMm = null;
  task.files = null;
  task.exitCode = code;
  task.exitState = EXIT_ZOMBIE;
  task.state = TASK_DEAD;
  mmput(mm);
  forgetOriginalParent(kernel, task, (zombie) => exitNotify(kernel, zombie));
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
  task.signal.stopped = false; // Linux: SIGNAL_GROUP_EXIT in place of SIGNAL_STOP_STOPPED
  const { groupExitCode, threads } = task.signal;
  for (const thread of [...threads]) {
    if (endsWithGroup(kernel, thread)) doExit(kernel, thread, groupExitCode);
    else updateHalt(thread); // it goes on, until it is stopped
  }
}

/** Whether it ends with its process: in some epochs a vhost worker goes on until it is stopped. */
export const endsWithGroup = (kernel: Kernel, thread: Task): boolean =>
  kernel.epoch.endsWithGroup || !isVhostThread(thread);

/** Whether it is a vhost worker within its owner's process. */
const isVhostThread = ({ flags, groupLeader, pid }: Task): boolean =>
  (flags & (PF_USER_WORKER | PF_IO_WORKER)) === PF_USER_WORKER && groupLeader.pid !== pid;

/** A child that was waited for, and is released. */
export interface Waited {
  readonly pid: number;
  /** As wait(2) shows it: a signal number, or a status times 256. */
  readonly code: number;
}

/**
 * The first child of the caller's process that has ended, which is released; or `null` while all
 * live (never blocks: WNOHANG). `pid`: that child; -1: any; 0: of the caller's process group; less:
 * of that group. `options`: __WCLONE for children whose exit signal is not SIGCHLD, __WALL for
 * both; __WNOTHREAD for the caller's own, not those of its other threads. ECHILD: no such child.
 * Linux: do_wait(), eligible_child().
 */
export function doWait(kernel: Kernel, current: Task, pid: number, options = 0): Waited | null {
  const parents = options & __WNOTHREAD ? [current] : [...current.signal.threads];
  const children = parents.flatMap((parent) => [...parent.children]);
  const eligible = children.filter((child) => {
    return isNamed(current, child, pid) && isOfKind(child, options);
  });
  if (eligible.length === 0) {
    throw new VhostError("ECHILD", `${pid} is no such child`, {
      pid,
      parent: current.pid,
      options,
    });
  }
  const child = eligible.find((one) => reap(kernel, one));
  if (child === undefined) return null;
  return { pid: child.pid, code: child.signal.groupExitCode ?? child.exitCode };
}

/**
 * What became of child `pid` of the caller's process: its exit code, and the child is released; or
 * `null` while it lives. See doWait. Linux: kernel_wait4().
 */
export function kernelWait4(
  kernel: Kernel,
  current: Task,
  pid: number,
  options = 0,
): number | null {
  return doWait(kernel, current, pid, options)?.code ?? null;
}

function isNamed({ signal }: Task, child: Task, pid: number): boolean {
  if (pid > 0) return child.pid === pid;
  return pid === -1 || child.signal.pgrp === (pid === 0 ? signal.pgrp : -pid);
}

const isOfKind = ({ exitSignal }: Task, options: number): boolean =>
  (options & __WALL) !== 0 || (exitSignal !== SIGCHLD) === ((options & __WCLONE) !== 0);

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
  task.signal.releasedCpuTimeUs += task.cpuTimeUs;
  const leader = task.groupLeader;
  if (leader !== task && leader.exitState === EXIT_ZOMBIE) exitNotify(kernel, leader);
}

/**
 * Tells a process's end to its parent, by its exit signal; or releases it, where nobody will wait
 * for it. Linux: exit_notify(), do_notify_parent().
 */
function exitNotify(kernel: Kernel, task: Task): void {
  if (task.groupLeader !== task) releaseTask(kernel, task);
  else if (threadGroupEmpty(task)) notifyParent(kernel, task);
}

function notifyParent(kernel: Kernel, task: Task): void {
  const { exitSignal, parent } = task;
  if (parentReaps(kernel, task)) releaseTask(kernel, task);
  else if (exitSignal > 0 && parent.exitState === 0) sendSignal(kernel, parent, exitSignal, true);
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
