// What a thread can change of itself and of others, short of life and death.

import {
  type Cred,
  capset,
  commitCreds,
  type Resuid,
  setgroups,
  setresgid,
  setresuid,
} from "#dist/kernel/cred.js";
import { unshare } from "#dist/kernel/nsproxy.js";
import { setChildSubreaper } from "#dist/kernel/reparent.js";
import { doPrlimit, type Resource, type Rlimit } from "#dist/kernel/rlimit.js";
import { schedSetaffinity, schedSetscheduler, setUserNice } from "#dist/kernel/sched.js";
import { seccompSetModeFilter } from "#dist/kernel/seccomp.js";
import { type Task, truncateComm } from "#dist/kernel/task.js";
import * as sched from "#dist/spec/sched.js";
import { ScriptError, SyscallError } from "./errors.js";
import { Views } from "./views.js";

/** The name of a CLONE_ flag. */
export type CloneFlag = Extract<keyof typeof sched, `CLONE_${string}`>;

/** Linux's numbers, to be found by name. */
const NUMBERS = { ...sched };

/** Flags that change nothing that can be seen here. */
const UNSEEN = [
  "CLONE_VFORK",
  "CLONE_SETTLS",
  "CLONE_CHILD_SETTID",
  "CLONE_CHILD_CLEARTID",
] as const;

/** A flag of clone(2) by name. */
export type AnyCloneFlag = CloneFlag | (typeof UNSEEN)[number] | "CLONE_CLEAR_SIGHAND";

const isUnseen = (flag: AnyCloneFlag): flag is Exclude<AnyCloneFlag, CloneFlag> =>
  flag === "CLONE_CLEAR_SIGHAND" || (UNSEEN as readonly string[]).includes(flag);

/** Flags by name as one number. Throws ScriptError: no such flag. */
export function bits(flags: readonly AnyCloneFlag[]): number {
  return flags.reduce((all, flag) => {
    if (isUnseen(flag)) return all;
    const bit: unknown = NUMBERS[flag];
    if (typeof bit === "number" && flag.startsWith("CLONE_")) return (all | bit) >>> 0;
    throw new ScriptError(`${flag} is no CLONE_ flag that the machine has`);
  }, 0);
}

/** A scheduling policy by name. */
export type Policy = Extract<keyof typeof sched, `SCHED_${string}`>;

const CAP_SETPCAP = 8;

/** What prctl(2) takes a number for. */
export type PrctlNumber =
  | ("PR_SET_NO_NEW_PRIVS" | "PR_SET_KEEPCAPS" | "PR_SET_TIMERSLACK")
  | ("PR_CAPBSET_DROP" | "PR_CAP_AMBIENT_RAISE" | "PR_SET_DUMPABLE")
  | "PR_SET_CHILD_SUBREAPER";

const PRCTL: Record<PrctlNumber, (proc: Attributes, value: number) => void> = {
  PR_SET_NO_NEW_PRIVS: ({ task }, value) => {
    if (value !== 1) throw new SyscallError("EINVAL");
    task.confinement = { ...task.confinement, noNewPrivs: true };
  },
  PR_SET_KEEPCAPS: (proc, value) => {
    if (value !== 0 && value !== 1) throw new SyscallError("EINVAL");
    proc.commit({ keepCaps: value === 1 });
  },
  PR_SET_TIMERSLACK: ({ task }, value) => {
    task.sched.timerSlackNs = value > 0 ? value : 50_000;
  },
  PR_CAPBSET_DROP: (proc, value) => {
    const { caps, capBset } = proc.task.cred;
    if (!caps.has(CAP_SETPCAP)) throw new SyscallError("EPERM");
    if (!(value >= 0 && value <= sched.CAP_LAST_CAP)) throw new SyscallError("EINVAL");
    proc.commit({ capBset: new Set([...capBset].filter((cap) => cap !== value)) });
  },
  PR_CAP_AMBIENT_RAISE: (proc, value) => {
    const { capPermitted, capInheritable, capAmbient } = proc.task.cred;
    if (!capPermitted.has(value) || !capInheritable.has(value)) throw new SyscallError("EPERM");
    proc.commit({ capAmbient: new Set([...capAmbient, value]) });
  },
  PR_SET_CHILD_SUBREAPER: ({ task }, value) => setChildSubreaper(task, value !== 0),
  PR_SET_DUMPABLE: (_, value) => {
    if (value !== 0 && value !== 1) throw new SyscallError("EINVAL");
  },
};

