// The io workers of a disk, a ring's own thread and the workers of both obey as all of a process
// does: stopped and frozen, also with nothing to do; held and charged by their control group; told
// to end in any of these states. Nothing that was asked meanwhile is lost.

import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import {
  type BlkDriver,
  blk,
  exitIoWq,
  IORING_OP_READ,
  IoUring,
  Kernel,
  type OpenDevice,
  openHostFile,
  type Process,
  SqPollRing,
} from "#dist/index.js";
import type { ThreadExit } from "#dist/kernel/thread.js";
import { SIGNALS } from "#dist/spec/signal.js";
import { pattern } from "../helpers/blk-raw.js";
import { until } from "../helpers/devices.js";
import { tempFiles } from "../helpers/temp-file.js";

const { SIGSTOP, SIGCONT, SIGKILL } = SIGNALS;
/** Far longer than a worker that may run takes for a job. */
const A_WHILE_MS = 100;
const BYTES = 64 << 10;
const makeFile = tempFiles();

/** Something with io workers, of one process. */
interface Engine {
  /** Reads the file; resolves when that is done. */
  read(): Promise<void>;
  /** Ends it, and its workers. */
  close(): Promise<void>;
}

async function makeDisk(vmm: Process, file: string): Promise<Engine> {
  const disk: OpenDevice<"blk"> = await vmm.open(blk({ file, io: "uring" }));
  const drive: BlkDriver = await disk.driver();
  const read = async () => {
    expect((await drive.read(0, BYTES))[BYTES - 1]).toBe(7);
  };
  return { read, close: () => disk.close() };
}

/** A ring with a thread of its own, or one that is entered here. */
function makeRing(vmm: Process, kernel: Kernel, file: string, isPolled: boolean): Engine {
  const fd = openHostFile(vmm, file);
  const ring = isPolled
    ? new SqPollRing(kernel, vmm, { entries: 8, sqThreadIdle: 5 })
    : new IoUring(kernel, vmm, { entries: 8 });
  const { address, bytes } = ring.alloc(BYTES);
  const read = async () => {
    ring.queue({ opcode: IORING_OP_READ, fd, address, length: BYTES });
    ring.submit();
    await ring.getEvents(1);
    expect(ring.completions().map(({ res }) => res)).toEqual([BYTES]);
    expect(bytes[BYTES - 1]).toBe(7);
  };
  const close = async () => {
    if (!isPolled) await exitIoWq(vmm);
    await ring.close();
  };
  return { read, close };
}

