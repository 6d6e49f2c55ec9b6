import { VhostError } from "../spec/errno.js";
import { CLONE_SIGHAND, CLONE_THREAD, PF_IO_WORKER, PF_USER_WORKER } from "../spec/sched.js";
import { SIG_ALL, SIG_KERNEL_ONLY_MASK } from "../spec/signal.js";
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
  return Object.assign(newSignal({ ...rlimits }), { pgrp, session, oomScoreAdj });
}

/** A process without threads yet, in no process group. */
export function newSignal(rlimits: Rlimits): SignalStruct {
  return {
    threads: new Set(),
    atExec: new Set(),
    rlimits,
    pgrp: 0,
    session: 0,
    oomScoreAdj: 0,
    sharedPending: 0n,
    stopped: false,
    stopCode: 0,
    continued: false,
    isChildSubreaper: false,
    releasedCpuTimeUs: 0,
    get cpuTimeUs() {
      return [...this.threads].reduce(
        (sum, thread) => sum + thread.cpuTimeUs,
        this.releasedCpuTimeUs,
      );
    },
  };
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
 * Sends a signal to the process of `pid`, a thread's number too; 0 asks whether there is one. What
 * has no handler does what it does by default: SIGKILL, SIGTERM and most end every thread of the
 * process, SIGSTOP stops their threads before their next piece of work, SIGCONT lets them go on.
 * Dropped when the target ignores it (a vhost worker of the merge, a kernel thread) or is init.
 * ESRCH: no such task. EINVAL: no such signal. Linux: kill().
 */
export function killPid(kernel: Kernel, pid: number, sig: number): void {
  if (!Number.isSafeInteger(pid)) throw new VhostError("EINVAL", "a pid is a number", { pid, sig });
  const task = kernel.task(pid);
  if (task === undefined) throw new VhostError("ESRCH", `no task ${pid}`, { pid, sig });
  if (sig !== 0) sendSignal(kernel, task, sig, true);
}
