import { describe, expect, test } from "vitest";
import { accountCpu, cgroupAttachTask } from "#dist/kernel/cgroup.js";
import { Kernel } from "#dist/kernel/kernel.js";
import { createIoThread } from "#dist/kernel/kthread.js";
import type { PsRow } from "#dist/kernel/ps.js";
import type { SpawnOptions } from "#dist/kernel/spawn.js";
import type { Task } from "#dist/kernel/task.js";
import { vhostTaskCreate } from "#dist/kernel/vhost-task.js";
import { refused } from "../helpers/kernel-counts.js";

const memoryBytes = 65536;

test("defaults: a.out, root, 16 MiB, the root cgroup, init's child", () => {
  const kernel = new Kernel();
  const task = kernel.spawn();
  const { comm, cred, cgroup, parent, mm, files } = task;
  expect([comm, cred.uid, cred.gid, cgroup.path, parent]).toEqual([
    "a.out",
    0,
    0,
    "/",
    kernel.init,
  ]);
  expect(mm?.memory.buffer.byteLength).toBe(16 << 20);
  expect(mm?.memory.buffer).toBeInstanceOf(SharedArrayBuffer);
  expect(files?.fds.size).toBe(0);
  expect(() => mm?.memory.grow(1)).toThrow(RangeError); // initial = maximum
});

test("each process has a memory of its own", () => {
  const kernel = new Kernel();
  const [a, b] = [kernel.spawn({ memoryBytes }), kernel.spawn({ memoryBytes })];
  expect(a.mm).not.toBe(b.mm);
  expect(a.mm?.memory).not.toBe(b.mm?.memory);
});

describe("EINVAL, and nothing is done", () => {
  const bad: [string, SpawnOptions][] = [
    ["relative cgroup", { cgroup: "tenants/a" }],
    ["empty cgroup", { cgroup: "" }],
    ["cgroup with ..", { cgroup: "/a/../b" }],
    ["cgroup with .", { cgroup: "/./a" }],
    ["cgroup with an empty part", { cgroup: "/a//b" }],
    ["cgroup that ends in /", { cgroup: "/a/" }],
    ["cgroup with a line end", { cgroup: "/a\nb" }],
    ["memory of no size", { memoryBytes: 0 }],
    ["memory of broken pages", { memoryBytes: 65537 }],
    ["negative memory", { memoryBytes: -65536 }],
    ["memory over 4 GiB", { memoryBytes: 2 ** 32 + 65536 }],
    ["memory NaN", { memoryBytes: Number.NaN }],
    ["uid -1", { uid: -1 }],
    ["uid 2^32 - 1, which means none", { uid: 0xffffffff }],
    ["gid 0.5", { gid: 0.5 }],
    ["limit -1", { rlimits: { NPROC: -1 } }],
    ["a limit that there is not", { rlimits: { NPROCS: 1 } as object }],
    ["an option that there is not", { user: 1000 } as object],
  ];
  test.each(bad)("%s", (_, options) => {
    const kernel = new Kernel();
    refused("EINVAL", () => kernel.spawn({ memoryBytes, ...options }));
    expect(kernel.tasks().length).toBe(2);
    expect(kernel.spawn({ memoryBytes }).pid).toBe(3); // not even a pid was used
  });
});

describe("cgroups", () => {
  test("are made on demand, and one for a path", () => {
    const kernel = new Kernel();
    const task = kernel.spawn({ cgroup: "/tenants/a", memoryBytes });
    expect(kernel.cgroup("/tenants/a")).toBe(task.cgroup);
    expect(kernel.cgroup("/tenants")).toBe(task.cgroup.parent);
    expect(kernel.cgroup("/")).toBe(kernel.cgroupRoot);
    expect(task.cgroup.path).toBe("/tenants/a");
  });

  test("joining is not held up by pids.max; forking is", () => {
    const kernel = new Kernel();
    kernel.cgroup("/a").pidsMax = 1;
    const [owner] = [0, 0].map(() => kernel.spawn({ cgroup: "/a", memoryBytes }));
    expect(kernel.cgroup("/a").pidsCurrent).toBe(2);
    refused("EAGAIN", () =>
      vhostTaskCreate(kernel, owner ?? expect.unreachable(), { name: "w", run: "inline" }),
    );
  });

  test("the root neither counts nor limits", () => {
    const kernel = new Kernel();
    kernel.spawn({ memoryBytes });
    expect([kernel.cgroupRoot.pidsCurrent, kernel.cgroupRoot.pidsMax]).toEqual([0, Infinity]);
    refused("ENOENT", () => {
      kernel.cgroupRoot.pidsMax = 5;
    });
  });

  test.each([-1, 1.5, Number.NaN])("pids.max is not %d", (max) => {
    const group = new Kernel().cgroup("/a");
    refused("EINVAL", () => {
      group.pidsMax = max;
    });
  });

  test("a process moves with its threads; its workers of this epoch stay", () => {
    const kernel = new Kernel();
    const owner = kernel.spawn({ cgroup: "/a/b", memoryBytes });
    const thread = createIoThread(kernel, owner, {});
    const { task } = vhostTaskCreate(kernel, owner, { name: "w", run: "inline" });
    cgroupAttachTask(kernel.cgroup("/a/c"), thread);
    expect([owner, thread, task].map(({ cgroup }) => cgroup.path)).toEqual([
      "/a/c",
      "/a/c",
      "/a/b",
    ]);
    expect(["/a", "/a/b", "/a/c"].map((path) => kernel.cgroup(path).pidsCurrent)).toEqual([
      3, 1, 2,
    ]);
  });
});

test("ps: processes in tree order, workers among them, threads not", () => {
  const kernel = new Kernel();
  const a = kernel.spawn({ comm: "vmm-a", uid: 1000, cgroup: "/t/a", memoryBytes });
  kernel.spawn({ comm: "vmm-b", uid: 1001, rlimits: { NPROC: 4 }, memoryBytes });
  createIoThread(kernel, a, { name: "iou-wrk-3" });
  vhostTaskCreate(kernel, a, { name: `vhost-${a.pid}`, run: "inline" });
  const line = ({ depth, ppid, pid, comm }: PsRow) => `${"  ".repeat(depth)}${comm} ${pid} ${ppid}`;
  expect(kernel.ps().map(line)).toEqual([
    "init 1 0",
    "  vmm-a 3 1",
    "    vhost-3 6 3",
    "  vmm-b 4 1",
    "kthreadd 2 0",
  ]);
  expect(kernel.ps()[2]).toEqual({
    depth: 2,
    pid: 6,
    tgid: 6,
    ppid: 3,
    comm: "vhost-3",
    flags: 0x4040,
    flagNames: ["PF_FORKNOEXEC", "PF_USER_WORKER"],
    uid: 1000,
    cgroup: "/t/a",
    state: "R",
    cpuTimeUs: 0,
    nprocLimit: 16384,
  });
  accountCpu(a, 3000);
  accountCpu(kernel.task(5) as Task, 500);
  const timed = (row: PsRow) => `${line(row)} ${row.tgid} ${row.cpuTimeUs}`;
  expect(kernel.ps().map(timed)[1]).toBe("  vmm-a 3 1 3 3500");
  expect(kernel.ps({ threads: true }).map(timed)).toEqual([
    "init 1 0 1 0",
    "  vmm-a 3 1 3 3000",
    "    iou-wrk-3 5 1 3 500",
    "    vhost-3 6 3 6 0",
    "  vmm-b 4 1 4 0",
    "kthreadd 2 0 2 0",
  ]);
});
