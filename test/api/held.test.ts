// Real workers obey: a stopped process's and a frozen group's stop, a group's CPU time bounds them.

import { setTimeout as after } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { blk, Kernel, type PsState } from "#dist/index.js";
import type { Epoch } from "#dist/kernel/epoch.js";
import { sendSignal } from "#dist/kernel/send-signal.js";
import type { OpenDevice, Process } from "#dist/loopback.js";
import { TASK_DEAD, TASK_THROTTLED } from "#dist/spec/sched.js";
import { SIGNALS } from "#dist/spec/signal.js";
import { custom, rejectedSoon, until } from "../helpers/devices.js";
import { pump } from "../helpers/pump.js";
import { testWith } from "../helpers/skip.js";
import { liveThreads } from "../helpers/threads.js";

const { SIGSTOP, SIGCONT, SIGKILL, SIGTERM, SIGUSR1, SIGSEGV } = SIGNALS;
const spec = blk({ nullBytes: 1 << 20 });
const EPOCHS = ["v6.4-merge", "v6.4", "v6.12"] as const;

/** A process in /a with a disk that works. */
async function boot(epoch: Epoch) {
  const kernel = new Kernel({ epoch });
  const vmm = kernel.spawn({ comm: "vmm", uid: 1000, cgroup: "/a", memoryBytes: 16 << 20 });
  const disk = await vmm.open(spec);
  const drive = await disk.driver();
  await drive.read(0, 512);
  const state = () => stateOf(kernel, disk);
  return { kernel, vmm, disk, drive, state };
}

function stateOf(kernel: Kernel, { workerTask: { pid } }: OpenDevice<"blk">): PsState | undefined {
  return kernel.ps({ threads: true }).find((row) => row.pid === pid)?.state;
}

/** Far longer than a worker that may run takes for a request. */
const A_WHILE_MS = 100;

async function isDone(work: Promise<unknown>): Promise<boolean> {
  return Promise.race([work.then(() => true), after(A_WHILE_MS, false)]);
}

/** It waits, where that is so; else it is done, however long that takes. */
async function mustWait(work: Promise<unknown>, isHeld: boolean): Promise<void> {
  if (isHeld) expect(await isDone(work)).toBe(false);
  else await work;
}

