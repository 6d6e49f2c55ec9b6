// The contract of io_uring's rings (src/io-uring/ring.ts), for both implementations.

import { describe, expect, test } from "vitest";
import { allocIouMemory } from "#dist/io-uring/state-block.js";
import { SharedMemory } from "#dist/memory/shared-memory.js";
import {
  IO_RINGS_CQ_HEAD,
  IO_RINGS_CQ_OVERFLOW,
  IO_RINGS_CQ_RING_ENTRIES,
  IO_RINGS_CQ_RING_MASK,
  IO_RINGS_CQ_TAIL,
  IO_RINGS_SQ_DROPPED,
  IO_RINGS_SQ_FLAGS,
  IO_RINGS_SQ_HEAD,
  IO_RINGS_SQ_RING_ENTRIES,
  IO_RINGS_SQ_RING_MASK,
  IO_RINGS_SQ_TAIL,
  IORING_OP_LAST,
  IORING_OP_NOP,
  IORING_SQ_CQ_OVERFLOW,
  IOU_CQ_HEAD,
  IOU_CQ_TAIL,
  IOU_E_CQ_TAIL,
  IOU_SQ_HEAD,
  IOU_SQ_PUBLISHED,
  IOU_SQ_TAIL,
  IOU_TABLE_CAPACITY,
  SQE_EINVAL,
  SQE_FLAGS,
  SQE_USER_DATA,
} from "#dist/spec/io-uring.js";
import { type Cqe, IouFixture } from "../helpers/iou-fixture.js";

const cqe = (n: number): Cqe => ({ userData: BigInt(n), res: -n, flags: n });
const cqes = (...numbers: number[]) => numbers.map(cqe);

/** Fills in and submits one SQE a number. */
function submit(fixture: IouFixture, ...numbers: number[]): void {
  for (const n of numbers) expect(fixture.addSqe(IORING_OP_NOP, BigInt(n))).toBe(true);
  expect(fixture.application.submit()).toBe(numbers.length);
}

function userData(fixture: IouFixture, count: number): number[] {
  return fixture.taken(count).map((one) => Number(one.userData));
}

describe.each(["wasm", "ts"] as const)("%s: submission", (kind) => {
  test("SQEs arrive in order, whole, and their slots are free then", () => {
    const fixture = new IouFixture(kind);
    submit(fixture, 1, 2, 3, 4);
    expect(fixture.application.getSqe()).toBe(0);
    expect(fixture.kernel.takeSqes(3)).toBe(3);
    expect(userData(fixture, 3)).toEqual([1, 2, 3]);
    submit(fixture, 5, 6, 7);
    expect(fixture.application.getSqe()).toBe(0);
    expect(fixture.kernel.takeSqes(100)).toBe(4);
    expect(userData(fixture, 4)).toEqual([4, 5, 6, 7]);
    expect(fixture.kernel.takeSqes(100)).toBe(0);
  });

  test("nothing is visible before submit", () => {
    const fixture = new IouFixture(kind);
    fixture.addSqe(IORING_OP_NOP, 1n);
    expect(fixture.kernel.takeSqes(4)).toBe(0);
    expect(fixture.application.submit()).toBe(1);
    expect(fixture.application.submit()).toBe(0);
    expect(fixture.kernel.takeSqes(4)).toBe(1);
  });

  test("a slot that is used again comes zeroed", () => {
    const fixture = new IouFixture(kind, 1, 1);
    fixture.shared.bytes.fill(0xff, fixture.sqe(0), fixture.sqe(1));
    const sqe = fixture.application.getSqe();
    expect(sqe).toBe(fixture.sqe(0));
    expect(fixture.shared.bytes.slice(sqe, sqe + 64).every((byte) => byte === 0)).toBe(true);
  });

  test("a burst is cut to the table", () => {
    const fixture = new IouFixture(kind);
    fixture.setWord("kernel", IOU_TABLE_CAPACITY, 2);
    submit(fixture, 1, 2, 3);
    expect(fixture.kernel.takeSqes(4)).toBe(2);
    expect(fixture.rings(IO_RINGS_SQ_HEAD)).toBe(2);
  });

  test("an unknown opcode or flag is marked, the others are not", () => {
    const fixture = new IouFixture(kind);
    fixture.addSqe(IORING_OP_LAST - 1, 1n);
    fixture.addSqe(IORING_OP_LAST, 2n);
    fixture.addSqe(IORING_OP_NOP, 3n);
    fixture.addSqe(IORING_OP_NOP, 4n);
    fixture.shared.view.setUint8(fixture.sqe(2) + SQE_FLAGS, 0x80);
    fixture.shared.view.setUint8(fixture.sqe(3) + SQE_FLAGS, 0x7f);
    fixture.application.submit();
    expect(fixture.kernel.takeSqes(4)).toBe(4);
    const errors = fixture.taken(4).map(({ error }) => error);
    expect(errors).toEqual([0, SQE_EINVAL, SQE_EINVAL, 0]);
  });

  test("indices wrap at 2^32", () => {
    const fixture = new IouFixture(kind);
    const start = 0xffff_fffe;
    for (const word of [IOU_SQ_TAIL, IOU_SQ_PUBLISHED]) fixture.setWord("application", word, start);
    fixture.setWord("kernel", IOU_SQ_HEAD, start);
    fixture.setRings(IO_RINGS_SQ_HEAD, start);
    fixture.setRings(IO_RINGS_SQ_TAIL, start);
    submit(fixture, 1, 2, 3, 4);
    expect(fixture.application.getSqe()).toBe(0);
    expect(fixture.rings(IO_RINGS_SQ_TAIL)).toBe(2);
    expect(fixture.kernel.takeSqes(4)).toBe(4);
    expect(userData(fixture, 4)).toEqual([1, 2, 3, 4]);
    expect(fixture.rings(IO_RINGS_SQ_HEAD)).toBe(2);
  });
});

