import { VhostError } from "../spec/errno.js";
import { CLONE_SIGHAND, CLONE_THREAD, PF_IO_WORKER, PF_USER_WORKER } from "../spec/sched.js";
import { SIG_ALL, SIG_KERNEL_ONLY_MASK, SIGNALS } from "../spec/signal.js";
import type { KernelCloneArgs } from "./fork.js";
import type { Kernel } from "./kernel.js";
import type { Rlimits } from "./rlimit.js";
import { sendSignal } from "./send-signal.js";
import type { SighandStruct, SignalStruct, Task } from "./task.js";

/** The child's handlers: the caller's with CLONE_SIGHAND, else a copy. Linux: copy_sighand(). */
export function copySighand(current: Task, args: KernelCloneArgs): SighandStruct {
  const { ignoreAll, actions } = current.sighand;
  const sighand =
    args.flags & CLONE_SIGHAND ? current.sighand : { ignoreAll, actions: new Map(actions) };
  if (args.ignoreSignals) ignoreSignals(sighand);
  return sighand;
}

/** The child's process: the caller's with CLONE_THREAD, else a new one. Linux: copy_signal(). */
export function copySignal(current: Task, flags: number): SignalStruct {
  if (flags & CLONE_THREAD) return current.signal;
  const { rlimits, pgrp, session, oomScoreAdj } = current.signal;
  return { ...newSignal({ ...rlimits }), pgrp, session, oomScoreAdj };
}

/** A process without threads yet, in no process group. */
export function newSignal(rlimits: Rlimits): SignalStruct {
  const state = { sharedPending: 0n, stopped: false, isChildSubreaper: false, cpuTimeUs: 0 };
  return { threads: new Set(), rlimits, pgrp: 0, session: 0, oomScoreAdj: 0, ...state };
}

/**
 * What the child does not take: as its caller; user workers of this epoch's kind all but SIGKILL
 * and SIGSTOP. `flags`: the child's PF_ bits.
 */
export function copyBlocked(kernel: Kernel, current: Task, flags: number): bigint {
  const isWorker = (flags & (PF_USER_WORKER | PF_IO_WORKER) & kernel.epoch.blocksSignals) !== 0;
  return isWorker ? SIG_ALL & ~SIG_KERNEL_ONLY_MASK : current.blocked;
}

/** Every handler becomes SIG_IGN, SIGKILL's too. Linux: ignore_signals(). */
export function ignoreSignals(sighand: SighandStruct): void {
  sighand.ignoreAll = true;
}

/**
 * Sends a signal to the process of `pid`: SIGKILL, or 0 to ask whether there is one. SIGKILL is
 * dropped when the target ignores it (a vhost worker of the merge, a kernel thread) or is init;
 * else every thread of the process exits. ESRCH: no such task. EOPNOTSUPP: another signal: a
 * process without code could not handle it (`sendSignal` models them). Linux: kill().
 */
export function killPid(kernel: Kernel, pid: number, sig: number): void {
  const task = kernel.task(pid);
  if (task === undefined) throw new VhostError("ESRCH", `no task ${pid}`, { pid, sig });
  if (sig === 0) return;
  if (sig !== SIGNALS.SIGKILL) {
    throw new VhostError("EOPNOTSUPP", "SIGKILL or 0 only", { pid, sig });
  }
  sendSignal(kernel, task, sig, true);
}
