import { once } from "node:events";
import { MessageChannel } from "node:worker_threads";
import { describe, expect, test } from "vitest";
import { Kernel } from "#dist/kernel/kernel.js";
import type { Task } from "#dist/kernel/task.js";
import {
  type ThreadRun,
  type VhostTask,
  vhostTaskCreate,
  vhostTaskStart,
  vhostTaskStop,
  vhostTaskWake,
} from "#dist/kernel/vhost-task.js";
import { VhostError } from "#dist/spec/errno.js";
import { EXIT_DEAD, EXIT_ZOMBIE, SIGKILL, TASK_INTERRUPTIBLE } from "#dist/spec/sched.js";
import { refused } from "../helpers/kernel-counts.js";

const module = new URL("../helpers/thread-fns.mjs", import.meta.url).href;

const boot = () => {
  const kernel = new Kernel();
  const owner = kernel.spawn({ comm: "vmm", uid: 1000, cgroup: "/a", memoryBytes: 65536 });
  return { kernel, owner };
};

/** A started worker whose thread runs `name` of thread-fns.mjs. */
function start(
  kernel: Kernel,
  owner: Task,
  name: string,
  arg?: unknown,
  more: Partial<ThreadRun> = {},
): VhostTask {
  const fn = { module, name };
  const vtsk = vhostTaskCreate(kernel, owner, { name: `vhost-${owner.pid}`, fn, arg, ...more });
  vhostTaskStart(vtsk);
  return vtsk;
}

/** Waits (in this thread, for the other to act) until word `at` of `words` is `atLeast`. */
function reaches(words: SharedArrayBuffer, at: number, atLeast: number): void {
  const view = new Int32Array(words);
  for (let seen = Atomics.load(view, at); seen < atLeast; seen = Atomics.load(view, at)) {
    if (Atomics.wait(view, at, seen, 10_000) === "timed-out") expect.unreachable("waited 10 s");
  }
}

/** The worker is reaped and nothing of it is counted any more. */
function expectGone(kernel: Kernel, owner: Task, vtsk: VhostTask): void {
  expect(vtsk.task.exitState).toBe(EXIT_DEAD);
  expect(kernel.task(vtsk.task.pid)).toBeUndefined();
  expect([kernel.ucounts.nproc(1000), kernel.cgroup("/a").pidsCurrent]).toEqual([1, 1]);
  expect(owner.mm?.users).toBe(1);
}

describe("a worker in a thread of its own", () => {
  test("that is killed ends after what must not be cut short", async () => {
    const { kernel, owner } = boot();
    const words = new SharedArrayBuffer(12);
    const vtsk = start(kernel, owner, "uncuts", { words });
    reaches(words, 0, 1);
    kernel.exitTask(vtsk.task, 9);
    await vtsk.exited;
    expect(new Int32Array(words)[1]).toBe(1);
  });

  test("sleeps, wakes, stops", async () => {
    const { kernel, owner } = boot();
    const rounds = new SharedArrayBuffer(8);
    const vtsk = start(kernel, owner, "sleeper", { rounds });
    reaches(rounds, 1, 1); // it is about to sleep
    for (let round = 1; round <= 3; round++) {
      vhostTaskWake(vtsk);
      reaches(rounds, 0, round);
      reaches(rounds, 1, round + 1);
    }
    expect(vtsk.task.state).toBe(TASK_INTERRUPTIBLE);
    expect(kernel.ps().find(({ comm }) => comm === `vhost-${owner.pid}`)?.state).toBe("S");
    await vhostTaskStop(vtsk);
    expect(await vtsk.exited).toEqual({ code: 0, stopped: true });
    expectGone(kernel, owner, vtsk);
  });

  test("works in its owner's memory; what it returns is its exit code", async () => {
    const { kernel, owner } = boot();
    const memory = owner.mm?.memory ?? expect.unreachable();
    const vtsk = start(kernel, owner, "marks", { memory, at: 77, mark: 9 });
    expect(await vtsk.exited).toEqual({ code: 7, stopped: false });
    expect(new Uint8Array(memory.buffer)[77]).toBe(9);
    await vhostTaskStop(vtsk);
    expectGone(kernel, owner, vtsk);
  });

  test("gets ports, moved", async () => {
    const { kernel, owner } = boot();
    const { port1, port2 } = new MessageChannel();
    const message = once(port1, "message");
    await using _ = start(kernel, owner, "postsBack", { port: port2 }, { transfer: [port2] });
    expect((await message)[0]).toBe("moved");
  });

  test("ends when its function returns, whatever is left in its event loop", async () => {
    const { kernel, owner } = boot();
    expect(await start(kernel, owner, "leavesTimer").exited).toEqual({ code: 0, stopped: false });
  });

  test("is started once", async () => {
    const { kernel, owner } = boot();
    await using vtsk = start(kernel, owner, "leavesTimer");
    refused("EINVAL", () => vhostTaskStart(vtsk));
  });

  test("does not hear SIGKILL, and survives its owner", async () => {
    const { kernel, owner } = boot();
    const rounds = new SharedArrayBuffer(8);
    const vtsk = start(kernel, owner, "sleeper", { rounds });
    kernel.kill(vtsk.task.pid, SIGKILL);
    kernel.kill(owner.pid, SIGKILL);
    reaches(rounds, 1, 1);
    vhostTaskWake(vtsk);
    reaches(rounds, 0, 1);
    await vhostTaskStop(vtsk); // init has reaped it
    expect(kernel.tasks().length).toBe(2);
  });
});

