// Every way to die, in every epoch and for either kind of worker: whoever waits is told, nothing
// hangs, and memory, counts and threads are as they were.

import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { describe, expect, test } from "vitest";
import { Kernel } from "#dist/index.js";
import { copyProcess } from "#dist/kernel/fork.js";
import type { OpenDevice, Process } from "#dist/loopback.js";
import { CLONE_VM, SIGKILL } from "#dist/spec/sched.js";
import { custom, rejected, threadCount, until } from "../helpers/devices.js";

const EPOCHS = ["v6.4-merge", "v6.4", "v6.12"] as const;
const MODES = EPOCHS.flatMap((epoch) =>
  [true, false].map((forkFromOwner) => ({ epoch, forkFromOwner })),
);
type Mode = (typeof MODES)[number];

/** Whether a SIGKILL to the worker is one to its owner, as to any thread of it. */
const isOwners = ({ epoch, forkFromOwner }: Mode) => forkFromOwner && epoch !== "v6.4-merge";
/** Whether the worker ends when its owner does, at once. */
const endsWithOwner = ({ epoch, forkFromOwner }: Mode) => forkFromOwner && epoch === "v6.12";

/** For so long, a thread that is ended may end its turn before. */
const TURN_MS_MAX = 500;

function boot({ epoch }: Mode) {
  const kernel = new Kernel({ epoch });
  return { model: kernel.model, vmm: kernel.spawn({ uid: 1000, cgroup: "/a" }) };
}

/** A device that holds a request until `release`, and one request that it holds. */
async function inTheMidst(vmm: Process, { forkFromOwner }: Mode) {
  const words = new Int32Array(new SharedArrayBuffer(12));
  const device = await vmm.open(custom("holds", { words: words.buffer }), { forkFromOwner });
  const { host, guest } = device.dev.sharedMemory;
  const free = () => [host.freeBytes, guest.freeBytes];
  const before = free();
  const driver = await device.driver();
  const request = driver.request(0, new Uint8Array(4), 16);
  request.catch(() => {}); // looked at later
  await until(() => Atomics.load(words, 0) === 1);
  const release = () => {
    Atomics.store(words, 1, 1);
    Atomics.notify(words, 1);
  };
  return { device, driver, request, release, words, free, before };
}

const ended = (device: OpenDevice<"custom">) => {
  return new Promise<void>((resolve) => device.onDeath(() => resolve()));
};

