import { describe, expect, test } from "vitest";
import { kernelWait4 } from "#dist/kernel/exit.js";
import { fdInstall, OpenFile } from "#dist/kernel/files.js";
import { copyProcess } from "#dist/kernel/fork.js";
import { Kernel } from "#dist/kernel/kernel.js";
import { createIoThread, kernelThread } from "#dist/kernel/kthread.js";
import type { Task } from "#dist/kernel/task.js";
import { vhostTaskCreate } from "#dist/kernel/vhost-task.js";
import { __WCLONE, EXIT_DEAD, EXIT_ZOMBIE, SIGCHLD, SIGKILL } from "#dist/spec/sched.js";
import { refused } from "../helpers/kernel-counts.js";

const boot = () => {
  const kernel = new Kernel();
  const owner = kernel.spawn({ comm: "vmm", uid: 1000, cgroup: "/a", memoryBytes: 65536 });
  return { kernel, owner };
};
const worker = (kernel: Kernel, owner: Task) =>
  vhostTaskCreate(kernel, owner, { name: "w", run: "inline" }).task;
const forkOf = (kernel: Kernel, owner: Task) =>
  copyProcess(kernel, owner, { flags: 0, exitSignal: SIGCHLD });

describe("a task that exits", () => {
  test("is reaped by init at once when it is init's child", () => {
    const { kernel, owner } = boot();
    kernel.exitTask(owner, 0);
    expect(owner.exitState).toBe(EXIT_DEAD);
    expect(kernel.task(owner.pid)).toBeUndefined();
    expect([kernel.ucounts.nproc(1000), kernel.cgroup("/a").pidsCurrent]).toEqual([0, 0]);
    expect([owner.mm, owner.files]).toEqual([null, null]);
  });

  test("is a zombie until its parent waits; its memory is given back before", () => {
    const { kernel, owner } = boot();
    const child = forkOf(kernel, owner);
    const { mm } = child;
    expect(kernelWait4(kernel, owner, child.pid)).toBeNull();
    kernel.exitTask(child, 5 << 8);
    expect([child.exitState, mm?.users, child.mm]).toEqual([EXIT_ZOMBIE, 0, null]);
    expect(kernel.ps().find(({ pid }) => pid === child.pid)?.state).toBe("Z");
    expect(kernel.ucounts.nproc(1000)).toBe(2);
    expect(kernelWait4(kernel, owner, child.pid)).toBe(5 << 8);
    expect(kernel.ucounts.nproc(1000)).toBe(1);
    refused("ECHILD", () => kernelWait4(kernel, owner, child.pid));
  });

  test("exits once: the second time changes nothing", () => {
    const { kernel, owner } = boot();
    const child = forkOf(kernel, owner);
    kernel.exitTask(child, 1);
    kernel.exitTask(child, 2);
    expect(kernelWait4(kernel, owner, child.pid)).toBe(1);
    kernel.exitTask(child, 3);
    expect(kernel.ucounts.nproc(1000)).toBe(1);
  });

  test.each(["init", "kthreadd"] as const)("%s does not exit", (name) => {
    const kernel = new Kernel();
    refused("EINVAL", () => kernel.exitTask(kernel[name], 0));
    expect(kernel.tasks().length).toBe(2);
  });
});

describe("kernelWait4 finds", () => {
  test("children by exit signal: __WCLONE those without SIGCHLD, else those with", () => {
    const { kernel, owner } = boot();
    const [plain, clone] = [forkOf(kernel, owner), worker(kernel, owner)];
    refused("ECHILD", () => kernelWait4(kernel, owner, clone.pid));
    refused("ECHILD", () => kernelWait4(kernel, owner, plain.pid, __WCLONE));
    expect(kernelWait4(kernel, owner, clone.pid, __WCLONE)).toBeNull();
  });

  test("no child of another process, no thread, no number nobody has", () => {
    const { kernel, owner } = boot();
    const child = forkOf(kernel, owner);
    const thread = createIoThread(kernel, kernel.init, {});
    refused("ECHILD", () => kernelWait4(kernel, kernel.init, child.pid));
    refused("ECHILD", () => kernelWait4(kernel, kernel.kthreadd.parent, thread.pid, __WCLONE));
    refused("ECHILD", () => kernelWait4(kernel, owner, 999));
  });

  test("a child of another thread of the process", () => {
    const { kernel, owner } = boot();
    const child = forkOf(kernel, createIoThread(kernel, owner, {}));
    expect(kernelWait4(kernel, owner, child.pid)).toBeNull();
  });
});

