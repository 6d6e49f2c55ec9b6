// One worker that serves several devices of its owner.

import { setTimeout as after } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { blk, Kernel } from "#dist/index.js";
import { isHalted } from "#dist/kernel/halt.js";
import { STOP_GRACE_MS } from "#dist/kernel/vhost-task.js";
import type { OpenDevice } from "#dist/loopback.js";
import { GUEST_BASE } from "#dist/memory/shared-memory.js";
import { SIGNALS } from "#dist/spec/signal.js";
import type { Doorbell } from "#dist/vhost/notify.js";
import { pattern } from "../helpers/blk-raw.js";
import { custom, rejected, threadCount } from "../helpers/devices.js";
import { MODES, THREADS } from "../helpers/raw-guest.js";
import { tempFiles } from "../helpers/temp-file.js";

const makeFile = tempFiles();
const DISK = { memoryBytes: 1 << 20, queues: 2 };
const boot = () => new Kernel({ epoch: "v6.12" }).spawn({ uid: 1000, memoryBytes: 16 << 20 });
const wholeOf = ({ dev }: OpenDevice<"blk">) => {
  const { guestStart, guestBytes } = dev.sharedMemory;
  const sizeBytes = BigInt(guestBytes);
  return { guestAddress: GUEST_BASE, sizeBytes, linearAddress: guestStart };
};
type Disk = OpenDevice<"blk" | "custom">;

/** Devices without a thread are asked in turn until `work` has ended. */
async function pumpAll<T>(disks: readonly Disk[], work: Promise<T>): Promise<T> {
  let isDone = false;
  const end = () => {
    isDone = true;
  };
  work.then(end, end);
  while (!isDone) {
    for (const disk of disks) disk.runPending();
    await after(0);
  }
  return work;
}

/** Its driver does not look by itself after a second: a call that is lost is never made up for. */
function sleepsUntilCalled(doorbell: Doorbell): void {
  const waitCall = doorbell.waitCall.bind(doorbell);
  doorbell.waitCall = (seen) => waitCall(seen, Number.POSITIVE_INFINITY);
}

describe.each(MODES)("$run, $ring ring", (mode) => {
  test("three disks, one task; each closes by itself, the last ends it", async () => {
    const threads = threadCount();
    const process = boot();
    const first = await process.open(blk(DISK), mode);
    const second = await process.open(blk(DISK), { ...mode, worker: first });
    const third = await process.open(blk(DISK), { ...mode, worker: second });
    const all = [first, second, third];
    const run = <T>(disks: Disk[], work: Promise<T>) =>
      mode.run === "inline" ? pumpAll(disks, work) : work;
    expect(new Set(all.map(({ workerTask }) => workerTask)).size).toBe(1);
    expect(threadCount() - threads).toBe(mode.run === "inline" ? 0 : 1);
    const drives = await Promise.all(all.map((disk) => disk.driver()));
    const use = (seed: number, which = [0, 1, 2]) =>
      Promise.all(
        which.map(async (i) => {
          const bytes = pattern(8192, seed + i);
          await drives[i]?.write(0, bytes);
          expect(Buffer.compare((await drives[i]?.read(0, 8192)) ?? bytes.slice(1), bytes)).toBe(0);
        }),
      );
    for (let round = 0; round < 20; round++) await run(all, use(round));
    await first.close();
    await rejected("ENODEV", drives[0]?.read(0, 512) as Promise<unknown>);
    await rejected("ENODEV", process.open(blk(DISK), { ...mode, worker: first }));
    for (let round = 0; round < 20; round++) await run([second, third], use(round, [1, 2]));
    const ended = new Promise<Error>((resolve) => second.onDeath(resolve));
    await second.close();
    expect((await ended).message).toMatch(/the device is closed/);
    await run([third], use(99, [2]));
    const { task } = third.dev.worker.task;
    await third.close();
    expect([threadCount(), task.exitState === 0]).toEqual([threads, false]);
    expect(process.task.mm?.users).toBe(1);
    await process.exit();
  });

  test("one that is spread has further workers of its own", async () => {
    const process = boot();
    const first = await process.open(blk(DISK), mode);
    const second = await process.open(blk(DISK), { ...mode, worker: first, workers: 2 });
    expect(second.workerTasks.get(0)).toBe(first.workerTask);
    expect(second.workerTasks.get(1)).not.toBe(first.workerTask);
    await first.close();
    const drive = await second.driver();
    const reads = Promise.all([drive.read(0, 512), drive.read(512, 512)]);
    await (mode.run === "inline" ? pumpAll([second], reads) : reads);
    await process.exit();
  });
});

