// A thread of a program, and the calls that it can make. Calls without a result give "OK" or the
// name of an errno; those with one throw SyscallError, for `attempt` to name.

import { commitCreds, execCred } from "#dist/kernel/cred.js";
import { beginNewExec } from "#dist/kernel/exec.js";
import { doWait, type Waited } from "#dist/kernel/exit.js";
import { copyProcess, wakeUpNewTask } from "#dist/kernel/fork.js";
import type { Mm } from "#dist/kernel/mm.js";
import { checkKillPermission, getSignal, isHalted, sendSignal } from "#dist/kernel/send-signal.js";
import type { Task } from "#dist/kernel/task.js";
import * as sched from "#dist/spec/sched.js";
import { SIG_KERNEL_ONLY_MASK, SIGNALS, sigmask } from "#dist/spec/signal.js";
import { type AnyCloneFlag, Attributes, bits, type CloneFlag } from "./attributes.js";
import { attempt, codeOf, ScriptError, SyscallError } from "./errors.js";
import { cgroupPath } from "./file-calls.js";
import { type PtraceRequest, ptrace } from "./ptrace.js";

/** A signal's name. */
export type SignalName = keyof typeof SIGNALS;
export type { CloneFlag } from "./attributes.js";

/** A signal by name, or by number: those above 31 have no name. 0: none. */
export type Signal = SignalName | number;

function numberOf(sig: Signal): number {
  const number = typeof sig === "number" ? sig : SIGNALS[sig];
  if (number === undefined) throw new ScriptError(`there is no signal ${sig}`);
  return number;
}

const THREAD: readonly CloneFlag[] = [
  "CLONE_VM",
  "CLONE_FS",
  "CLONE_FILES",
  "CLONE_SIGHAND",
  "CLONE_THREAD",
  "CLONE_SYSVSEM",
];

/** Handlers that run something become the default again. */
function keepIgnored({ sighand: { actions } }: Task): void {
  for (const [sig, action] of actions) if (action !== "SIG_IGN") actions.delete(sig);
}

/** One thread. `pid` is its process's number, `tid` its own. */
export class Proc extends Attributes {
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
  clone(flags: readonly AnyCloneFlag[], exitSignal: SignalName = "SIGCHLD", into?: string): Proc {
    if (flags.includes("CLONE_PIDFD") && flags.includes("CLONE_PARENT_SETTID")) {
      throw new SyscallError("EINVAL"); // the two would be stored at one place
    }
    const isCleared = flags.includes("CLONE_CLEAR_SIGHAND");
    if (isCleared && flags.includes("CLONE_SIGHAND")) throw new SyscallError("EINVAL");
    const cgroup =
      into === undefined ? {} : { cgroup: this.machine.cgroups.group(cgroupPath(into)) };
    const args = { flags: bits(flags), exitSignal: SIGNALS[exitSignal], ...cgroup };
    const task = this.call(() => this.restarting(() => copyProcess(this.kernel, this.task, args)));
    this.machine.sameExe(this.task, task);
    if (isCleared) keepIgnored(task);
    wakeUpNewTask(task);
    return new Proc(this.machine, task);
  }

  /**
   * Another program in this process: execve(2). From another thread than the first it is the first
   * that goes on, as that thread was, and this one is gone. Throws EAGAIN after a change to a user
   * that has too many tasks.
   */
  exec(comm: string): void {
    const { machine, kernel } = this;
    this.call(() => {
      const cred = execCred(kernel, this.task);
      machine.ioWqs.get(this.task)?.exit();
      machine.ioWqs.delete(this.task);
      const { groupLeader } = this.task;
      if (groupLeader !== this.task) this.#becomeLeader(groupLeader);
      beginNewExec(kernel, groupLeader, { comm, memoryBytes: machine.memoryBytes });
      commitCreds(kernel, groupLeader, cred);
      machine.exes.delete(groupLeader.mm as Mm);
    });
  }

  /** The first thread becomes what this one is; then this one ends. Linux: de_thread(). */
  #becomeLeader(leader: Task): void {
    if (leader.exitState !== 0) throw new ScriptError("exec after the first thread has exited");
    const { sched, blocked, pending, nsproxy, confinement, fs, flags } = this.task;
    Object.assign(leader, { blocked, pending, nsproxy, confinement, fs, flags });
    Object.assign(leader.sched, sched);
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