describe("a thread that dies by itself", () => {
  test.each([
    ["throws", { message: "on its own" }, 1, "on its own"],
    ["rejects", { message: "later" }, 1, "later"],
    ["throwsNoError", {}, 1, "just words"],
    ["notAFunction", {}, 1, "exports no function notAFunction"],
    ["isNotThere", {}, 1, "exports no function isNotThere"],
    ["exits", { code: 3 }, 3, undefined],
    ["exits", { code: 0 }, 0, undefined],
    ["waitsForNothing", {}, 13, undefined], // Node's code for a promise that nothing can settle
  ])("%s %o", async (name, arg, code, message) => {
    const { kernel, owner } = boot();
    const vtsk = start(kernel, owner, name, arg);
    const exit = await vtsk.exited;
    expect([exit.code, exit.stopped]).toEqual([code, false]);
    if (message === undefined) expect(exit.error).toBeUndefined();
    else expect(exit.error?.message).toContain(message);
    expect(vtsk.task.exitState).toBe(EXIT_ZOMBIE); // counted until it is reaped
    expect(kernel.ps().find(({ pid }) => pid === vtsk.task.pid)?.state).toBe("Z");
    expect(kernel.ucounts.nproc(1000)).toBe(2);
    expect(owner.mm?.users).toBe(1); // its hold on the memory is not
    vhostTaskWake(vtsk);
    await vhostTaskStop(vtsk);
    expectGone(kernel, owner, vtsk);
    expect((await vtsk.exited).stopped).toBe(false);
  });

  test("runs out of memory: it ends, we go on", async () => {
    const { kernel, owner } = boot();
    const resourceLimits = { maxOldGenerationSizeMb: 16 };
    const vtsk = start(kernel, owner, "eatsMemory", undefined, { resourceLimits });
    const exit = await vtsk.exited;
    expect(exit.code).toBe(1);
    expect(exit.error).toMatchObject({ code: "ERR_WORKER_OUT_OF_MEMORY" });
    await vhostTaskStop(vtsk);
    expectGone(kernel, owner, vtsk);
  });

  test("cannot be made: its argument does not cross threads", async () => {
    const { kernel, owner } = boot();
    const vtsk = start(kernel, owner, "sleeper", { rounds: () => {} });
    expect((await vtsk.exited).error?.name).toBe("DataCloneError");
    await vhostTaskStop(vtsk);
    expectGone(kernel, owner, vtsk);
  });

  test("has a module that is not there", async () => {
    const { kernel, owner } = boot();
    const fn = { module: `${module}.not`, name: "sleeper" };
    const vtsk = start(kernel, owner, "", undefined, { fn });
    expect((await vtsk.exited).error).toMatchObject({ code: "ERR_MODULE_NOT_FOUND" });
    await vhostTaskStop(vtsk);
    expectGone(kernel, owner, vtsk);
  });

  test("after its owner: init reaps it without being asked", async () => {
    const { kernel, owner } = boot();
    const vtsk = start(kernel, owner, "throws", { message: "late" });
    kernel.exitTask(owner, 0);
    await vtsk.exited;
    expect(kernel.tasks().length).toBe(2);
    await vhostTaskStop(vtsk);
  });
});

