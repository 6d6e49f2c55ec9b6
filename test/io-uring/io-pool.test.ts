// Io workers that take their work from a table which all threads share: what becomes of work when
// workers are busy, die, or can't be had.

import { openSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { IoPool } from "#dist/io-uring/io-pool.js";
import type { Job } from "#dist/io-uring/ops.js";
import type { RequestWork } from "#dist/io-uring/ring-ctx.js";
import { TableQueue } from "#dist/io-uring/table-queue.js";
import { TABLE_SLOTS, WorkTable } from "#dist/io-uring/work-table.js";
import { Kernel } from "#dist/kernel/kernel.js";
import type { Task } from "#dist/kernel/task.js";
import { SharedMemory } from "#dist/memory/shared-memory.js";
import { errno } from "#dist/spec/errno.js";
import { __TASK_STOPPED } from "#dist/spec/sched.js";
import { SIGNALS } from "#dist/spec/signal.js";
import { tempFiles } from "../helpers/temp-file.js";

const makeFile = tempFiles();
const NONE: Job = { kind: "none" };

/** What became of work, by name. */
class Work {
  readonly results: [name: string, res: number][] = [];

  make(name: string, job: Job = NONE, hostFd = -1, hash?: number): RequestWork {
    const complete = (res: number) => void this.results.push([name, res]);
    const common = { ring: this, request: {} as never, unbound: false, concurrent: false };
    return { ...common, message: { job, hostFd }, complete, ...(hash !== undefined && { hash }) };
  }
}

describe("a table without threads", () => {
  let table: WorkTable;
  let queue: TableQueue;
  let work: Work;
  let now = 0;
  beforeEach(() => {
    table = new WorkTable();
    table.workersMax = 3;
    queue = new TableQueue(table, () => now);
    work = new Work();
  });

  test("jobs arrive as they were put", () => {
    const jobs: Job[] = [
      { kind: "read", ranges: [{ address: 2 ** 32 - 8, bytes: 8 }], position: 2 ** 52 },
      { kind: "write", ranges: [], position: null },
      { kind: "write", ranges: Array(1024).fill({ address: 1, bytes: 0x7fff_f000 }), position: 0 },
      { kind: "sync", isDataOnly: true },
      { kind: "fallocate", mode: 0x11, position: 2 ** 40, bytes: 2 ** 41 },
      { kind: "open", path: "/ä/".repeat(1000), flags: 0o102, mode: 0o644 },
    ];
    for (const [i, job] of jobs.entries()) {
      table.put(i, job, 40 + i, -1);
      expect(table.job(i)).toEqual({ job, hostFd: 40 + i });
    }
  });

  test("of one hash one is done at a time; other work goes on", () => {
    const [a, b] = [table.admit(), table.admit()];
    for (const name of ["w1", "w2"]) queue.enqueue(work.make(name, NONE, -1, 7));
    queue.enqueue(work.make("read"));
    const first = table.take(a, 127);
    const second = table.take(b, 127);
    expect([first, second, table.take(b, 127)]).toEqual([0, 2, -1]);
    table.finish(a, first, 1);
    expect(table.take(b, 127)).toBe(1);
    expect(queue.reap()).toBe(true);
    expect(work.results).toEqual([["w1", 1]]);
  });

  test("more work than slots waits, in its order, and none is lost", () => {
    const worker = table.admit();
    const count = 3 * TABLE_SLOTS + 5;
    for (let i = 0; i < count; i++) queue.enqueue(work.make(`${i}`));
    for (let left = count; left > 0; left--) {
      const slot = table.take(worker, (count - left + 127) % TABLE_SLOTS);
      table.finish(worker, slot, 0);
      queue.reap();
    }
    expect(work.results.map(([name]) => Number(name))).toEqual([...Array(count).keys()]);
    expect(table.take(worker, 0)).toBe(-1);
  });

  test("work that waits while nothing gets done brings a worker, 1 ms later", () => {
    const worker = table.admit();
    for (const name of ["slow", "next"]) queue.enqueue(work.make(name));
    queue.kick();
    const slot = table.take(worker, 127);
    now = 10;
    expect([queue.tend(), table.askSeq]).toEqual([1, 0]);
    now = 11;
    expect([queue.tend(), table.askSeq]).toEqual([1, 1]);
    now = 20;
    queue.tend(); // the question is not answered yet
    expect(table.askSeq).toBe(1);
    expect(table.admit()).toBe(1); // on its way: no other is needed
    expect(queue.tend()).toBe(Number.POSITIVE_INFINITY);
    table.finish(worker, slot, 0);
    expect(queue.reap()).toBe(true);
  });

  test("a worker that dies at work ends it, and frees its hash", () => {
    const [a, b] = [table.admit(), table.admit()];
    for (const name of ["w1", "w2"]) queue.enqueue(work.make(name, NONE, -1, 7));
    table.take(a, 127);
    table.buried(a, -errno.ECANCELED);
    queue.reap();
    expect(work.results).toEqual([["w1", -errno.ECANCELED]]);
    expect(table.take(b, 127)).toBe(1);
    expect(table.workers.count).toBe(1);
  });

  test("the last worker stays; one that leaves with work in sight comes back", () => {
    const [a, b] = [table.admit(), table.admit()];
    expect(table.leave(a)).toBe(true);
    expect(table.leave(b)).toBe(false);
    queue.enqueue(work.make("late"));
    expect(table.take(a, 127)).toBe(0);
    expect(table.leave(b)).toBe(true);
    table.buried(b, -errno.ECANCELED);
    expect(table.workers.count).toBe(1);
    expect(table.leave(a)).toBe(false);
  });

  test("one that leaves and finds nothing counts once, until it is buried", () => {
    const [a, b] = [table.admit(), table.admit()];
    for (let round = 0; round < 3; round++) {
      expect(table.leave(b)).toBe(true);
      expect(table.take(b, 127)).toBe(-1);
      expect([table.workers.count, table.leave(a)]).toEqual([2, false]);
      table.buried(b, -errno.ECANCELED);
      expect(table.workers.count).toBe(1);
      expect(table.admit()).toBe(b);
    }
  });

  test("work that comes while the table is closed is ended, too", () => {
    class Closing extends WorkTable {
      override put(slot: number, job: Job, hostFd: number, hash: number): void {
        this.close();
        this.endQueued(-errno.ECANCELED);
        super.put(slot, job, hostFd, hash);
      }
    }
    new TableQueue(new Closing(), () => now).enqueue(work.make("late"));
    expect(work.results).toEqual([["late", -errno.ECANCELED]]);
  });

  test("a worker that is held passes on what it was woken for, and brings no other", () => {
    const worker = table.admit();
    queue.enqueue(work.make("next"));
    const seen = table.workSeq;
    table.rest(worker);
    expect(table.workSeq).not.toBe(seen);
    for (now = 0; now < 10; now++) queue.tend();
    expect(table.askSeq).toBe(0);
    expect(table.take(worker, 127)).toBe(0);
    table.rest(worker); // nothing is left: nobody is woken
    expect(table.workSeq).toBe(seen + 1);
  });

  test("cancelled before a worker has it: done at once; else it is running, or not there", () => {
    const worker = table.admit();
    const [first, second] = [work.make("first"), work.make("second")];
    queue.enqueue(first);
    queue.enqueue(second);
    table.take(worker, 127);
    expect(queue.cancel((one) => one === second)).toBe("cancelled");
    expect(queue.cancel((one) => one === second)).toBe("none");
    expect(queue.cancel((one) => one === first)).toBe("running");
    expect(work.results).toEqual([["second", -errno.ECANCELED]]);
    expect(table.take(worker, 0)).toBe(-1);
  });
});

describe("a pool of real io workers", () => {
  let kernel: Kernel;
  let task: Task;
  let pool: IoPool;
  let queue: TableQueue;
  let submitter: SharedArrayBuffer;
  const work = new Work();
  const open = ({ idleMs = 5000, workersMax = 3 } = {}) => {
    kernel = new Kernel();
    task = kernel.spawn({ uid: 1000, memoryBytes: 1 << 20 });
    const { memory } = task.mm as NonNullable<Task["mm"]>;
    submitter = new SharedArrayBuffer(12);
    const words = () => submitter;
    pool = new IoPool({
      ...{ kernel, task, memory, workersMax, idleMs },
      get submitter() {
        return words();
      },
    });
    queue = new TableQueue(new WorkTable(pool.table.buffer), () => performance.now());
    work.results.length = 0;
    return SharedMemory.of(memory);
  };
  afterEach(() => pool.close());

  async function all(count: number): Promise<void> {
    queue.kick();
    while (work.results.length < count) {
      queue.reap();
      queue.tend();
      await sleep(1);
    }
  }

  /** Its last worker is killed when it has nothing to do, with `names` queued, unseen. */
  async function killIdle(...names: string[]): Promise<void> {
    while (!pool.table.hasIdle) await sleep(1);
    for (const name of names) queue.enqueue(work.make(name)); // nobody was woken
    await pool.tasks[0]?.thread?.terminate(new Error("killed"));
  }

  /** Threads that are made from now on die before they look for work: their words are none. */
  const spoil = () => {
    submitter = new SharedArrayBuffer(5);
  };

  test("reads, writes and makes zeroes of what a file has", async () => {
    const shared = open();
    const path = makeFile(new Uint8Array(8192).fill(0xaa));
    const fd = openSync(path, "r+");
    const address = shared.allocGuest(16);
    const read: Job = { kind: "read", ranges: [{ address, bytes: 16 }], position: 4096 };
    queue.enqueue(work.make("read", read, fd));
    await all(1);
    expect(shared.bytes.slice(address, address + 16)).toEqual(new Uint8Array(16).fill(0xaa));
    shared.bytes.fill(3, address, address + 16);
    queue.enqueue(work.make("write", { ...read, kind: "write", position: 0 }, fd, 1));
    const mode = 0x11; // ZERO_RANGE | KEEP_SIZE
    queue.enqueue(
      work.make("zeroes", { kind: "fallocate", mode, position: 4096, bytes: 8192 }, fd),
    );
    queue.enqueue(work.make("bad", { kind: "sync", isDataOnly: true }, 9999));
    await all(4);
    expect(Object.fromEntries(work.results)).toEqual({
      read: 16,
      write: 16,
      zeroes: 0,
      bad: -errno.EBADF,
    });
    const expected = new Uint8Array(8192).fill(0xaa, 0, 4096).fill(3, 0, 16);
    expect(Buffer.compare(readFileSync(path), expected)).toBe(0);
  });

  test("workers that find nothing end, but for the last", async () => {
    open({ idleMs: 50 });
    while (pool.tasks.length < 2) {
      pool.table.ask(); // again, where one has come and gone unseen
      await sleep(1);
    }
    while (pool.tasks.length > 1) await sleep(1);
    await sleep(150);
    expect(pool.tasks).toHaveLength(1);
    queue.enqueue(work.make("late"));
    await all(1);
  });

  test("of a stopped process makes no more of them, and does its work afterwards", async () => {
    open();
    queue.enqueue(work.make("before"));
    await all(1);
    kernel.kill(task.pid, SIGNALS.SIGSTOP);
    while (!pool.tasks.every(({ state }) => state === __TASK_STOPPED)) await sleep(1);
    const { length } = pool.tasks; // one, or two, where others had the core
    for (let i = 0; i < 10; i++) queue.enqueue(work.make(`${i}`));
    queue.kick();
    for (let i = 0; i < 20; i++) {
      queue.tend();
      await sleep(1);
    }
    queue.reap();
    expect([work.results.length, pool.tasks.length]).toEqual([1, length]);
    kernel.kill(task.pid, SIGNALS.SIGCONT);
    await all(11);
  });

  test("however many have ended, there are never more than may be", async () => {
    open({ idleMs: 20 });
    for (let round = 0; round < 3; round++) {
      while (pool.tasks.length < 3) {
        pool.table.ask();
        await sleep(1);
      }
      while (pool.tasks.length > 1) await sleep(1);
      expect(pool.table.workers).toEqual({ count: 1, max: 3 });
    }
  });

  test("one that is killed before it has begun takes nothing along: there is another", async () => {
    open({ workersMax: 1 }); // busy cores get no second one
    queue.enqueue(work.make("a"));
    await all(1);
    const first = pool.tasks[0]?.thread;
    const good = submitter;
    spoil();
    await killIdle("b", "c");
    while (pool.tasks[0] === undefined || pool.tasks[0].thread === first) await sleep(0);
    submitter = good;
    await pool.tasks[0].thread?.terminate(new Error("killed"));
    await all(3);
    expect(work.results.slice(1).sort()).toEqual([
      ["b", 0],
      ["c", 0],
    ]);
  });

  test("workers of which none begins are not made for ever", async () => {
    open({ workersMax: 1 }); // busy cores get no second one
    queue.enqueue(work.make("a"));
    await all(1);
    spoil();
    await killIdle("b");
    while (work.results.length < 2) {
      await pool.tasks[0]?.thread?.terminate(new Error("killed")); // sooner than it dies by itself
      queue.reap();
      await sleep(0);
    }
    expect(work.results[1]).toEqual(["b", -errno.ECANCELED]);
  });

  test("a limit that holds for a moment costs no work", async () => {
    open({ workersMax: 1 }); // busy cores get no second one
    queue.enqueue(work.make("a"));
    await all(1);
    task.signal.rlimits.NPROC = { cur: 1, max: 9 };
    await pool.tasks[0]?.thread?.terminate(new Error("killed"));
    while (pool.tasks.length > 0) await sleep(0);
    queue.enqueue(work.make("b"));
    setTimeout(() => {
      task.signal.rlimits.NPROC = { cur: 2, max: 9 };
    }, 2);
    await all(2);
    expect(work.results[1]).toEqual(["b", 0]);
  });

  test("the process ends: what comes then is cancelled, and nobody waits", async () => {
    open();
    queue.enqueue(work.make("before"));
    await all(1);
    kernel.exitGroup(task, 0);
    while (pool.tasks.length > 0) await sleep(1);
    for (const name of ["a", "b"]) queue.enqueue(work.make(name));
    await all(3);
    expect(work.results.slice(1).map(([, res]) => res)).toEqual([
      -errno.ECANCELED,
      -errno.ECANCELED,
    ]);
  });

  test("closed: work is refused at once, and the workers' counts are back", async () => {
    open();
    await pool.close();
    queue.enqueue(work.make("late"));
    expect(work.results).toEqual([["late", -errno.ECANCELED]]);
    expect(kernel.ucounts.nproc(1000)).toBe(1);
  });
});
