// A process with rings executes another program: none of them sees its new memory, nor it theirs.

import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { IoPool } from "#dist/io-uring/io-pool.js";
import { IoUring } from "#dist/io-uring/io-uring.js";
import { SqPollRing } from "#dist/io-uring/sqpoll.js";
import { exitIoWq } from "#dist/io-uring/tctx.js";
import { beginNewExec } from "#dist/kernel/exec.js";
import type { Mm } from "#dist/kernel/mm.js";
import { TASK_WORDS_BYTES } from "#dist/kernel/wait.js";
import { SharedMemory } from "#dist/memory/shared-memory.js";
import { errno } from "#dist/spec/errno.js";
import {
  CQE_RES,
  IORING_OP_READ,
  IOU_TABLE,
  SQE_ADDR,
  SQE_FD,
  SQE_LEN,
  SQE_OPCODE,
} from "#dist/spec/io-uring.js";
import { IouOwner } from "../helpers/iou-owner.js";
import { tempFiles } from "../helpers/temp-file.js";

const makeFile = tempFiles();
const NEW = { comm: "new", memoryBytes: 1 << 20 };

test("a new ring reads into the new memory, from its first request on", async () => {
  await using owner = new IouOwner();
  const { kernel, task, shared: old } = owner;
  const fd = owner.open(makeFile(new Uint8Array(4096).fill(0xaa)));
  const before = owner.buffer(4096);
  const op = IORING_OP_READ;
  const read = { op, fd, addr: before.address, len: 4096, userData: 1 };
  expect(await owner.submit(read)).toEqual([[1, 4096]]);
  beginNewExec(kernel, task, NEW);
  old.bytes.fill(0, old.guestStart);
  const shared = SharedMemory.of((task.mm as Mm).memory);
  const address = shared.allocGuest(4096);
  await using ring = new IoUring(kernel, task, { entries: 8 });
  const sqe = ring.application.getSqe();
  shared.view.setUint8(sqe + SQE_OPCODE, op);
  shared.view.setInt32(sqe + SQE_FD, fd, true);
  shared.view.setUint32(sqe + SQE_ADDR, address, true);
  shared.view.setUint32(sqe + SQE_LEN, 4096, true);
  ring.application.submit();
  ring.enter();
  await ring.getEvents(1);
  expect(ring.application.peekCqes(1)).toBe(1);
  const table = shared.view.getUint32(ring.layout.application + IOU_TABLE, true);
  expect(shared.view.getInt32(table + CQE_RES, true)).toBe(4096);
  expect(shared.bytes[address + 4095]).toBe(0xaa);
  expect(old.bytes.subarray(old.guestStart).includes(0xaa)).toBe(false);
  await exitIoWq(task);
});

test("old rings are closed, who waits goes on, and all counts and memory come back", async () => {
  await using owner = new IouOwner();
  const { kernel, task, ring, shared } = owner;
  const fd = owner.open(makeFile(new Uint8Array(1 << 19)));
  const { address } = owner.buffer(1 << 18);
  const sqpoll = new SqPollRing(kernel, task, { entries: 8 });
  const submitter = new SharedArrayBuffer(TASK_WORDS_BYTES);
  const { memory } = task.mm as Mm;
  const pool = new IoPool({ kernel, task, submitter, memory, workersMax: 2 });
  const read = { op: IORING_OP_READ, fd, addr: address, len: 1 << 18 };
  owner.prepare(...[1, 2, 3].map((userData) => ({ ...read, userData })));
  ring.enter();
  const waiting = Promise.all([ring.getEvents(8), sqpoll.getEvents(1)]);
  beginNewExec(kernel, task, NEW);
  await waiting;
  expect(() => ring.enter()).toThrow(/^EBADF: /);
  await Promise.all([ring.close(), sqpoll.close(), pool.close()]);
  expect(pool.table.isClosed).toBe(true);
  expect(task.signal.atExec.size).toBe(0);
  await expect.poll(() => kernel.ucounts.nproc(1000)).toBe(1); // the program's io workers end
  expect(shared.host.freeBytes).toBe(shared.guestStart - 65536);
});

test("a pool's work ends with the program: no worker is made for it in the next one", async () => {
  await using owner = new IouOwner();
  const { kernel, task } = owner;
  const submitter = new SharedArrayBuffer(TASK_WORDS_BYTES);
  const { memory } = task.mm as Mm;
  const pool = new IoPool({ kernel, task, submitter, memory, workersMax: 2 });
  pool.table.put(0, { kind: "none" }, -1, -1);
  beginNewExec(kernel, task, NEW);
  while (pool.tasks.length > 0) await sleep(1);
  expect(pool.table.reap(0)).toBe(-errno.ECANCELED);
  expect(kernel.ucounts.nproc(1000)).toBe(1);
});
