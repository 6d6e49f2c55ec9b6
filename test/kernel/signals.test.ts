// Signals: who takes them, what stops, what ends, and what a worker of each epoch does with them.

import { describe, expect, test } from "vitest";
import type { Epoch } from "#dist/kernel/epoch.js";
import { copyProcess } from "#dist/kernel/fork.js";
import { Kernel } from "#dist/kernel/kernel.js";
import { checkKillPermission, getSignal, isHalted, sendSignal } from "#dist/kernel/send-signal.js";
import type { Task } from "#dist/kernel/task.js";
import { vhostTaskCreate } from "#dist/kernel/vhost-task.js";
import { CLONE_SIGHAND, CLONE_THREAD, CLONE_VM, SIGKILL } from "#dist/spec/sched.js";
import { SIGNALS, sigmask } from "#dist/spec/signal.js";
import { refused } from "../helpers/kernel-counts.js";

const { SIGCONT, SIGSTOP, SIGTERM, SIGTSTP, SIGURG, SIGUSR1 } = SIGNALS;

function boot(epoch: Epoch = "v6.12") {
  const kernel = new Kernel({ epoch });
  const shell = kernel.spawn({ memoryBytes: 65536 });
  const owner = copyProcess(kernel, shell, { flags: 0, exitSignal: SIGNALS.SIGCHLD });
  const { task: worker } = vhostTaskCreate(kernel, owner, { name: "vhost", run: "inline" });
  const taken: number[] = [];
  const handle = (sig: number) => owner.sighand.actions.set(sig, ({ pid }) => taken.push(pid));
  return { kernel, shell, owner, worker, taken, handle };
}

const thread = (kernel: Kernel, owner: Task) =>
  copyProcess(kernel, owner, { flags: CLONE_VM | CLONE_SIGHAND | CLONE_THREAD });

describe("who takes a signal", () => {
  test("of a process: a thread that does not block it, never a worker", () => {
    const { kernel, owner, worker, taken, handle } = boot();
    const other = thread(kernel, owner);
    handle(SIGUSR1);
    owner.blocked = sigmask(SIGUSR1);
    sendSignal(kernel, owner, SIGUSR1, true);
    expect(taken).toEqual([other.pid]);
    other.blocked = sigmask(SIGUSR1);
    sendSignal(kernel, owner, SIGUSR1, true);
    expect([taken.length, owner.signal.sharedPending]).toEqual([1, sigmask(SIGUSR1)]);
    expect(worker.pending).toBe(0n);
    other.blocked = 0n;
    getSignal(kernel, other);
    expect([taken.length, owner.signal.sharedPending]).toEqual([2, 0n]);
  });

  test("of a worker: it stays pending for ever", () => {
    const { kernel, owner, worker, taken, handle } = boot();
    handle(SIGUSR1);
    sendSignal(kernel, worker, SIGUSR1, false);
    sendSignal(kernel, worker, SIGTERM, false);
    expect(taken).toEqual([]);
    expect(worker.pending).toBe(sigmask(SIGUSR1) | sigmask(SIGTERM));
    expect(owner.exitState).toBe(0);
  });

  test("in a call: after it", () => {
    const { kernel, owner, taken, handle } = boot();
    handle(SIGUSR1);
    owner.inKernel = true;
    sendSignal(kernel, owner, SIGUSR1, true);
    expect(taken).toEqual([]);
    refused("ERESTARTNOINTR", () => copyProcess(kernel, owner, { flags: 0 }));
    owner.inKernel = false;
    getSignal(kernel, owner);
    expect(taken).toEqual([owner.pid]);
    copyProcess(kernel, owner, { flags: 0 });
  });

  test("ignored, by default or by choice: nobody, unless it is blocked", () => {
    const { kernel, owner } = boot();
    owner.sighand.actions.set(SIGTERM, "SIG_IGN");
    for (const sig of [SIGURG, SIGTERM]) sendSignal(kernel, owner, sig, true);
    expect(owner.signal.sharedPending).toBe(0n);
    owner.blocked = sigmask(SIGURG);
    for (const one of owner.signal.threads) one.blocked |= sigmask(SIGURG);
    sendSignal(kernel, owner, SIGURG, true);
    expect(owner.signal.sharedPending).toBe(sigmask(SIGURG));
  });

  test("init: no one that it has no handler for", () => {
    const { kernel } = boot();
    for (const sig of [SIGKILL, SIGTERM, SIGSTOP]) sendSignal(kernel, kernel.init, sig, true);
    expect([kernel.init.exitState, kernel.init.signal.stopped]).toEqual([0, false]);
  });

  test.each([0, 65, 1.5])("%d is none", (sig) => {
    const { kernel, owner } = boot();
    refused("EINVAL", () => sendSignal(kernel, owner, sig, true));
  });
});

