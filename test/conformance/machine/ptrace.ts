// Tracing: the stops that a tracer asks for itself; who may is the kernel's to say.

import type { Kernel } from "#dist/kernel/kernel.js";
import { ptraceAttach, ptraceDetach } from "#dist/kernel/ptrace.js";
import type { Task } from "#dist/kernel/task.js";
import { SIGNALS } from "#dist/spec/signal.js";
import { SyscallError } from "./errors.js";

/** What a tracer may ask. */
export type PtraceRequest =
  | "PTRACE_ATTACH"
  | "PTRACE_SEIZE"
  | "PTRACE_INTERRUPT"
  | "PTRACE_CONT"
  | "PTRACE_DETACH";

/** ptrace(request, tid). ESRCH: no such task, or not one that `tracer` traces. */
export function ptrace(kernel: Kernel, tracer: Task, request: PtraceRequest, tid: number): void {
  const task = kernel.task(tid);
  if (task === undefined || task.exitState !== 0) throw new SyscallError("ESRCH");
  if (request === "PTRACE_ATTACH" || request === "PTRACE_SEIZE") {
    ptraceAttach(tracer, task, request === "PTRACE_SEIZE");
    return;
  }
  if (task.tracer !== tracer) throw new SyscallError("ESRCH");
  if (request === "PTRACE_INTERRUPT") {
    task.tracedStop ||= SIGNALS.SIGTRAP;
    return;
  }
  if (task.tracedStop === 0) throw new SyscallError("ESRCH");
  if (request === "PTRACE_DETACH") ptraceDetach(kernel, tracer, task);
  else task.tracedStop = 0;
}
