import { EXIT_ZOMBIE, SIGCHLD, SIGKILL } from "../spec/sched.js";
import type { Kernel } from "./kernel.js";
import { sendSignal } from "./send-signal.js";
import type { SignalStruct, Task } from "./task.js";

/**
 * Gives a dying task's children another parent: a living thread of the same process, else the
 * nearest ancestor that asked for orphans, else their namespace's init. `notify` is told of each
 * zombie whose parent is now another process. Linux: forget_original_parent().
 */
export function forgetOriginalParent(
  kernel: Kernel,
  task: Task,
  notify: (zombie: Task) => void,
): void {
  const thread = livingThread(task.signal);
  if (thread === undefined && kernel.pidNamespaces.reaper(task.pidNs) === task.signal) {
    zapPidNsProcesses(kernel, task.pidNs);
  }
  const heir = thread ?? findNewReaper(kernel, task);
  for (const child of [...task.children]) {
    adopt(heir, child);
    if (thread !== undefined) continue;
    child.exitSignal = SIGCHLD;
    if (child.exitState === EXIT_ZOMBIE) notify(child);
  }
  task.children.clear();
}

/**
 * Has a process inherit the orphans below it, instead of init. Its children do not have that from
 * it. Linux: PR_SET_CHILD_SUBREAPER.
 */
export function setChildSubreaper(task: Task, isSubreaper: boolean): void {
  task.signal.isChildSubreaper = isSubreaper;
}

const livingThread = ({ threads }: SignalStruct): Task | undefined =>
  [...threads].find(({ exitState }) => exitState === 0);

/** Ancestors count within the namespace only. */
function findNewReaper(kernel: Kernel, { parent: first, pidNs }: Task): Task {
  for (let at = first; at.pidNs === pidNs && at !== at.parent; at = at.parent) {
    const heir = at.signal.isChildSubreaper ? livingThread(at.signal) : undefined;
    if (heir) return heir;
  }
  const reaper = kernel.pidNamespaces.reaper(pidNs);
  return (reaper && livingThread(reaper)) ?? kernel.init;
}

/** A namespace ends with its init: all that live there, or below, are killed. */
function zapPidNsProcesses(kernel: Kernel, ns: number): void {
  kernel.pidNamespaces.close(ns);
  for (const task of kernel.tasks()) {
    if (kernel.pidNamespaces.isWithin(task.pidNs, ns)) sendSignal(kernel, task, SIGKILL, true);
  }
}

function adopt(parent: Task, child: Task): void {
  for (const thread of child.signal.threads) thread.parent = parent;
  parent.children.add(child);
}
