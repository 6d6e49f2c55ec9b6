// A thread of a program, and the calls that it can make. Calls without a result give "OK" or the
// name of an errno; those with one throw SyscallError, for `attempt` to name.

import {
  capset,
  commitCreds,
  type Resuid,
  setgroups,
  setresgid,
  setresuid,
} from "#dist/kernel/cred.js";
import { beginNewExec } from "#dist/kernel/exec.js";
import { kernelWait4 } from "#dist/kernel/exit.js";
import { copyProcess, wakeUpNewTask } from "#dist/kernel/fork.js";
import { unshare } from "#dist/kernel/nsproxy.js";
import { doPrlimit, type Rlimit, type Rlimits } from "#dist/kernel/rlimit.js";
import { schedSetaffinity, schedSetscheduler, setUserNice } from "#dist/kernel/sched.js";
import { seccompSetModeFilter } from "#dist/kernel/seccomp.js";
import { checkKillPermission, getSignal, isHalted, sendSignal } from "#dist/kernel/send-signal.js";
import { type Task, truncateComm } from "#dist/kernel/task.js";
import * as sched from "#dist/spec/sched.js";
import { SIG_KERNEL_ONLY_MASK, SIGNALS, sigmask } from "#dist/spec/signal.js";
import { cgroupPath } from "./descriptors.js";
import { attempt, codeOf, ScriptError, SyscallError } from "./errors.js";
import { type PtraceRequest, ptrace } from "./ptrace.js";
import { Views } from "./views.js";

/** A signal's name. */
export type SignalName = keyof typeof SIGNALS;
/** The name of a CLONE_ flag. */
export type CloneFlag = Extract<keyof typeof sched, `CLONE_${string}`>;

/** Linux's numbers, to be found by name. */
const NUMBERS = { ...sched };

const THREAD: readonly CloneFlag[] = [
  "CLONE_VM",
  "CLONE_FS",
  "CLONE_FILES",
  "CLONE_SIGHAND",
  "CLONE_THREAD",
  "CLONE_SYSVSEM",
];

const bits = (flags: readonly CloneFlag[]): number =>
  flags.reduce((all, flag) => (all | NUMBERS[flag]) >>> 0, 0);

/** One thread. `pid` is its process's number, `tid` its own. */
export class Proc extends Views {
  /** What happens elsewhere each time this thread has entered the kernel, as on another CPU. */
  onEntry: (() => void) | undefined;

  /** Whether the thread has not exited. */
  get isAlive(): boolean {
    return this.task.exitState === 0;
  }

  /** A child process. Throws EAGAIN … */
  fork(): Proc {
    return this.clone([]);
  }

  /** Another thread of this process. Throws EAGAIN, EINVAL … */
  pthreadCreate(): Proc {
    return this.clone(THREAD);
  }

  /**
   * A new task, with `into` born in the cgroup of that folder (CLONE_INTO_CGROUP). Throws what
   * clone3(2) fails with.
   */
  clone(flags: readonly CloneFlag[], exitSignal: SignalName = "SIGCHLD", into?: string): Proc {
    if (flags.includes("CLONE_PIDFD") && flags.includes("CLONE_PARENT_SETTID")) {
      throw new SyscallError("EINVAL"); // the two would be stored at one place
    }
    const cgroup =
      into === undefined ? {} : { cgroup: this.machine.cgroups.group(cgroupPath(into)) };
    const args = { flags: bits(flags), exitSignal: SIGNALS[exitSignal], ...cgroup };
    const task = this.call(() => this.restarting(() => copyProcess(this.kernel, this.task, args)));
    wakeUpNewTask(task);
    return new Proc(this.machine, task);
  }

  /** Another program in this process: execve(2). Its first thread must make the call. */
  exec(comm: string): void {
    if (this.tid !== this.pid) throw new ScriptError("exec from another thread is not modelled");
    this.call(() => beginNewExec(this.kernel, this.task, { comm, memoryBytes: 65536 }));
  }

  /** This thread alone ends: SYS_exit. */
  exit(code = 0): void {
    this.call(() => {
      this.machine.ioWqs.get(this.task)?.exit();
      this.kernel.exitTask(this.task, code << 8);
    });
  }

  /** The process ends: exit(3), SYS_exit_group. */
  exitGroup(code = 0): void {
    this.call(() => this.kernel.exitGroup(this.task, code << 8));
  }

