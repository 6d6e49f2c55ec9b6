import { VhostError } from "../spec/errno.js";
import { CAP_SYS_PTRACE, PF_KTHREAD } from "../spec/sched.js";
import { SIGNALS } from "../spec/signal.js";
import { capable } from "./cred.js";
import { updateHalt } from "./halt.js";
import type { Kernel } from "./kernel.js";
import { getSignal } from "./send-signal.js";
import { mustLive, type Task } from "./task.js";

/**
 * Has `current` trace `task`, which halts until `ptraceDetach`, unless it is seized. EPERM: a
 * kernel thread, a thread of the tracer's own process, one that is traced, another user's without
 * CAP_SYS_PTRACE. ESRCH: it has exited. Linux: ptrace_attach().
 */
export function ptraceAttach(current: Task, task: Task, isSeized = false): void {
  mustLive(task);
  const { euid } = current.cred;
  const isUsers = [task.cred.uid, task.cred.euid, task.cred.suid].every((id) => id === euid);
  const isFree =
    (task.flags & PF_KTHREAD) === 0 && task.signal !== current.signal && task.tracer === null;
  if (!isFree || !(isUsers || capable(current.cred, CAP_SYS_PTRACE))) {
    throw new VhostError("EPERM", `task ${task.pid} is not to be traced`, { pid: task.pid });
  }
  task.tracer = current;
  current.tracees.add(task);
  if (!isSeized) task.tracedStop = SIGNALS.SIGSTOP;
  updateHalt(task);
}

/**
 * Lets it go on, untraced, and take what came meanwhile. ESRCH: `current` does not trace it. Linux:
 * ptrace_detach().
 */
export function ptraceDetach(kernel: Kernel, current: Task, task: Task): void {
  if (task.tracer !== current) {
    throw new VhostError("ESRCH", `task ${task.pid} is not traced by this one`, { pid: task.pid });
  }
  current.tracees.delete(task);
  release(kernel, task);
}

/** What a task traces, and its being traced, ends with it. Linux: exit_ptrace(). */
export function exitPtrace(kernel: Kernel, task: Task): void {
  task.tracer?.tracees.delete(task);
  Object.assign(task, { tracer: null, tracedStop: 0 });
  for (const tracee of task.tracees) release(kernel, tracee);
  task.tracees.clear();
}

function release(kernel: Kernel, tracee: Task): void {
  Object.assign(tracee, { tracer: null, tracedStop: 0 });
  for (const thread of [...tracee.signal.threads]) getSignal(kernel, thread);
  updateHalt(tracee);
}