describe.each(EPOCHS)("%s", (epoch) => {
  const isThread = epoch !== "v6.4-merge";

  test.each([["the owner"], ["the worker"]])("SIGSTOP to %s, SIGCONT", async (who) => {
    const { kernel, vmm, disk, drive, state } = await boot(epoch);
    const pid = who === "the owner" ? vmm.pid : disk.workerTask.pid;
    for (let round = 0; round < 3; round++) {
      kernel.kill(pid, SIGSTOP);
      if (isThread) await until(() => state() === "T");
      const read = drive.read(0, 512);
      await mustWait(read, isThread);
      expect(kernel.ps().find((row) => row.pid === vmm.pid)?.state).toBe(
        isThread || who === "the owner" ? "T" : "R",
      );
      kernel.kill(pid, SIGCONT);
      await read;
      expect(state()).not.toBe("T");
    }
    await vmm.exit();
  });

  test("a frozen group sleeps, whatever it is asked", async () => {
    const { kernel, vmm, drive, state } = await boot(epoch);
    kernel.cgroup("/a").freeze = true;
    if (isThread) await until(() => state() === "S");
    const read = drive.read(0, 512);
    await mustWait(read, isThread);
    if (isThread) expect(state()).toBe("S");
    kernel.cgroup("/a").freeze = false;
    await read;
    await vmm.exit();
  });

  test("a process that is moved out of a frozen group, and into one", async () => {
    const { kernel, vmm, disk, drive, state } = await boot(epoch);
    kernel.cgroup("/a").freeze = true;
    if (isThread) await until(() => state() === "S");
    const read = drive.read(0, 512);
    await mustWait(read, isThread);
    vmm.moveTo("/b");
    expect(disk.workerTask.cgroup.path).toBe(isThread ? "/b" : "/a");
    await read;
    vmm.moveTo("/a");
    if (isThread) await until(() => state() === "S");
    const again = drive.read(0, 512);
    await mustWait(again, isThread);
    vmm.moveTo("/b");
    await again;
    await vmm.exit();
  });

  test("a worker that is stopped, or frozen, is closed and killed at once", async () => {
    const { kernel, vmm, disk } = await boot(epoch);
    const other = await vmm.open(spec);
    kernel.kill(vmm.pid, SIGSTOP);
    kernel.cgroup("/a").freeze = true;
    await disk.close();
    // It ended by itself: one that is ended by force after some seconds says so.
    expect(await disk.dev.worker.task.exited).toEqual({ code: 0, stopped: true });
    kernel.kill(vmm.pid, SIGKILL);
    await other.close();
    expect(kernel.model.tasks()).toHaveLength(2);
    expect(kernel.cgroup("/a").pidsCurrent).toBe(0);
  });

  test("SIGKILL to the owner: its disk closes, what is in flight ends", async () => {
    const { kernel, vmm, disk, drive } = await boot(epoch);
    const reads = Array.from({ length: 8 }, (_, i) =>
      drive.read(i * 512, 512).then(
        () => "done",
        ({ code }) => code,
      ),
    );
    kernel.kill(vmm.pid, SIGKILL);
    for (const end of await Promise.all(reads)) expect(["done", "ENODEV"]).toContain(end);
    await disk.close();
    expect(disk.workerTask.state).toBe(TASK_DEAD);
    expect(kernel.model.tasks()).toHaveLength(2);
  });

  test("SIGKILL to the worker ends the process it is a thread of", async () => {
    const { kernel, vmm, disk, drive } = await boot(epoch);
    kernel.kill(disk.workerTask.pid, SIGKILL);
    if (epoch === "v6.12") await rejectedSoon("ENODEV", () => drive.read(0, 512));
    else if (!isThread) await drive.read(0, 512);
    expect(vmm.task.exitState === 0).toBe(!isThread);
    await vmm.exit();
    await disk.close();
    expect(kernel.model.tasks()).toHaveLength(2);
  });

  test("other signals to the worker do it no harm; SIGTERM ends the owner", async () => {
    const { kernel, vmm, disk, drive } = await boot(epoch);
    for (const sig of [SIGUSR1, SIGSEGV]) {
      // To the worker alone: one for its process would be another thread's.
      sendSignal(kernel.model, disk.workerTask, sig, false);
      expect((await drive.read(0, 512)).length).toBe(512);
    }
    kernel.kill(vmm.pid, SIGTERM);
    await disk.close();
    expect(kernel.model.tasks()).toHaveLength(2);
  });

  test("without a thread: it does nothing while it is stopped", async () => {
    const kernel = new Kernel({ epoch });
    const vmm = kernel.spawn({ cgroup: "/a" });
    const disk = await vmm.open(spec, { run: "inline" });
    const drive = await pump(disk, disk.driver());
    kernel.kill(vmm.pid, SIGSTOP);
    const read = drive.read(0, 512);
    for (let i = 0; i < 3; i++) if (!disk.runPending()) break;
    await mustWait(read, isThread);
    expect(stateOf(kernel, disk)).toBe(isThread ? "T" : "R");
    kernel.kill(vmm.pid, SIGCONT);
    await pump(disk, read);
    await vmm.exit();
  });
});

const otherSystem = process.platform === "linux" ? undefined : "Linux";
testWith(otherSystem, "the host's threads have their tasks' names", async () => {
  const { vmm, disk } = await boot("v6.12");
  const names = liveThreads().map(({ comm }) => comm);
  expect(names).toContain(`vhost-${vmm.pid}`);
  expect(disk.workerTask.comm).toBe(`vhost-${vmm.pid}`);
  await vmm.exit();
});