/** The part of a thread that changes what tasks are like. */
export abstract class Attributes extends Views {
  /** setuid(2): all three user ids with CAP_SETUID, else the effective one. This thread alone. */
  setuid(uid: number): string {
    const isPrivileged = this.task.cred.caps.has(sched.CAP_SETUID);
    return this.setresuid(isPrivileged ? { uid, euid: uid, suid: uid } : { euid: uid });
  }

  /** Those ids that are given. This thread alone, as the system call itself does. */
  setresuid(ids: Resuid): string {
    return this.try(() => setresuid(this.kernel, this.task, ids));
  }

  setgid(gid: number): string {
    return this.try(() => setresgid(this.kernel, this.task, gid));
  }

  setgroups(groups: readonly number[]): string {
    return this.try(() => setgroups(this.kernel, this.task, groups));
  }

  /** Effective, permitted and inheritable capabilities, by number; the last stay if left out. */
  capset(
    effective: Iterable<number>,
    permitted: Iterable<number> = effective,
    inheritable: Iterable<number> = this.task.cred.capInheritable,
  ): string {
    const sets = { effective: [...effective], permitted: [...permitted] };
    return this.try(() => {
      capset(this.kernel, this.task, sets);
      this.commit({ capInheritable: new Set(inheritable) });
    });
  }

  /** Replaces parts of the thread's credentials, unasked. */
  commit(parts: Partial<Cred>): void {
    commitCreds(this.kernel, this.task, { ...this.task.cred, ...parts });
  }

