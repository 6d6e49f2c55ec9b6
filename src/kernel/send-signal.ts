import { VhostError } from "../spec/errno.js";
import { CAP_KILL } from "../spec/sched.js";
import {
  _NSIG,
  SIG_KERNEL_IGNORE_MASK,
  SIG_KERNEL_ONLY_MASK,
  SIG_KERNEL_STOP_MASK,
  SIGNALS,
  sigmask,
} from "../spec/signal.js";
import { capable } from "./cred.js";
import { isHalted, updateHalt } from "./halt.js";
import type { Kernel } from "./kernel.js";
import type { SignalHandler, Task } from "./task.js";

export { isHalted } from "./halt.js";

const { SIGKILL, SIGCONT, SIGSTOP } = SIGNALS;

/**
 * EPERM unless of one user, SIGCONT within a session, or CAP_KILL. Linux: check_kill_permission().
 */
export function checkKillPermission({ cred, signal }: Task, task: Task, sig: number): void {
  const { uid, suid } = task.cred;
  if ([uid, suid].some((id) => id === cred.euid || id === cred.uid)) return;
  if (capable(cred, CAP_KILL) || (sig === SIGCONT && signal.session === task.signal.session))
    return;
  throw new VhostError("EPERM", "another user's process: needs CAP_KILL", { pid: task.pid, sig });
}

/**
 * Sends a signal to one task, or with `group` to its process, whose first thread that does not
 * block it takes it. What is ignored is dropped; what nobody may take now stays pending. Nothing
 * happens to a task that is released. EINVAL: no such signal. Linux: send_signal_locked(),
 * complete_signal().
 */
export function sendSignal(kernel: Kernel, task: Task, sig: number, group: boolean): void {
  if (!Number.isInteger(sig) || sig < 1 || sig > _NSIG) {
    throw new VhostError("EINVAL", `a signal is one of 1 to ${_NSIG} (0: is the task there?)`, {
      sig,
    });
  }
  const { signal } = task;
  const continued = prepare(task, sig);
  if (!isIgnored(kernel, task, sig)) {
    if (group) signal.sharedPending |= sigmask(sig);
    else task.pending |= sigmask(sig);
  }
  const others = group || continued ? [...signal.threads] : [];
  for (const thread of new Set([task, ...others])) getSignal(kernel, thread);
  for (const thread of signal.threads) updateHalt(thread);
}

/**
 * Lets a task take what is pending for it, as it would on its way out of the kernel: handlers run,
 * defaults stop or end its process. Call it after what held it back is over. Linux: get_signal().
 */
export function getSignal(kernel: Kernel, task: Task): void {
  while (task.exitState === 0 && !task.inKernel) {
    const sig = nextSignal(task);
    if (sig === 0 || (sig !== SIGKILL && isHalted(task))) return;
    dequeue(task, sig);
    act(kernel, task, sig);
  }
}

/** Whether something waits that the task would take. Linux: signal_pending(). */
export const signalPending = (task: Task): boolean => nextSignal(task) !== 0;

/** Stop signals and SIGCONT take each other back. Returns whether the process goes on by it. */
function prepare(task: Task, sig: number): boolean {
  const { signal, sighand } = task;
  if (sighand.ignoreAll) return false;
  if (sigmask(sig) & SIG_KERNEL_STOP_MASK) flush(task, sigmask(SIGCONT));
  if (sig !== SIGCONT) return false;
  flush(task, SIG_KERNEL_STOP_MASK);
  const wasStopped = signal.stopped;
  Object.assign(signal, { stopped: false, stopCode: 0, continued: wasStopped });
  return wasStopped;
}

function flush({ signal }: Task, mask: bigint): void {
  signal.sharedPending &= ~mask;
  for (const thread of signal.threads) thread.pending &= ~mask;
}

function isIgnored(kernel: Kernel, task: Task, sig: number): boolean {
  const { sighand, signal, blocked } = task;
  if (sighand.ignoreAll) return true;
  const action = actionOf(task, sig);
  if (signal === kernel.init.signal && action === undefined) return true;
  if (blocked & sigmask(sig)) return false;
  return action === "SIG_IGN" || (action === undefined && isIgnoredByDefault(sig));
}

const isIgnoredByDefault = (sig: number): boolean => (sigmask(sig) & SIG_KERNEL_IGNORE_MASK) !== 0n;

function actionOf({ sighand }: Task, sig: number): "SIG_IGN" | SignalHandler | undefined {
  return sigmask(sig) & SIG_KERNEL_ONLY_MASK ? undefined : sighand.actions.get(sig);
}

/** SIGKILL first, then what is for the task alone, the lowest number first; 0: none. */
function nextSignal({ pending, signal, blocked }: Task): number {
  for (const set of [pending & ~blocked, signal.sharedPending & ~blocked]) {
    if (set & sigmask(SIGKILL)) return SIGKILL;
    for (let sig = 1; set >> BigInt(sig - 1) !== 0n; sig++) if (set & sigmask(sig)) return sig;
  }
  return 0;
}

function dequeue(task: Task, sig: number): void {
  if (task.pending & sigmask(sig)) task.pending &= ~sigmask(sig);
  else task.signal.sharedPending &= ~sigmask(sig);
}

function act(kernel: Kernel, task: Task, sig: number): void {
  const action = actionOf(task, sig);
  if (action === "SIG_IGN" || (action === undefined && isIgnoredByDefault(sig))) return;
  if (action !== undefined) action(task, sig);
  else if (sigmask(sig) & SIG_KERNEL_STOP_MASK) doSignalStop(kernel, task, sig);
  else kernel.exitGroup(task, sig);
}

/**
 * The whole process stops; its parent may be told once. What a terminal stops by does nothing where
 * nobody could let it go on. Linux: do_signal_stop(), is_current_pgrp_orphaned().
 */
function doSignalStop(kernel: Kernel, { signal }: Task, sig: number): void {
  if (sig !== SIGSTOP && isOrphaned(kernel, signal)) return;
  if (!signal.stopped) Object.assign(signal, { stopped: true, stopCode: sig, continued: false });
  for (const thread of signal.threads) updateHalt(thread);
}

/** Whether no process of the group has a parent in another group of the session. */
function isOrphaned(kernel: Kernel, { pgrp, session }: Task["signal"]): boolean {
  return !kernel.tasks().some(({ signal, parent, exitState }) => {
    const isMember = signal.pgrp === pgrp && exitState === 0;
    const isWatched = parent.signal.pgrp !== pgrp && parent.signal.session === session;
    return isMember && isWatched && parent !== kernel.init;
  });
}