describe("CPU time", () => {
  /** A worker that owes its group periods of time: it may not run for a minute or so. */
  async function throttled(epoch: Epoch = "v6.12") {
    const booted = await boot(epoch);
    const { kernel, vmm, disk } = booted;
    const group = kernel.cgroup("/a");
    group.cpuMax = { quotaUs: 1000, periodUs: 1_000_000 };
    group.cpu.charge(group.number, 60_000);
    let read: Promise<unknown> = Promise.resolve();
    while (disk.workerTask.state !== TASK_THROTTLED) {
      read = booted.drive.read(0, 512).catch(({ code }) => code);
      await Promise.race([read, after(1)]);
    }
    return { ...booted, group, vmm, read };
  }

  test("that is used up holds the worker; a limit that is lifted lets it go on", async () => {
    const { drive, group, state, vmm } = await throttled();
    expect(state()).toBe("R"); // as Linux shows it
    const late = drive.read(512, 512);
    expect(await isDone(late)).toBe(false);
    expect(group.cpuStat.nrThrottled).toBeGreaterThanOrEqual(1);
    group.cpuMax = { quotaUs: Number.POSITIVE_INFINITY, periodUs: 100_000 };
    expect((await late).length).toBe(512);
    expect(group.cpuStat.throttledUsec).toBeGreaterThanOrEqual(A_WHILE_MS * 900);
    await vmm.exit();
  });

  test("of another group lets it go on: a process that is moved", async () => {
    const { drive, vmm, kernel, group } = await throttled();
    vmm.moveTo("/b");
    await drive.read(512, 512);
    const before = group.cpuStat.usageUsec;
    const used = () => kernel.cgroup("/b").cpuStat.usageUsec;
    while (used() < 1000) await drive.read(0, 4096);
    expect(group.cpuStat.usageUsec).toBe(before); // charged there from then on
    await vmm.exit();
  });

  test("that is used up holds up no reset, no close, no kill", async () => {
    const { vmm, disk, drive, read, kernel } = await throttled();
    await disk.dev.reset();
    await drive.close();
    await read;
    const other = await vmm.open(spec);
    await disk.close();
    expect(await disk.dev.worker.task.exited).toEqual({ code: 0, stopped: true });
    kernel.kill(vmm.pid, SIGKILL);
    await other.close();
    expect(kernel.model.tasks()).toHaveLength(2);
  });

  test("is held back by a group above, for workers of several processes together", async () => {
    const { kernel, vmm, group, read } = await throttled();
    const other: Process = kernel.spawn({ cgroup: "/a/b/c", memoryBytes: 4 << 20 });
    const disk = await other.open(spec); // what it is asked is done meanwhile, its rings are not
    const drive = await disk.driver();
    await until(() => disk.workerTask.state === TASK_THROTTLED);
    const late = drive.read(0, 512);
    expect(await isDone(late)).toBe(false);
    group.cpuMax = { quotaUs: 1_000_000, periodUs: 1_000_000 };
    await Promise.all([late, read]);
    await other.exit();
    await vmm.exit();
  });

  test("is charged to the worker, its process and all groups above", async () => {
    const kernel = new Kernel({ epoch: "v6.12" });
    const vmm = kernel.spawn({ cgroup: "/a/b" });
    const disk = await vmm.open(spec, { pollMicroseconds: 1000 });
    const drive = await disk.driver();
    const { workerTask } = disk;
    while (workerTask.cpuTimeUs < 20_000) await drive.read(0, 4096);
    await disk.close();
    const us = workerTask.cpuTimeUs;
    const rows = kernel.ps().filter(({ pid }) => pid === vmm.pid);
    expect(rows.map(({ cpuTimeUs }) => cpuTimeUs)).toEqual([us]); // the thread is gone
    for (const path of ["/a/b", "/a", "/"]) expect(kernel.cgroup(path).cpuUsageUs).toBe(us);
    await vmm.exit();
  });

  test("of a device that asks for what is not there is as much as it takes", async () => {
    const kernel = new Kernel({ epoch: "v6.12" });
    kernel.cgroup("/a").cpuMax = { quotaUs: 5000, periodUs: 50_000 };
    const vmm = kernel.spawn({ cgroup: "/a" });
    const device = await vmm.open(custom("echo"));
    const driver = await device.driver();
    for (let i = 0; i < 50; i++) {
      const answer = await driver.request(0, new Uint8Array([i]), 8);
      expect([...answer]).toEqual([i]);
    }
    await vmm.exit();
  });
});
