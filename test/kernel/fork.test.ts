import { describe, expect, test } from "vitest";
import { fdInstall, OpenFile } from "#dist/kernel/files.js";
import { copyProcess, wakeUpNewTask } from "#dist/kernel/fork.js";
import { Kernel } from "#dist/kernel/kernel.js";
import { createIoThread, kernelThread } from "#dist/kernel/kthread.js";
import { vhostTaskCreate } from "#dist/kernel/vhost-task.js";
import {
  CLONE_FILES,
  CLONE_SIGHAND,
  CLONE_THREAD,
  CLONE_VM,
  SIGCHLD,
  TASK_NEW,
  TASK_RUNNING,
} from "#dist/spec/sched.js";
import { refused } from "../helpers/kernel-counts.js";

const boot = () => {
  const kernel = new Kernel();
  const owner = kernel.spawn({
    comm: "vmm",
    uid: 1000,
    gid: 100,
    caps: [24],
    rlimits: { NPROC: 9 },
    cgroup: "/tenants/a",
    memoryBytes: 65536,
  });
  return { kernel, owner };
};

const vhost = (kernel: Kernel, owner: ReturnType<Kernel["spawn"]>) =>
  vhostTaskCreate(kernel, owner, { name: `vhost-${owner.pid}`, run: "inline" }).task;

describe("PF_ flags, in Linux's numbers (facts/kernel.md 1.3)", () => {
  const { kernel, owner } = boot();
  const rows = [
    ["process that executed a program", () => owner, 0],
    ["plain fork", () => copyProcess(kernel, owner, { flags: 0 }), 0x40],
    ["vhost worker", () => vhost(kernel, owner), 0x4040],
    ["io worker", () => createIoThread(kernel, owner, {}), 0x4050],
    ["kthreadd", () => kernel.kthreadd, 0x208040],
    ["kernel thread", () => kernelThread(kernel, kernel.kthreadd, { flags: 0 }), 0x208040],
    ["io_thread alone", () => copyProcess(kernel, owner, { flags: 0, ioThread: true }), 0x50],
    [
      "plain child of a kthread: PF_KTHREAD comes from the bit alone",
      () => copyProcess(kernel, kernel.kthreadd, { flags: 0 }),
      0x8040,
    ],
    [
      "plain child of a worker: what the caller has is inherited",
      () => copyProcess(kernel, vhost(kernel, owner), { flags: 0 }),
      0x4040,
    ],
  ] as const;
  test.each(rows)("%s", (_, make, flags) => {
    expect(make().flags.toString(16)).toBe(flags.toString(16));
  });
});

describe("what a task has from its maker", () => {
  const { kernel, owner } = boot();
  const file = new OpenFile(() => {});
  fdInstall(owner.files ?? expect.unreachable(), file);
  const fork = copyProcess(kernel, owner, { flags: 0, exitSignal: SIGCHLD });
  const worker = vhost(kernel, owner);
  const thread = copyProcess(kernel, owner, {
    flags: CLONE_VM | CLONE_SIGHAND | CLONE_THREAD | CLONE_FILES,
    exitSignal: SIGCHLD,
  });
  const rows = { fork, worker, thread };

  test.each(Object.entries(rows))("%s: same content of cred, limits, cgroup", (_, task) => {
    expect(task.cred).toMatchObject({ uid: 1000, gid: 100, caps: new Set([24]) });
    expect(task.signal.rlimits).toMatchObject({ NPROC: { cur: 9, max: 9 } });
    expect(task.cgroup).toBe(owner.cgroup);
    expect(task.state).toBe(TASK_NEW);
  });

  test.each([
    // name, cred, signal, sighand, mm, files
    ["fork", false, false, false, false, false],
    ["worker", false, false, false, true, false],
    ["thread", true, true, true, true, true],
  ] as const)("%s: shared objects", (name, cred, signal, sighand, mm, files) => {
    const task = rows[name];
    expect({
      cred: task.cred === owner.cred,
      signal: task.signal === owner.signal,
      sighand: task.sighand === owner.sighand,
      mm: task.mm === owner.mm,
      files: task.files === owner.files,
    }).toEqual({ cred, signal, sighand, mm, files });
  });

  test.each([
    // name, tgid is its own, parent, exit signal, signals ignored
    ["fork", true, owner, SIGCHLD, false],
    ["worker", true, owner, 0, true],
    ["thread", false, kernel.init, -1, false],
  ] as const)("%s: place in the family", (name, own, parent, exitSignal, ignoreAll) => {
    const task = rows[name];
    expect(task.tgid).toBe(own ? task.pid : owner.pid);
    expect(task.parent).toBe(parent);
    expect(parent.children.has(task)).toBe(own); // threads are nobody's children
    expect(task.exitSignal).toBe(exitSignal);
    expect(task.sighand.ignoreAll).toBe(ignoreAll);
  });

  test("files: none for the worker, a copy with further references for the fork", () => {
    expect(worker.files).toBeNull();
    expect(fork.files?.fds.get(0)).toBe(file);
    expect(file.count).toBe(2);
    expect(owner.files?.users).toBe(2);
  });

  test("a copied memory has the bytes of the fork's moment and its own life from then on", () => {
    const bytes = (task: typeof owner) =>
      new Uint8Array((task.mm ?? expect.unreachable()).memory.buffer);
    bytes(owner)[5] = 1;
    const child = copyProcess(kernel, owner, { flags: 0 });
    bytes(owner)[5] = 2;
    bytes(child)[6] = 3;
    expect([bytes(child)[5], bytes(owner)[6], bytes(worker)[5]]).toEqual([1, 0, 2]);
    expect(child.mm?.users).toBe(1);
  });

  test("later limits of the owner reach its threads, not its workers", () => {
    owner.signal.rlimits.NPROC = { cur: 5, max: 9 };
    expect(thread.signal.rlimits.NPROC.cur).toBe(5);
    expect(worker.signal.rlimits.NPROC.cur).toBe(9);
  });
});

test("comm: the caller's by default; 15 bytes, no half character, up to NUL", () => {
  const { kernel, owner } = boot();
  const named = (name: string) => copyProcess(kernel, owner, { flags: 0, name }).comm;
  expect(copyProcess(kernel, owner, { flags: 0 }).comm).toBe("vmm");
  expect(named("vhost-1234567890")).toBe("vhost-123456789");
  expect(named("aaaaaaaaaaaaaa€")).toBe("aaaaaaaaaaaaaa");
  expect(named("ab\0c\nd")).toBe("ab");
});

test("a task is started once, and not after its end", () => {
  const { kernel, owner } = boot();
  const task = copyProcess(kernel, owner, { flags: 0 });
  wakeUpNewTask(task);
  expect(task.state).toBe(TASK_RUNNING);
  refused("EINVAL", () => wakeUpNewTask(task));
  const dead = copyProcess(kernel, owner, { flags: 0 });
  kernel.exitTask(dead, 0);
  refused("EINVAL", () => wakeUpNewTask(dead));
});
