// New namespaces by clone: what the child is there, and who may.

import { describe, expect, test } from "vitest";
import { kernelWait4 } from "#dist/kernel/exit.js";
import { copyProcess } from "#dist/kernel/fork.js";
import { Kernel } from "#dist/kernel/kernel.js";
import { createIoThread } from "#dist/kernel/kthread.js";
import { unshare } from "#dist/kernel/nsproxy.js";
import type { Task } from "#dist/kernel/task.js";
import { vhostTaskCreate } from "#dist/kernel/vhost-task.js";
import * as sched from "#dist/spec/sched.js";
import { refused } from "../helpers/kernel-counts.js";

const { CLONE_VM, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWUTS, CLONE_NEWNS, SIGCHLD, SIGKILL } =
  sched;
const THREAD = CLONE_VM | sched.CLONE_SIGHAND | sched.CLONE_THREAD;

const boot = (uid = 1000) => {
  const kernel = new Kernel({ epoch: "v6.12" });
  const owner = kernel.spawn({ uid, memoryBytes: 65536 });
  const clone = (current: Task, flags: number) =>
    copyProcess(kernel, current, { flags: CLONE_VM | flags, exitSignal: SIGCHLD });
  return { kernel, owner, clone };
};

describe("CLONE_NEWUSER", () => {
  test("gives the child all capabilities there, none over the machine, and the same user", () => {
    const { kernel, owner, clone } = boot();
    const child = clone(owner, CLONE_NEWUSER);
    expect([child.cred.uid, child.cred.caps.size]).toEqual([1000, 41]);
    expect(child.cred.userNs).not.toBe(owner.cred.userNs);
    expect(owner.cred.caps.size).toBe(0);
    expect(kernel.ucounts.nproc(1000)).toBe(2); // one of its maker's all the same
    expect(kernel.ucounts.nproc(1000, child.cred.userNs)).toBe(1);
    owner.signal.rlimits.NPROC = { cur: 2, max: 2 };
    child.signal.rlimits.NPROC = { cur: 1, max: 1 };
    refused("EAGAIN", () => clone(child, 0)); // CAP_SYS_RESOURCE does not count outside
  });

  test("comes first: who may not otherwise, may have others with it", () => {
    const { owner, clone } = boot();
    refused("EPERM", () => clone(owner, CLONE_NEWUTS));
    const child = clone(owner, CLONE_NEWUSER | CLONE_NEWUTS | CLONE_NEWNS);
    expect(child.nsproxy.uts).not.toBe(owner.nsproxy.uts);
    expect(child.nsproxy.mnt).not.toBe(owner.nsproxy.mnt);
    expect([child.nsproxy.net, child.nsproxy.ipc]).toEqual([owner.nsproxy.net, owner.nsproxy.ipc]);
    expect(clone(child, CLONE_NEWUTS).nsproxy.uts).not.toBe(child.nsproxy.uts);
  });

  test("goes neither with CLONE_FS nor with CLONE_THREAD", () => {
    const { owner, clone } = boot();
    refused("EINVAL", () => clone(owner, CLONE_NEWUSER | sched.CLONE_FS));
    refused("EINVAL", () => clone(owner, THREAD | CLONE_NEWUSER));
    refused("EINVAL", () => clone(owner, THREAD | CLONE_NEWPID));
  });
});

describe("CLONE_NEWPID", () => {
  test("makes the child the namespace's init, whose children are born there", () => {
    const { owner, clone } = boot(0);
    const init = clone(owner, CLONE_NEWPID);
    const child = clone(init, 0);
    expect(init.pidNs).not.toBe(owner.pidNs);
    expect([init.nsproxy.pidForChildren, child.pidNs]).toEqual([init.pidNs, init.pidNs]);
    expect(owner.nsproxy.pidForChildren).toBe(owner.pidNs);
    refused("EINVAL", () => clone(init, sched.CLONE_PARENT)); // as the machine's init
    expect(clone(child, sched.CLONE_PARENT).parent).toBe(init);
  });

  test("needs CAP_SYS_ADMIN, and no unshare of it before", () => {
    const { kernel, owner, clone } = boot();
    refused("EPERM", () => clone(owner, CLONE_NEWPID));
    const root = kernel.spawn({ memoryBytes: 65536 });
    unshare(kernel, root, CLONE_NEWPID);
    refused("EINVAL", () => unshare(kernel, root, CLONE_NEWPID));
    refused("EINVAL", () => clone(root, CLONE_NEWPID));
    refused("EINVAL", () => vhostTaskCreate(kernel, root, { name: "w", run: "inline" }));
    const init = clone(root, 0); // the first one born there
    expect(kernel.pidNamespaces.reaper(init.pidNs)).toBe(init.signal);
    vhostTaskCreate(kernel, init, { name: "w", run: "inline" }); // it lives where its children do
  });

  test("ends with its init, all in it and below; nobody is born there any more", () => {
    const { kernel, owner, clone } = boot(0);
    unshare(kernel, owner, CLONE_NEWPID);
    const init = clone(owner, 0);
    const inside = [clone(owner, 0), clone(init, 0), createIoThread(kernel, init, {})];
    const nested = clone(init, CLONE_NEWPID);
    const below = clone(nested, 0);
    kernel.exitTask(init, 7 << 8);
    expect(inside[1]?.exitState).toBe(0); // a thread of init lives
    kernel.exitGroup(init, 7 << 8);
    for (const task of [init, ...inside, nested, below]) expect(task.exitState).not.toBe(0);
    expect(kernelWait4(kernel, owner, init.pid)).toBe(7 << 8);
    expect(kernelWait4(kernel, owner, inside[0]?.pid ?? 0)).toBe(SIGKILL);
    expect(kernel.tasks()).toEqual([kernel.init, kernel.kthreadd, owner]);
    const before = [kernel.ucounts.nproc(0), owner.mm?.users];
    refused("ENOMEM", () => clone(owner, 0));
    expect([kernel.ucounts.nproc(0), owner.mm?.users]).toEqual(before);
  });

  test("one below lives no longer than its own init", () => {
    const { kernel, owner, clone } = boot(0);
    const init = clone(owner, CLONE_NEWPID);
    const nested = clone(init, CLONE_NEWPID);
    const below = clone(nested, 0);
    kernel.kill(nested.pid, SIGKILL);
    expect([init.exitState, below.exitState]).toEqual([0, sched.EXIT_DEAD]);
    expect(kernelWait4(kernel, init, nested.pid)).toBe(SIGKILL);
  });

  test("orphans go to its init, not to the machine's", () => {
    const { kernel, owner, clone } = boot(0);
    const init = clone(owner, CLONE_NEWPID);
    const middle = clone(init, 0);
    const orphan = clone(middle, 0);
    kernel.exitTask(middle, 0);
    expect(orphan.parent).toBe(init);
    kernel.exitTask(orphan, 5);
    expect(kernelWait4(kernel, init, orphan.pid)).toBe(5);
  });
});
