import { describe, expect, test } from "vitest";
import { kernelWait4 } from "#dist/kernel/exit.js";
import { fdInstall, OpenFile } from "#dist/kernel/files.js";
import { copyProcess, type KernelCloneArgs } from "#dist/kernel/fork.js";
import { Kernel, type KernelOptions } from "#dist/kernel/kernel.js";
import { doPrlimit } from "#dist/kernel/rlimit.js";
import type { Task } from "#dist/kernel/task.js";
import { vhostTaskCreate } from "#dist/kernel/vhost-task.js";
import type { Errno } from "#dist/spec/errno.js";
import { __WCLONE, CLONE_FILES, CLONE_SIGHAND, CLONE_THREAD, CLONE_VM } from "#dist/spec/sched.js";
import { counted, recounted, refused } from "../helpers/kernel-counts.js";

const boot = (options: KernelOptions = {}) => {
  const kernel = new Kernel(options);
  const owner = kernel.spawn({ uid: 1000, cgroup: "/a/b", memoryBytes: 65536 });
  if (owner.files) fdInstall(owner.files, new OpenFile(() => {}));
  return { kernel, owner };
};

/** The fork is refused, and the kernel is as it was. */
function refusedWhole(kernel: Kernel, owner: Task, code: Errno, args: KernelCloneArgs) {
  const { mm, files, cgroup, children } = owner;
  const file = files?.fds.get(0);
  const seen = {
    uids: [0, 1000],
    cgroups: ["/", "/a", "/a/b"].map((path) => kernel.cgroup(path)),
    mms: mm ? [mm] : [],
  };
  const state = () => [
    counted(kernel, seen),
    kernel.tasks().map(({ pid }) => pid),
    [owner.mm === mm, owner.files === files, files?.users, file?.count, owner.cgroup === cgroup],
    [children.size, owner.signal.threads.size],
  ];
  const before = structuredClone(state());
  const error = refused(code, () => copyProcess(kernel, owner, args));
  expect(state()).toEqual(before);
  expect(counted(kernel, seen)).toEqual(recounted(kernel, seen));
  return error;
}

const limitNproc = (kernel: Kernel, task: Task, cur: number) =>
  doPrlimit(kernel.init, task, "NPROC", { cur, max: Number.POSITIVE_INFINITY });

