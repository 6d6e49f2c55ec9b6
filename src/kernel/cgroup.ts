import { VhostError } from "../spec/errno.js";
import { CpuBandwidth, type CpuMax, type CpuStat, nowUs } from "./cpu-bandwidth.js";
import { resched, updateHalt } from "./halt.js";
import type { Task } from "./task.js";

/** What counts and limits of a group are told to. */
type OnChange = (group: Cgroup) => void;

/** cpu.max: the least and the longest period, and the least quota, in microseconds. */
const CPU_PERIOD_US_MIN = 1000;
const CPU_PERIOD_US_MAX = 1_000_000;
const CPU_QUOTA_US_MIN = 1000;

/**
 * One node of the tree of control groups, with the pids, cpu and memory controllers. Every group
 * but the root counts the tasks and the memory in it and below, and may limit them; CPU time is
 * counted in the root, too. Linux: cgroup, pids_cgroup, task_group, mem_cgroup.
 */
export class Cgroup {
  readonly parent: Cgroup | null;
  /** Absolute, "/" for the root. */
  readonly path: string;
  /** CPU time of all groups of the machine, in memory that threads share. */
  readonly cpu: CpuBandwidth;
  /** The group's in `cpu`. */
  readonly number: number;
  /** Forks that a limit of this group, or of one here or below, has refused. Linux: pids.events. */
  readonly pidsEvents = { local: 0, all: 0 };
  /** Address spaces that a limit of this group has refused. Linux: memory.events.local, max. */
  memoryRefused = 0;
  readonly #children = new Map<string, Cgroup>();
  #isRemoved = false;
  readonly #onChange: OnChange;
  #pidsMax = Number.POSITIVE_INFINITY;
  #pidsCurrent = 0;
  #memoryMax = Number.POSITIVE_INFINITY;
  #memoryCurrent = 0;
  #freeze = false;

  /**
   * Without a parent: the root, and `onChange` hears of every group whose tasks must look again at
   * what it says. Groups below come from `at`. EAGAIN: too many groups.
   */
  constructor(parent: Cgroup | null = null, name = "", onChange: OnChange = () => {}) {
    this.parent = parent;
    this.path = parent === null ? "/" : `${parent.parent === null ? "" : parent.path}/${name}`;
    this.cpu = parent?.cpu ?? new CpuBandwidth();
    this.number = parent === null ? 0 : this.cpu.add(parent.number);
    this.#onChange = parent === null ? onChange : parent.#onChange;
    Object.preventExtensions(this); // a slip of the pen in the name of a limit is no limit
  }

  /** Tasks in this group and below, zombies included; may exceed `pidsMax`. Linux: pids.current. */
  get pidsCurrent(): number {
    return this.#pidsCurrent;
  }

  /** Most tasks that a fork may lead to; Infinity: "max". Linux: pids.max. */
  get pidsMax(): number {
    return this.#pidsMax;
  }

  /**
   * EINVAL: no whole number from 0 up nor Infinity. ENOENT: the root, which has no limit. ENODEV:
   * the group was removed.
   */
  set pidsMax(max: number) {
    this.#mustHaveFile("pids.max");
    this.#pidsMax = checkMax("pids.max", max);
  }

  /**
   * Bytes of address spaces made in this group and below, until their last task is gone; may exceed
   * `memoryMax`. Linear memory is counted whole, as if all of it were in use. Linux:
   * memory.current.
   */
  get memoryCurrent(): number {
    return this.#memoryCurrent;
  }

  /** Most bytes that a new address space may lead to; Infinity: "max". Linux: memory.max. */
  get memoryMax(): number {
    return this.#memoryMax;
  }

  /**
   * What is there already stays: nothing is reclaimed and nobody killed. Errors as `pidsMax`.
   */
  set memoryMax(max: number) {
    this.#mustHaveFile("memory.max");
    this.#memoryMax = checkMax("memory.max", max);
  }

