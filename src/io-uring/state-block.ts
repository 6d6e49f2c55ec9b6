import type { SharedMemory } from "../memory/shared-memory.js";
import { VhostError } from "../spec/errno.js";
import {
  IO_RINGS_CQES,
  IO_URING_CQE_BYTES,
  IO_URING_SQE_BYTES,
  IORING_MAX_CQ_ENTRIES,
  IORING_MAX_ENTRIES,
  IOU_CQ_ENTRIES,
  IOU_CQES,
  IOU_CQES_CAPACITY,
  IOU_RINGS,
  IOU_SQ_ARRAY,
  IOU_SQ_ENTRIES,
  IOU_SQES,
  IOU_STATE_BYTES,
  IOU_TABLE,
  IOU_TABLE_CAPACITY,
  SQE_RECORD_BYTES,
} from "../spec/io-uring.js";

/** Largest burst of `takeSqes`, `postCqes` and `peekCqes`. */
export const IOU_BURST_MAX = 128;
const RINGS_ALIGN = 64;

/** How many entries a ring is to have. Linux: struct io_uring_params. */
export interface IouEntries {
  /** SQ entries, rounded up to a power of two. */
  readonly entries: number;
  /** CQ entries, rounded up; default twice the SQ's. Linux: IORING_SETUP_CQSIZE. */
  readonly cqEntries?: number;
}

/** A ring in memory: what both sides share, and a private state block for each. */
export interface IouMemory {
  readonly sqEntries: number;
  readonly cqEntries: number;
  /** Address of the kernel's state block. */
  readonly kernel: number;
  /** Address of the application's state block. */
  readonly application: number;
  /** Gives all of it back. Nothing may use the ring after it. */
  release(): void;
}

/**
 * Lays out a ring: struct io_rings with the CQEs and the SQ array, and the SQEs, in guest memory
 * (or in host memory, for an application that is ours); blocks and tables in host memory. EINVAL:
 * entries outside 1 to 32768 (CQ: from the SQ's to 65536). ENOMEM, with nothing kept. Linux:
 * io_uring_fill_params(), io_allocate_scq_urings().
 */
export function allocIouMemory(
  shared: SharedMemory,
  wanted: IouEntries,
  where: "guest" | "host" = "guest",
): IouMemory {
  const sqEntries = roundUp("entries", wanted.entries, 1, IORING_MAX_ENTRIES);
  const cq = wanted.cqEntries ?? 2 * sqEntries;
  const cqEntries = roundUp("cqEntries", cq, sqEntries, IORING_MAX_CQ_ENTRIES);
  const undo: (() => void)[] = [];
  try {
    const parts = new Parts(shared, undo);
    const array = IO_RINGS_CQES + cqEntries * IO_URING_CQE_BYTES;
    const rings = parts.ring(where, array + sqEntries * 4);
    const sqes = parts.ring(where, sqEntries * IO_URING_SQE_BYTES);
    const common = { sqEntries, cqEntries, rings, sqArray: rings + array, sqes };
    const kernel = parts.block(common, SQE_RECORD_BYTES);
    shared.view.setUint32(kernel + IOU_CQES, parts.host(IOU_BURST_MAX * IO_URING_CQE_BYTES), true);
    shared.view.setUint32(kernel + IOU_CQES_CAPACITY, IOU_BURST_MAX, true);
    const application = parts.block(common, IO_URING_CQE_BYTES);
    return { sqEntries, cqEntries, kernel, application, release: () => undoAll(undo) };
  } catch (error) {
    undoAll(undo);
    throw error;
  }
}

interface Common {
  sqEntries: number;
  cqEntries: number;
  rings: number;
  sqArray: number;
  sqes: number;
}

/** Allocates, and notes how to give it back. */
class Parts {
  readonly #shared: SharedMemory;
  readonly #undo: (() => void)[];

  constructor(shared: SharedMemory, undo: (() => void)[]) {
    this.#shared = shared;
    this.#undo = undo;
  }

  /** What both sides share. */
  ring(where: "guest" | "host", bytes: number): number {
    if (where === "host") return this.host(bytes, RINGS_ALIGN);
    const address = this.#shared.allocGuest(bytes, RINGS_ALIGN);
    this.#undo.push(() => this.#shared.guest.free(address));
    return address;
  }

  host(bytes: number, align?: number): number {
    const address = this.#shared.allocHost(bytes, align);
    this.#undo.push(() => this.#shared.host.free(address));
    return address;
  }

  /** A state block with its table of records of `recordBytes`. */
  block(common: Common, recordBytes: number): number {
    const { view } = this.#shared;
    const iou = this.host(IOU_STATE_BYTES);
    view.setUint32(iou + IOU_SQ_ENTRIES, common.sqEntries, true);
    view.setUint32(iou + IOU_CQ_ENTRIES, common.cqEntries, true);
    view.setUint32(iou + IOU_RINGS, common.rings, true);
    view.setUint32(iou + IOU_SQ_ARRAY, common.sqArray, true);
    view.setUint32(iou + IOU_SQES, common.sqes, true);
    view.setUint32(iou + IOU_TABLE, this.host(IOU_BURST_MAX * recordBytes), true);
    view.setUint32(iou + IOU_TABLE_CAPACITY, IOU_BURST_MAX, true);
    return iou;
  }
}

function undoAll(undo: (() => void)[]): void {
  for (const step of undo.splice(0).reverse()) step();
}

function roundUp(name: string, wanted: number, min: number, max: number): number {
  if (!Number.isInteger(wanted) || wanted < min || wanted > max) {
    const message = `${name} is a whole number from ${min} to ${max}`;
    throw new VhostError("EINVAL", message, { [name]: wanted });
  }
  return 2 ** Math.ceil(Math.log2(wanted));
}
