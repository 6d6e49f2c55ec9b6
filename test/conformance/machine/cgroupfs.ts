// /sys/fs/cgroup: the files of cgroup v2 that the model has something behind.

import { type Cgroup, cgroupAttachTask } from "#dist/kernel/cgroup.js";
import type { Kernel } from "#dist/kernel/kernel.js";
import { getSignal, isHalted, sendSignal } from "#dist/kernel/send-signal.js";
import type { Task } from "#dist/kernel/task.js";
import { PF_IO_WORKER } from "#dist/spec/sched.js";
import { SIGNALS } from "#dist/spec/signal.js";
import { SyscallError } from "./errors.js";

/** Where it is mounted. */
export const CGROUP_MOUNT = "/sys/fs/cgroup";

const fail = (code: string): never => {
  throw new SyscallError(code);
};

/** The tree as a file system. */
export class CgroupFs {
  readonly #kernel: Kernel;
  readonly #made = new Set(["/"]);
  /** Groups whose children have the pids controller. */
  readonly #pidsBelow = new Set(["/"]);

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
    this.#pidsBelow.delete(path);
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
      case "cgroup.freeze":
        this.#freeze(group, text);
        break;
      case "cgroup.kill":
        this.#kill(group, text);
        break;
      case "cgroup.subtree_control":
        this.#control(group, text);
        break;
      case "pids.max":
        group.pidsMax = limit(text);
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
        leaders()
          .map(({ pid }) => pid)
          .join("\n"),
      "cgroup.threads": () =>
        this.#tasksIn(group, false)
          .map(({ pid }) => pid)
          .join("\n"),
      "cgroup.events": () => `populated ${Number(populated())}\nfrozen ${Number(frozen())}`,
      "cgroup.subtree_control": () => (this.#pidsBelow.has(group.path) ? "pids" : ""),
      "pids.current": () => `${group.pidsCurrent}`,
      "pids.max": () => (Number.isFinite(group.pidsMax) ? `${group.pidsMax}` : "max"),
      "pids.events": () => `max ${group.pidsEvents.all}`,
      "pids.events.local": () => `max ${group.pidsEvents.local}`,
      "cpu.stat": () => `usage_usec ${group.cpuUsageUs}`,
    };
  }

  #find(path: string): [Cgroup, string] {
    const at = path.lastIndexOf("/");
    const folder = path.slice(0, at) || "/";
    const file = path.slice(at + 1);
    const hasPids = folder !== "/" && this.#pidsBelow.has(parentOf(folder));
    if (file.startsWith("pids.") && !hasPids) fail("ENOENT");
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
    const tid = Number(text);
    if (!Number.isInteger(tid) || tid < 0) fail("EINVAL");
    const task = tid === 0 ? writer : (this.#kernel.task(tid) ?? fail("ESRCH"));
    if (task === this.#kernel.kthreadd) fail("EINVAL");
    const hasControllers = group.parent !== null && this.#pidsBelow.has(group.path);
    if (hasControllers) fail("EBUSY"); // processes live in leaves
    cgroupAttachTask(group, task);
    for (const thread of task.signal.threads) getSignal(this.#kernel, thread);
  }

  #freeze(group: Cgroup, text: string): void {
    if (!/^[01]\s*$/.test(text)) fail("EINVAL");
    group.freeze = text.trim() === "1";
    for (const task of this.#tasksIn(group, true)) getSignal(this.#kernel, task);
  }

  #kill(group: Cgroup, text: string): void {
    if (text.trim() !== "1") fail("EINVAL");
    for (const task of this.#tasksIn(group, true)) {
      if ((task.flags & PF_IO_WORKER) === 0) sendSignal(this.#kernel, task, SIGNALS.SIGKILL, true);
    }
  }

  #control(group: Cgroup, text: string): void {
    for (const word of text.trim().split(/\s+/)) {
      if (!/^[+-](pids|cpu|memory)$/.test(word)) fail("EINVAL");
      if (word === "+pids" && group.parent && this.#tasksIn(group, false).length > 0) fail("EBUSY");
      if (word === "+pids") this.#pidsBelow.add(group.path);
      if (word === "-pids") this.#pidsBelow.delete(group.path);
    }
  }
}

const parentOf = (path: string): string => path.slice(0, path.lastIndexOf("/")) || "/";

function limit(text: string): number {
  if (text.trim() === "max") return Number.POSITIVE_INFINITY;
  return /^\d+\s*$/.test(text) ? Number(text) : fail("EINVAL");
}
