// Chains at the edges of what one call takes: none is cut that was submitted whole.

import { expect, test } from "vitest";
import { loadIouRings } from "#dist/io-uring/load.js";
import { RingCtx } from "#dist/io-uring/ring-ctx.js";
import { allocIouMemory } from "#dist/io-uring/state-block.js";
import { SharedMemory } from "#dist/memory/shared-memory.js";
import { errno } from "#dist/spec/errno.js";
import {
  CQE_RES,
  CQE_USER_DATA,
  IO_URING_CQE_BYTES,
  IORING_OP_FSYNC,
  IORING_OP_NOP,
  IOSQE_IO_LINK,
  IOU_TABLE,
  SQE_FLAGS,
  SQE_OPCODE,
  SQE_USER_DATA,
} from "#dist/spec/io-uring.js";

/** A ring without files or workers, entered by the test. */
class Ring {
  readonly shared = SharedMemory.of(
    new WebAssembly.Memory({ initial: 16, maximum: 16, shared: true }),
  );
  readonly ctx: RingCtx;
  readonly application;
  /** Called after the first SQEs were taken. */
  afterTake: () => void = () => {};
  readonly #table: number;

  constructor(kind: "wasm" | "ts", entries: number, cqEntries: number) {
    const { shared } = this;
    const layout = allocIouMemory(shared, { entries, cqEntries });
    const rings = loadIouRings(shared.memory, kind);
    this.application = rings.application(layout.application);
    this.#table = shared.view.getUint32(layout.application + IOU_TABLE, true);
    const ring = rings.kernel(layout.kernel);
    this.application.reset();
    ring.reset();
    const takeSqes = (max: number) => {
      const taken = ring.takeSqes(max);
      this.afterTake();
      return taken;
    };
    const files = { get: () => undefined, install: () => -1, close: () => -1 };
    const wq = { enqueue: () => {}, cancel: () => "none" as const };
    const own = { takeSqes, iou: ring.iou, reset: () => {} };
    const rest = {
      postCqes: (count: number) => ring.postCqes(count),
      loseCqes: (count: number) => ring.loseCqes(count),
      setSqFlags: (flags: number) => ring.setSqFlags(flags),
    };
    this.ctx = new RingCtx({ memory: shared, ring: { ...own, ...rest }, layout, files, wq });
  }

  /** Submits `count` NOPs, then an FSYNC that fails with a NOP linked to it: user data 1 and 2. */
  submit(count: number, withChain = false): void {
    const { view } = this.shared;
    for (let i = 0; i < count; i++) this.application.getSqe();
    for (const op of withChain ? [IORING_OP_FSYNC, IORING_OP_NOP] : []) {
      const sqe = this.application.getSqe();
      view.setUint8(sqe + SQE_OPCODE, op);
      view.setUint8(sqe + SQE_FLAGS, op === IORING_OP_FSYNC ? IOSQE_IO_LINK : 0);
      view.setUint32(sqe + SQE_USER_DATA, op === IORING_OP_FSYNC ? 1 : 2, true);
    }
    this.application.submit();
  }

  /** Enters until all is taken; the results of user data 1 and 2. */
  results(): (number | undefined)[] {
    const results = new Map<number, number>();
    for (let i = 0; i < 10; i++) {
      const count = this.application.peekCqes(128);
      for (let cqe = 0; cqe < count; cqe++) {
        const at = this.#table + cqe * IO_URING_CQE_BYTES;
        const { view } = this.shared;
        results.set(view.getUint32(at + CQE_USER_DATA, true), view.getInt32(at + CQE_RES, true));
      }
      this.application.advance(count);
      this.ctx.enter();
    }
    return [results.get(1), results.get(2)];
  }
}

const BROKEN = [-errno.EBADF, -errno.ECANCELED];

test.each(["wasm", "ts"] as const)("%s: little room behind the CQ cuts no chain", (kind) => {
  const ring = new Ring(kind, 4, 4);
  for (const count of [4, 4, 3]) {
    ring.submit(count);
    ring.ctx.enter();
  }
  ring.submit(0, true);
  expect(ring.ctx.enter()).toBe(2);
  ring.submit(1);
  expect(ring.ctx.enter()).toBe(-errno.EBUSY);
  expect(ring.results()).toEqual(BROKEN);
});

test.each(["wasm", "ts"] as const)("%s: nor do SQEs that come between two bursts", (kind) => {
  const ring = new Ring(kind, 256, 512);
  ring.submit(200);
  ring.afterTake = () => {
    ring.afterTake = () => {};
    ring.submit(55, true);
  };
  expect(ring.ctx.enter()).toBe(257);
  expect(ring.results()).toEqual(BROKEN);
});

test("a chain without an end is taken in part: as many as the SQ has entries", () => {
  const ring = new Ring("ts", 4, 64);
  const fill = () => {
    for (let sqe = ring.application.getSqe(); sqe !== 0; sqe = ring.application.getSqe()) {
      ring.shared.view.setUint8(sqe + SQE_FLAGS, IOSQE_IO_LINK);
    }
    ring.application.submit();
  };
  ring.afterTake = fill;
  fill();
  expect(ring.ctx.enter()).toBe(4);
});
