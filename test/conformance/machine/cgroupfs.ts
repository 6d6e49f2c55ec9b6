// /sys/fs/cgroup: the files of cgroup v2 that the model has something behind.

import { type Cgroup, cgroupAttachTask } from "#dist/kernel/cgroup.js";
import type { Kernel } from "#dist/kernel/kernel.js";
import { ONLINE_CPUS } from "#dist/kernel/sched.js";
import { getSignal, isHalted, sendSignal } from "#dist/kernel/send-signal.js";
import type { Task } from "#dist/kernel/task.js";
import { PF_KTHREAD, PF_NO_SETAFFINITY, PID_MAX_LIMIT } from "#dist/spec/sched.js";
import { SIGNALS } from "#dist/spec/signal.js";
import { SyscallError } from "./errors.js";
import { cpuList } from "./procfs.js";

/** Where it is mounted. */
export const CGROUP_MOUNT = "/sys/fs/cgroup";

const fail = (code: string): never => {
  throw new SyscallError(code);
};

/** The tree as a file system. */
export class CgroupFs {
  readonly #kernel: Kernel;
  readonly #made = new Set(["/"]);
  /** What controllers the children of each group have; where it is not here, none. */
  readonly #below = new Map<string, Set<string>>([["/", new Set(CONTROLLERS)]]);
  /** Groups of cgroup.type threaded. */
  readonly #threaded = new Set<string>();
  /** CPU time that groups had used when their limit was set. */
  readonly #usedBefore = new WeakMap<Cgroup, number>();
  /** cpuset.cpus, where it is not empty. */
  readonly #cpus = new Map<string, readonly number[]>();
  /** Groups that were asked to be frozen, each by itself. */
  readonly #asked = new Set<string>();
  /** Most tasks that were in each at once, as far as was seen. */
  readonly #peaks = new WeakMap<Cgroup, number>();

  constructor(kernel: Kernel) {
    this.#kernel = kernel;
  }

