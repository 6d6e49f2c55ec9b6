import { VhostError } from "../spec/errno.js";
import { CLONE_SIGHAND, CLONE_THREAD, SIGKILL } from "../spec/sched.js";
import { doGroupExit } from "./exit.js";
import type { KernelCloneArgs } from "./fork.js";
import type { Kernel } from "./kernel.js";
import type { SighandStruct, SignalStruct, Task } from "./task.js";

/** The child's handlers: the caller's with CLONE_SIGHAND, else a copy. Linux: copy_sighand(). */
export function copySighand(current: Task, args: KernelCloneArgs): SighandStruct {
  const sighand = args.flags & CLONE_SIGHAND ? current.sighand : { ...current.sighand };
  if (args.ignoreSignals) ignoreSignals(sighand);
  return sighand;
}

/** The child's process: the caller's with CLONE_THREAD, else a new one. Linux: copy_signal(). */
export function copySignal(current: Task, flags: number): SignalStruct {
  if (flags & CLONE_THREAD) return current.signal;
  return { threads: new Set(), rlimits: { ...current.signal.rlimits } };
}

/** Every handler becomes SIG_IGN, SIGKILL's too. Linux: ignore_signals(). */
export function ignoreSignals(sighand: SighandStruct): void {
  sighand.ignoreAll = true;
}

/**
 * Sends a signal to the process of `pid`: SIGKILL, or 0 to ask whether there is one. SIGKILL is
 * dropped when the target ignores it (a vhost worker of this epoch, a kernel thread) or is init;
 * else every thread of the process exits. ESRCH: no such task. EOPNOTSUPP: another signal: nothing
 * here could handle it. Linux: kill(), sig_task_ignored(), complete_signal().
 */
export function killPid(kernel: Kernel, pid: number, sig: number): void {
  const task = kernel.task(pid);
  if (task === undefined) throw new VhostError("ESRCH", `no task ${pid}`, { pid, sig });
  if (sig === 0) return;
  if (sig !== SIGKILL) throw new VhostError("EOPNOTSUPP", "SIGKILL or 0 only", { pid, sig });
  if (task.sighand.ignoreAll || task.signal === kernel.init.signal) return;
  doGroupExit(kernel, task, SIGKILL);
}
