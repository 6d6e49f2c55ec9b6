import { expect } from "vitest";
import type { Cgroup } from "#dist/kernel/cgroup.js";
import type { Kernel } from "#dist/kernel/kernel.js";
import type { Mm } from "#dist/kernel/mm.js";
import type { Errno } from "#dist/spec/errno.js";
import { VhostError } from "#dist/spec/errno.js";

/** What the kernel has counted, and the same by counting again; `seen`: things to look at, ever. */
export interface Seen {
  uids: Iterable<number>;
  cgroups: Iterable<Cgroup>;
  mms: Iterable<Mm>;
}

/** The counters as kept. */
export function counted(kernel: Kernel, seen: Seen) {
  return {
    nproc: Array.from(seen.uids, (uid) => [uid, kernel.ucounts.nproc(uid)]),
    pids: Array.from(seen.cgroups, (group) => [group.path, group.pidsCurrent]),
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
      count(({ cred }) => cred.uid === uid) + (uid === 0 ? 1 : 0),
    ]),
    pids: Array.from(seen.cgroups, (group) => [
      group.path,
      group.parent === null ? 0 : count(({ cgroup }) => isWithin(cgroup, group)),
    ]),
    users: Array.from(seen.mms, (mm) => count((task) => task.mm === mm)),
  };
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
