import { VhostError } from "../spec/errno.js";
import type { Task } from "./task.js";

/**
 * One node of the tree of control groups, with the pids controller. Every group but the root counts
 * the tasks in it and below. Linux: cgroup, pids_cgroup.
 */
export class Cgroup {
  readonly parent: Cgroup | null;
  /** Absolute, "/" for the root. */
  readonly path: string;
  readonly #children = new Map<string, Cgroup>();
  #pidsMax = Number.POSITIVE_INFINITY;
  #pidsCurrent = 0;
  #freeze = false;
  /** Forks that a limit of this group, or of one here or below, has refused. Linux: pids.events. */
  readonly pidsEvents = { local: 0, all: 0 };
  /** Microseconds that tasks have run while in this group or below. Linux: cpu.stat usage_usec. */
  cpuUsageUs = 0;

  /** Without arguments: the root. Groups below come from `at`. */
  constructor(parent: Cgroup | null = null, name = "") {
    this.parent = parent;
    this.path = parent === null ? "/" : `${parent.parent === null ? "" : parent.path}/${name}`;
  }

  /** Tasks in this group and below, zombies included; may exceed `pidsMax`. Linux: pids.current. */
  get pidsCurrent(): number {
    return this.#pidsCurrent;
  }

  /** Most tasks that a fork may lead to; Infinity: "max". Linux: pids.max. */
  get pidsMax(): number {
    return this.#pidsMax;
  }

  /** EINVAL: no whole number from 0 up nor Infinity. ENOENT: the root, which has no limit. */
  set pidsMax(max: number) {
    if (this.parent === null) {
      throw new VhostError("ENOENT", "the root has no pids.max: set it in a group below");
    }
    if (max !== Number.POSITIVE_INFINITY && !(Number.isSafeInteger(max) && max >= 0)) {
      throw new VhostError("EINVAL", "pids.max is a whole number from 0, or Infinity", { max });
    }
    this.#pidsMax = max;
  }

  /** Asked to be frozen; so is everything below. Linux: cgroup.freeze. */
  set freeze(freeze: boolean) {
    if (this.parent === null) throw new VhostError("ENOENT", "the root is never frozen");
    this.#freeze = freeze;
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

  *#counted(): Iterable<Cgroup> {
    for (let group: Cgroup = this; group.parent !== null; group = group.parent) yield group;
  }
}

/** The names in a path: "/a/b" gives a, b; "/" none. EINVAL as `Cgroup.at`. */
export function cgroupNames(path: string): string[] {
  if (path === "/") return [];
  const [before, ...names] = path.split("/");
  if (before !== "" || names.length === 0 || names.some((name) => /^\.{0,2}$|[\n\0]/.test(name))) {
    throw new VhostError("EINVAL", 'a cgroup path is absolute, like "/tenants/a"', { path });
  }
  return names;
}

/**
 * Moves the whole process of `task` to `group`; no limit holds that up. Tasks of other thread
 * groups (children, user workers of this epoch) stay where they are. Linux: cgroup_attach_task().
 */
export function cgroupAttachTask(group: Cgroup, task: Task): void {
  for (const thread of task.signal.threads) {
    group.charge();
    thread.cgroup.uncharge();
    thread.cgroup = group;
  }
}

/**
 * Has `task` run for so many microseconds: its own time, and that of its group and of all above.
 * Linux: account_process_tick(), cgroup_account_cputime().
 */
export function accountCpu(task: Task, microseconds: number): void {
  task.cpuTimeUs += microseconds;
  task.signal.cpuTimeUs += microseconds;
  for (let at: Cgroup | null = task.cgroup; at !== null; at = at.parent) {
    at.cpuUsageUs += microseconds;
  }
}
