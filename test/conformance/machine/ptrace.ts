// Tracing: who may, and the stops that a tracer asks for itself.

import type { Kernel } from "#dist/kernel/kernel.js";
import type { Task } from "#dist/kernel/task.js";
import { PF_KTHREAD } from "#dist/spec/sched.js";
import { SIGNALS } from "#dist/spec/signal.js";
import { SyscallError } from "./errors.js";

/** What a tracer may ask. */
export type PtraceRequest =
  | "PTRACE_ATTACH"
  | "PTRACE_SEIZE"
  | "PTRACE_INTERRUPT"
  | "PTRACE_CONT"
  | "PTRACE_DETACH";

const CAP_SYS_PTRACE = 19;

/** EPERM: a kernel thread, one of its own, one traced already, another user's. */
function mayTrace({ cred, signal }: Task, task: Task): void {
  const isUsers = [task.cred.uid, task.cred.euid, task.cred.suid].every((id) => id === cred.euid);
  const isForbidden = task.flags & PF_KTHREAD || task.signal === signal || task.tracer !== null;
  if (isForbidden || !(isUsers || cred.caps.has(CAP_SYS_PTRACE))) throw new SyscallError("EPERM");
}

/** ptrace(request, tid). ESRCH: no such task, or not one that `tracer` traces. */
export function ptrace(kernel: Kernel, tracer: Task, request: PtraceRequest, tid: number): void {
  const task = kernel.task(tid);
  if (task === undefined || task.exitState !== 0) throw new SyscallError("ESRCH");
  if (request === "PTRACE_ATTACH" || request === "PTRACE_SEIZE") {
    mayTrace(tracer, task);
    task.tracer = tracer;
    tracer.tracees.add(task);
    if (request === "PTRACE_ATTACH") task.tracedStop = SIGNALS.SIGSTOP;
    return;
  }
  if (task.tracer !== tracer) throw new SyscallError("ESRCH");
  if (request === "PTRACE_INTERRUPT") {
    task.tracedStop ||= SIGNALS.SIGTRAP;
    return;
  }
  if (task.tracedStop === 0) throw new SyscallError("ESRCH");
  task.tracedStop = 0;
  if (request !== "PTRACE_DETACH") return;
  task.tracer = null;
  tracer.tracees.delete(task);
}
