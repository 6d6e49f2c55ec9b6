import { describe, expect, test } from "vitest";
import { commitCreds } from "#dist/kernel/cred.js";
import { kernelWait4 } from "#dist/kernel/exit.js";
import { copyProcess } from "#dist/kernel/fork.js";
import { Kernel } from "#dist/kernel/kernel.js";
import { createIoThread, kernelThread } from "#dist/kernel/kthread.js";
import { doPrlimit } from "#dist/kernel/rlimit.js";
import type { Task } from "#dist/kernel/task.js";
import { vhostTaskCreate } from "#dist/kernel/vhost-task.js";
import { __WCLONE, CAP_SYS_ADMIN, CAP_SYS_RESOURCE } from "#dist/spec/sched.js";
import { refused } from "../helpers/kernel-counts.js";

const memoryBytes = 65536;
const worker = (kernel: Kernel, owner: Task) =>
  vhostTaskCreate(kernel, owner, { name: "w", run: "inline" }).task;

describe("N tasks of the real user, soft limit L: allowed iff N + 1 <= L", () => {
  test.each([0, 1, 2, 3, 7])("L = %i, workers", (limit) => {
    const kernel = new Kernel();
    const owner = kernel.spawn({ uid: 1000, memoryBytes, rlimits: { NPROC: limit } });
    for (let n = 1; n + 1 <= limit; n++) worker(kernel, owner);
    refused("EAGAIN", () => worker(kernel, owner));
    expect(kernel.ucounts.nproc(1000)).toBe(Math.max(limit, 1));
  });

  test("every kind of task of every process of the user counts, zombies too", () => {
    const kernel = new Kernel();
    const owner = kernel.spawn({ uid: 1000, memoryBytes, rlimits: { NPROC: 5 } });
    kernel.spawn({ uid: 1000, memoryBytes });
    kernel.spawn({ uid: 1001, memoryBytes });
    createIoThread(kernel, owner, {});
    const zombie = copyProcess(kernel, owner, { flags: 0 });
    worker(kernel, owner);
    kernel.exitTask(zombie, 3 << 8);
    refused("EAGAIN", () => worker(kernel, owner));
    expect(kernelWait4(kernel, owner, zombie.pid, __WCLONE)).toBe(3 << 8);
    worker(kernel, owner);
    refused("EAGAIN", () => worker(kernel, owner));
  });

  test("the limit is the caller's own, not the user's other processes'", () => {
    const kernel = new Kernel();
    const strict = kernel.spawn({ uid: 1000, memoryBytes, rlimits: { NPROC: 1 } });
    const lax = kernel.spawn({ uid: 1000, memoryBytes, rlimits: { NPROC: 3 } });
    worker(kernel, lax);
    refused("EAGAIN", () => worker(kernel, lax));
    refused("EAGAIN", () => worker(kernel, strict));
  });

  test.each([
    ["real uid 0, without any capability", { uid: 0, caps: [] }, true],
    ["CAP_SYS_RESOURCE", { uid: 1000, caps: [CAP_SYS_RESOURCE] }, true],
    ["CAP_SYS_ADMIN", { uid: 1000, caps: [CAP_SYS_ADMIN] }, true],
    ["CAP_KILL", { uid: 1000, caps: [5] }, false],
    ["gid 0", { uid: 1000, gid: 0 }, false],
  ])("exempt: %s", (_, identity, exempt) => {
    const kernel = new Kernel();
    const owner = kernel.spawn({ ...identity, memoryBytes, rlimits: { NPROC: 1 } });
    if (exempt) worker(kernel, owner);
    else refused("EAGAIN", () => worker(kernel, owner));
  });

  test("a kthread is root's and not counted as the user's", () => {
    const kernel = new Kernel();
    const owner = kernel.spawn({ uid: 1000, memoryBytes, rlimits: { NPROC: 1 } });
    const task = kernelThread(kernel, kernel.kthreadd, { flags: 0, name: `vhost-${owner.pid}` });
    expect([task.cred.uid, task.parent, task.mm]).toEqual([0, kernel.kthreadd, null]);
    expect(kernel.ucounts.nproc(1000)).toBe(1);
  });
});

describe("who a task is counted for", () => {
  test("spawn: root's while it is forked, then the new user's", () => {
    const kernel = new Kernel();
    const root = kernel.ucounts.nproc(0);
    expect(root).toBe(3); // pid 0, init, kthreadd
    kernel.spawn({ uid: 1000, memoryBytes });
    expect([kernel.ucounts.nproc(0), kernel.ucounts.nproc(1000)]).toEqual([root, 1]);
  });

  test("a worker stays with the user who owned it when it was made", () => {
    const kernel = new Kernel();
    const owner = kernel.spawn({ uid: 0, memoryBytes });
    const root = kernel.ucounts.nproc(0);
    const task = worker(kernel, owner);
    commitCreds(kernel, owner, { ...owner.cred, uid: 1000 });
    expect([kernel.ucounts.nproc(0), kernel.ucounts.nproc(1000)]).toEqual([root, 1]);
    kernel.exitTask(task, 0);
    kernelWait4(kernel, owner, task.pid, __WCLONE);
    expect([kernel.ucounts.nproc(0), kernel.ucounts.nproc(1000)]).toEqual([root - 1, 1]);
    kernel.exitTask(owner, 0);
    refused("ESRCH", () => commitCreds(kernel, owner, owner.cred));
    expect(kernel.ucounts.nproc(1000)).toBe(0);
  });
});

describe("doPrlimit", () => {
  const boot = () => {
    const kernel = new Kernel();
    const task = kernel.spawn({ uid: 1000, memoryBytes, rlimits: { NPROC: 4 } });
    return { kernel, task };
  };

  test("init's default is half of threads-max; children have it", () => {
    const kernel = new Kernel({ threadsMax: 101 });
    expect(kernel.spawn({ uid: 5, memoryBytes }).signal.rlimits.NPROC).toEqual({
      cur: 50,
      max: 50,
    });
  });

  test("soft up to hard; the hard limit goes down, and up only with CAP_SYS_RESOURCE", () => {
    const { kernel, task } = boot();
    doPrlimit(task, task, "NPROC", { cur: 1, max: 3 });
    doPrlimit(task, task, "NPROC", { cur: 3, max: 3 });
    refused("EPERM", () => doPrlimit(task, task, "NPROC", { cur: 3, max: 4 }));
    expect(task.signal.rlimits.NPROC).toEqual({ cur: 3, max: 3 });
    doPrlimit(kernel.init, task, "NPROC", { cur: 9, max: Number.POSITIVE_INFINITY });
    expect(task.signal.rlimits.NPROC.cur).toBe(9);
  });

  test("not another user's process", () => {
    const { kernel, task } = boot();
    const other = kernel.spawn({ uid: 1001, memoryBytes });
    refused("EPERM", () => doPrlimit(other, task, "NPROC", { cur: 0, max: 0 }));
  });

  test.each([
    { cur: 2, max: 1 },
    { cur: -1, max: 1 },
    { cur: 0.5, max: 1 },
    { cur: Number.NaN, max: 1 },
  ])("no limit: %o", (rlimit) => {
    const { kernel, task } = boot();
    refused("EINVAL", () => doPrlimit(kernel.init, task, "NPROC", rlimit));
  });
});
