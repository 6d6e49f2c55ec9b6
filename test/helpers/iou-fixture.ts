// One io_uring in a memory of its own, both sides, and raw access to what they share.

import { type IouRings, loadIouRings } from "#dist/io-uring/load.js";
import { allocIouMemory, type IouMemory } from "#dist/io-uring/state-block.js";
import { SharedMemory } from "#dist/memory/shared-memory.js";
import type { RingKind } from "#dist/ring/load.js";
import {
  CQE_FLAGS,
  CQE_RES,
  CQE_USER_DATA,
  IO_URING_CQE_BYTES,
  IO_URING_SQE_BYTES,
  IOU_CQES,
  IOU_RINGS,
  IOU_SQ_ARRAY,
  IOU_SQES,
  IOU_TABLE,
  SQE_ERROR,
  SQE_OPCODE,
  SQE_RECORD_BYTES,
  SQE_USER_DATA,
} from "#dist/spec/io-uring.js";

/** What a CQE says. */
export interface Cqe {
  userData: bigint;
  res: number;
  flags: number;
}

/** A ring, empty, in a memory of 1 MiB. */
export class IouFixture {
  readonly shared: SharedMemory;
  readonly layout: IouMemory;
  readonly application: ReturnType<IouRings["application"]>;
  readonly kernel: ReturnType<IouRings["kernel"]>;

  constructor(kind: RingKind, entries = 4, cqEntries = 8, isShared = true) {
    const memory = new WebAssembly.Memory({ initial: 16, maximum: 16, shared: isShared });
    this.shared = SharedMemory.of(memory);
    this.layout = allocIouMemory(this.shared, { entries, cqEntries });
    const rings = loadIouRings(memory, kind);
    this.application = rings.application(this.layout.application);
    this.kernel = rings.kernel(this.layout.kernel);
    this.application.reset();
    this.kernel.reset();
  }

  /** A word of a side's block. */
  word(side: "application" | "kernel", offset: number): number {
    return this.shared.view.getUint32(this.layout[side] + offset, true);
  }

  setWord(side: "application" | "kernel", offset: number, value: number): void {
    this.shared.view.setUint32(this.layout[side] + offset, value, true);
  }

  /** A word of struct io_rings. */
  rings(offset: number): number {
    return this.shared.view.getUint32(this.word("kernel", IOU_RINGS) + offset, true);
  }

  setRings(offset: number, value: number): void {
    this.shared.view.setUint32(this.word("kernel", IOU_RINGS) + offset, value, true);
  }

  setArray(slot: number, value: number): void {
    this.shared.view.setUint32(this.word("kernel", IOU_SQ_ARRAY) + slot * 4, value, true);
  }

  /** Address of the SQE in a slot. */
  sqe(slot: number): number {
    return this.word("kernel", IOU_SQES) + slot * IO_URING_SQE_BYTES;
  }

  /** Gets an SQE and fills in opcode and user data; false: the SQ is full. */
  addSqe(opcode: number, userData: bigint): boolean {
    const sqe = this.application.getSqe();
    if (sqe === 0) return false;
    this.shared.view.setUint8(sqe + SQE_OPCODE, opcode);
    this.shared.view.setBigUint64(sqe + SQE_USER_DATA, userData, true);
    return true;
  }

  /** User data and error of the first `count` records that the kernel took. */
  taken(count: number): { userData: bigint; error: number }[] {
    const { view } = this.shared;
    return Array.from({ length: count }, (_, i) => {
      const record = this.word("kernel", IOU_TABLE) + i * SQE_RECORD_BYTES;
      const userData = view.getBigUint64(record + SQE_USER_DATA, true);
      return { userData, error: view.getUint32(record + SQE_ERROR, true) };
    });
  }

  /** Writes CQEs to the kernel's table and posts them. */
  post(cqes: Cqe[]): number {
    const { view } = this.shared;
    for (const [i, { userData, res, flags }] of cqes.entries()) {
      const cqe = this.word("kernel", IOU_CQES) + i * IO_URING_CQE_BYTES;
      view.setBigUint64(cqe + CQE_USER_DATA, userData, true);
      view.setInt32(cqe + CQE_RES, res, true);
      view.setUint32(cqe + CQE_FLAGS, flags, true);
    }
    return this.kernel.postCqes(cqes.length);
  }

  /** The first `count` CQEs that the application peeked at. */
  peeked(count: number): Cqe[] {
    const { view } = this.shared;
    return Array.from({ length: count }, (_, i) => {
      const cqe = this.word("application", IOU_TABLE) + i * IO_URING_CQE_BYTES;
      return {
        userData: view.getBigUint64(cqe + CQE_USER_DATA, true),
        res: view.getInt32(cqe + CQE_RES, true),
        flags: view.getUint32(cqe + CQE_FLAGS, true),
      };
    });
  }
}