describe("stopped", () => {
  test.each([
    ["v6.4-merge", false],
    ["v6.4", true],
    ["v6.12", true],
  ] as const)("%s: the worker stops with its owner: %s", (epoch, stops) => {
    const { kernel, owner, worker } = boot(epoch);
    sendSignal(kernel, owner, SIGSTOP, true);
    expect([isHalted(owner), isHalted(worker)]).toEqual([true, stops]);
    sendSignal(kernel, owner, SIGCONT, true);
    expect([isHalted(owner), isHalted(worker)]).toEqual([false, false]);
  });

  test("takes nothing but SIGKILL until it goes on", () => {
    const { kernel, owner, taken, handle } = boot();
    handle(SIGUSR1);
    sendSignal(kernel, owner, SIGSTOP, true);
    sendSignal(kernel, owner, SIGUSR1, true);
    expect(taken).toEqual([]);
    sendSignal(kernel, owner, SIGCONT, true);
    expect(taken).toEqual([owner.pid]);
    sendSignal(kernel, owner, SIGSTOP, true);
    sendSignal(kernel, owner, SIGKILL, true);
    expect(owner.signal.groupExitCode).toBe(SIGKILL);
  });

  test("SIGCONT takes back a stop that waits, and the other way round", () => {
    const { kernel, owner } = boot();
    owner.blocked = sigmask(SIGTSTP) | sigmask(SIGCONT);
    owner.sighand.actions.set(SIGCONT, () => {});
    sendSignal(kernel, owner, SIGTSTP, true);
    expect(owner.signal.sharedPending).toBe(sigmask(SIGTSTP));
    sendSignal(kernel, owner, SIGCONT, true);
    expect(owner.signal.sharedPending).toBe(sigmask(SIGCONT));
    sendSignal(kernel, owner, SIGTSTP, true);
    expect(owner.signal.sharedPending).toBe(sigmask(SIGTSTP));
  });

  test("frozen by its cgroup or one above, the merge's worker not", () => {
    for (const epoch of ["v6.4-merge", "v6.12"] as const) {
      const kernel = new Kernel({ epoch });
      const owner = kernel.spawn({ cgroup: "/a/b", memoryBytes: 65536 });
      const { task } = vhostTaskCreate(kernel, owner, { name: "vhost", run: "inline" });
      kernel.cgroup("/a").freeze = true;
      expect([isHalted(owner), isHalted(task)]).toEqual([true, epoch === "v6.12"]);
      kernel.cgroup("/a").freeze = false;
      expect([isHalted(owner), isHalted(task)]).toEqual([false, false]);
    }
  });
});

test("who may: one of the user's ids, SIGCONT within a session, CAP_KILL", () => {
  const kernel = new Kernel();
  const [a, b, root] = [1000, 1001, 0].map((uid) => kernel.spawn({ uid, memoryBytes: 65536 }));
  if (!a || !b || !root) return expect.unreachable();
  refused("EPERM", () => checkKillPermission(a, b, SIGTERM));
  refused("EPERM", () => checkKillPermission(a, b, SIGCONT));
  b.signal.session = a.signal.session;
  checkKillPermission(a, b, SIGCONT);
  checkKillPermission(a, a, SIGTERM);
  checkKillPermission(root, a, SIGTERM);
});