describe("vhostTaskStop", () => {
  test.each(["spins", "sleepsDeeply"])("ends a thread that never looks: %s", async (name) => {
    const { kernel, owner } = boot();
    const vtsk = start(kernel, owner, name);
    await vhostTaskStop(vtsk, 50);
    const exit = await vtsk.exited;
    expect([exit.code, exit.stopped]).toEqual([1, true]);
    expect(exit.error).toBeInstanceOf(VhostError);
    expect(exit.error).toMatchObject({ code: "ETIMEDOUT" });
    expectGone(kernel, owner, vtsk);
  });

  test("twice, at once and later: all wait for the one end", async () => {
    const { kernel, owner } = boot();
    const vtsk = start(kernel, owner, "sleeper", { rounds: new SharedArrayBuffer(8) });
    const stop = vhostTaskStop(vtsk);
    expect(vhostTaskStop(vtsk, 1)).toBe(stop); // the grace of the first holds
    await stop;
    expectGone(kernel, owner, vtsk);
    await vhostTaskStop(vtsk);
    expectGone(kernel, owner, vtsk);
  });

  test("with a grace without end waits, and does not terminate at once", async () => {
    const { kernel, owner } = boot();
    const vtsk = start(kernel, owner, "sleeper", { rounds: new SharedArrayBuffer(8) });
    await vhostTaskStop(vtsk, Number.POSITIVE_INFINITY);
    expect(await vtsk.exited).toEqual({ code: 0, stopped: true });
  });

  test("of a worker never started", async () => {
    const { kernel, owner } = boot();
    const fn = { module, name: "spins" };
    const vtsk = vhostTaskCreate(kernel, owner, { name: "w", fn });
    await vhostTaskStop(vtsk);
    expect(await vtsk.exited).toEqual({ code: 0, stopped: true });
    expectGone(kernel, owner, vtsk);
    refused("EINVAL", () => vhostTaskStart(vtsk));
  });

  test("`await using` is the same", async () => {
    const { kernel, owner } = boot();
    let kept: VhostTask;
    {
      await using vtsk = start(kernel, owner, "sleeper", { rounds: new SharedArrayBuffer(8) });
      kept = vtsk;
    }
    expectGone(kernel, owner, kept);
  });
});

test("exitTask takes a running thread down with the task", async () => {
  const { kernel, owner } = boot();
  const vtsk = start(kernel, owner, "spins");
  kernel.exitTask(vtsk.task, 0);
  const exit = await vtsk.exited;
  expect([exit.stopped, exit.error]).toMatchObject([false, { code: "EINTR" }]);
  await vhostTaskStop(vtsk);
  expectGone(kernel, owner, vtsk);
});

describe('run: "inline"', () => {
  test("start marks it running, stop ends it", async () => {
    const { kernel, owner } = boot();
    const vtsk = vhostTaskCreate(kernel, owner, { name: "w", run: "inline" });
    vhostTaskStart(vtsk);
    vhostTaskWake(vtsk);
    expect(kernel.ps().find(({ comm }) => comm === "w")?.state).toBe("R");
    await vhostTaskStop(vtsk);
    expect(await vtsk.exited).toEqual({ code: 0, stopped: true });
    expectGone(kernel, owner, vtsk);
  });

  test("exitTask ends it too", async () => {
    const { kernel, owner } = boot();
    const vtsk = vhostTaskCreate(kernel, owner, { name: "w", run: "inline" });
    kernel.exitTask(vtsk.task, 0);
    expect((await vtsk.exited).error).toMatchObject({ code: "EINTR" });
    await vhostTaskStop(vtsk);
    expectGone(kernel, owner, vtsk);
  });
});

test("many at once, all stopped: nothing is left", async () => {
  const { kernel, owner } = boot();
  const workers = Array.from({ length: 8 }, () =>
    start(kernel, owner, "sleeper", { rounds: new SharedArrayBuffer(8) }),
  );
  expect(owner.mm?.users).toBe(9);
  await Promise.all(workers.map((vtsk) => vhostTaskStop(vtsk)));
  for (const vtsk of workers) expectGone(kernel, owner, vtsk);
});