test("EPERM: another process's; EINVAL: not in the same way", async () => {
  const [process, other] = [boot(), boot()];
  const disk = await process.open(blk(DISK), { run: "inline" });
  const users = process.task.mm?.users;
  await rejected("EPERM", other.open(blk(DISK), { run: "inline", worker: disk }));
  await rejected("EINVAL", process.open(blk(DISK), { worker: disk }));
  expect(process.task.mm?.users).toBe(users);
  await Promise.all([process.exit(), other.exit()]);
});

describe.each(THREADS)("$run, $ring ring", (mode) => {
  test("no wake-up is lost, whichever device it is for", async () => {
    const process = boot();
    const never = { ...mode, pollMicroseconds: 0 };
    const first = await process.open(blk(DISK), never);
    const second = await process.open(blk(DISK), { ...never, worker: first });
    for (const { dev } of [first, second]) sleepsUntilCalled(dev.worker.doorbell);
    const drives = [await first.driver(), await second.driver()];
    for (let round = 0; round < 1000; round++) {
      for (let spins = (round * 7919) % 300; spins > 0; spins--) performance.now();
      await drives[round % 2]?.read(0, 512);
    }
    await process.exit();
  });

  test("a device that throws takes the others along", async () => {
    const process = boot();
    const first = await process.open(blk(DISK), mode);
    const drive = await first.driver();
    const second = await process.open(custom("throws"), { ...mode, worker: first });
    const driver = await second.driver();
    await rejected("ENODEV", driver.request(0, new Uint8Array(4), 4));
    expect((await rejected("ENODEV", drive.read(0, 512))).message).toMatch(/a bug of its own/);
    await first.close();
    await second.close();
    expect(process.task.mm?.users).toBe(1);
    await process.exit();
  });

  test("one that can't be made leaves the others", async () => {
    const process = boot();
    const first = await process.open(blk(DISK), mode);
    const drive = await first.driver();
    for (const how of ["createThrows", "tooManyQueues", "no such"]) {
      await rejected(
        how === "tooManyQueues" ? "EINVAL" : "EIO",
        process.open(custom(how), { ...mode, worker: first }),
      );
      expect((await drive.read(0, 512)).length).toBe(512);
    }
    await process.exit();
  });
});

test("stopped: a device leaves it at once; the process may exit at once", async () => {
  const kernel = new Kernel({ epoch: "v6.12" });
  const process = kernel.spawn({ memoryBytes: 4 << 20 });
  const first = await process.open(blk(DISK));
  const second = await process.open(blk(DISK), { worker: first });
  const third = await process.open(blk(DISK), { worker: first });
  kernel.kill(process.pid, SIGNALS.SIGSTOP);
  await after(50);
  const closed = first.close();
  await closed;
  expect(isHalted(second.workerTask)).toBe(true);
  await process.exit();
  await Promise.all([second.close(), third.close()]);
  expect(kernel.model.tasks()).toHaveLength(2);
});

test("stopped: one that leaves does not end a device whose io workers are stopped", async () => {
  const kernel = new Kernel({ epoch: "v6.12" });
  const process = kernel.spawn({ memoryBytes: 8 << 20 });
  const disk = await process.open(blk({ file: makeFile(1 << 20), io: "uring" }));
  const other = await process.open(blk(DISK), { worker: disk });
  const drive = await disk.driver({ queueSize: 256 });
  const reads = Array.from({ length: 100 }, (_, i) => drive.read(i * 4096, 4096));
  await after(0);
  kernel.kill(process.pid, SIGNALS.SIGSTOP);
  const updated = disk.dev.updateMemTable([wholeOf(disk)]); // waits for the reads
  const closed = other.close();
  await after(STOP_GRACE_MS + 500);
  kernel.kill(process.pid, SIGNALS.SIGCONT);
  await Promise.all([updated, closed]);
  expect((await Promise.all(reads)).map(({ length }) => length)).toEqual(Array(100).fill(4096));
  await process.exit();
});