  /** How long the threads in this group and below run in each period. Linux: cpu.max. */
  get cpuMax(): CpuMax {
    return this.cpu.max(this.number);
  }

  /**
   * Holds from now on, for real threads: who has used it up waits for the next period, and what was
   * run beyond it counts there. EINVAL: a period that is not 1 ms to 1 s, a quota below 1 ms.
   * Other errors as `pidsMax`.
   */
  set cpuMax(max: CpuMax) {
    this.#mustHaveFile("cpu.max");
    const { quotaUs, periodUs } = max ?? {};
    const isQuota = quotaUs === Number.POSITIVE_INFINITY || Number.isSafeInteger(quotaUs);
    const isPeriod =
      Number.isSafeInteger(periodUs) &&
      periodUs >= CPU_PERIOD_US_MIN &&
      periodUs <= CPU_PERIOD_US_MAX;
    if (!isQuota || quotaUs < CPU_QUOTA_US_MIN || !isPeriod) {
      const what =
        "cpu.max is { quotaUs, periodUs }: from 1000 (or Infinity) in each 1000 to 1000000";
      throw new VhostError("EINVAL", what, { quotaUs, periodUs });
    }
    this.cpu.setMax(this.number, { quotaUs, periodUs }, nowUs());
    this.#onChange(this);
  }

  /** CPU time of the tasks in this group and below, and what `cpuMax` made of it. */
  get cpuStat(): CpuStat {
    return this.cpu.stat(this.number);
  }

  /** Microseconds that tasks have run while in this group or below. Linux: cpu.stat usage_usec. */
  get cpuUsageUs(): number {
    return this.cpuStat.usageUsec;
  }

  /** Asked to be frozen; so is everything below. Errors as `pidsMax`. Linux: cgroup.freeze. */
  set freeze(freeze: boolean) {
    this.#mustHaveFile("cgroup.freeze");
    if (typeof freeze !== "boolean") {
      throw new VhostError("EINVAL", "cgroup.freeze is true or false", { freeze });
    }
    this.#freeze = freeze;
    this.#onChange(this);
  }

  /** Whether it is asked to be, itself. */
  get freeze(): boolean {
    return this.#freeze;
  }

  /** Whether this group or one above is asked to be frozen. Linux: CGRP_FREEZE. */
  get isFrozen(): boolean {
    return this.#freeze || (this.parent?.isFrozen ?? false);
  }