describe("copyProcess refuses, with nothing left behind", () => {
  const THREAD = CLONE_THREAD | CLONE_SIGHAND | CLONE_VM | CLONE_FILES;

  test.each([
    ["THREAD without SIGHAND", "EINVAL", CLONE_THREAD | CLONE_VM],
    ["SIGHAND without VM", "EINVAL", CLONE_SIGHAND],
    ["THREAD and SIGHAND without VM", "EINVAL", CLONE_THREAD | CLONE_SIGHAND],
    ["a flag that is not modelled: VFORK", "EOPNOTSUPP", 0x4000],
    ["a flag above 32 bits: CLEAR_SIGHAND", "EOPNOTSUPP", 2 ** 32],
    ["no flags at all: NaN", "EOPNOTSUPP", Number.NaN],
  ] as const)("%s", (_, code, flags) => {
    const { kernel, owner } = boot();
    refusedWhole(kernel, owner, code, { flags });
  });

  test.each([0, CLONE_VM, THREAD])("RLIMIT_NPROC, flags %i", (flags) => {
    const { kernel, owner } = boot();
    limitNproc(kernel, owner, 1);
    const { facts } = refusedWhole(kernel, owner, "EAGAIN", { flags });
    expect(facts).toEqual({ pid: owner.pid, uid: 1000, nproc: 2, limit: 1 });
  });

  test("threads-max, root too", () => {
    const { kernel, owner } = boot({ threadsMax: 20 });
    limitNproc(kernel, owner, 100);
    for (let tasks = 3; tasks < 20; tasks++) copyProcess(kernel, owner, { flags: CLONE_VM });
    for (const caller of [owner, kernel.init]) {
      expect(refusedWhole(kernel, caller, "EAGAIN", { flags: 0 }).facts).toEqual({
        threadsMax: 20,
      });
    }
    refused("EAGAIN", () => kernel.spawn());
  });

  test("pid_max: pids 1 to 300, then none", () => {
    const { kernel, owner } = boot({ pidMax: 301 });
    limitNproc(kernel, owner, Number.POSITIVE_INFINITY);
    for (let pid = 4; pid <= 300; pid++) {
      expect(copyProcess(kernel, owner, { flags: CLONE_VM }).pid).toBe(pid);
    }
    expect(refusedWhole(kernel, owner, "EAGAIN", { flags: 0 }).facts).toEqual({ pidMax: 301 });
  });

  test.each(["/a", "/a/b"])("pids.max of %s, which stands on the path", (path) => {
    const { kernel, owner } = boot();
    kernel.cgroup(path).pidsMax = 1;
    for (const flags of [0, CLONE_VM, THREAD]) {
      const { facts } = refusedWhole(kernel, owner, "EAGAIN", { flags });
      expect(facts).toEqual({ cgroup: path, pidsCurrent: 1, pidsMax: 1 });
    }
  });

  test("pids.max exempts nobody", () => {
    const kernel = new Kernel();
    const root = kernel.spawn({ cgroup: "/r", memoryBytes: 65536 });
    kernel.cgroup("/r").pidsMax = 1;
    refusedWhole(kernel, root, "EAGAIN", { flags: 0 });
  });

  test("a caller that has exited", () => {
    const { kernel, owner } = boot();
    kernel.exitTask(owner, 0);
    refusedWhole(kernel, owner, "ESRCH", { flags: 0 });
  });

  test("what makes the thread throws: its error comes through", () => {
    const { kernel, owner } = boot();
    const fn = () => {
      throw new TypeError("no thread");
    };
    expect(() => copyProcess(kernel, owner, { flags: 0, fn })).toThrow("no thread");
    expect([kernel.tasks().length, kernel.ucounts.nproc(1000), owner.cgroup.pidsCurrent]).toEqual([
      3, 1, 1,
    ]);
  });

  test("the order: flags, NPROC, threads-max, pids.max", () => {
    const { kernel, owner } = boot({ threadsMax: 20 });
    limitNproc(kernel, owner, 100);
    for (let tasks = 3; tasks < 20; tasks++) copyProcess(kernel, owner, { flags: CLONE_VM });
    kernel.cgroup("/a").pidsMax = 0;
    limitNproc(kernel, owner, 0);
    refusedWhole(kernel, owner, "EINVAL", { flags: CLONE_THREAD });
    expect(refusedWhole(kernel, owner, "EAGAIN", { flags: 0 }).facts).toHaveProperty("nproc");
    limitNproc(kernel, owner, 100);
    expect(refusedWhole(kernel, owner, "EAGAIN", { flags: 0 }).facts).toHaveProperty("threadsMax");
    const children = [...owner.children];
    for (const child of children) kernel.exitTask(child, 0); // zombies are counted still
    expect(refusedWhole(kernel, owner, "EAGAIN", { flags: 0 }).facts).toHaveProperty("threadsMax");
    for (const { pid } of children) kernelWait4(kernel, owner, pid, __WCLONE);
    expect(refusedWhole(kernel, owner, "EAGAIN", { flags: 0 }).facts).toHaveProperty("cgroup");
  });
});

test("vhostTaskCreate keeps copyProcess's code", () => {
  const { kernel, owner } = boot();
  limitNproc(kernel, owner, 1);
  refused("EAGAIN", () => vhostTaskCreate(kernel, owner, { name: "w", run: "inline" }));
});

test.each([
  [{ threadsMax: 19 }],
  [{ threadsMax: 2 ** 30 }],
  [{ threadsMax: 20.5 }],
  [{ pidMax: 300 }],
  [{ pidMax: 2 ** 22 + 1 }],
])("a kernel is not booted with %o", (options) => {
  refused("EINVAL", () => new Kernel(options));
});

test("pids go round: upwards, then from 300, past those in use", () => {
  const kernel = new Kernel({ pidMax: 304 });
  const owner = kernel.spawn({ memoryBytes: 65536 });
  const next = () => copyProcess(kernel, owner, { flags: CLONE_VM });
  let task = next();
  while (task.pid < 303) {
    const { pid } = task;
    task = next();
    expect(task.pid).toBe(pid + 1);
    if (pid !== 301) kernel.exitTask(kernel.task(pid) ?? expect.unreachable(), 0);
  }
  // all of owner's children are zombies or alive: their numbers stay taken
  refused("EAGAIN", next);
  kernel.exitTask(owner, 0); // orphans that are zombies go
  const other = kernel.spawn({ memoryBytes: 65536 });
  expect(other.pid).toBe(300);
  expect(copyProcess(kernel, other, { flags: CLONE_VM }).pid).toBe(302); // 301 is in use
  refused("EAGAIN", () => copyProcess(kernel, other, { flags: CLONE_VM })); // 3 to 299 are reserved
  expect(kernel.task(303)).toBe(task);
});