describe("orphans", () => {
  test("go to init, which reaps the dead ones now and the others in time", () => {
    const { kernel, owner } = boot();
    const [zombie, alive, late] = [0, 0, 0].map(() => worker(kernel, owner)) as [Task, Task, Task];
    kernel.exitTask(zombie, 0);
    kernel.exitTask(owner, 0);
    expect(kernel.task(zombie.pid)).toBeUndefined();
    expect([alive.parent, alive.exitSignal]).toEqual([kernel.init, SIGCHLD]);
    expect(kernel.init.children.has(alive)).toBe(true);
    expect(alive.mm?.users).toBe(2); // the owner's address space outlives it
    kernel.exitTask(late, 0);
    kernel.exitTask(alive, 0);
    expect(kernel.ucounts.nproc(1000)).toBe(0);
    expect(kernel.tasks().length).toBe(2);
  });

  test("go to another thread of the process if there is one", () => {
    const { kernel, owner } = boot();
    const thread = createIoThread(kernel, owner, {});
    const child = worker(kernel, owner);
    kernel.exitTask(owner, 0);
    expect([child.parent, child.exitSignal]).toEqual([thread, 0]);
    kernel.exitTask(child, 0);
    expect(child.exitState).toBe(EXIT_ZOMBIE);
    kernel.exitTask(thread, 0);
    expect(kernel.tasks().length).toBe(2);
  });

  test("take their threads along", () => {
    const { kernel, owner } = boot();
    const thread = createIoThread(kernel, forkOf(kernel, owner), {});
    kernel.exitTask(owner, 0);
    expect(thread.parent).toBe(kernel.init);
  });

  test("of a parent that ignores SIGCHLD are no zombies", () => {
    const { kernel, owner } = boot();
    const child = forkOf(kernel, worker(kernel, owner));
    kernel.exitTask(child, 0);
    expect(child.exitState).toBe(EXIT_DEAD);
    const kthread = kernelThread(kernel, kernel.kthreadd, { flags: 0, exitSignal: SIGCHLD });
    kernel.exitTask(kthread, 0);
    expect(kthread.exitState).toBe(EXIT_DEAD);
  });
});

describe("a process of several threads", () => {
  test("a leader that exits first is a zombie until the last thread has gone", () => {
    const { kernel, owner } = boot();
    const process = forkOf(kernel, owner);
    const [one, two] = [createIoThread(kernel, process, {}), createIoThread(kernel, process, {})];
    kernel.exitTask(process, 7);
    expect(kernelWait4(kernel, owner, process.pid)).toBeNull();
    kernel.exitTask(one, 0);
    expect(one.exitState).toBe(EXIT_DEAD);
    expect(kernelWait4(kernel, owner, process.pid)).toBeNull();
    kernel.exitTask(two, 0);
    expect(kernelWait4(kernel, owner, process.pid)).toBe(7);
  });

  test("init reaps such a leader when the last thread goes", () => {
    const { kernel, owner } = boot();
    const thread = createIoThread(kernel, owner, {});
    kernel.exitTask(owner, 0);
    expect(owner.exitState).toBe(EXIT_ZOMBIE);
    kernel.exitTask(thread, 0);
    expect([owner.exitState, kernel.tasks().length]).toEqual([EXIT_DEAD, 2]);
  });

  test("exitGroup ends them all", () => {
    const { kernel, owner } = boot();
    const thread = createIoThread(kernel, owner, {});
    kernel.exitGroup(thread, 0);
    expect([owner.exitState, thread.exitState]).toEqual([EXIT_DEAD, EXIT_DEAD]);
  });
});

describe("kill", () => {
  test("SIGKILL ends a process, with all its threads, by whichever it is called", () => {
    const { kernel, owner } = boot();
    const child = forkOf(kernel, owner);
    const thread = createIoThread(kernel, child, {});
    kernel.kill(thread.pid, SIGKILL);
    expect(kernelWait4(kernel, owner, child.pid)).toBe(SIGKILL);
    expect(thread.exitState).toBe(EXIT_DEAD);
  });

  test("SIGKILL to a vhost worker is dropped; its owner's death is not its own", () => {
    const { kernel, owner } = boot();
    const task = worker(kernel, owner);
    kernel.kill(task.pid, SIGKILL);
    kernel.kill(owner.pid, SIGKILL);
    expect([task.exitState, task.parent]).toEqual([0, kernel.init]);
  });

  test("a worker's handlers are its own: the owner is not made deaf", () => {
    const { kernel, owner } = boot();
    worker(kernel, owner);
    kernel.kill(owner.pid, SIGKILL);
    expect(owner.exitState).toBe(EXIT_DEAD);
  });

  test("init and kernel threads do not hear it", () => {
    const kernel = new Kernel();
    const kthread = kernelThread(kernel, kernel.kthreadd, { flags: 0 });
    for (const task of kernel.tasks()) kernel.kill(task.pid, SIGKILL);
    expect(kernel.tasks()).toEqual([kernel.init, kernel.kthreadd, kthread]);
  });

  test("signal 0 asks for existence, a zombie's too; others are not modelled", () => {
    const { kernel, owner } = boot();
    const child = forkOf(kernel, owner);
    kernel.exitTask(child, 0);
    kernel.kill(child.pid, 0);
    kernel.kill(child.pid, SIGKILL);
    expect(child.exitState).toBe(EXIT_ZOMBIE);
    refused("ESRCH", () => kernel.kill(999, 0));
    refused("EINVAL", () => kernel.kill(owner.pid, 65));
  });
});

describe("open files", () => {
  test("close when the last table that has them goes; a worker holds none", () => {
    const { kernel, owner } = boot();
    let released = 0;
    const files = owner.files ?? expect.unreachable();
    expect(fdInstall(files, new OpenFile(() => released++))).toBe(0);
    expect(fdInstall(files, new OpenFile(() => released++))).toBe(1);
    const child = forkOf(kernel, owner);
    const thread = createIoThread(kernel, owner, {});
    worker(kernel, owner);
    kernel.exitTask(owner, 0);
    expect(released).toBe(0);
    kernel.exitTask(thread, 0);
    expect(released).toBe(0);
    kernel.exitTask(child, 0);
    expect(released).toBe(2);
  });

  test("the lowest free descriptor is taken", () => {
    const { owner } = boot();
    const files = owner.files ?? expect.unreachable();
    const install = () => fdInstall(files, new OpenFile(() => {}));
    expect([install(), install(), install()]).toEqual([0, 1, 2]);
    files.fds.delete(1);
    expect([install(), install()]).toEqual([1, 3]);
  });
});
