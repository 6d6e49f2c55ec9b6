import type { RingFile } from "../io-uring/file-table.js";
import { loadIouRings } from "../io-uring/load.js";
import type { ApplicationRing } from "../io-uring/ring.js";
import { RingCtx } from "../io-uring/ring-ctx.js";
import { IOU_BURST_MAX } from "../io-uring/state-block.js";
import { TableQueue } from "../io-uring/table-queue.js";
import { WorkTable } from "../io-uring/work-table.js";
import { CurrentTask } from "../kernel/task-thread.js";
import { Arena } from "../memory/arena.js";
import type { RingKind } from "../ring/load.js";
import { errno } from "../spec/errno.js";
import {
  CQE_RES,
  CQE_USER_DATA,
  IO_URING_CQE_BYTES,
  IORING_OP_READ,
  IORING_OP_READV,
  IORING_OP_WRITEV,
  IOU_TABLE,
  IOVEC_BYTES,
  SQE_ADDR,
  SQE_LEN,
  SQE_OFF,
  SQE_OP_FLAGS,
  SQE_OPCODE,
  SQE_USER_DATA,
} from "../spec/io-uring.js";

/** Pieces that one step moves at most. */
export const STEP_PIECES_MAX = 256;
/** How long a thread sleeps at most before it looks whether workers are needed, in milliseconds. */
const LOOK_MS = 1;
const TWO_32 = 2 ** 32;

/** What the opening thread made for a disk, for the thread that the device lives in. */
export interface BlkUringParts {
  /** The image, open; who made it closes it. */
  readonly fd: number;
  readonly sizeBytes: number;
  /** Bucket of its writes. */
  readonly hash: number;
  readonly table: SharedArrayBuffer;
  /** The words of the task that submits. */
  readonly submitter: SharedArrayBuffer;
  /** The ring, in host memory: sizes and addresses of the two state blocks. */
  readonly ring: { sqEntries: number; cqEntries: number; kernel: number; application: number };
  readonly ringKind: RingKind;
  /** Host memory for iovecs. */
  readonly iovecs: { address: number; bytes: number };
  /** The device lives in the opening thread, which must not block. */
  readonly isInline: boolean;
}

/** One request to the file. */
export interface BlkStep {
  /** READ, WRITE, FSYNC or FALLOCATE. */
  readonly op: number;
  readonly offset: number;
  /** READ, WRITE: address and bytes of each piece, 256 at most. */
  readonly pieces?: readonly (readonly [address: number, bytes: number])[];
  /** FALLOCATE: the length. */
  readonly bytes?: number;
  /** FALLOCATE's mode, or FSYNC's flags. */
  readonly flags?: number;
}

/**
 * A disk's io_uring: both halves, in the thread that submits, as with io_uring_enter(2); the work
 * is done by io workers of the same process, which share its table. One thread.
 */
export class BlkUringIo {
  readonly #view: DataView;
  readonly #parts: BlkUringParts;
  readonly #application: ApplicationRing;
  readonly #ctx: RingCtx;
  readonly #table: WorkTable;
  readonly #queue: TableQueue;
  readonly #submitter: CurrentTask;
  readonly #iovecs: Arena;
  /** Iovecs that are in use, by the number of the step. */
  readonly #inUse = new Map<number, number>();

  constructor(memory: WebAssembly.Memory, parts: BlkUringParts) {
    const { ring: layout, iovecs, fd, hash, ringKind } = parts;
    this.#parts = parts;
    this.#view = new DataView(memory.buffer);
    this.#table = new WorkTable(parts.table);
    this.#queue = new TableQueue(this.#table, () => performance.now());
    this.#submitter = new CurrentTask(parts.submitter);
    this.#iovecs = new Arena("iovecs", iovecs.address, iovecs.address + iovecs.bytes);
    const rings = loadIouRings(memory, ringKind);
    this.#application = rings.application(layout.application);
    const ring = rings.kernel(layout.kernel);
    this.#application.reset();
    ring.reset();
    const file: RingFile = { hostFd: fd, isBounded: true, hash, count: 1, put: () => {} };
    const files = {
      get: () => file,
      install: () => -errno.EINVAL,
      close: () => -errno.EBADF,
    };
    const all = { memory, view: this.#view, bytes: new Uint8Array(memory.buffer), guestStart: 0 };
    this.#ctx = new RingCtx({ memory: all, ring, layout, files, wq: this.#queue });
  }

  /** Puts a step in the SQ, under a number; false: there is no room now. */
  start(id: number, step: BlkStep): boolean {
    if (this.#ctx.held >= this.#parts.ring.cqEntries) return false;
    const { pieces = [] } = step;
    const iovecs = pieces.length > 1 ? this.#placeIovecs(pieces) : 0;
    if (iovecs < 0) return false;
    const sqe = this.#getSqe();
    if (sqe === 0) {
      if (iovecs > 0) this.#iovecs.free(iovecs);
      return false;
    }
    if (iovecs > 0) this.#inUse.set(id, iovecs);
    this.#fill(sqe, step, iovecs);
    this.#view.setUint32(sqe + SQE_USER_DATA, id, true);
    return true;
  }

  /** A full SQ is emptied by entering. */
  #getSqe(): number {
    const sqe = this.#application.getSqe();
    if (sqe !== 0) return sqe;
    this.submit();
    return this.#application.getSqe();
  }

  #placeIovecs(pieces: NonNullable<BlkStep["pieces"]>): number {
    let address: number;
    try {
      address = this.#iovecs.alloc(pieces.length * IOVEC_BYTES);
    } catch {
      return -1; // until others are done
    }
    for (const [i, [base, bytes]] of pieces.entries()) {
      const iovec = address + i * IOVEC_BYTES;
      this.#setU64(iovec, base);
      this.#setU64(iovec + 8, bytes);
    }
    return address;
  }