describe.each(["wasm", "ts"] as const)("%s: completion", (kind) => {
  test("CQEs arrive in order, and stay until advance", () => {
    const fixture = new IouFixture(kind);
    expect(fixture.post(cqes(1, 2, 3))).toBe(3);
    expect(fixture.application.peekCqes(2)).toBe(2);
    expect(fixture.peeked(2)).toEqual(cqes(1, 2));
    expect(fixture.application.peekCqes(8)).toBe(3);
    fixture.application.advance(1);
    expect(fixture.rings(IO_RINGS_CQ_HEAD)).toBe(1);
    expect(fixture.application.peekCqes(8)).toBe(2);
    expect(fixture.peeked(2)).toEqual(cqes(2, 3));
  });

  test("advance goes no further than what was peeked at", () => {
    const fixture = new IouFixture(kind);
    fixture.post(cqes(1, 2));
    fixture.application.advance(1);
    expect(fixture.rings(IO_RINGS_CQ_HEAD)).toBe(0);
    fixture.application.peekCqes(1);
    fixture.application.advance(7);
    fixture.application.advance(1);
    expect(fixture.rings(IO_RINGS_CQ_HEAD)).toBe(1);
  });

  test("a full CQ takes no more than it has room for", () => {
    const fixture = new IouFixture(kind, 2, 4);
    expect(fixture.post(cqes(1, 2, 3))).toBe(3);
    expect(fixture.post(cqes(4, 5, 6))).toBe(1);
    expect(fixture.post(cqes(5))).toBe(0);
    fixture.application.peekCqes(2);
    fixture.application.advance(2);
    expect(fixture.post(cqes(5, 6, 7))).toBe(2);
    fixture.application.peekCqes(8);
    expect(fixture.peeked(4)).toEqual(cqes(3, 4, 5, 6));
  });

  test("indices wrap at 2^32", () => {
    const fixture = new IouFixture(kind, 2, 4);
    fixture.setWord("kernel", IOU_CQ_TAIL, 0xffff_ffff);
    fixture.setWord("application", IOU_CQ_HEAD, 0xffff_ffff);
    fixture.setRings(IO_RINGS_CQ_HEAD, 0xffff_ffff);
    fixture.setRings(IO_RINGS_CQ_TAIL, 0xffff_ffff);
    expect(fixture.post(cqes(1, 2, 3, 4, 5))).toBe(4);
    expect(fixture.application.peekCqes(8)).toBe(4);
    fixture.application.advance(4);
    expect(fixture.rings(IO_RINGS_CQ_HEAD)).toBe(3);
  });

  test("lost CQEs are counted and shown, flags are shown", () => {
    const fixture = new IouFixture(kind);
    fixture.kernel.loseCqes(2);
    fixture.setRings(IO_RINGS_CQ_OVERFLOW, 77);
    fixture.kernel.loseCqes(1);
    fixture.kernel.setSqFlags(IORING_SQ_CQ_OVERFLOW);
    expect(fixture.rings(IO_RINGS_CQ_OVERFLOW)).toBe(3);
    expect(fixture.rings(IO_RINGS_SQ_FLAGS)).toBe(IORING_SQ_CQ_OVERFLOW);
  });

  test("reset shows entries and masks", () => {
    const fixture = new IouFixture(kind, 3, 9);
    expect(fixture.rings(IO_RINGS_SQ_RING_ENTRIES)).toBe(4);
    expect(fixture.rings(IO_RINGS_SQ_RING_MASK)).toBe(3);
    expect(fixture.rings(IO_RINGS_CQ_RING_ENTRIES)).toBe(16);
    expect(fixture.rings(IO_RINGS_CQ_RING_MASK)).toBe(15);
  });
});

