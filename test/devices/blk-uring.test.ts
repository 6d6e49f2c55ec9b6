// A disk whose I/O is done by io workers: a request that takes long holds up no other, and every
// request ends once, whatever becomes of the queue, the device and the workers. The test takes
// work out of the table as an io worker does, and is as slow with it as it likes.

import { setImmediate as nextTurn, setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { type BlkDriver, blk, Kernel, type SpawnOptions } from "#dist/index.js";
import { WorkTable } from "#dist/io-uring/work-table.js";
import type { OpenDevice, OpenOptions, Process } from "#dist/loopback.js";
import { errno } from "#dist/spec/errno.js";
import { __TASK_STOPPED, PF_IO_WORKER, PF_USER_WORKER, TASK_THROTTLED } from "#dist/spec/sched.js";
import { SIGNALS } from "#dist/spec/signal.js";
import { VIRTIO_BLK_T_FLUSH } from "#dist/spec/virtio-blk.js";
import { blkHeader, pattern } from "../helpers/blk-raw.js";
import { rejected, threadCount, until } from "../helpers/devices.js";
import { pump } from "../helpers/pump.js";
import { MODES, RawGuest } from "../helpers/raw-guest.js";
import { tempFiles } from "../helpers/temp-file.js";

const makeFile = tempFiles();

/** A disk of two queues, its owner, and an io worker that is the test itself. */
class SlowDisk implements AsyncDisposable {
  readonly kernel = new Kernel();
  readonly process: Process;
  readonly file = makeFile(64 << 10);
  table!: WorkTable;
  disk!: OpenDevice<"blk">;
  drive!: BlkDriver;
  readonly #isInline: boolean;
  /** The test's number as a worker, and the slots that it has. */
  worker = -1;
  readonly slots: number[] = [];
  /** Writes that `hold` has sent. */
  #sent = 0;

  private constructor(options: OpenOptions, spawn: SpawnOptions) {
    this.process = this.kernel.spawn({ uid: 1000, memoryBytes: 4 << 20, ...spawn });
    this.#isInline = options.run === "inline";
  }

  static async open(options: OpenOptions = {}, spawn: SpawnOptions = {}): Promise<SlowDisk> {
    const slow = new SlowDisk(options, spawn);
    const spec = blk({ file: slow.file, queues: 2, io: "uring" });
    const { prepare } = spec;
    const prepared: typeof prepare = (host) => {
      const parts = prepare?.(host);
      if (parts === undefined) throw new Error("nothing was prepared");
      slow.table = new WorkTable(
        (parts.options as { uring: { table: SharedArrayBuffer } }).uring.table,
      );
      return parts;
    };
    slow.disk = await slow.process.open({ ...spec, prepare: prepared }, options);
    slow.drive = await slow.disk.driver();
    slow.worker = slow.table.admit();
    return slow;
  }

  /** Waits, and does the worker's part where it has no thread. */
  async run<T>(work: Promise<T>): Promise<T> {
    const isOver = watch(work);
    while (this.#isInline && !isOver()) {
      if (!this.disk.dev.worker.death) this.disk.runPending();
      await nextTurn();
    }
    return work;
  }

  /** Lets time go by in the same way. */
  pass(ms: number): Promise<void> {
    return this.run(sleep(ms));
  }

  /** Begins a write of the first block that the test then is at: it does not end by itself. */
  async hold(): Promise<{ write: Promise<void> }> {
    for (;;) {
      let isDone = false;
      this.#sent++;
      const write = this.drive.write(0, pattern(4096));
      const end = () => {
        isDone = true;
      };
      write.then(end, end);
      while (!isDone) {
        if (this.#isInline) this.disk.runPending();
        if (this.#takes(1000)) return { write };
        await nextTurn();
      }
    }
  }

  #takes(tries: number): boolean {
    for (let i = 0; i < tries; i++) {
      const slot = this.table.take(this.worker, 0);
      if (slot >= 0) this.slots.push(slot);
      if (slot >= 0) return true;
    }
    return false;
  }

  /** Waits until the device has taken so many requests more than those of `hold`. */
  async seen(more: number): Promise<void> {
    const { counters } = this.disk.dev.worker;
    while (counters.total().requests < this.#sent + more) await this.pass(1);
  }

  /** Ends what the test is at. */
  finish(): void {
    for (const slot of this.slots.splice(0)) this.table.finish(this.worker, slot, 4096);
    this.disk.dev.worker.task.waker.wake();
  }

  /** The io workers' tasks. */
  get ioWorkers() {
    return this.kernel.model.tasks().filter(({ comm }) => comm.startsWith("iou-wrk-"));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.run(this.process.exit());
  }
}

/** Sets the owner's RLIMIT_NPROC. */
function limit({ process: { task } }: SlowDisk, cur: number): void {
  task.signal.rlimits.NPROC = { cur, max: 100 };
}

/** Whether a promise has ended, as of now. */
function watch(work: Promise<unknown>): () => boolean {
  let isOver = false;
  const end = () => {
    isOver = true;
  };
  work.then(end, end);
  return () => isOver;
}

/** Waits, and does the worker's part where it has no thread. */
const pumped = <T>(disk: OpenDevice<"blk">, work: Promise<T>): Promise<T> =>
  disk.dev.worker.inline ? pump(disk, work) : work;

describe.each(MODES)("$run, $ring ring", (mode) => {
  test("a write that takes long: reads of both queues and flushes go on, writes wait", async () => {
    await using slow = await SlowDisk.open(mode);
    const { write } = await slow.hold();
    const next = slow.drive.write(8192, pattern(512, 2));
    const [isFirst, isNext] = [watch(write), watch(next)];
    const reads = Array.from({ length: 40 }, (_, i) => slow.drive.read((i % 8) * 4096, 4096));
    await slow.run(Promise.all([...reads, slow.drive.flush()]));
    await slow.pass(20);
    expect([isFirst(), isNext()]).toEqual([false, false]);
    slow.finish();
    await slow.run(Promise.all([write, next]));
    expect(await slow.run(slow.drive.read(8192, 512))).toEqual(pattern(512, 2));
    expect(slow.disk.errorCounts()).toEqual({});
  });

  test("stopped with a write under way: the stop waits, and the write is answered", async () => {
    await using slow = await SlowDisk.open(mode);
    const { write } = await slow.hold();
    const next = slow.drive.write(8192, pattern(512, 2));
    await slow.seen(1);
    const isWritten = watch(write);
    const stop = slow.disk.dev.stop();
    const isStopped = watch(stop);
    await sleep(30);
    expect([isStopped(), isWritten()]).toEqual([false, false]);
    slow.finish();
    await stop;
    await slow.run(Promise.all([write, next]));
  });

  test.each(["driver", "disk"] as const)("%s closed with a write under way", async (what) => {
    await using slow = await SlowDisk.open(mode);
    const { write } = await slow.hold();
    const waiting = [1, 2, 3].map((i) => slow.drive.write(i * 4096, pattern(512, i)));
    const ends = Promise.allSettled([write, ...waiting]);
    const close = what === "disk" ? slow.disk.close() : slow.drive.close();
    const isClosed = watch(close);
    await slow.pass(30);
    expect(isClosed()).toBe(false); // its buffer may still be written to
    slow.finish();
    await slow.run(close);
    expect((await ends).map(({ status }) => status)).toEqual(Array(4).fill("rejected"));
  });

  test("an io worker that dies: what it was at fails, the rest goes on", async () => {
    await using slow = await SlowDisk.open(mode);
    const { write } = await slow.hold();
    const next = slow.drive.write(8192, pattern(512, 2));
    slow.table.buried(slow.worker, -errno.ECANCELED);
    slow.disk.dev.worker.task.waker.wake();
    await slow.run(rejected("EIO", write));
    await slow.run(next);
    const [worker] = slow.ioWorkers;
    await worker?.thread?.terminate(new Error("killed by the test"));
    expect(slow.ioWorkers).not.toContain(worker);
    await slow.run(slow.drive.write(0, pattern(4096, 5)));
    expect(await slow.run(slow.drive.read(0, 4096))).toEqual(pattern(4096, 5));
    expect(slow.ioWorkers.length).toBeGreaterThan(0);
  });

  test("no io worker and none to be had: every request fails, none hangs", async () => {
    await using slow = await SlowDisk.open(mode);
    slow.table.buried(slow.worker, -errno.ECANCELED); // the test is none any more
    limit(slow, 1);
    for (const { thread } of slow.ioWorkers) await thread?.terminate(new Error("killed"));
    const work = [0, 1, 2].map((i) => rejected("EIO", slow.drive.read(i * 512, 512)));
    await slow.run(Promise.all(work));
    limit(slow, 100);
    await slow.run(slow.drive.read(0, 512)); // and comes back when one may be made
  });
});

test("the workers are io threads of the owner, counted, and gone with the disk", async () => {
  const threads = threadCount();
  const slow = await SlowDisk.open();
  const { kernel, process, disk } = slow;
  const { host } = disk.dev.sharedMemory;
  expect(slow.ioWorkers).toHaveLength(1);
  const [worker] = slow.ioWorkers;
  expect(worker?.comm).toBe(`iou-wrk-${process.pid}`);
  expect(worker?.tgid).toBe(process.pid);
  expect(Number(worker?.flags) & (PF_IO_WORKER | PF_USER_WORKER)).toBe(
    PF_IO_WORKER | PF_USER_WORKER,
  );
  expect(kernel.model.ucounts.nproc(1000)).toBe(3);
  await disk.close();
  expect(kernel.model.ucounts.nproc(1000)).toBe(1);
  const afterBytes = host.freeBytes;
  await (await process.open(blk({ file: slow.file, io: "uring" }))).close();
  expect(host.freeBytes).toBe(afterBytes);
  await process.exit();
  await until(() => threadCount() === threads);
});

test("a limit that leaves no io worker: EAGAIN, and nothing is kept", async () => {
  const kernel = new Kernel();
  const process = kernel.spawn({ uid: 1000, rlimits: { NPROC: 2 } });
  const file = makeFile(4096);
  await rejected("EAGAIN", process.open(blk({ file, io: "uring" })));
  expect(kernel.model.ucounts.nproc(1000)).toBe(1);
  await using disk = await process.open(blk({ file })); // the file is free, too
  expect(disk.dev.info.answersLater).toBe(false);
});

test("the worker dies with a write under way: rejected; all is back when that ends", async () => {
  const slow = await SlowDisk.open();
  const { write } = await slow.hold();
  const work = rejected("ENODEV", write);
  await slow.disk.workerTask.thread?.terminate(new Error("killed by the test"));
  await work;
  slow.finish();
  await slow.process.exit();
  expect(slow.kernel.model.tasks()).toHaveLength(2);
  await (await new Kernel().spawn().open(blk({ file: slow.file }))).close(); // the file is free
});

test.each(["stopped", "throttled"])("%s while it waits to stop: closed at once", async (how) => {
  const slow = await SlowDisk.open({}, { cgroup: "/a" });
  const { kernel, process, disk } = slow;
  const { write } = await slow.hold();
  const next = slow.drive.write(8192, pattern(512, 2)); // after that
  const ends = Promise.allSettled([write, next]);
  await slow.seen(1);
  const stop = disk.dev.stop().catch(() => undefined);
  const isOver = watch(Promise.race([stop, next]));
  await sleep(20); // and waits
  if (how === "stopped") kernel.kill(process.pid, SIGNALS.SIGSTOP);
  const group = kernel.cgroup("/a");
  const state = how === "stopped" ? __TASK_STOPPED : TASK_THROTTLED;
  await until(() => {
    group.cpuMax = { quotaUs: 1000, periodUs: 1_000_000 }; // who sleeps looks at that
    group.cpu.charge(group.number, 60_000);
    return slow.ioWorkers.every((worker) => worker.state === state);
  });
  slow.finish(); // no io worker may begin the next
  await sleep(50);
  expect(isOver()).toBe(false);
  const threads = slow.ioWorkers.map(({ thread }) => thread?.exited);
  await disk.close();
  await Promise.all([stop, ends]);
  // All ended by themselves: those that are ended by force, after 5 s, say so.
  for (const end of await Promise.all(threads)) expect(end).toEqual({ code: 0, stopped: true });
  expect(await disk.dev.worker.task.exited).toEqual({ code: 0, stopped: true });
  await process.exit();
});

test("the owner is killed with requests under way: each ends, and the disk closes", async () => {
  const slow = await SlowDisk.open();
  const reads = Array.from({ length: 50 }, (_, i) => slow.drive.read((i % 8) * 4096, 4096));
  const ends = Promise.allSettled(reads);
  slow.kernel.model.kill(slow.process.pid, 9);
  await ends;
  await slow.disk.close();
  expect(slow.kernel.model.tasks()).toHaveLength(2);
});

test.each(MODES)(
  "more requests than the CQ has room for, all dropped: $run, $ring",
  async (mode) => {
    await using process = new Kernel().spawn({ memoryBytes: 16 << 20 });
    const spec = blk({ file: makeFile(1 << 20), queues: 8, queueSize: 256, io: "uring" });
    const disk = await process.open(spec, mode);
    for (let round = 0; round < 3; round++) {
      const drive = await pumped(disk, disk.driver());
      const reads = Array.from({ length: 700 }, (_, i) => drive.read((i % 200) * 4096, 4096));
      const ends = Promise.allSettled(reads);
      await pumped(disk, drive.close());
      expect(await ends).toHaveLength(700);
    }
    await disk.close();
  },
);

// Policy linux does not count what is in flight.
test("a guest that offers the same again and again takes no memory without end", async () => {
  const spec = blk({ file: makeFile(4096), queueSize: 1024, io: "uring" });
  await using guest = await RawGuest.open(spec, { run: "inline", policy: "linux", num: 1024 });
  const { ring, dev } = guest;
  const head = ring.link([guest.describe(blkHeader(VIRTIO_BLK_T_FLUSH)), guest.describe(1)]);
  const popped = () => dev.worker.counters.total().requests;
  let most = 0;
  for (let i = 0; i < 100; i++) {
    while (ring.availIdx - popped() < 1024) ring.offer(head);
    dev.worker.kick(0);
    for (let turn = 0; turn < 8; turn++) dev.runPending();
    most = Math.max(most, popped() - ring.usedIdx);
  }
  expect(most).toBeGreaterThan(1000);
  expect(most).toBeLessThanOrEqual(1024);
  await guest.until(() => ring.usedIdx === ring.availIdx);
});

test("IN_ORDER is not on offer; io needs a file, and one of two names", async () => {
  await using slow = await SlowDisk.open();
  expect(slow.disk.dev.offeredFeatures & (1n << 35n)).toBe(0n);
  const wrong = { memoryBytes: 512, io: "uring" } as const;
  expect(() => blk(wrong)).toThrow(/EINVAL: io is "inline" or/);
  expect(() => blk({ file: slow.file, io: "aio" as never })).toThrow(/EINVAL: io is/);
});
