// The workers of one device: made, attached to queues, freed, as Linux's VHOST_NEW_WORKER,
// VHOST_FREE_WORKER, VHOST_ATTACH_VRING_WORKER and VHOST_GET_VRING_WORKER have it; and what becomes
// of a device when one of them dies.

import { statSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { blk, Kernel } from "#dist/index.js";
import type { OpenDevice } from "#dist/loopback.js";
import { VIRTIO_BLK_CONFIG_WRITEBACK } from "#dist/spec/virtio-blk.js";
import { custom, rejected, threadCount, until } from "../helpers/devices.js";
import { refused } from "../helpers/kernel-counts.js";
import { pump } from "../helpers/pump.js";
import { IO_MODES, MODES, THREADS } from "../helpers/raw-guest.js";
import { tempFiles } from "../helpers/temp-file.js";

const QUEUES = 4;
const DISK = { memoryBytes: 1 << 20, queues: QUEUES };
const one = Uint8Array.of(1, 0, 0, 0);
const zero = new Uint8Array(4);
const makeFile = tempFiles();

const boot = () => new Kernel().spawn({ uid: 1000, cgroup: "/a", memoryBytes: 16 << 20 });
const layout = (device: OpenDevice<"blk" | "custom">, queues = QUEUES) =>
  Array.from({ length: queues }, (_, index) => device.workerOf(index));

describe("numbers and errors are Linux's", () => {
  const open = async () => boot().open(blk(DISK), { run: "inline" });

  test("numbers from 0, the lowest that is free; a freed one comes again", async () => {
    await using disk = await open();
    expect(layout(disk)).toEqual([0, 0, 0, 0]);
    for (const id of [1, 2, 3]) expect(await disk.newWorker()).toBe(id);
    await disk.freeWorker(2);
    await disk.freeWorker(1);
    expect([await disk.newWorker(), await disk.newWorker()]).toEqual([1, 2]);
    expect([...disk.workerTasks.keys()].sort()).toEqual([0, 1, 2, 3]);
  });

  test("ENODEV: no such worker; EBUSY: it has queues; ENOBUFS first: no such queue", async () => {
    await using disk = await open();
    await rejected("ENODEV", disk.freeWorker(1));
    await rejected("ENODEV", disk.attachQueue(0, 1));
    await rejected("ENOBUFS", disk.attachQueue(QUEUES, 1));
    refused("ENOBUFS", () => disk.workerOf(QUEUES));
    await rejected("EBUSY", disk.freeWorker(0));
    await disk.newWorker();
    await disk.attachQueue(3, 1);
    await disk.attachQueue(3, 1);
    expect(layout(disk)).toEqual([0, 0, 0, 1]);
    await rejected("EBUSY", disk.freeWorker(1));
    await disk.attachQueue(3, 0);
    await disk.freeWorker(1);
    expect(layout(disk)).toEqual([0, 0, 0, 0]);
  });

  test("before there is an owner, EPERM; before there is a device, no queue", async () => {
    await using disk = await open();
    const { VhostDev } = await import("#dist/vhost/dev.js");
    const dev = new VhostDev(new Kernel().model);
    await rejected("EPERM", dev.newWorker());
    dev.setOwner(boot().task);
    expect(await dev.newWorker()).toBe(1);
    await rejected("ENOBUFS", dev.attachVringWorker(0, 1));
    await rejected("EBUSY", dev.freeWorker(0));
    await dev.freeWorker(1);
    await dev.close();
    await rejected("ENODEV", dev.newWorker());
    expect(layout(disk)).toEqual([0, 0, 0, 0]);
  });

  test("EOPNOTSUPP: a device that has to live in one worker", async () => {
    await using process = boot();
    const device = await process.open(custom("echo"), { run: "inline" });
    await rejected("EOPNOTSUPP", device.newWorker());
    await rejected("EOPNOTSUPP", process.open(custom("echo", { queues: 2 }), { workers: 2 }));
    expect([...device.workerTasks.keys()]).toEqual([0]);
  });

  test("EINVAL: no number of workers that the queues could have", async () => {
    await using process = boot();
    for (const workers of [0, -1, 1.5, Number.NaN, QUEUES + 1]) {
      await rejected("EINVAL", process.open(blk(DISK), { workers }));
    }
    expect(process.task.mm?.users).toBe(1);
  });
});

describe.each(IO_MODES)("$run, $ring ring, io $io", ({ io, ...mode }) => {
  const spec = () => blk({ file: makeFile(1 << 20), queues: QUEUES, io });

  test("queues in turn; the first worker may go; nothing is left", async () => {
    const threads = threadCount();
    const process = boot();
    const disk = await process.open(spec(), { ...mode, workers: 3 });
    const run = <T>(work: Promise<T>) => (mode.run === "inline" ? pump(disk, work) : work);
    expect(layout(disk)).toEqual([0, 1, 2, 0]);
    const drive = await disk.driver();
    const bytes = (fill: number) => new Uint8Array(4096).fill(fill);
    const writeAll = (plus: number) =>
      run(Promise.all([...Array(32).keys()].map((i) => drive.write(i * 4096, bytes(i + plus)))));
    await writeAll(1);
    for (const index of [0, 3]) await run(disk.attachQueue(index, index === 0 ? 1 : 2));
    await run(disk.freeWorker(0));
    await writeAll(2);
    for (let i = 0; i < 32; i++)
      expect(await run(drive.read(i * 4096, 4096))).toEqual(bytes(i + 2));
    expect(await run(drive.getId())).toBe("vhost-wasm");
    expect(disk.dev.worker.counters.total().requests).toBeGreaterThanOrEqual(97);
    expect(await disk.newWorker()).toBe(0);
    for (const index of [...Array(QUEUES).keys()]) await run(disk.attachQueue(index, 0));
    await writeAll(3);
    await drive.close();
    const again = await disk.driver();
    expect(await run(again.read(4096, 4096))).toEqual(bytes(4));
    const ended = new Promise<Error>((resolve) => disk.onDeath(resolve));
    await disk.close();
    expect((await ended).message).toMatch(/the device is closed/);
    expect([threadCount(), process.task.mm?.users]).toEqual([threads, 1]);
    await process.exit();
  });
});

test("a file of another size by then: the disk is as large as it was", async () => {
  const file = makeFile(1 << 20);
  await using process = boot();
  const disk = await process.open(blk({ file, queues: 2 }), { run: "inline" });
  const { truncateSync } = await import("node:fs");
  truncateSync(file, 2 << 20);
  const id = await disk.newWorker();
  await disk.attachQueue(1, id);
  const drive = await disk.driver();
  const ends = [0, 1].map(() => drive.write((1 << 20) - 512, new Uint8Array(512).fill(7)));
  await pump(disk, Promise.all(ends));
  expect([drive.sizeBytes, statSync(file).size]).toEqual([1 << 20, 2 << 20]);
});

describe.each(MODES)("$run, $ring ring", (mode) => {
  test("the mode of a disk's cache is one for all workers, also for a later one", async () => {
    const words = new Int32Array(new SharedArrayBuffer(12));
    await using process = boot();
    const spec = custom("countingBlk", { sizeBytes: 1 << 20, words: words.buffer, queues: 2 });
    const device = await process.open({ ...spec, kind: "blk" }, mode);
    const run = <T>(work: Promise<T>) => (mode.run === "inline" ? pump(device, work) : work);
    const drive = await device.driver();
    const flushes = async (work: () => Promise<unknown>) => {
      const before = Atomics.load(words, 0);
      await run(work());
      return Atomics.load(words, 0) - before;
    };
    const write = () => drive.write(0, new Uint8Array(512));
    expect(await flushes(async () => [await write(), await write()])).toBe(0);
    await device.dev.writeConfig(VIRTIO_BLK_CONFIG_WRITEBACK, Uint8Array.of(0));
    await device.attachQueue(1, await device.newWorker());
    expect(await flushes(async () => [await write(), await write()])).toBe(2);
    await device.dev.writeConfig(VIRTIO_BLK_CONFIG_WRITEBACK, Uint8Array.of(1));
    expect(await flushes(async () => [await write(), await write()])).toBe(0);
    await device.close();
    expect(Atomics.load(words, 2)).toBe(2); // closed, both
  });

  test("all that was pending has had a turn when a flush ends", async () => {
    const words = new Int32Array(new SharedArrayBuffer(8));
    const spec = custom("waits", { words: words.buffer, queues: 2, shared: true });
    await using process = boot();
    const device = await process.open(spec, { ...mode, workers: 2 });
    const driver = await device.driver();
    await device.dev.flush();
    for (let round = 0; round < 5; round++) {
      const before = Atomics.load(words, 0);
      for (const queue of [0, 1]) device.dev.workers.kick(queue);
      await device.dev.flush();
      expect(Atomics.load(words, 0) - before).toBeGreaterThanOrEqual(2);
    }
    await driver.close();
  });
});

describe.each(THREADS)("$run, $ring ring: a further worker dies", (mode) => {
  const open = async (process = boot()) => {
    const device = await process.open(custom("fragile", { queues: 3 }), { ...mode, workers: 2 });
    expect(layout(device, 3)).toEqual([0, 1, 0]);
    return { process, device, driver: await device.driver() };
  };

  test("by a bug: its queue stands still and says why, the others go on", async () => {
    const { process, device, driver } = await open();
    const group = process.task.cgroup;
    const told: [number, string][] = [];
    device.onQueueDeath((index, { message }) => told.push([index, message]));
    expect(await driver.request(1, one, 4)).toEqual(Uint8Array.of(1, 1, 1, 1));
    const [cause, beside] = await Promise.all([
      rejected("ENODEV", driver.request(1, zero, 4)),
      rejected("ENODEV", driver.request(1, one, 4)),
    ]);
    expect(cause.message).toMatch(/died: a zero/);
    expect(beside.cause).toBe(cause.cause);
    expect(told).toEqual([[1, expect.stringMatching(/a zero/)]]);
    await rejected("ENODEV", driver.request(1, one, 4));
    for (const queue of [0, 2]) expect((await driver.request(queue, one, 4)).length).toBe(4);
    refused("EINVAL", () => device.workerOf(1));
    await rejected("EBUSY", device.freeWorker(1));
    await rejected("ENODEV", device.attachQueue(0, 1));
    await rejected("EIO", device.attachQueue(1, 0));
    await until(() => group.pidsCurrent === 2); // it does not stay counted
    await process.exit();
  });

  test("its queue is reset, and given to another: it works again", async () => {
    const { process, device, driver } = await open();
    await rejected("ENODEV", driver.request(1, zero, 4));
    await rejected("EIO", driver.resetQueue(1)); // there is nobody to go on with it yet
    await device.attachQueue(1, await device.newWorker());
    await driver.resetQueue(1);
    expect((await driver.request(1, one, 4)).length).toBe(4);
    expect(layout(device, 3)).toEqual([0, 2, 0]);
    await process.exit();
  });

  test("a driver that comes later is told; without the dead one's queues it comes up", async () => {
    const { process, device, driver } = await open();
    await rejected("ENODEV", driver.request(1, zero, 4));
    await driver.close();
    await rejected("EIO", device.driver());
    await device.attachQueue(1, 0);
    const next = await device.driver();
    expect((await next.request(1, one, 4)).length).toBe(4);
    await process.exit();
  });

  test("the first one: that is the device's end, of all queues", async () => {
    const { process, device, driver } = await open();
    await rejected("ENODEV", driver.request(0, zero, 4));
    for (const queue of [0, 1, 2]) await rejected("ENODEV", driver.request(queue, one, 4));
    await rejected("ENODEV", device.newWorker());
    await device.close();
    expect(process.task.mm?.users).toBe(1);
    await process.exit();
  });

  test("a disk's requests go by the queues that are left", async () => {
    await using process = boot();
    const disk = await process.open(blk(DISK), { ...mode, workers: 4 });
    const drive = await disk.driver();
    await Promise.all([...Array(16).keys()].map((i) => drive.read(i * 512, 512)));
    const dead = new Promise((resolve) => disk.onQueueDeath(resolve));
    await disk.workerTasks.get(2)?.thread?.terminate(new Error("broke"));
    expect(await dead).toBe(2);
    await Promise.all([...Array(64).keys()].map((i) => drive.read(i * 512, 512)));
  });
});

describe("limits of the owner hold for all workers", () => {
  test("RLIMIT_NPROC and pids.max: EAGAIN, and nothing of the device is left", async () => {
    const kernel = new Kernel();
    const vmm = kernel.spawn({ uid: 1000, cgroup: "/a", rlimits: { NPROC: 4 } });
    const group = kernel.model.cgroup("/a");
    await rejected("EAGAIN", vmm.open(blk(DISK), { workers: 4 }));
    expect([group.pidsCurrent, kernel.model.ucounts.nproc(1000)]).toEqual([1, 1]);
    await using disk = await vmm.open(blk(DISK), { workers: 3 });
    expect([group.pidsCurrent, layout(disk)]).toEqual([4, [0, 1, 2, 0]]);
    group.pidsMax = 4;
    vmm.setRlimit("NPROC", 8);
    await rejected("EAGAIN", disk.newWorker());
    await vmm.exit();
    expect(group.pidsCurrent).toBe(0);
  });
});