  /**
   * The group at an absolute path below this one, the root; made on demand.
   * EINVAL: a relative path, an empty part, "." or "..".
   */
  at(path: string): Cgroup {
    return cgroupNames(path).reduce<Cgroup>((group, name) => group.#child(name), this);
  }

  /**
   * Takes the group away, with its limits and counts; a group of that path is a new one then.
   * EBUSY: the root, or there are tasks or groups in it. Idempotent. Linux: rmdir(2).
   */
  remove(): void {
    if (this.#isRemoved) return;
    const { parent, path, pidsCurrent } = this;
    if (parent === null || pidsCurrent > 0 || this.#children.size > 0) {
      const message = `cgroup ${path} is in use: end or move its tasks, remove the groups in it`;
      throw new VhostError("EBUSY", message, { path, pidsCurrent, groups: this.#children.size });
    }
    this.#isRemoved = true;
    parent.#children.delete(path.slice(path.lastIndexOf("/") + 1));
    this.cpu.remove(this.number);
  }

  /** One task more here and above, whatever the limits say. Linux: pids_charge(). */
  charge(): void {
    for (const group of this.#counted()) group.#pidsCurrent++;
  }

  /** One task less here and above. Linux: pids_uncharge(). */
  uncharge(): void {
    for (const group of this.#counted()) group.#pidsCurrent--;
  }

  /**
   * As `charge`; EAGAIN, and nothing counted, when a group of the path is full: nobody is exempt.
   */
  tryCharge(): void {
    for (const group of this.#counted()) {
      const { path, pidsCurrent, pidsMax } = group;
      if (pidsCurrent + 1 <= pidsMax) continue;
      group.pidsEvents.local++;
      for (const above of group.#counted()) above.pidsEvents.all++;
      throw new VhostError(
        "EAGAIN",
        `cgroup ${path} has ${pidsCurrent} tasks, pids.max is ${pidsMax}: raise it or end a task`,
        { cgroup: path, pidsCurrent, pidsMax },
      );
    }
    this.charge();
  }

  /**
   * So many bytes more here and above; ENOMEM, and nothing counted, when a group of the path has no
   * room. Linux: try_charge_memcg().
   */
  tryChargeMemory(bytes: number): void {
    for (const group of this.#counted()) {
      const { path, memoryCurrent, memoryMax } = group;
      if (memoryCurrent + bytes <= memoryMax) continue;
      group.memoryRefused++;
      throw new VhostError(
        "ENOMEM",
        `cgroup ${path} has ${memoryCurrent} bytes and can't have ${bytes} more, memory.max is ` +
          `${memoryMax}: raise it or end a process`,
        { cgroup: path, memoryCurrent, memoryMax, bytes },
      );
    }
    for (const group of this.#counted()) group.#memoryCurrent += bytes;
  }

  /** So many bytes less here and above. Linux: uncharge_batch(). */
  unchargeMemory(bytes: number): void {
    for (const group of this.#counted()) group.#memoryCurrent -= bytes;
  }

  /** Whether `group` is this one or lies below it. */
  contains(group: Cgroup): boolean {
    for (let at: Cgroup | null = group; at !== null; at = at.parent) if (at === this) return true;
    return false;
  }

  #child(name: string): Cgroup {
    const child = this.#children.get(name) ?? new Cgroup(this, name);
    this.#children.set(name, child);
    return child;
  }

  /** ENODEV: it was removed. */
  mustBeThere(): void {
    if (this.#isRemoved) throw new VhostError("ENODEV", `cgroup ${this.path} was removed`);
  }

  #mustHaveFile(file: string): void {
    this.mustBeThere();
    if (this.parent !== null) return;
    throw new VhostError("ENOENT", `the root has no ${file}: set it in a group below`);
  }

  *#counted(): Iterable<Cgroup> {
    for (let group: Cgroup = this; group.parent !== null; group = group.parent) yield group;
  }
}

function checkMax(name: string, max: number): number {
  if (max === Number.POSITIVE_INFINITY || (Number.isSafeInteger(max) && max >= 0)) return max;
  throw new VhostError("EINVAL", `${name} is a whole number from 0, or Infinity`, { max });
}

/** The names in a path: "/a/b" gives a, b; "/" none. EINVAL as `Cgroup.at`. */
export function cgroupNames(path: string): string[] {
  if (path === "/") return [];
  const wanted = 'a cgroup is named by a path like "/tenants/a": no empty part, no ".", no ".."';
  if (typeof path !== "string") throw new VhostError("EINVAL", wanted, { path });
  const [before, ...names] = path.split("/");
  if (before !== "" || names.length === 0 || names.some((name) => /^\.{0,2}$|[\n\0]/.test(name))) {
    throw new VhostError("EINVAL", wanted, { path });
  }
  return names;
}

/**
 * Moves the whole process of `task` to `group`; no limit holds that up. Tasks of other thread
 * groups (children, the merge's vhost workers) stay where they are. Linux: cgroup_attach_task().
 */
export function cgroupAttachTask(group: Cgroup, task: Task): void {
  group.mustBeThere();
  for (const thread of task.signal.threads) {
    group.charge();
    thread.cgroup.uncharge();
    thread.cgroup = group;
    updateHalt(thread);
    resched(thread);
  }
}

/**
 * Has `task`, which no thread runs, run for so many whole microseconds: its own time, and that of
 * its group and of all above. Linux: account_process_tick(), cgroup_account_cputime().
 */
export function accountCpu(task: Task, microseconds: number): void {
  task.addCpuTime(microseconds);
  task.cgroup.cpu.charge(task.cgroup.number, microseconds);
}
