// An owner that dies in the midst of its requests, and one that scribbles on its own rings.

import { Worker } from "node:worker_threads";
import { describe, expect, test } from "vitest";
import { errno } from "#dist/spec/errno.js";
import {
  IO_RINGS_CQ_HEAD,
  IORING_OP_READ,
  IOSQE_ASYNC,
  IOU_CQ_TAIL,
  IOU_RINGS,
} from "#dist/spec/io-uring.js";
import { SIGKILL } from "#dist/spec/sched.js";
import { IouOwner } from "../helpers/iou-owner.js";
import { seedOf } from "../helpers/seed.js";
import { tempFiles } from "../helpers/temp-file.js";

const files = tempFiles();
const tempFile = (name: string, content: Uint8Array) => files(content, name);
const text = (value: string) => new TextEncoder().encode(value);

test("SIGKILL to the owner ends workers and requests, and leaves no count", async () => {
  await using owner = new IouOwner();
  const { bytes, address } = owner.buffer(1 << 18);
  const fd = owner.open(tempFile("killed.txt", bytes.slice()));
  const read = { op: IORING_OP_READ, fd, addr: address, len: 1 << 18 };
  owner.prepare(...[1, 2, 3, 4].map((userData) => ({ ...read, userData, flags: IOSQE_ASYNC })));
  owner.ring.enter();
  expect(owner.kernel.ucounts.nproc(1000)).toBeGreaterThan(1);
  owner.kernel.kill(owner.task.pid, SIGKILL);
  await owner.ring.getEvents(4);
  for (const [, res] of owner.reap()) expect([1 << 18, -errno.ECANCELED]).toContain(res);
  await expect.poll(() => owner.ring.wq.workers).toEqual({ bounded: 0, unbounded: 0 });
  expect(owner.kernel.ucounts.nproc(1000)).toBe(0);
  owner.prepare({ ...read, userData: 5 });
  expect(owner.ring.enter()).toBe(1);
  await owner.ring.getEvents(1);
  expect(owner.reap()).toEqual([[5, -errno.EBADF]]);
});

describe("a hostile application", () => {
  const SCRIBBLER = `
    const { workerData: { memory, start, bytes, stop, seed } } = require("node:worker_threads");
    const words = new Uint32Array(memory.buffer, start, bytes >>> 2);
    const flag = new Int32Array(stop);
    let x = seed | 1;
    while (Atomics.load(flag, 0) === 0) {
      x ^= x << 13; x ^= x >>> 17; x ^= x << 5;
      const at = (x >>> 0) % words.length;
      const isCqHead = at === 2 && (x & 0xfff000) !== 0; // left alone mostly: all would wait for it
      if (!isCqHead) words[at] = (x & 0x300) === 0 ? x >>> 3 : x & 15;
    }`;

  test("that scribbles on rings and SQEs meanwhile harms itself alone", async () => {
    const seed = seedOf("scribbler");
    await using owner = new IouOwner({ entries: 8 });
    owner.open(tempFile("scribble.txt", text("abc")), "r");
    const { view, memory } = owner.shared;
    const start = view.getUint32(owner.ring.layout.kernel + IOU_RINGS, true);
    const bytes = 384 + 8 * 64; // struct io_rings with its array, then the SQEs
    const stop = new SharedArrayBuffer(4);
    const workerData = { memory, start, bytes, stop, seed };
    const scribbler = new Worker(SCRIBBLER, { eval: true, workerData });
    const guard = owner.shared.allocHost(4096);
    owner.shared.bytes.fill(0xa5, guard, guard + 4096);
    let taken = 0;
    const until = Date.now() + 20_000;
    for (let i = 0; taken < 5000 && Date.now() < until; i++) {
      const count = owner.ring.enter();
      taken += Math.max(count, 0);
      const tail = view.getUint32(owner.ring.layout.kernel + IOU_CQ_TAIL, true);
      if (count < 1) view.setUint32(start + IO_RINGS_CQ_HEAD, tail, true);
      if (i % 50 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    Atomics.store(new Int32Array(stop), 0, 1);
    await scribbler.terminate();
    expect(taken).toBeGreaterThanOrEqual(5000);
    const kept = owner.shared.bytes.slice(guard, guard + 4096);
    expect(kept.every((byte) => byte === 0xa5)).toBe(true);
    expect(owner.ring.wq.workers.bounded).toBeLessThanOrEqual(8);
  }, 60_000);
});
