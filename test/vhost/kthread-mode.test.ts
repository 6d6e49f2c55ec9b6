// The same disk twice: its worker a user worker of the owner, and a kernel thread.

import { describe, expect, test } from "vitest";
import { blk, Kernel } from "#dist/index.js";
import { copyProcess } from "#dist/kernel/fork.js";
import { unshare } from "#dist/kernel/nsproxy.js";
import { ptraceAttach, ptraceDetach } from "#dist/kernel/ptrace.js";
import { isHalted, sendSignal } from "#dist/kernel/send-signal.js";
import type { Task } from "#dist/kernel/task.js";
import { CLONE_NEWPID, CLONE_VM, PF_KTHREAD, PF_USER_WORKER, SIGKILL } from "#dist/spec/sched.js";
import { SIGNALS } from "#dist/spec/signal.js";
import { rejected, rejectedSoon, threadCount, until } from "../helpers/devices.js";
import { refused } from "../helpers/kernel-counts.js";

const EPOCHS = ["v6.4-merge", "v6.4", "v6.12"] as const;
const MODES = EPOCHS.flatMap((epoch) =>
  [true, false].map((forkFromOwner) => ({ epoch, forkFromOwner })),
);
const DISK = { memoryBytes: 1 << 20 };

const boot = (epoch: (typeof EPOCHS)[number] = "v6.12") => {
  const kernel = new Kernel({ epoch });
  const vmm = kernel.spawn({ comm: "vmm", uid: 1000, rlimits: { NPROC: 4 }, cgroup: "/a" });
  return { kernel, vmm, group: kernel.model.cgroup("/a") };
};

describe.each(MODES)("$epoch, forkFromOwner $forkFromOwner", ({ epoch, forkFromOwner }) => {
  test.each(["thread", "inline"] as const)("a disk works, and leaves nothing: %s", async (run) => {
    const { kernel, vmm } = boot(epoch);
    const threads = threadCount();
    const disk = await vmm.open(blk(DISK), { forkFromOwner, run });
    const { workerTask } = disk;
    expect(workerTask.comm).toBe(`vhost-${vmm.pid}`);
    expect((workerTask.flags & PF_KTHREAD) === 0).toBe(forkFromOwner);
    const drive = await disk.driver();
    const done = (work: Promise<unknown>) => {
      if (run === "inline") while (disk.runPending());
      return work;
    };
    const bytes = Uint8Array.from({ length: 65536 }, (_, i) => i * 7);
    await done(drive.write(512, bytes));
    expect(await done(drive.read(512, bytes.length))).toEqual(bytes);
    await disk.close();
    expect(kernel.model.task(workerTask.pid)).toBeUndefined();
    expect(vmm.task.mm?.users).toBe(1);
    expect(kernel.model.ucounts.nproc(0)).toBe(3); // pid 0, init, kthreadd
    expect(kernel.model.ucounts.nproc(1000)).toBe(1);
    expect(kernel.model.cgroup("/a").pidsCurrent).toBe(1);
    await vmm.exit();
    expect(kernel.model.tasks()).toHaveLength(2);
    await until(() => threadCount() === threads);
  });
});

