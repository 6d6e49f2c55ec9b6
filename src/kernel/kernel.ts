import { VhostError } from "../spec/errno.js";
import { checkNames } from "../spec/options.js";
import {
  CLONE_FS,
  CLONE_UNTRACED,
  CLONE_VM,
  MAX_THREADS,
  MIN_THREADS,
  PF_KTHREAD,
  PID_MAX_LIMIT,
  RESERVED_PIDS,
} from "../spec/sched.js";
import { Cgroup, cgroupAttachTask } from "./cgroup.js";
import { CAP_FULL_SET, plainCred } from "./cred.js";
import { type Epoch, type EpochRules, epochRules } from "./epoch.js";
import { doExit, doGroupExit } from "./exit.js";
import { Files } from "./files.js";
import { copyProcess, wakeUpNewTask } from "./fork.js";
import { resched, updateHalt } from "./halt.js";
import { makeKthreadd } from "./kthread.js";
import { INIT_NSPROXY } from "./nsproxy.js";
import { PidNamespaces } from "./pid-ns.js";
import { type PsOptions, type PsRow, psRows } from "./ps.js";
import { initRlimits } from "./rlimit.js";
import { INIT_SCHED } from "./sched.js";
import { UNCONFINED } from "./seccomp.js";
import { getSignal } from "./send-signal.js";
import { killPid, newSignal } from "./signal.js";
import { type SpawnOptions, spawnProcess } from "./spawn.js";
import { Task } from "./task.js";
import { Ucounts } from "./ucounts.js";

/**
 * The two sysctls: kernel.threads-max (20 and up) and kernel.pid_max (301 and up; pids are below);
 * and which kernel's user workers it has, by default the merge's.
 */
export interface KernelOptions {
  readonly epoch?: Epoch;
  readonly threadsMax?: number;
  readonly pidMax?: number;
  /** What `Kernel.forkFromOwnerDefault` is at first; default true. */
  readonly forkFromOwnerDefault?: boolean;
}

const OPTIONS = ["epoch", "threadsMax", "pidMax", "forkFromOwnerDefault"];

/**
 * The tables of one machine: its tasks, users and cgroups. Boots with pid 1 `init` and pid 2
 * `kthreadd`. Everything here belongs to the thread that made it. A process has no code of its own:
 * the caller acts for it, and its workers are real threads.
 */