  /**
   * What became of a child (-1: any), which has to be known: "exit 7", "signal 9"; of a tracee, or
   * with WUNTRACED, once each, "stopped sig 19"; with WCONTINUED "continued". Throws ECHILD.
   */
  wait(pid: number, ...options: ("WUNTRACED" | "WCONTINUED")[]): string {
    const child = this.kernel.task(pid);
    if (child?.tracer === this.task && child.tracedStop !== 0) {
      return `stopped sig ${child.tracedStop}`;
    }
    const code = this.#wait4(pid)?.code ?? null;
    const { stopCode = 0, continued = false } = child?.signal ?? {};
    if (code === null && options.includes("WUNTRACED") && child && stopCode !== 0) {
      child.signal.stopCode = 0;
      return `stopped sig ${stopCode}`;
    }
    if (code === null && options.includes("WCONTINUED") && child && continued) {
      child.signal.continued = false;
      return "continued";
    }
    if (code === null) throw new ScriptError(`wait(${pid}) would wait for ever`);
    return code & 0x7f ? `signal ${code & 0x7f}` : `exit ${code >> 8}`;
  }

  /** waitpid(pid, WNOHANG): `pid`, and the child is gone; or 0. Throws ECHILD. */
  waitNoHang(pid: number): number {
    return this.#wait4(pid)?.pid ?? 0;
  }

  /** Children of any kind, as with __WALL. */
  #wait4(pid: number): Waited | null {
    return this.call(() => doWait(this.kernel, this.task, pid, sched.__WALL));
  }

  /** Signals a process, or below 0 a process group; with sig 0, only asks. */
  kill(pid: number, sig: Signal): string {
    return this.try(() => {
      if (pid > 0) return this.#send(this.target(pid), sig, true);
      const pgrp = pid === 0 ? this.task.signal.pgrp : -pid;
      const leaders = this.kernel.tasks().filter((task) => task.groupLeader === task);
      const group = leaders.filter(({ signal }) => signal.pgrp === pgrp);
      if (group.length === 0) throw new SyscallError("ESRCH");
      for (const task of group) this.#send(task, sig, true);
    });
  }

  /** Signals one thread. */
  tgkill(tgid: number, tid: number, sig: Signal): string {
    return this.try(() => {
      const task = this.target(tid);
      if (task.tgid !== tgid) throw new SyscallError("ESRCH");
      this.#send(task, sig, false);
    });
  }

  #send(task: Task, sig: Signal, group: boolean): void {
    const number = numberOf(sig);
    checkKillPermission(this.task, task, number);
    if (number !== 0) sendSignal(this.kernel, task, number, group);
  }

  /** Takes a signal of the set that waits, without a handler: its number. Throws EAGAIN: none. */
  sigtimedwait(sigs: readonly Signal[]): number {
    return this.call(() => {
      const { task } = this;
      const set = sigs.reduce((all, sig) => all | sigmask(numberOf(sig)), 0n);
      const waiting = (task.pending | task.signal.sharedPending) & set;
      for (let sig = 1; waiting >> BigInt(sig - 1) !== 0n; sig++) {
        if (!(waiting & sigmask(sig))) continue;
        if (task.pending & sigmask(sig)) task.pending &= ~sigmask(sig);
        else task.signal.sharedPending &= ~sigmask(sig);
        return sig;
      }
      throw new SyscallError("EAGAIN");
    });
  }

  /** Traces, or asks a traced thread to stop or go on. */
  ptrace(request: PtraceRequest, tid: number): string {
    return this.try(() => ptrace(this.kernel, this.task, request, tid));
  }

  /** What a signal does in this process: its default, nothing, or a function of the script's. */
  sigaction(sig: Signal, action: "SIG_DFL" | "SIG_IGN" | ((by: number) => void)): string {
    return this.try(() => {
      const number = numberOf(sig);
      if (sigmask(number) & SIG_KERNEL_ONLY_MASK) throw new SyscallError("EINVAL");
      const { actions } = this.task.sighand;
      if (action === "SIG_DFL") actions.delete(number);
      else if (action === "SIG_IGN") actions.set(number, action);
      else actions.set(number, (task) => action(task.pid));
    });
  }

  sigprocmask(how: "SIG_BLOCK" | "SIG_UNBLOCK" | "SIG_SETMASK", sigs: readonly Signal[]): string {
    return this.try(() => {
      const all = sigs.reduce((set, sig) => set | sigmask(numberOf(sig)), 0n);
      const set = all & ~SIG_KERNEL_ONLY_MASK;
      const { task } = this;
      if (how === "SIG_SETMASK") task.blocked = set;
      else task.blocked = how === "SIG_BLOCK" ? task.blocked | set : task.blocked & ~set;
    });
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