describe("a kernel thread as worker", () => {
  test("is root's, kthreadd's child, in its owner's cgroup and memory", async () => {
    const { kernel, vmm, group } = boot();
    await using disk = await vmm.open(blk(DISK), { forkFromOwner: false });
    const { workerTask: worker } = disk;
    expect(worker.parent).toBe(kernel.model.kthreadd);
    expect([worker.tgid, worker.exitSignal]).toEqual([worker.pid, SIGNALS.SIGCHLD]);
    expect([worker.cred.uid, worker.cred.caps.size]).toEqual([0, 41]);
    expect(worker.signal.rlimits).toEqual(kernel.model.kthreadd.signal.rlimits);
    expect(worker.cgroup).toBe(group);
    expect([worker.mm, worker.activeMm]).toEqual([null, vmm.task.mm]);
    expect(worker.flags).toBe(0x208040);
    await vmm.exit();
    expect(worker.activeMm).toBeNull();
  });

  test("is neither counted nor limited by NPROC; by pids.max it is counted", async () => {
    const { kernel, vmm, group } = boot();
    vmm.task.signal.rlimits.NPROC = { cur: 1, max: 1 };
    group.pidsMax = 1;
    await rejected("EAGAIN", vmm.open(blk(DISK), { forkFromOwner: true }));
    const refusals = group.pidsEvents.local;
    const disk = await vmm.open(blk(DISK), { forkFromOwner: false });
    expect(kernel.model.ucounts.nproc(1000)).toBe(1);
    expect([group.pidsCurrent, group.pidsMax, group.pidsEvents.local]).toEqual([2, 1, refusals]);
    await disk.close();
    expect(group.pidsCurrent).toBe(1);
    await vmm.exit();
  });

  test("is refused when the machine is full, with nothing kept", async () => {
    const { kernel, vmm, group } = boot();
    const { model } = kernel;
    model.threadsMax = model.tasks().length;
    await rejected("EAGAIN", vmm.open(blk(DISK), { forkFromOwner: false }));
    expect([vmm.task.mm?.users, group.pidsCurrent, model.ucounts.nproc(0)]).toEqual([1, 1, 3]);
    await vmm.exit();
  });

  test("comes where a pid namespace keeps a user worker away", async () => {
    const { kernel, vmm } = boot();
    await using root = kernel.spawn();
    unshare(kernel.model, root.task, CLONE_NEWPID);
    await rejected("EINVAL", root.open(blk(DISK)));
    await (await root.open(blk(DISK), { forkFromOwner: false })).close();
    await vmm.exit();
  });

  test("neither stops nor ends by signals, its owner's or its own", async () => {
    const { kernel, vmm } = boot();
    await using disk = await vmm.open(blk(DISK), { forkFromOwner: false });
    const drive = await disk.driver();
    sendSignal(kernel.model, vmm.task, SIGNALS.SIGSTOP, true);
    expect([isHalted(vmm.task), isHalted(disk.workerTask)]).toEqual([true, false]);
    kernel.model.kill(disk.workerTask.pid, SIGKILL);
    expect(await drive.read(0, 512)).toEqual(new Uint8Array(512));
    expect(vmm.task.exitState).toBe(0);
    await vmm.exit();
  });
});

test.each(EPOCHS)("%s: the owner is killed while another process has the disk open", async (e) => {
  for (const forkFromOwner of [true, false]) {
    const { kernel, vmm } = boot(e);
    const { mm } = vmm.task;
    const disk = await vmm.open(blk(DISK), { forkFromOwner });
    const drive = await disk.driver();
    const holder = copyProcess(kernel.model, vmm.task, { flags: CLONE_VM });
    const died = new Promise((resolve) => disk.onDeath(resolve));
    kernel.model.kill(vmm.pid, SIGKILL);
    const serves = !forkFromOwner || e !== "v6.12"; // then the worker ends with its owner
    if (serves) expect(await drive.read(0, 512)).toEqual(new Uint8Array(512));
    else await rejectedSoon("ENODEV", () => drive.read(0, 512));
    if (serves) expect(disk.dev.worker.death).toBeUndefined();
    expect(mm?.users).toBeGreaterThan(0);
    await using other = kernel.spawn();
    for (const task of [holder, other.task]) refused("EBUSY", () => disk.dev.setOwner(task));
    kernel.model.kill(holder.pid, SIGKILL); // the last close
    await died;
    await disk.close();
    expect(kernel.model.tasks()).toEqual([kernel.model.init, kernel.model.kthreadd, other.task]);
    expect(mm?.users).toBe(0);
  }
});

