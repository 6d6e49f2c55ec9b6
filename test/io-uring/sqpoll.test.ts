// A ring that nobody enters: a thread of the task's own looks at its SQ.

import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { openHostFile } from "#dist/io-uring/host-file.js";
import { SqPollRing } from "#dist/io-uring/sqpoll.js";
import { Kernel } from "#dist/kernel/kernel.js";
import type { SpawnOptions } from "#dist/kernel/spawn.js";
import type { Task } from "#dist/kernel/task.js";
import { SharedMemory } from "#dist/memory/shared-memory.js";
import { errno } from "#dist/spec/errno.js";
import {
  CQE_RES,
  CQE_USER_DATA,
  IO_RINGS_SQ_FLAGS,
  IO_URING_CQE_BYTES,
  IORING_OP_CLOSE,
  IORING_OP_NOP,
  IORING_OP_READ,
  IORING_OP_WRITE,
  IORING_SQ_CQ_OVERFLOW,
  IORING_SQ_NEED_WAKEUP,
  IOU_RINGS,
  IOU_TABLE,
  SQE_ADDR,
  SQE_FD,
  SQE_LEN,
  SQE_OPCODE,
  SQE_USER_DATA,
} from "#dist/spec/io-uring.js";
import { PF_IO_WORKER, PF_USER_WORKER } from "#dist/spec/sched.js";
import { tempFiles } from "../helpers/temp-file.js";

const makeFile = tempFiles();

/** A process of user 1000 with such a ring, and one file open. */
class Owner implements AsyncDisposable {
  readonly kernel = new Kernel();
  readonly task: Task;
  readonly shared: SharedMemory;
  readonly path = makeFile(new Uint8Array(4096).fill(0xaa));
  readonly fd: number;
  readonly ring: SqPollRing;

  constructor(kind: "wasm" | "ts", sqThreadIdle = 20, spawn: SpawnOptions = {}, cqEntries = 16) {
    this.task = this.kernel.spawn({ uid: 1000, memoryBytes: 1 << 20, ...spawn });
    this.shared = SharedMemory.of((this.task.mm as NonNullable<Task["mm"]>).memory);
    this.fd = openHostFile(this.task, this.path, "r+");
    const entries = Math.min(8, cqEntries);
    const options = { entries, cqEntries, kind, sqThreadIdle };
    this.ring = new SqPollRing(this.kernel, this.task, options);
  }

  prepare(op: number, userData: number, addr = 0, len = 0): void {
    const { view } = this.shared;
    const sqe = this.ring.application.getSqe();
    view.setUint8(sqe + SQE_OPCODE, op);
    view.setInt32(sqe + SQE_FD, op === IORING_OP_NOP ? 0 : this.fd, true);
    view.setUint32(sqe + SQE_ADDR, addr, true);
    view.setUint32(sqe + SQE_LEN, len, true);
    view.setUint32(sqe + SQE_USER_DATA, userData, true);
  }

  /** Submits, wakes the thread if it sleeps, and takes `count` CQEs. */
  async submit(count: number): Promise<[userData: number, res: number][]> {
    const { ring } = this;
    ring.application.submit();
    if (ring.needsWakeup) ring.wakeup();
    return this.take(count);
  }

  /** Takes `count` CQEs, when they are there. */
  async take(count: number): Promise<[userData: number, res: number][]> {
    const { ring, shared } = this;
    await ring.getEvents(count);
    const got = ring.application.peekCqes(128);
    const table = shared.view.getUint32(ring.layout.application + IOU_TABLE, true);
    const cqes = Array.from({ length: got }, (_, i): [number, number] => {
      const cqe = table + i * IO_URING_CQE_BYTES;
      const { view } = shared;
      return [view.getUint32(cqe + CQE_USER_DATA, true), view.getInt32(cqe + CQE_RES, true)];
    });
    ring.application.advance(got);
    return cqes;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.ring.close();
    this.kernel.exitGroup(this.task, 0);
  }
}