describe.each(["wasm", "ts"] as const)("%s: a hostile application", (kind) => {
  test("that puts its tail far ahead gets a ring's worth taken, once for each call", () => {
    const fixture = new IouFixture(kind);
    fixture.setRings(IO_RINGS_SQ_TAIL, 0x8000_0000);
    expect(fixture.kernel.takeSqes(1000)).toBe(4);
    expect(fixture.rings(IO_RINGS_SQ_HEAD)).toBe(4);
  });

  test("that names slots there are not: each ends a burst and is counted", () => {
    const fixture = new IouFixture(kind);
    submit(fixture, 1, 2, 3, 4);
    fixture.setArray(1, 4);
    fixture.setArray(3, 0xffff_ffff);
    expect(fixture.kernel.takeSqes(4)).toBe(1);
    fixture.setRings(IO_RINGS_SQ_DROPPED, 77);
    expect(fixture.kernel.takeSqes(4)).toBe(1);
    expect(userData(fixture, 1)).toEqual([3]);
    expect(fixture.rings(IO_RINGS_SQ_DROPPED)).toBe(2);
    expect(fixture.rings(IO_RINGS_SQ_HEAD)).toBe(4);
  });

  test("that rewrites heads, masks and entries changes nothing of ours", () => {
    const fixture = new IouFixture(kind);
    submit(fixture, 1, 2);
    for (let at = 0; at < 64; at += 4) if (at !== IO_RINGS_SQ_TAIL) fixture.setRings(at, 0);
    fixture.setRings(IO_RINGS_SQ_HEAD, 99);
    fixture.setRings(IO_RINGS_SQ_RING_MASK, 0xffff_ffff);
    expect(fixture.kernel.takeSqes(4)).toBe(2);
    expect(userData(fixture, 2)).toEqual([1, 2]);
    expect(fixture.rings(IO_RINGS_SQ_HEAD)).toBe(2);
  });

  test("that rewrites an SQE which was taken changes no copy", () => {
    const fixture = new IouFixture(kind);
    submit(fixture, 1);
    fixture.kernel.takeSqes(1);
    fixture.shared.view.setBigUint64(fixture.sqe(0) + SQE_USER_DATA, 9n, true);
    expect(userData(fixture, 1)).toEqual([1]);
  });

  test.each([1, 0xffff_fff0, 0x8000_0000])("that puts its CQ head at %i has no room", (head) => {
    const fixture = new IouFixture(kind, 2, 4);
    fixture.setRings(IO_RINGS_CQ_HEAD, head);
    expect(fixture.post(cqes(1))).toBe(0);
    fixture.setRings(IO_RINGS_CQ_HEAD, 0);
    expect(fixture.post(cqes(1))).toBe(1);
  });
});

describe.each(["wasm", "ts"] as const)("%s: a hostile kernel", (kind) => {
  test("that claims more CQEs than there are is refused, and heard again later", () => {
    const fixture = new IouFixture(kind, 2, 4);
    fixture.post(cqes(1));
    fixture.setRings(IO_RINGS_CQ_TAIL, 5);
    expect(fixture.application.peekCqes(8)).toBe(-IOU_E_CQ_TAIL);
    fixture.application.advance(1);
    expect(fixture.rings(IO_RINGS_CQ_HEAD)).toBe(0);
    fixture.setRings(IO_RINGS_CQ_TAIL, 1);
    expect(fixture.application.peekCqes(8)).toBe(1);
  });

  test.each([1, 5, 0xffff_fff0])("that puts its SQ head at %i gives no room", (head) => {
    const fixture = new IouFixture(kind);
    fixture.setRings(IO_RINGS_SQ_HEAD, head);
    expect(fixture.application.getSqe()).toBe(0);
    fixture.setRings(IO_RINGS_SQ_HEAD, 0);
    expect(fixture.application.getSqe()).toBe(fixture.sqe(0));
  });
});

describe("the layout", () => {
  const shared = () =>
    SharedMemory.of(new WebAssembly.Memory({ initial: 16, maximum: 16, shared: true }));

  test.each([
    { entries: 0 },
    { entries: 32769 },
    { entries: 1.5 },
    { entries: 8, cqEntries: 4 },
    { entries: 8, cqEntries: 65537 },
  ])("%o is refused", (wanted) => {
    expect(() => allocIouMemory(shared(), wanted)).toThrow(/^EINVAL/);
  });

  test("that finds no room leaves nothing behind, nor does one that is released", () => {
    const memory = shared();
    const free = () => [memory.host.freeBytes, memory.guest.freeBytes];
    const before = free();
    expect(() => allocIouMemory(memory, { entries: 32768 })).toThrow(/^ENOMEM/);
    expect(free()).toEqual(before);
    allocIouMemory(memory, { entries: 8 }).release();
    expect(free()).toEqual(before);
  });
});