  prctl(option: "PR_SET_NAME", name: string): string;
  prctl(option: PrctlNumber, value: number): string;
  prctl(option: "PR_SET_NAME" | PrctlNumber, value: number | string): string {
    return this.try(() => {
      if (option === "PR_SET_NAME") this.task.comm = truncateComm(`${value}`);
      else if (Object.hasOwn(PRCTL, option)) PRCTL[option](this, Number(value));
      else throw new ScriptError(`${option} is not modelled`);
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
  setrlimit(resource: Resource, cur: number, max?: number): string {
    const hard = max ?? Math.max(cur, this.#limitOf(this.task, resource).max);
    return this.try(() => doPrlimit(this.task, this.task, resource, { cur, max: hard }));
  }

  /** This process's own limit. */
  getrlimit(resource: Resource): Rlimit {
    return this.call(() => this.#limitOf(this.task, resource));
  }

  /** The limits of another task. Throws ESRCH, EPERM. */
  prlimit(tid: number, resource: Resource, limit?: Rlimit): Rlimit {
    return this.call(() => {
      const task = this.target(tid);
      const old = this.#limitOf(task, resource);
      doPrlimit(this.task, task, resource, limit ?? old);
      return old;
    });
  }

  #limitOf({ signal }: Task, resource: Resource): Rlimit {
    if (Object.hasOwn(signal.rlimits, resource)) return signal.rlimits[resource];
    throw new ScriptError(`there is no limit ${resource}: NPROC, NOFILE, …`);
  }

  setpriority(tid: number, nice: number): string {
    return this.try(() => setUserNice(this.task, this.target(tid), nice));
  }

  schedSetscheduler(
    tid: number,
    policy: Policy,
    options: { rtPriority?: number; resetOnFork?: boolean } = {},
  ): string {
    if (!/^SCHED_/.test(policy) || !Object.hasOwn(NUMBERS, policy)) {
      throw new ScriptError(`${policy} is not modelled`);
    }
    const params = { policy: NUMBERS[policy], ...options };
    return this.try(() => schedSetscheduler(this.task, this.target(tid), params));
  }

  schedSetaffinity(tid: number, cpus: readonly number[]): string {
    return this.try(() => {
      const task = this.target(tid);
      const allowed = this.machine.cgroups.cpusOf(task.cgroup);
      const within = cpus.filter((cpu) => allowed.includes(cpu));
      schedSetaffinity(this.task, task, within);
    });
  }

  /** Throws ESRCH. */
  schedGetaffinity(tid: number): number[] {
    return this.call(() => [...this.target(tid).sched.cpus]);
  }

  /** ioprio_set(IOPRIO_WHO_PROCESS): class 0 (none) to 3 (idle), level 0 to 7. */
  ioprioSet(tid: number, ioclass: number, level = 0): string {
    return this.try(() => {
      if (!(ioclass >= 0 && ioclass <= 3 && level >= 0 && level <= 7)) {
        throw new SyscallError("EINVAL");
      }
      this.target(tid).sched.ioprio = ioclass * 8192 + level;
    });
  }

  /** ioprio_get: class times 8192, and level. Throws ESRCH. */
  ioprioGet(tid: number): number {
    return this.call(() => this.target(tid).sched.ioprio);
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

  /** kernel.pid_max: 301 and up. */
  setPidMax(value: number): string {
    return this.try(() => {
      if (this.task.cred.euid !== 0) throw new SyscallError("EACCES");
      if (!(value > sched.RESERVED_PIDS && value <= sched.PID_MAX_LIMIT)) {
        throw new SyscallError("EINVAL");
      }
      this.kernel.pidMax = value;
    });
  }

  /** Writes /proc/TID/oom_score_adj. */
  setOomScoreAdj(tid: number, value: number): string {
    return this.try(() => {
      if (!(value >= -1000 && value <= 1000)) throw new SyscallError("EINVAL");
      const { signal } = this.target(tid);
      const isLowered = value < signal.oomScoreAdj;
      if (isLowered && !this.task.cred.caps.has(sched.CAP_SYS_RESOURCE)) {
        throw new SyscallError("EACCES");
      }
      signal.oomScoreAdj = value;
    });
  }

  /** Writes /proc/TID/comm: a thread of this process, else EINVAL. */
  setComm(tid: number, comm: string): string {
    return this.try(() => {
      const task = this.target(tid);
      if (task.signal !== this.task.signal) throw new SyscallError("EINVAL");
      task.comm = truncateComm(comm);
    });
  }

  umask(mask: number): void {
    this.call(() => {
      this.task.fs.umask = mask & 0o777;
    });
  }

  chdir(path: string): string {
    return this.try(() => {
      this.task.fs.cwd = path;
    });
  }

  /** A session and process group of its own. EPERM: it leads a group already. */
  setsid(): string {
    return this.try(() => {
      const { signal } = this.task;
      if (signal.pgrp === this.pid) throw new SyscallError("EPERM");
      signal.pgrp = this.pid;
      signal.session = this.pid;
    });
  }

  /** Puts a process (0: its own) in a group (0: one of its own). ESRCH: it is no child of it. */
  setpgid(pid: number, pgid: number): string {
    return this.try(() => {
      const { signal, parent } = this.target(pid).groupLeader;
      const isOwn = signal === this.task.signal;
      if (!isOwn && parent.signal !== this.task.signal) throw new SyscallError("ESRCH");
      if (signal.session === this.target(pid).tgid) throw new SyscallError("EPERM");
      signal.pgrp = pgid === 0 ? this.target(pid).tgid : pgid;
    });
  }

  /** The task with that tid; 0: this one. Throws ESRCH. */
  protected target(tid: number): Task {
    const task = tid === 0 ? this.task : this.kernel.task(tid);
    if (task === undefined) throw new SyscallError("ESRCH");
    return task;
  }
}