export class Kernel {
  /** Tasks by real user. */
  readonly ucounts = new Ucounts();
  /** The root of the control groups. */
  readonly cgroupRoot = new Cgroup(null, "", (group) => this.#onCgroupChange(group));
  /** Pid 1. Never exits; reaps orphans by itself. */
  readonly init: Task;
  /** Pid 2, the parent of kernel threads. */
  readonly kthreadd: Task;
  /** The pid namespaces below the machine's own. */
  readonly pidNamespaces = new PidNamespaces();
  readonly epoch: EpochRules;
  /** Most tasks on the machine; may be changed, within what the constructor allows. */
  threadsMax: number;
  /** Pids are below; may be changed, within what the constructor allows. */
  pidMax: number;
  /**
   * Whether a vhost device whose owner says nothing has user workers, made from the owner; else
   * they are kernel threads. Linux: module parameter fork_from_owner_default of vhost.
   */
  forkFromOwnerDefault: boolean;
  readonly #tasks = new Map<number, Task>();
  #lastPid = 0;
  #lastNs = 0;

  /** EINVAL: a sysctl outside what Linux lets it be; no such epoch. */
  constructor(options: KernelOptions = {}) {
    checkNames("a kernel", Object(options), OPTIONS);
    const { epoch = "v6.4-merge", threadsMax = 32768, pidMax = 32768 } = options;
    this.epoch = mustBeEpoch(epoch);
    this.forkFromOwnerDefault = mustBeBoolean(options.forkFromOwnerDefault ?? true);
    checkRange("threadsMax", threadsMax, MIN_THREADS, MAX_THREADS);
    checkRange("pidMax", pidMax, RESERVED_PIDS + 1, PID_MAX_LIMIT);
    this.threadsMax = threadsMax;
    this.pidMax = pidMax;
    const swapper = initTask(this);
    this.init = copyProcess(this, swapper, {
      flags: CLONE_FS | CLONE_VM | CLONE_UNTRACED,
      name: "init",
    });
    wakeUpNewTask(this.init);
    this.kthreadd = makeKthreadd(this, swapper);
  }

  /** A user process: forked from init, then given its identity. See spawnProcess. */
  spawn(options: SpawnOptions = {}): Task {
    return spawnProcess(this, options);
  }

  /** The task with that pid, zombies included. */
  task(pid: number): Task | undefined {
    return this.#tasks.get(pid);
  }

  /** Every task, threads and zombies included, the oldest first. */
  tasks(): Task[] {
    return [...this.#tasks.values()];
  }

  /** The processes as ps(1) lists them, each below its parent. */
  ps(options?: PsOptions): PsRow[] {
    return psRows(this, options);
  }

  /** The control group at an absolute path, made on demand. EINVAL: see Cgroup.at. */
  cgroup(path: string): Cgroup {
    return this.cgroupRoot.at(path);
  }

  /** One task exits, its other threads don't. See doExit. Linux: exit(2). */
  exitTask(task: Task, code: number): void {
    doExit(this, task, code);
  }

  /** Every thread of the task's process exits. See doGroupExit. Linux: exit_group(2). */
  exitGroup(task: Task, code: number): void {
    doGroupExit(this, task, code);
  }

  /**
   * Moves the process of `pid` to a group, made on demand; its threads go along, and so do its
   * workers in an epoch where they are threads of it. ESRCH: no such task. Errors of `cgroup`.
   * Linux: a write to cgroup.procs.
   */
  moveToCgroup(pid: number, path: string): void {
    const task = this.task(pid);
    if (task === undefined) throw new VhostError("ESRCH", `no task ${pid}`, { pid });
    cgroupAttachTask(this.cgroup(path), task);
    for (const thread of task.signal.threads) getSignal(this, thread);
  }

  /** Sends a signal, or 0. See killPid. Linux: kill(2). */
  kill(pid: number, sig: number): void {
    killPid(this, pid, sig);
  }

  /** EAGAIN when the machine is full: nobody is exempt. For copyProcess. */
  checkThreadsMax(): void {
    const { threadsMax } = this;
    if (this.#tasks.size < threadsMax) return;
    throw new VhostError("EAGAIN", `${threadsMax} tasks are threads-max: end one`, { threadsMax });
  }

  /**
   * The next number nobody has, upwards, then again from 300; EAGAIN: all are in use. With
   * `wanted`, that one; EEXIST: it is taken, EINVAL: it can be none. It is taken only by `attach`.
   * For copyProcess. Linux: alloc_pid().
   */
  allocPid(wanted?: number): number {
    if (wanted !== undefined) return this.#checkFree(wanted);
    const first = this.#lastPid + 1 > RESERVED_PIDS ? RESERVED_PIDS : 1;
    for (let pid = this.#lastPid + 1; pid < this.pidMax; pid++) if (this.#take(pid)) return pid;
    for (let pid = first; pid <= this.#lastPid; pid++) if (this.#take(pid)) return pid;
    const { pidMax } = this;
    throw new VhostError("EAGAIN", `no free pid below pid_max ${pidMax}: end a task`, { pidMax });
  }

  /** A number for a new namespace. Linux: ns_alloc_inum(). */
  nextNs(): number {
    this.#lastNs++;
    return this.#lastNs;
  }

  /** Puts a task in the tables. For copyProcess. Linux: attach_pid(), list_add_tail(). */
  attach(task: Task): void {
    this.#tasks.set(task.pid, task);
    task.signal.threads.add(task);
    if (task.groupLeader === task) task.parent.children.add(task);
  }

  /** Takes a task out of the tables. For releaseTask. Linux: __unhash_process(). */
  detach(task: Task): void {
    this.#tasks.delete(task.pid);
    task.signal.threads.delete(task);
    task.parent.children.delete(task);
  }

  /** Freezing, thawing and another budget concern all tasks below. */
  #onCgroupChange(group: Cgroup): void {
    for (const task of this.tasks().filter(({ cgroup }) => group.contains(cgroup))) {
      getSignal(this, task);
      updateHalt(task);
      resched(task);
    }
  }

  /** What comes next is not counted on from it. */
  #checkFree(pid: number): number {
    checkRange("a pid", pid, 1, this.pidMax - 1);
    if (!this.#tasks.has(pid)) return pid;
    throw new VhostError("EEXIST", `pid ${pid} is taken`, { pid });
  }

  #take(pid: number): boolean {
    if (this.#tasks.has(pid)) return false;
    this.#lastPid = pid;
    return true;
  }
}

/** Pid 0, the one task that no task made; in no table, but counted as root's. Linux: INIT_TASK. */
function initTask(kernel: Kernel): Task {
  kernel.ucounts.inc({ uid: 0, userNs: 0 });
  return new Task({
    pid: 0,
    groupLeader: null,
    comm: "swapper/0",
    flags: PF_KTHREAD,
    parent: null,
    exitSignal: 0,
    cred: plainCred(0, 0, CAP_FULL_SET),
    signal: newSignal(initRlimits(kernel.threadsMax)),
    sighand: { ignoreAll: false, actions: new Map() },
    cgroup: kernel.cgroupRoot,
    mm: null,
    files: new Files(),
    fs: { umask: 0o022, cwd: "/" },
    sched: INIT_SCHED,
    nsproxy: INIT_NSPROXY,
    confinement: UNCONFINED,
    blocked: 0n,
    pidNs: INIT_NSPROXY.pidForChildren,
  });
}

function mustBeEpoch(epoch: string): EpochRules {
  const rules = epochRules(epoch);
  if (rules !== undefined) return rules;
  throw new VhostError("EINVAL", 'an epoch is "v6.4-merge", "v6.4" or "v6.12"', { epoch });
}

function checkRange(name: string, value: number, min: number, max: number): void {
  if (Number.isInteger(value) && value >= min && value <= max) return;
  throw new VhostError("EINVAL", `${name} is a whole number from ${min} to ${max}`, { value });
}

function mustBeBoolean(forkFromOwnerDefault: unknown): boolean {
  if (typeof forkFromOwnerDefault === "boolean") return forkFromOwnerDefault;
  const message = "forkFromOwnerDefault is true or false";
  throw new VhostError("EINVAL", message, { forkFromOwnerDefault });
}
