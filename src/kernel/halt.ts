import { __TASK_STOPPED, TASK_INTERRUPTIBLE, TASK_NEW, TASK_RUNNING } from "../spec/sched.js";
import type { Task } from "./task.js";
import { TASK_FLAG_FROZEN, TASK_FLAG_RESCHED, TASK_FLAG_STOPPED, WORD_FLAGS } from "./wait.js";

const HALTS = TASK_FLAG_STOPPED | TASK_FLAG_FROZEN;

/**
 * Whether a living task may not run: its process is stopped, its cgroup frozen, its tracer holds
 * it. Kernel threads and the merge's workers, which never look for signals, always run.
 */
export const isHalted = (task: Task): boolean => haltsOf(task) !== 0;

/**
 * Tells the task's thread what `isHalted` says, and wakes it: it stops before its next piece of
 * work, or goes on. Call it after whatever may have changed the answer. Linux: signal_wake_up(),
 * cgroup_freeze_task().
 */
export function updateHalt(task: Task): void {
  if (task.exitState !== 0) return;
  const halts = haltsOf(task);
  const words = new Int32Array(task.words);
  const before = Atomics.load(words, WORD_FLAGS) & HALTS;
  if (before === halts) return;
  Atomics.and(words, WORD_FLAGS, ~(before & ~halts));
  Atomics.or(words, WORD_FLAGS, halts); // S1: the flag, then the wake-up
  if (hasThread(task)) task.waker.wake();
  else showHalt(task);
}

/** Has the task's thread look for its group and budget. Linux: resched_curr(). */
export function resched(task: Task): void {
  if (!hasThread(task) || task.exitState !== 0) return;
  Atomics.or(new Int32Array(task.words), WORD_FLAGS, TASK_FLAG_RESCHED); // S1: then wake
  task.waker.wake();
}

/** A task without a thread does not say itself what it does. */
export function showHalt(task: Task): void {
  if (task.state === TASK_NEW || task.exitState !== 0) return;
  const halts = haltsOf(task);
  if (halts === 0) task.state = TASK_RUNNING;
  else task.state = halts & TASK_FLAG_STOPPED ? __TASK_STOPPED : TASK_INTERRUPTIBLE;
}

/** Whether a thread runs it, which keeps its state. */
export const hasThread = ({ thread }: Task): boolean => thread !== null && !thread.isInline;

function haltsOf({ sighand, signal, cgroup, tracedStop }: Task): number {
  if (sighand.ignoreAll) return 0;
  const stopped = signal.stopped || tracedStop !== 0 ? TASK_FLAG_STOPPED : 0;
  return stopped | (cgroup.isFrozen ? TASK_FLAG_FROZEN : 0);
}
