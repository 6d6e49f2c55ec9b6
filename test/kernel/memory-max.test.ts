// memory.max: linear memory is charged where it is made, along the path, until nobody uses it.

import { beforeEach, expect, test } from "vitest";
import { beginNewExec } from "#dist/kernel/exec.js";
import { copyProcess } from "#dist/kernel/fork.js";
import { Kernel } from "#dist/kernel/kernel.js";
import { vhostTaskCreate, vhostTaskStart, vhostTaskStop } from "#dist/kernel/vhost-task.js";
import { CLONE_VM, SIGCHLD, SIGKILL } from "#dist/spec/sched.js";
import { refused } from "../helpers/kernel-counts.js";

const PAGE = 65536;

let kernel: Kernel;
beforeEach(() => {
  kernel = new Kernel({ epoch: "v6.12" });
});

const spawn = (cgroup: string, pages: number) =>
  kernel.spawn({ cgroup, memoryBytes: pages * PAGE, uid: 1000 });

const pagesOf = (...paths: string[]) =>
  paths.map((path) => kernel.cgroup(path).memoryCurrent / PAGE);

test("the path's groups count it; one that is full refuses, and nothing is left", () => {
  kernel.cgroup("/a").memoryMax = 5 * PAGE;
  spawn("/a/b", 2);
  spawn("/a/c", 3);
  expect(pagesOf("/", "/a", "/a/b", "/a/c")).toEqual([0, 5, 2, 3]);
  const { message, facts } = refused("ENOMEM", () => spawn("/a/b", 1));
  expect(message).toBe(
    "ENOMEM: cgroup /a has 327680 bytes and can't have 65536 more, memory.max is 327680: " +
      "raise it or end a process",
  );
  expect(facts).toMatchObject({ cgroup: "/a", memoryMax: 5 * PAGE, bytes: PAGE });
  expect(pagesOf("/a", "/a/b")).toEqual([5, 2]);
  expect([kernel.cgroup("/a").memoryRefused, kernel.cgroup("/a/b").memoryRefused]).toEqual([1, 0]);
  expect([kernel.ucounts.nproc(1000), kernel.cgroup("/a").pidsCurrent]).toEqual([2, 2]);
});

test("a copy is charged, what is shared is not; the last user gives it back", async () => {
  const owner = spawn("/a", 2);
  const sharer = copyProcess(kernel, owner, { flags: CLONE_VM, exitSignal: SIGCHLD });
  expect(pagesOf("/a")).toEqual([2]);
  kernel.cgroup("/a").memoryMax = 3 * PAGE;
  refused("ENOMEM", () => copyProcess(kernel, owner, { flags: 0, exitSignal: SIGCHLD }));
  expect([kernel.cgroup("/a").pidsCurrent, owner.mm?.users]).toEqual([2, 2]);
  kernel.cgroup("/a").memoryMax = 4 * PAGE;
  const child = copyProcess(kernel, owner, { flags: 0, exitSignal: SIGCHLD });
  expect(pagesOf("/a")).toEqual([4]);
  kernel.exitTask(child, 0);
  expect(pagesOf("/a")).toEqual([2]);
  kernel.kill(owner.pid, SIGKILL);
  expect(pagesOf("/a")).toEqual([2]);
  const vtsk = vhostTaskCreate(kernel, sharer, { name: "vhost-1", run: "inline" });
  vhostTaskStart(vtsk);
  kernel.exitTask(sharer, 0);
  expect(pagesOf("/a")).toEqual([2]); // the worker lives in it
  await vhostTaskStop(vtsk);
  expect(pagesOf("/a")).toEqual([0]);
});

test("a new program's memory is charged where the process is; what is there stays behind", () => {
  const owner = spawn("/a", 2);
  kernel.moveToCgroup(owner.pid, "/b");
  expect(pagesOf("/a", "/b")).toEqual([2, 0]);
  kernel.cgroup("/b").memoryMax = 2 * PAGE;
  refused("ENOMEM", () => beginNewExec(kernel, owner, { comm: "new", memoryBytes: 3 * PAGE }));
  expect(owner.mm?.memory.buffer.byteLength).toBe(2 * PAGE);
  beginNewExec(kernel, owner, { comm: "new", memoryBytes: PAGE });
  expect(pagesOf("/a", "/b")).toEqual([0, 1]);
});

test("a limit below what is there holds for what comes", () => {
  const owner = spawn("/a", 3);
  kernel.cgroup("/a").memoryMax = PAGE;
  expect([owner.exitState, ...pagesOf("/a")]).toEqual([0, 3]);
  refused("ENOMEM", () => spawn("/a", 1));
  kernel.exitTask(owner, 0);
  spawn("/a", 1);
});

test("limits that are none, and groups that climb out", () => {
  const group = kernel.cgroup("/a");
  for (const max of [-1, 0.5, Number.NaN]) {
    refused("EINVAL", () => {
      group.memoryMax = max;
    });
    refused("EINVAL", () => {
      group.pidsMax = max;
    });
  }
  const wrong = [
    [999, 100_000],
    [1000, 999],
    [1000, 1_000_001],
    [Number.NaN, 100_000],
    [1000.5, 100_000],
    [-1, 100_000],
  ] as const;
  for (const [quotaUs, periodUs] of wrong) {
    refused("EINVAL", () => {
      group.cpuMax = { quotaUs, periodUs };
    });
  }
  expect(group.cpuMax).toEqual({ quotaUs: Number.POSITIVE_INFINITY, periodUs: 100_000 });
  refused("ENOENT", () => {
    kernel.cgroup("/").memoryMax = 1;
  });
  refused("ENOENT", () => {
    kernel.cgroup("/").cpuMax = { quotaUs: 1000, periodUs: 1000 };
  });
  const owner = spawn("/a", 1);
  for (const path of ["/a/../..", "..", "a", "/a//b", "/./a", "/a/", ""]) {
    refused("EINVAL", () => kernel.moveToCgroup(owner.pid, path));
  }
  refused("ESRCH", () => kernel.moveToCgroup(999, "/b"));
  expect(owner.cgroup.path).toBe("/a");
});