test("what the kernel has as default, an owner may change", async () => {
  const kernel = new Kernel({ forkFromOwnerDefault: false });
  await using vmm = kernel.spawn();
  const flags = async (options: { forkFromOwner?: boolean } = {}) => {
    await using disk = await vmm.open(blk(DISK), options);
    return disk.workerTask.flags & (PF_KTHREAD | PF_USER_WORKER);
  };
  expect(await flags()).toBe(PF_KTHREAD);
  expect(await flags({ forkFromOwner: true })).toBe(PF_USER_WORKER);
  kernel.model.forkFromOwnerDefault = true;
  expect(await flags()).toBe(PF_USER_WORKER);
  await rejected("EINVAL", vmm.open(blk(DISK), { forkFromOwner: 0 as unknown as boolean }));
});

describe("further workers", () => {
  test.each(EPOCHS)("%s: threads of their own, counted, ended with the device", async (epoch) => {
    const { kernel, vmm, group } = boot(epoch);
    const disk = await vmm.open(blk(DISK));
    expect([await disk.newWorker(), await disk.newWorker()]).toEqual([1, 2]);
    const [first, one, two] = [...disk.workerTasks.values()] as [Task, Task, Task];
    expect(first).toBe(disk.workerTask);
    for (const task of [one, two]) {
      expect([task.comm, task.flags & PF_USER_WORKER]).toEqual([first.comm, PF_USER_WORKER]);
    }
    expect([group.pidsCurrent, kernel.model.ucounts.nproc(1000)]).toEqual([4, 4]);
    expect(await rejected("EAGAIN", disk.newWorker())).toMatchObject({
      message: expect.stringMatching(/RLIMIT_NPROC/),
    });
    await disk.freeWorker(1);
    expect(await one.thread?.exited).toEqual({ code: 0, stopped: true });
    expect(group.pidsCurrent).toBe(3);
    await disk.close();
    expect(await two.thread?.exited).toEqual({ code: 0, stopped: true });
    expect([group.pidsCurrent, vmm.task.mm?.users]).toEqual([1, 1]);
    await rejected("ENODEV", disk.newWorker());
    await vmm.exit();
  });

  test.each(EPOCHS)("%s: one whose thread breaks is gone, the device goes on", async (epoch) => {
    const { kernel, vmm, group } = boot(epoch);
    await using disk = await vmm.open(blk(DISK));
    const id = await disk.newWorker();
    await disk.workerTasks.get(id)?.thread?.terminate(new Error("broke"));
    await until(() => group.pidsCurrent === 2 && vmm.task.mm?.users === 4);
    expect(kernel.model.ucounts.nproc(1000)).toBe(2);
    expect(await (await disk.driver()).read(0, 512)).toEqual(new Uint8Array(512));
    await vmm.exit();
  });

  test("EFAULT beside a kernel thread", async () => {
    const { vmm, group } = boot();
    await using disk = await vmm.open(blk(DISK), { forkFromOwner: false });
    await rejected("EFAULT", disk.newWorker());
    expect(group.pidsCurrent).toBe(2);
    await vmm.exit();
  });
});

test("a kernel thread is not traced, a user worker is, by who may", async () => {
  for (const forkFromOwner of [true, false]) {
    const { kernel, vmm } = boot();
    await using disk = await vmm.open(blk(DISK), { forkFromOwner });
    const { workerTask: worker } = disk;
    await using stranger = kernel.spawn({ uid: 1001 });
    await using root = kernel.spawn();
    for (const { task } of [vmm, stranger]) refused("EPERM", () => ptraceAttach(task, worker));
    refused("ESRCH", () => ptraceDetach(kernel.model, root.task, worker));
    if (forkFromOwner) {
      ptraceAttach(root.task, worker);
      expect(isHalted(worker)).toBe(true);
      refused("EPERM", () => ptraceAttach(kernel.model.init, worker));
      ptraceDetach(kernel.model, root.task, worker);
      expect(isHalted(worker)).toBe(false);
    } else {
      refused("EPERM", () => ptraceAttach(root.task, worker));
    }
    await vmm.exit();
    refused("ESRCH", () => ptraceAttach(root.task, worker));
  }
});
