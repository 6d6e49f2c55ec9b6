// Opening devices: limits, aborts, missing things; what was made so far is given back.

import { beforeEach, describe, expect, test } from "vitest";
import { blk, Kernel } from "#dist/index.js";
import type { OpenDevice, Process } from "#dist/loopback.js";
import { PF_USER_WORKER, SIGKILL } from "#dist/spec/sched.js";
import { custom, rejected, threadCount, until } from "../helpers/devices.js";
import { pump } from "../helpers/pump.js";
import { tempFiles } from "../helpers/temp-file.js";

const makeFile = tempFiles();
const spec = blk({ nullBytes: 65536 });

let kernel: Kernel;
let threads: number;
beforeEach(() => {
  kernel = new Kernel();
  threads = threadCount();
});

const nproc = () => kernel.model.ucounts.nproc(1000);
const spawn = (options = {}) => kernel.spawn({ uid: 1000, memoryBytes: 4 << 20, ...options });

/** A process with this many tasks counted, and no thread more than at the beginning. */
async function holds(tasks: number): Promise<void> {
  expect(nproc()).toBe(tasks);
  await until(() => threadCount() === threads + tasks - 1);
}

test("the worker is the owner's: its name, user, cgroup and kind", async () => {
  await using process = spawn({ cgroup: "/tenants/a" });
  const device = await process.open(spec);
  const row = kernel.ps().find(({ pid }) => pid === device.workerTask.pid);
  expect(row).toMatchObject({ comm: `vhost-${process.pid}`, uid: 1000, cgroup: "/tenants/a" });
  expect(row?.ppid).toBe(process.pid);
  expect((row?.flags ?? 0) & PF_USER_WORKER).toBe(PF_USER_WORKER);
  expect(device.workerTask.mm).toBe(process.task.mm);
  expect(device.workerTask.files).toBeNull();
});

describe("what fails leaves nothing", () => {
  test("a missing file: ENOENT", async () => {
    const process = spawn();
    for (let i = 0; i < 3; i++) {
      await rejected("ENOENT", process.open(blk({ file: "/nowhere/disk.img" })));
      await holds(1);
    }
  });

  test("RLIMIT_NPROC reached: EAGAIN; a closed device makes room", async () => {
    const process = spawn({ rlimits: { NPROC: 3 } });
    const devices = [await process.open(spec), await process.open(spec)];
    await holds(3);
    for (let i = 0; i < 5; i++) await rejected("EAGAIN", process.open(spec));
    await holds(3);
    await devices[0]?.close();
    await holds(2);
    devices.push(await process.open(spec));
    await rejected("EAGAIN", process.open(spec));
    await process.exit();
    expect(nproc()).toBe(0);
  });

  test("pids.max reached: EAGAIN, and the file is free", async () => {
    kernel.model.cgroup("/a").pidsMax = 1;
    const process = spawn({ cgroup: "/a" });
    const file = makeFile(512);
    await rejected("EAGAIN", process.open(blk({ file })));
    await holds(1);
    expect(kernel.model.cgroup("/a").pidsCurrent).toBe(1);
    kernel.model.cgroup("/a").pidsMax = 2;
    await (await process.open(blk({ file }))).close();
  });

  test("a process that has exited opens nothing: ESRCH", async () => {
    const process = spawn();
    await process.exit();
    await rejected("ESRCH", process.open(spec));
    expect(nproc()).toBe(0);
  });

  test("memory below 1 MiB: EINVAL", async () => {
    await rejected("EINVAL", spawn({ memoryBytes: 65536 }).open(spec));
    await holds(1);
  });
});