describe.each(["wasm", "ts"] as const)("SQPOLL, %s rings", (kind) => {
  test("SQEs are taken while it looks, and after it slept and was woken", async () => {
    await using owner = new Owner(kind);
    const address = owner.shared.allocGuest(4096);
    for (let round = 0; round < 4; round++) {
      owner.prepare(IORING_OP_NOP, 1);
      owner.prepare(IORING_OP_READ, 2, address, 4096);
      expect((await owner.submit(2)).sort()).toEqual([
        [1, 0],
        [2, 4096],
      ]);
      expect(owner.shared.bytes[address + 4095]).toBe(round === 0 ? 0xaa : round);
      owner.shared.bytes.fill(round + 1, address, address + 4096);
      owner.prepare(IORING_OP_WRITE, 3, address, 4096);
      expect(await owner.submit(1)).toEqual([[3, 4096]]);
      if (round === 1) while (!owner.ring.needsWakeup) await sleep(1);
    }
    expect(readFileSync(owner.path)[0]).toBe(4);
  });

  test("asleep, it takes nothing before it is woken", async () => {
    await using owner = new Owner(kind, 1);
    const { ring } = owner;
    const submitAsleep = async () => {
      while (!ring.needsWakeup) await sleep(1);
      owner.prepare(IORING_OP_NOP, 7);
      ring.application.submit();
      await sleep(30);
      return ring.application.peekCqes(1);
    };
    // It looks once more after it has said that it sleeps: that look may come late.
    for (let left = 5; (await submitAsleep()) > 0; left--) {
      expect(left).toBeGreaterThan(0);
      ring.application.advance(1);
    }
    expect(ring.needsWakeup).toBe(true);
    ring.wakeup();
    await ring.getEvents(1);
    expect(ring.application.peekCqes(1)).toBe(1);
  });

  test("what can't be: memory that is the host's, another file, closing one", async () => {
    await using owner = new Owner(kind);
    owner.prepare(IORING_OP_READ, 1, owner.shared.guestStart - 8, 16);
    owner.prepare(IORING_OP_CLOSE, 2);
    expect((await owner.submit(2)).sort()).toEqual([
      [1, -errno.EFAULT],
      [2, -errno.EOPNOTSUPP],
    ]);
  });
});

test("CQEs that found no room come when there is some, though the thread sleeps", async () => {
  await using owner = new Owner("wasm", 1, {}, 4);
  const { ring, shared } = owner;
  const rings = shared.view.getUint32(ring.layout.kernel + IOU_RINGS, true);
  const flags = () => shared.view.getUint32(rings + IO_RINGS_SQ_FLAGS, true);
  for (const first of [0, 4]) {
    for (let i = 0; i < 4; i++) owner.prepare(IORING_OP_NOP, first + i);
    ring.application.submit();
    if (ring.needsWakeup) ring.wakeup();
    await ring.getEvents(4);
  }
  while (flags() !== (IORING_SQ_CQ_OVERFLOW | IORING_SQ_NEED_WAKEUP)) await sleep(1);
  expect(await owner.take(4)).toHaveLength(4);
  expect((await owner.take(4)).map(([userData]) => userData)).toEqual([4, 5, 6, 7]);
});

test("its thread is an io thread of the process; limits count, and all comes back", async () => {
  const owner = new Owner("wasm");
  const { kernel, task, ring, shared } = owner;
  expect(ring.task.comm).toBe(`iou-sqp-${task.pid}`);
  expect(ring.task.flags & (PF_IO_WORKER | PF_USER_WORKER)).toBe(PF_IO_WORKER | PF_USER_WORKER);
  expect(kernel.ucounts.nproc(1000)).toBe(3); // and a first worker
  await ring.close();
  expect(kernel.ucounts.nproc(1000)).toBe(1);
  const { freeBytes } = shared.host;
  for (const cur of [1, 2]) {
    task.signal.rlimits.NPROC = { cur, max: 10 };
    expect(() => new SqPollRing(kernel, task, { entries: 8 })).toThrow(/^EAGAIN: /);
    await sleep(0);
    expect(kernel.ucounts.nproc(1000)).toBe(1);
    expect(shared.host.freeBytes).toBe(freeBytes);
  }
});

test("killed with its process: whoever waits goes on", async () => {
  await using owner = new Owner("wasm");
  const waiting = owner.ring.getEvents(1);
  owner.kernel.kill(owner.task.pid, 9);
  await waiting;
  await owner.ring.close();
});