describe.each(["a disk", "SqPollRing", "IoUring"] as const)("%s", (what) => {
  let kernel: Kernel;
  let vmm: Process;
  let engine: Engine;
  beforeEach(async () => {
    kernel = new Kernel({ epoch: "v6.12" });
    vmm = kernel.spawn({ uid: 1000, cgroup: "/a", memoryBytes: 4 << 20 });
    const file = makeFile(pattern(BYTES, 1).fill(7));
    if (what === "a disk") engine = await makeDisk(vmm, file);
    else engine = makeRing(vmm, kernel, file, what === "SqPollRing");
    await engine.read();
  });
  afterEach(async () => {
    await engine.close();
    await vmm.exit();
  });

  const threads = () => kernel.ps({ threads: true }).filter(({ comm }) => comm.startsWith("iou-"));
  const areAll = (state: string) => () =>
    threads().length > 0 && threads().every((row) => row.state === state);
  const isDone = (work: Promise<unknown>) =>
    Promise.race([work.then(() => true), sleep(A_WHILE_MS, false)]);
  /** A read that waits. A thread that is past its look for orders may do one before it obeys. */
  const heldRead = async (): Promise<{ read: Promise<void> }> => {
    for (let left = 5; ; left--) {
      expect(left, "reads done by who may not run").toBeGreaterThan(0);
      const read = engine.read();
      if (!(await isDone(read))) return { read };
    }
  };

  test("stops with its process, idle or not, and goes on with it", async () => {
    for (let round = 0; round < 5; round++) {
      if (round % 2 === 0) await sleep(20); // they sleep
      kernel.kill(vmm.pid, SIGSTOP);
      await until(areAll("T"));
      const read = engine.read();
      expect(await isDone(read)).toBe(false);
      expect(areAll("T")()).toBe(true);
      kernel.kill(vmm.pid, SIGCONT);
      await read;
    }
  });

  test("is frozen with its group", async () => {
    await sleep(20);
    kernel.cgroup("/a").freeze = true;
    const { read } = await heldRead();
    await until(areAll("S"));
    kernel.cgroup("/a").freeze = false;
    await read;
  });

  test("stopped and let go at any moment, it loses nothing", async () => {
    let isOver = false;
    const reads = (async () => {
      for (let i = 0; i < 300; i++) await engine.read();
      isOver = true;
    })();
    for (let i = 0; !isOver; i++) {
      kernel.kill(vmm.pid, i % 2 === 0 ? SIGSTOP : SIGCONT);
      await sleep(i % 3);
      if (i % 2 === 1) await sleep(i % 5);
    }
    kernel.kill(vmm.pid, SIGCONT);
    await reads;
  });

  test("is charged to its group, and waits when that has no time left", async () => {
    const before = threads().reduce((sum, { cpuTimeUs }) => sum + cpuTimeUs, 0);
    const used = () => threads().reduce((sum, { cpuTimeUs }) => sum + cpuTimeUs, 0) - before;
    while (used() < 2000) await engine.read();
    const group = kernel.cgroup("/a");
    expect(group.cpuStat.usageUsec).toBeGreaterThanOrEqual(used());
    await sleep(10);
    group.cpuMax = { quotaUs: 1000, periodUs: 1_000_000 };
    group.cpu.charge(group.number, 60_000);
    const { read } = await heldRead();
    await expect.poll(() => group.cpuStat.nrThrottled).toBeGreaterThanOrEqual(1);
    group.cpuMax = { quotaUs: Number.POSITIVE_INFINITY, periodUs: 100_000 };
    await read;
  });

  /** How all of its threads end. */
  function endsOfThreads(): Promise<ThreadExit[]> {
    const tasks = kernel.model.tasks().filter(({ comm }) => comm.startsWith("iou-"));
    expect(tasks.length).toBeGreaterThan(0);
    return Promise.all(tasks.flatMap(({ thread }) => thread?.exited ?? []));
  }

  /** Brings it into a state in which it does nothing, with something to do. */
  async function halt(how: string): Promise<{ read: Promise<unknown> }> {
    const group = kernel.cgroup("/a");
    if (how === "stopped") kernel.kill(vmm.pid, SIGSTOP);
    if (how === "frozen") group.freeze = true;
    if (how === "throttled") {
      group.cpuMax = { quotaUs: 1000, periodUs: 1_000_000 };
      group.cpu.charge(group.number, 60_000);
    }
    await sleep(20);
    const read = engine.read().catch(() => undefined);
    await sleep(20);
    return { read }; // not to be waited for yet
  }

  test.each(["stopped", "frozen", "throttled"])("%s, it is closed at once", async (how) => {
    const { read } = await halt(how);
    const ends = endsOfThreads();
    await engine.close();
    await read;
    expect(threads()).toEqual([]);
    // By themselves: one that is ended by force, after 5 s, says so.
    for (const end of await ends) expect(end).toEqual({ code: 0, stopped: true });
  });

  test.each(["stopped", "frozen", "throttled"])("%s, it is killed at once", async (how) => {
    const { read } = await halt(how);
    const ends = endsOfThreads();
    kernel.kill(vmm.pid, SIGKILL);
    await engine.close();
    if (what !== "IoUring") await read; // whose getEvents ends with the ring
    for (const end of await ends) expect(end.error).toMatchObject({ code: "EINTR" });
    expect(kernel.model.tasks()).toHaveLength(2);
  });
});