describe("aborts", () => {
  test("opening under a signal that has fired does nothing at all", async () => {
    const process = spawn();
    const reason = new Error("never mind");
    const signal = AbortSignal.abort(reason);
    const opening = process.open(spec, { signal });
    expect(nproc()).toBe(1); // not even for a moment
    await expect(opening).rejects.toBe(reason);
    await holds(1);
  });

  test("a signal that fires while the worker begins: everything is given back", async () => {
    const process = spawn();
    const file = makeFile(512);
    const controller = new AbortController();
    const opening = process.open(blk({ file }), { signal: controller.signal });
    controller.abort(new Error("too slow"));
    await expect(opening).rejects.toThrow("too slow");
    await holds(1);
    await (await process.open(blk({ file }), { signal: new AbortController().signal })).close();
  });

  test("a signal that fires after the opening does nothing", async () => {
    await using process = spawn();
    const controller = new AbortController();
    const device = await process.open(spec, { signal: controller.signal });
    controller.abort();
    expect(await (await device.driver()).read(0, 512)).toHaveLength(512);
  });

  test("a read is given up at once; its buffer comes back with the answer", async () => {
    await using process = spawn();
    const device = await process.open(spec, { run: "inline" });
    const drive = await device.driver();
    const { guest } = device.dev.sharedMemory;
    const { freeBytes } = guest;
    const controller = new AbortController();
    const { signal } = controller;
    const reads = [drive.read(0, 512, { signal }), drive.write(0, new Uint8Array(512), { signal })];
    const others = [
      drive.getId({ signal }),
      drive.flush({ signal }),
      drive.discard(0, 512, { signal }),
    ];
    const settled = Promise.allSettled([...reads, ...others]);
    controller.abort(new Error("enough"));
    for (const result of await settled) {
      expect(result).toMatchObject({ status: "rejected", reason: { message: "enough" } });
    }
    expect(guest.freeBytes).toBeLessThan(freeBytes); // the device still has them
    await pump(device, drive.read(512, 512)); // answered after those before it
    await until(() => guest.freeBytes === freeBytes);
    await expect(drive.read(0, 512, { signal })).rejects.toThrow("enough");
    expect(guest.freeBytes).toBe(freeBytes);
  });

  test("a long read ends soon after it was given up", async () => {
    await using process = spawn({ memoryBytes: 16 << 20 });
    const device = await process.open(blk({ nullBytes: 1 << 30 }), { run: "inline" });
    const drive = await device.driver();
    const { guest } = device.dev.sharedMemory;
    const { freeBytes } = guest;
    const controller = new AbortController();
    const read = drive.read(0, 64 << 20, { signal: controller.signal });
    const given = expect(read).rejects.toThrow("enough");
    controller.abort(new Error("enough"));
    await given;
    await pump(device, drive.read(0, 512));
    await until(() => guest.freeBytes === freeBytes); // and no other part was asked for
    expect(device.runPending()).toBe(false);
  });
});

describe("one driver at a time", () => {
  test("a second is EBUSY, also while the first comes up, until that is closed", async () => {
    await using process = spawn();
    const device = await process.open(blk({ memoryBytes: 65536 }));
    const first = device.driver();
    await rejected("EBUSY", device.driver());
    const drive = await first;
    await rejected("EBUSY", device.driver());
    await drive.write(0, new Uint8Array(512).fill(9));
    await drive.close();
    await drive.close();
    await rejected("ENODEV", drive.read(0, 512));
    const next = await device.driver({ queueSize: 8 });
    expect(await next.read(0, 512)).toEqual(new Uint8Array(512).fill(9));
    await drive.close(); // an old driver closes nothing of the new one
    expect(await next.read(0, 512)).toHaveLength(512);
  });

  test.each([
    [2, {}],
    [1, { packed: true }],
  ])("a ring of %i has no room for a disk's request: EINVAL, nothing kept", async (num, ring) => {
    await using process = spawn();
    const device = await process.open(blk({ memoryBytes: 65536 }));
    const { host, guest } = device.dev.sharedMemory;
    const before = [host.freeBytes, guest.freeBytes];
    await rejected("EINVAL", device.driver({ queueSize: num, ...ring }));
    expect([host.freeBytes, guest.freeBytes]).toEqual(before);
    await (await device.driver({ queueSize: 3, packed: true })).read(0, 512);
  });

  test("drivers that come and go give all memory back", async () => {
    await using process = spawn();
    const device = await process.open(blk({ memoryBytes: 65536, queues: 3 }));
    const { host, guest } = device.dev.sharedMemory;
    const before = [host.freeBytes, guest.freeBytes];
    for (let i = 0; i < 10; i++) {
      const drive = await device.driver({ queueSize: 4 << (i % 5) });
      await Promise.all([drive.read(0, 512), drive.write(0, new Uint8Array(1024))]);
      await drive.close();
      expect([host.freeBytes, guest.freeBytes]).toEqual(before);
    }
  });
});

describe("the owner ends", () => {
  /** All of it must be over without anyone closing it. */
  async function isOver(process: Process, device: OpenDevice<"custom">): Promise<void> {
    await new Promise((resolve) => device.onDeath(resolve));
    await device.close();
    expect(nproc()).toBe(0);
    expect(kernel.model.tasks()).toHaveLength(2);
    expect(process.task.exitState).not.toBe(0);
    await until(() => threadCount() === threads);
  }

  test.each(["thread", "inline"] as const)(
    "by SIGKILL, run: %s: what waits is ENODEV",
    async (run) => {
      const process = spawn();
      const device = await process.open(custom("hangs"), { run });
      const driver = await device.driver();
      const pending = rejected("ENODEV", driver.request(0, new Uint8Array(4), 4));
      kernel.model.kill(process.pid, SIGKILL);
      await isOver(process, device);
      await pending;
      await rejected("ENODEV", driver.request(0, new Uint8Array(4), 4));
    },
  );

  test("while it opens a device: open rejects, or what it gave is closed", async () => {
    const process = spawn();
    const opening = process.open(custom("echo"));
    await process.exit();
    await rejected("ENODEV", opening);
    expect(nproc()).toBe(0);
    expect(kernel.model.tasks()).toHaveLength(2);
    await until(() => threadCount() === threads);
  });
});