  #fill(sqe: number, { op, offset, pieces, bytes = 0, flags = 0 }: BlkStep, iovecs: number): void {
    const view = this.#view;
    this.#setU64(sqe + SQE_OFF, offset);
    if (pieces === undefined) {
      view.setUint8(sqe + SQE_OPCODE, op);
      this.#setU64(sqe + SQE_ADDR, bytes);
      view.setUint32(sqe + (bytes > 0 ? SQE_LEN : SQE_OP_FLAGS), flags, true);
      return;
    }
    const [address, length] = pieces[0] as readonly [number, number];
    const isVector = iovecs > 0;
    const vectorOp = op === IORING_OP_READ ? IORING_OP_READV : IORING_OP_WRITEV;
    view.setUint8(sqe + SQE_OPCODE, isVector ? vectorOp : op);
    this.#setU64(sqe + SQE_ADDR, isVector ? iovecs : address);
    view.setUint32(sqe + SQE_LEN, isVector ? pieces.length : length, true);
  }

  #setU64(at: number, value: number): void {
    this.#view.setUint32(at, value, true);
    this.#view.setUint32(at + 4, Math.floor(value / TWO_32), true);
  }

  /** Submits what was put in the SQ, and wakes workers for it. */
  submit(): void {
    if (this.#application.submit() > 0) this.#ctx.enter();
    this.#queue.kick();
  }

  /** Hands each step that is done to `done`. Whether there was any. */
  poll(done: (id: number, res: number) => void): boolean {
    this.#queue.reap();
    let isAny = false;
    for (;;) {
      const count = this.#application.peekCqes(IOU_BURST_MAX);
      if (count <= 0) {
        if (this.#ctx.flush()) continue; // more than the CQ has room for
        return isAny;
      }
      isAny = true;
      const table = this.#view.getUint32(this.#application.iou + IOU_TABLE, true);
      for (let i = 0; i < count; i++) this.#done(table + i * IO_URING_CQE_BYTES, done);
      this.#application.advance(count);
    }
  }

  #done(cqe: number, done: (id: number, res: number) => void): void {
    const id = this.#view.getUint32(cqe + CQE_USER_DATA, true);
    const iovecs = this.#inUse.get(id);
    if (iovecs !== undefined) this.#iovecs.free(iovecs);
    this.#inUse.delete(id);
    done(id, this.#view.getInt32(cqe + CQE_RES, true));
  }

  /** Cancels the steps that no worker has begun: they are done, with -ECANCELED. */
  cancel(match: (id: number) => boolean): void {
    this.#queue.cancel(({ request }) => match(Number(request.userData)));
  }

  /** Whether the thread that submits is told to end. */
  get isOver(): boolean {
    return this.#submitter.shouldStop();
  }

  /** Whether `poll` may find something. */
  get isDone(): boolean {
    return this.#queue.isDone;
  }

  /** Sees that there are workers enough; see `TableQueue.tend`. */
  tend(): number {
    return this.#queue.tend();
  }

  /** Sleeps until something may be done: blocks, unless the device lives in the opening thread. */
  async wait(): Promise<void> {
    const { isInline } = this.#parts;
    const seen = this.#table.doneSeq;
    this.tend();
    if (this.isDone) return;
    if (isInline) await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    else this.#table.waitDone(seen, LOOK_MS * 10);
  }
}