  /** What became of a child, which has to be known: "exit 7", "signal 9"; of a tracee, "stopped
   * sig 19". Throws ECHILD. */
  wait(pid: number): string {
    const tracee = this.kernel.task(pid);
    if (tracee?.tracer === this.task && tracee.tracedStop !== 0) {
      return `stopped sig ${tracee.tracedStop}`;
    }
    const code = this.#wait4(pid);
    if (code === null) throw new ScriptError(`wait(${pid}) would wait for ever`);
    return code & 0x7f ? `signal ${code & 0x7f}` : `exit ${code >> 8}`;
  }

  /** waitpid(pid, WNOHANG): `pid`, and the child is gone; or 0. Throws ECHILD. */
  waitNoHang(pid: number): number {
    return this.#wait4(pid) === null ? 0 : pid;
  }

  #wait4(pid: number): number | null {
    return this.call(() => {
      const child = this.kernel.task(pid);
      const isClone = child !== undefined && child.exitSignal !== SIGNALS.SIGCHLD;
      return kernelWait4(this.kernel, this.task, pid, isClone ? sched.__WCLONE : 0);
    });
  }

  /** All three user ids, as setuid(2) does for root; those given, as setresuid(2) does. */
  setuid(uid: number): string {
    return this.setresuid({ uid, euid: uid, suid: uid });
  }

  setresuid(ids: Resuid): string {
    return this.try(() => setresuid(this.kernel, this.task, ids));
  }

  setgid(gid: number): string {
    return this.try(() => setresgid(this.kernel, this.task, gid));
  }

  setgroups(groups: readonly number[]): string {
    return this.try(() => setgroups(this.kernel, this.task, groups));
  }

  /** Effective and permitted capabilities, by number. */
  capset(effective: Iterable<number>, permitted: Iterable<number> = effective): string {
    const sets = { effective: [...effective], permitted: [...permitted] };
    return this.try(() => capset(this.kernel, this.task, sets));
  }

  prctl(option: "PR_SET_NAME", name: string): string;
  prctl(option: "PR_SET_NO_NEW_PRIVS" | "PR_SET_KEEPCAPS", value: number): string;
  prctl(option: string, value: number | string): string {
    return this.try(() => {
      const { task } = this;
      if (option === "PR_SET_NAME") task.comm = truncateComm(`${value}`);
      else if (option === "PR_SET_KEEPCAPS") {
        commitCreds(this.kernel, task, { ...task.cred, keepCaps: value === 1 });
      } else if (option === "PR_SET_NO_NEW_PRIVS" && value === 1) {
        task.confinement = { ...task.confinement, noNewPrivs: true };
      } else throw new SyscallError("EINVAL");
    });
  }

  /** Adds a filter that allows everything. */
  seccomp(options: { tsync?: boolean } = {}): string {
    return this.try(() => seccompSetModeFilter(this.task, options));
  }

  unshare(flags: readonly CloneFlag[]): string {
    return this.try(() => unshare(this.kernel, this.task, bits(flags)));
  }

  /** Hard limit: as before, or the soft one where that is higher. */
  setrlimit(resource: keyof Rlimits, cur: number, max?: number): string {
    const hard = max ?? Math.max(cur, this.task.signal.rlimits[resource].max);
    return this.try(() => doPrlimit(this.task, this.task, resource, { cur, max: hard }));
  }

  /** The limits of another task. Throws ESRCH, EPERM. */
  prlimit(tid: number, resource: keyof Rlimits, limit?: Rlimit): Rlimit {
    return this.call(() => {
      const task = this.#target(tid);
      const old = task.signal.rlimits[resource];
      doPrlimit(this.task, task, resource, limit ?? old);
      return old;
    });
  }

  setpriority(tid: number, nice: number): string {
    return this.try(() => setUserNice(this.task, this.#target(tid), nice));
  }

  schedSetscheduler(
    tid: number,
    policy: "SCHED_NORMAL" | "SCHED_BATCH" | "SCHED_FIFO" | "SCHED_RR" | "SCHED_DEADLINE",
    options: { rtPriority?: number; resetOnFork?: boolean } = {},
  ): string {
    const params = { policy: NUMBERS[policy], ...options };
    return this.try(() => schedSetscheduler(this.task, this.#target(tid), params));
  }

  schedSetaffinity(tid: number, cpus: readonly number[]): string {
    return this.try(() => schedSetaffinity(this.task, this.#target(tid), cpus));
  }

  /** kernel.threads-max: 20 and up. */
  setThreadsMax(value: number): string {
    return this.try(() => {
      if (this.task.cred.euid !== 0) throw new SyscallError("EACCES");
      if (!(value >= sched.MIN_THREADS && value <= sched.MAX_THREADS)) {
        throw new SyscallError("EINVAL");
      }
      this.kernel.threadsMax = value;
    });
  }

  /** Writes /proc/TID/oom_score_adj. */
  setOomScoreAdj(tid: number, value: number): string {
    return this.try(() => {
      if (!(value >= -1000 && value <= 1000)) throw new SyscallError("EINVAL");
      this.#target(tid).signal.oomScoreAdj = value;
    });
  }

  umask(mask: number): void {
    this.task.fs.umask = mask;
  }

  chdir(path: string): void {
    this.task.fs.cwd = path;
  }

  /** Signals a process; with sig 0, only asks. */
  kill(pid: number, sig: SignalName | 0): string {
    return this.try(() => this.#send(this.#target(pid), sig, true));
  }

  /** Signals one thread. */
  tgkill(tgid: number, tid: number, sig: SignalName | 0): string {
    return this.try(() => {
      const task = this.#target(tid);
      if (task.tgid !== tgid) throw new SyscallError("ESRCH");
      this.#send(task, sig, false);
    });
  }

  #send(task: Task, sig: SignalName | 0, group: boolean): void {
    const number = sig === 0 ? 0 : SIGNALS[sig];
    checkKillPermission(this.task, task, number);
    if (number !== 0) sendSignal(this.kernel, task, number, group);
  }

  /** Traces, or asks a traced thread to stop or go on. */
  ptrace(request: PtraceRequest, tid: number): string {
    return this.try(() => ptrace(this.kernel, this.task, request, tid));
  }

  /** What a signal does in this process: its default, nothing, or a function of the script's. */
  sigaction(sig: SignalName, action: "SIG_DFL" | "SIG_IGN" | ((by: number) => void)): string {
    return this.try(() => {
      const number = SIGNALS[sig];
      if (sigmask(number) & SIG_KERNEL_ONLY_MASK) throw new SyscallError("EINVAL");
      const { actions } = this.task.sighand;
      if (action === "SIG_DFL") actions.delete(number);
      else if (action === "SIG_IGN") actions.set(number, action);
      else actions.set(number, (task) => action(task.pid));
    });
  }

  sigprocmask(how: "SIG_BLOCK" | "SIG_UNBLOCK", sigs: readonly SignalName[]): string {
    return this.try(() => {
      const set =
        sigs.reduce((all, sig) => all | sigmask(SIGNALS[sig]), 0n) & ~SIG_KERNEL_ONLY_MASK;
      this.task.blocked = how === "SIG_BLOCK" ? this.task.blocked | set : this.task.blocked & ~set;
    });
  }

  #target(tid: number): Task {
    const task = tid === 0 ? this.task : this.kernel.task(tid);
    if (task === undefined) throw new SyscallError("ESRCH");
    return task;
  }

  /** Begins a call again when it was kept from beginning by a signal. */
  protected restarting<T>(call: () => T): T {
    for (;;) {
      try {
        return call();
      } catch (error) {
        if (codeOf(error) !== "ERESTARTNOINTR") throw error;
        this.leaveKernel();
        if (!this.isAlive) throw new ScriptError("the process was killed within the call");
        this.task.inKernel = true;
      }
    }
  }

  /** Makes a call, in the kernel: signals wait for its end; then all that can happen does. */
  protected override call<T>(body: () => T): T {
    if (!this.isAlive) throw new ScriptError(`thread ${this.tid} has exited: it makes no calls`);
    if (this.task.inKernel) throw new ScriptError(`thread ${this.tid} is in a call already`);
    if (isHalted(this.task)) throw new ScriptError(`thread ${this.tid} is stopped: no calls`);
    this.task.inKernel = true;
    try {
      this.onEntry?.();
      return body();
    } finally {
      this.leaveKernel();
      this.machine.settle();
    }
  }

  /** Back to the program: what waited is taken. */
  protected override leaveKernel(): void {
    this.task.inKernel = false;
    getSignal(this.kernel, this.task);
  }

  protected override try(body: () => void): string {
    return attempt(() => this.call(body));
  }
}