describe.each(MODES)("$epoch, forkFromOwner $forkFromOwner", (mode) => {
  const { forkFromOwner } = mode;

  test("SIGKILL to the worker in the middle of a request", async () => {
    const { model, vmm } = boot(mode);
    const threads = threadCount();
    const { device, driver, request, release, free, before } = await inTheMidst(vmm, mode);
    model.kill(device.workerTask.pid, SIGKILL);
    expect(vmm.task.exitState !== 0).toBe(isOwners(mode));
    if (endsWithOwner(mode)) {
      await rejected("ENODEV", request); // its thread is ended in the middle of it
    } else if (isOwners(mode)) {
      release(); // the worker goes on until the file is closed, which it is by now
      await ended(device);
      await request.catch((error) => expect(error).toMatchObject({ code: "ENODEV" }));
    } else {
      release(); // nothing happened
      expect(await request).toEqual(new Uint8Array(16).fill(0xee));
      expect((await driver.request(0, new Uint8Array(4), 4)).length).toBe(4);
    }
    await device.close();
    await rejected("ENODEV", driver.request(0, new Uint8Array(4), 4));
    expect(free()).toEqual(before);
    await vmm.exit();
    expect([model.tasks().length, model.cgroup("/a").pidsCurrent]).toEqual([2, 0]);
    await until(() => threadCount() === threads);
  });

  test("SIGKILL to the owner in the middle of a request that ends soon: it ends", async () => {
    const { model, vmm } = boot(mode);
    const threads = threadCount();
    const { device, request, release, words } = await inTheMidst(vmm, mode);
    const turns = Atomics.load(words, 2);
    const began = performance.now();
    model.kill(vmm.pid, SIGKILL);
    setTimeout(release, 10);
    await ended(device);
    await until(() => threadCount() === threads);
    const isSoon = performance.now() - began < TURN_MS_MAX; // it was, unless others had the cores
    expect(Atomics.load(words, 2) - turns).toBeOneOf(isSoon ? [1] : [0, 1]);
    await request.catch((error) => expect(error).toMatchObject({ code: "ENODEV" }));
    await device.close();
  });

  test("SIGKILL to the owner with requests in flight: all end, nobody has to close", async () => {
    const { model, vmm } = boot(mode);
    const { mm } = vmm.task;
    const threads = threadCount();
    const device = await vmm.open(custom("hangs"), { forkFromOwner });
    const { host, guest } = device.dev.sharedMemory;
    const before = [host.freeBytes, guest.freeBytes];
    const driver = await device.driver();
    const requests = [0, 1].flatMap((queue) =>
      [1, 2, 3].map(() => driver.request(queue, new Uint8Array(8), 8)),
    );
    await Promise.resolve(); // they are published
    const rejections = Promise.all(requests.map((request) => rejected("ENODEV", request)));
    model.kill(vmm.pid, SIGKILL);
    await rejections;
    await ended(device);
    await until(() => threadCount() === threads);
    await device.close(); // waits for the close that the kill began
    expect([host.freeBytes, guest.freeBytes]).toEqual(before);
    expect([model.tasks().length, model.cgroup("/a").pidsCurrent]).toEqual([2, 0]);
    expect([model.ucounts.nproc(1000), model.ucounts.nproc(0), mm?.users]).toEqual([0, 3, 0]);
  });

  test("SIGKILL to the owner in the middle of a request, another has the file open", async () => {
    const { model, vmm } = boot(mode);
    const { device, driver, request, release, free, before } = await inTheMidst(vmm, mode);
    const holder = copyProcess(model, vmm.task, { flags: CLONE_VM });
    model.kill(vmm.pid, SIGKILL);
    if (endsWithOwner(mode)) {
      await rejected("ENODEV", request);
    } else {
      release();
      expect(await request).toEqual(new Uint8Array(16).fill(0xee));
      expect((await driver.request(0, new Uint8Array(4), 4)).length).toBe(4);
    }
    model.kill(holder.pid, SIGKILL);
    await ended(device);
    await device.close();
    expect(free()).toEqual(before);
    expect(model.tasks()).toHaveLength(2);
  });

  test.each([
    ["throws", /a bug of its own/],
    ["exits", /exit code 3/],
  ])("a thread that %s is its task's death, not its owner's", async (how, why) => {
    const { model, vmm } = boot(mode);
    const threads = threadCount();
    const device = await vmm.open(custom(how), { forkFromOwner });
    const { host, guest } = device.dev.sharedMemory;
    const before = [host.freeBytes, guest.freeBytes];
    const driver = await device.driver();
    const error = await rejected("ENODEV", driver.request(0, new Uint8Array(8), 8));
    expect(error.message).toMatch(why);
    expect(vmm.task.exitState).toBe(0);
    await device.close();
    expect([host.freeBytes, guest.freeBytes]).toEqual(before);
    expect(vmm.task.files?.fds.size).toBe(0);
    const next = await vmm.open(custom("echo"), { forkFromOwner });
    const answer = await (await next.driver()).request(0, Uint8Array.of(7), 1);
    expect(answer).toEqual(Uint8Array.of(7));
    await vmm.exit();
    expect([model.tasks().length, model.ucounts.nproc(0), model.ucounts.nproc(1000)]).toEqual([
      2, 3, 0,
    ]);
    await until(() => threadCount() === threads);
  });
});

test.each(MODES)("out of memory: $epoch, forkFromOwner $forkFromOwner", async (mode) => {
  const script = new URL("../helpers/oom-child.mjs", import.meta.url).pathname;
  const args = ["--max-old-space-size=48", script, mode.epoch, `${mode.forkFromOwner}`];
  const { stdout } = await promisify(execFile)(globalThis.process.execPath, args);
  const { code, message, nproc, echo } = JSON.parse(stdout);
  expect(message).toMatch(/died.*memory/);
  expect({ code, nproc, echo }).toEqual({ code: "ENODEV", nproc: 1, echo: "still here" });
});

// Where the worker does not end with its owner it has its grace of 5 s: all modes at once.
test("SIGKILL to the owner while its device is being made: the open rejects", async () => {
  const threads = threadCount();
  const killed = MODES.map(async (mode) => {
    const { model, vmm } = boot(mode);
    const words = new Int32Array(new SharedArrayBuffer(4));
    const { forkFromOwner } = mode;
    const opening = vmm.open(custom("createWaits", { words: words.buffer }), { forkFromOwner });
    const rejection = rejected("ENODEV", opening);
    await until(() => Atomics.load(words, 0) === 1);
    model.kill(vmm.pid, SIGKILL);
    await rejection;
    expect(model.tasks()).toHaveLength(2);
  });
  await Promise.all(killed);
  await until(() => threadCount() === threads);
});