  /** `path`: below the mount, "/a/b". EEXIST, ENOENT. */
  mkdir(path: string): void {
    if (this.#made.has(path)) fail("EEXIST");
    if (!this.#made.has(parentOf(path))) fail("ENOENT");
    this.#kernel.cgroup(path);
    this.#made.add(path);
  }

  /** EBUSY: tasks or groups in it. */
  rmdir(path: string): void {
    const group = this.group(path);
    const below = [...this.#made].some((one) => one !== path && parentOf(one) === path);
    if (below || this.#tasksIn(group, true).length > 0) fail("EBUSY");
    this.#made.delete(path);
    this.#below.delete(path);
    this.#threaded.delete(path);
  }

  /** The group of a folder. ENOENT. */
  group(path: string): Cgroup {
    return this.#made.has(path) ? this.#kernel.cgroup(path) : fail("ENOENT");
  }

  /** A file's text, without the last newline. */
  read(path: string): string {
    const [group, file] = this.#find(path);
    const lines = this.#lines(group)[file];
    return lines === undefined ? fail("ENOENT") : lines();
  }

  /** Writes a file as `writer`, whose own tid "0" stands for. */
  write(path: string, text: string, writer: Task): void {
    const [group, file] = this.#find(path);
    switch (file) {
      case "cgroup.procs":
        this.#attach(group, text, writer);
        break;
      case "cgroup.threads":
        this.#attachThread(group, text, writer);
        break;
      case "cgroup.type":
        this.#makeThreaded(group, text);
        break;
      case "cgroup.freeze":
        this.#freeze(group, text);
        break;
      case "cgroup.kill":
        this.#kill(group, text);
        break;
      case "cgroup.subtree_control":
        this.#control(group, text);
        break;
      case "cpuset.cpus":
        this.#cpus.set(group.path, cpuNumbers(text));
        for (const task of this.#tasksIn(group, true)) task.sched.cpus = this.cpusOf(task.cgroup);
        break;
      case "cpu.max":
        this.#setCpuMax(group, text);
        break;
      case "memory.max":
        group.memoryMax = /^(max|\d+)\s*$/.test(text) ? maxOf(text) : fail("EINVAL");
        break;
      case "pids.max":
        group.pidsMax = pidsLimit(text);
        break;
      default:
        fail(this.#lines(group)[file] ? "EINVAL" : "ENOENT");
    }
  }

  #lines(group: Cgroup): Record<string, () => string> {
    const leaders = () => this.#tasksIn(group, false).filter((task) => task.groupLeader === task);
    const populated = () => this.#tasksIn(group, true).some(({ exitState }) => exitState === 0);
    // An empty group is frozen too; one with a task that never stops is not.
    const frozen = () => group.isFrozen && this.#tasksIn(group, true).every(isHalted);
    return {
      "cgroup.procs": () =>
        this.#threaded.has(group.path)
          ? fail("EOPNOTSUPP")
          : leaders()
              .map(({ pid }) => pid)
              .join("\n"),
      "cgroup.threads": () =>
        this.#tasksIn(group, false)
          .map(({ pid }) => pid)
          .join("\n"),
      "cgroup.events": () => `populated ${Number(populated())}\nfrozen ${Number(frozen())}`,
      "cgroup.subtree_control": () => [...this.#controls(group)].join(" "),
      "cgroup.controllers": () => [...this.#controls(group.parent ?? group)].join(" "),
      "cgroup.type": () => this.#typeOf(group),
      "cgroup.freeze": () => `${Number(this.#asked.has(group.path))}`,
      "pids.current": () => `${group.pidsCurrent}`,
      "pids.peak": () => `${this.#peak(group)}`,
      "pids.max": () => maxText(group.pidsMax),
      "pids.events": () => `max ${group.pidsEvents.all}`,
      "pids.events.local": () => `max ${group.pidsEvents.local}`,
      "cpuset.cpus": () => cpuList(this.#cpus.get(group.path) ?? []),
      "cpuset.cpus.effective": () => cpuList(this.cpusOf(group)),
      "cpu.stat": () => this.#cpuStat(group),
      "cpu.max": () => `${maxText(group.cpuMax.quotaUs)} ${group.cpuMax.periodUs}`,
      "memory.current": () => `${group.memoryCurrent}`,
      "memory.max": () => maxText(group.memoryMax),
    };
  }

  #find(path: string): [Cgroup, string] {
    const at = path.lastIndexOf("/");
    const folder = path.slice(0, at) || "/";
    const file = path.slice(at + 1);
    const controller = file.slice(0, file.indexOf("."));
    const isControlled = CONTROLLERS.includes(controller) && file !== "cpu.stat";
    const hasIt = folder !== "/" && this.#below.get(parentOf(folder))?.has(controller) === true;
    if (folder === "/" && ROOT_LACKS.includes(file)) fail("ENOENT");
    if (isControlled && !hasIt) fail("ENOENT");
    return [this.group(folder), file];
  }

  /** Released tasks are in no group; zombies still are, but are not shown. */
  #tasksIn(group: Cgroup, below: boolean): Task[] {
    return this.#kernel
      .tasks()
      .filter(({ cgroup }) => (below ? group.contains(cgroup) : cgroup === group))
      .filter(({ exitState }) => exitState === 0);
  }

  #attach(group: Cgroup, text: string, writer: Task): void {
    const task = this.#movable(group, text, writer);
    const holdsTasks = group.parent === null || this.#canRootThreads(group);
    // Processes live in leaves.
    if (!holdsTasks && !this.#threaded.has(group.path) && this.#controls(group).size > 0)
      fail("EBUSY");
    const isOtherSet = this.cpusOf(group).join() !== this.cpusOf(task.cgroup).join();
    cgroupAttachTask(group, task);
    for (const thread of task.signal.threads) {
      if (isOtherSet) thread.sched.cpus = this.cpusOf(group);
      getSignal(this.#kernel, thread);
    }
  }

  /** Moves one thread, between groups of one domain. */
  #attachThread(group: Cgroup, text: string, writer: Task): void {
    const task = this.#movable(group, text, writer);
    if (this.#domainOf(group.path) !== this.#domainOf(task.cgroup.path)) fail("EOPNOTSUPP");
    group.charge();
    task.cgroup.uncharge();
    task.cgroup = group;
    getSignal(this.#kernel, task);
  }

  #movable(group: Cgroup, text: string, writer: Task): Task {
    const tid = Number(text);
    if (!Number.isInteger(tid) || tid < 0) fail("EINVAL");
    const task = tid === 0 ? writer : (this.#kernel.task(tid) ?? fail("ESRCH"));
    if (task.exitState !== 0) fail("ESRCH");
    const isBound = (task.flags & PF_NO_SETAFFINITY) !== 0;
    if (task === this.#kernel.kthreadd || isBound) fail("EINVAL");
    if (group.parent && this.#typeOf(group) === "domain invalid") fail("EOPNOTSUPP");
    return task;
  }

  #makeThreaded(group: Cgroup, text: string): void {
    if (text.trim() !== "threaded") fail("EINVAL");
    const { parent, path } = group;
    if (this.#threaded.has(path)) return;
    const isPopulated = this.#tasksIn(group, true).length > 0;
    const hasDomainControls = [...this.#controls(group)].some((name) => name === "memory");
    if ((isPopulated && this.#typeOf(group) === "domain") || hasDomainControls) fail("EOPNOTSUPP");
    if (parent?.parent && !this.#threaded.has(parent.path) && !this.#canRootThreads(parent)) {
      fail("EOPNOTSUPP");
    }
    this.#threaded.add(path);
  }

  #typeOf(group: Cgroup): string {
    const { path, parent } = group;
    if (parent === null) return fail("ENOENT");
    if (this.#threaded.has(path)) return "threaded";
    const isBelowThreads = this.#threaded.has(parent.path) || this.#isThreadRoot(parent);
    if (parent.parent !== null && isBelowThreads) return "domain invalid";
    return this.#isThreadRoot(group) ? "domain threaded" : "domain";
  }

  /** It has threaded groups, or tasks beside controllers for its children. */
  #isThreadRoot(group: Cgroup): boolean {
    const hasThreaded = [...this.#threaded].some((path) => parentOf(path) === group.path);
    const hasControls = [...this.#controls(group)].some((name) => name !== "memory");
    return hasThreaded || (hasControls && this.#tasksIn(group, false).length > 0);
  }

  /** Linux: cgroup_can_be_thread_root(). */
  #canRootThreads(group: Cgroup): boolean {
    if (this.#threaded.has(group.path) || this.#controls(group).has("memory")) return false;
    return ![...this.#made].some((path) => {
      const isDomain = path !== group.path && parentOf(path) === group.path;
      return (
        isDomain && !this.#threaded.has(path) && this.#tasksIn(this.group(path), true).length > 0
      );
    });
  }

  #domainOf(path: string): string {
    return this.#threaded.has(path) ? this.#domainOf(parentOf(path)) : path;
  }

  #controls({ path }: Cgroup): ReadonlySet<string> {
    return this.#below.get(path) ?? new Set();
  }

  #peak(group: Cgroup): number {
    const peak = Math.max(this.#peaks.get(group) ?? 0, group.pidsCurrent);
    this.#peaks.set(group, peak);
    return peak;
  }

  /** The CPUs that tasks of a group may have: those of its next file that says so. */
  cpusOf(group: Cgroup): readonly number[] {
    const above = group.parent === null ? ONLINE_CPUS : this.cpusOf(group.parent);
    const within = above.filter((cpu) => this.#cpus.get(group.path)?.includes(cpu));
    return within.length > 0 ? within : above;
  }

  #setCpuMax(group: Cgroup, text: string): void {
    const words = /^(max|\d+)(?:\s+(\d+))?\s*$/.exec(text) ?? fail("EINVAL");
    const periodUs = words[2] === undefined ? group.cpuMax.periodUs : Number(words[2]);
    group.cpuMax = { quotaUs: maxOf(words[1] ?? "max"), periodUs };
    this.#usedBefore.set(group, group.cpuUsageUs);
  }

  /** Workers here never rest while they have work: each quota that was used up has held them up. */
  #cpuStat(group: Cgroup): string {
    const { quotaUs, periodUs } = group.cpuMax;
    const used = group.cpuUsageUs - (this.#usedBefore.get(group) ?? 0);
    const throttled = Number.isFinite(quotaUs) ? Math.floor(used / quotaUs) : 0;
    const lines = {
      usage_usec: group.cpuUsageUs,
      user_usec: 0,
      system_usec: group.cpuUsageUs,
      nr_periods: Number.isFinite(quotaUs) ? Math.ceil(used / quotaUs) : 0,
      nr_throttled: throttled,
      throttled_usec: throttled * Math.max(0, periodUs - quotaUs),
    };
    const names = Object.entries(lines).map(([name, value]) => `${name} ${value || 0}`);
    return names.join("\n");
  }

  /** Called whenever something may have changed. */
  observe(): void {
    for (const path of this.#made) this.#peak(this.group(path));
  }

  #freeze(group: Cgroup, text: string): void {
    if (!/^-?\d+\s*$/.test(text)) fail("EINVAL");
    if (!/^[01]\s*$/.test(text)) fail("ERANGE");
    group.freeze = text.trim() === "1";
    if (text.trim() === "1") this.#asked.add(group.path);
    else this.#asked.delete(group.path);
    for (const task of this.#tasksIn(group, true)) getSignal(this.#kernel, task);
  }

  #kill(group: Cgroup, text: string): void {
    if (!/^-?\d+\s*$/.test(text)) fail("EINVAL");
    if (text.trim() !== "1") fail("ERANGE");
    if (this.#threaded.has(group.path)) fail("EOPNOTSUPP");
    for (const task of this.#tasksIn(group, true)) {
      if ((task.flags & PF_KTHREAD) === 0) sendSignal(this.#kernel, task, SIGNALS.SIGKILL, true);
    }
  }

  #control(group: Cgroup, text: string): void {
    const words = text.trim().split(/\s+/);
    for (const word of words) {
      if (!/^[+-]/.test(word) || !CONTROLLERS.includes(word.slice(1))) fail("EINVAL");
      const has = this.#controls(group.parent ?? group).has(word.slice(1));
      if (word.startsWith("+") && !has) fail("ENOENT");
      if (word.startsWith("+") && group.parent) this.#vetControl(group, word.slice(1));
    }
    const controls = new Set(this.#controls(group));
    for (const word of words) {
      if (word.startsWith("+")) controls.add(word.slice(1));
      else controls.delete(word.slice(1));
    }
    this.#below.set(group.path, controls);
  }

  /** Linux: cgroup_vet_subtree_control_enable(). */
  #vetControl(group: Cgroup, name: string): void {
    const isThreaded = this.#threaded.has(group.path);
    const isMemory = name === "memory";
    if (isMemory && (isThreaded || this.#isThreadRoot(group))) fail("EOPNOTSUPP");
    if (!isMemory && (isThreaded || this.#canRootThreads(group))) return;
    if (this.#tasksIn(group, false).length > 0) fail("EBUSY");
  }
}

const CONTROLLERS = ["cpu", "cpuset", "memory", "pids"];
/** Files that the root has not. */
const ROOT_LACKS = ["cgroup.type", "cgroup.events", "cgroup.freeze", "cgroup.kill"];

const parentOf = (path: string): string => path.slice(0, path.lastIndexOf("/")) || "/";

/** "0-1,3" as numbers. */
function cpuNumbers(text: string): number[] {
  if (!/^(\d+(-\d+)?(,\d+(-\d+)?)*)?\s*$/.test(text)) fail("EINVAL");
  const runs = text.trim() === "" ? [] : text.trim().split(",");
  const cpus = runs.flatMap((run) => {
    const [from = 0, to = from] = run.split("-").map(Number);
    return Array.from({ length: Math.min(to - from + 1, 4096) }, (_, at) => from + at);
  });
  return cpus.every((cpu) => ONLINE_CPUS.includes(cpu)) ? cpus : fail("ERANGE");
}

const maxText = (max: number): string => (Number.isFinite(max) ? `${max}` : "max");
const maxOf = (text: string): number =>
  text.trim() === "max" ? Number.POSITIVE_INFINITY : Number(text);

function pidsLimit(text: string): number {
  if (text.trim() === "max") return Number.POSITIVE_INFINITY;
  const max = /^\d+\s*$/.test(text) ? Number(text) : -1;
  return max >= 0 && max <= PID_MAX_LIMIT ? max : fail("EINVAL");
}
