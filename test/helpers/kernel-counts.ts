import { expect } from "vitest";
import type { Cgroup } from "#dist/kernel/cgroup.js";
import type { Cred } from "#dist/kernel/cred.js";
import type { Kernel } from "#dist/kernel/kernel.js";
import type { Mm } from "#dist/kernel/mm.js";
import type { Task } from "#dist/kernel/task.js";
import type { Errno } from "#dist/spec/errno.js";
import { VhostError } from "#dist/spec/errno.js";

/** A user, as seen in a user namespace. */
export type User = Pick<Cred, "uid" | "userNs">;

/** What the kernel has counted, and the same by counting again; `seen`: things to look at, ever. */
export interface Seen {
  /** Who made each user namespace, by its number; the machine's own has no maker. */
  makers?: Map<number, User>;
  uids: Iterable<number>;
  cgroups: Iterable<Cgroup>;
  mms: Iterable<Mm>;
}

/** The counters as kept. */
export function counted(kernel: Kernel, seen: Seen) {
  return {
    nproc: Array.from(seen.uids, (uid) => [uid, kernel.ucounts.nproc(uid)]),
    pids: Array.from(seen.cgroups, (group) => [group.path, group.pidsCurrent]),
    memory: Array.from(seen.cgroups, (group) => [group.path, group.memoryCurrent]),
    users: Array.from(seen.mms, (mm) => mm.users),
  };
}

/** The same numbers from the task table alone (pid 0 is root's, and in no table). */
export function recounted(kernel: Kernel, seen: Seen): ReturnType<typeof counted> {
  const tasks = kernel.tasks();
  const count = (test: (task: (typeof tasks)[number]) => boolean) => tasks.filter(test).length;
  return {
    nproc: Array.from(seen.uids, (uid) => [
      uid,
      count(({ cred }) => isCountedFor(uid, cred, seen)) + (uid === 0 ? 1 : 0),
    ]),
    pids: Array.from(seen.cgroups, (group) => [
      group.path,
      group.parent === null ? 0 : count(({ cgroup }) => isWithin(cgroup, group)),
    ]),
    memory: Array.from(seen.cgroups, (group) => [
      group.path,
      group.parent === null ? 0 : bytesIn(group, tasks),
    ]),
    users: Array.from(seen.mms, (mm) => count((task) => task.mm === mm)),
  };
}

/** Of all address spaces that somebody uses and that were made in the group or below. */
function bytesIn(group: Cgroup, tasks: readonly Task[]): number {
  const mms = new Set(tasks.flatMap(({ mm }) => (mm === null ? [] : [mm])));
  return [...mms]
    .filter(({ cgroup }) => isWithin(cgroup, group))
    .reduce((sum, { memory }) => sum + memory.buffer.byteLength, 0);
}

/** Whether a task of `user` is one of the machine's user `uid`, or of one whom that made. */
function isCountedFor(uid: number, user: User, { makers }: Seen): boolean {
  for (let at: User | undefined = user; at; at = makers?.get(at.userNs)) {
    if (at.userNs === 0) return at.uid === uid;
  }
  return false;
}

function isWithin(cgroup: Cgroup, ancestor: Cgroup): boolean {
  for (let group: Cgroup | null = cgroup; group !== null; group = group.parent) {
    if (group === ancestor) return true;
  }
  return false;
}

/** Runs `action`, which must throw a VhostError of that code, and gives it back. */
export function refused(code: Errno, action: () => unknown): VhostError {
  try {
    action();
  } catch (error) {
    expect(error).toBeInstanceOf(VhostError);
    expect((error as VhostError).code).toBe(code);
    return error as VhostError;
  }
  return expect.unreachable(`no ${code}`);
}
