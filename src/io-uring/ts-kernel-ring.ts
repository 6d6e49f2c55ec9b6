import {
  IO_RINGS_CQ_HEAD,
  IO_RINGS_CQ_OVERFLOW,
  IO_RINGS_CQ_RING_ENTRIES,
  IO_RINGS_CQ_RING_MASK,
  IO_RINGS_CQ_TAIL,
  IO_RINGS_CQES,
  IO_RINGS_SQ_DROPPED,
  IO_RINGS_SQ_FLAGS,
  IO_RINGS_SQ_HEAD,
  IO_RINGS_SQ_RING_ENTRIES,
  IO_RINGS_SQ_RING_MASK,
  IO_RINGS_SQ_TAIL,
  IO_URING_CQE_BYTES,
  IO_URING_SQE_BYTES,
  IORING_OP_LAST,
  IOSQE_VALID,
  IOU_CQ_ENTRIES,
  IOU_CQ_OVERFLOW,
  IOU_CQ_TAIL,
  IOU_CQES,
  IOU_CQES_CAPACITY,
  IOU_RINGS,
  IOU_SQ_ARRAY,
  IOU_SQ_DROPPED,
  IOU_SQ_ENTRIES,
  IOU_SQ_HEAD,
  IOU_SQES,
  IOU_TABLE,
  IOU_TABLE_CAPACITY,
  SQE_EINVAL,
  SQE_ERROR,
  SQE_OPCODE,
  SQE_RECORD_BYTES,
} from "../spec/io-uring.js";
import type { KernelRing } from "./ring.js";
import { slot, Words } from "./ts-words.js";

/** The kernel's half in TypeScript; see `KernelRing`. Throws nothing. */
export class TsKernelRing implements KernelRing {
  readonly iou: number;
  readonly #words: Words;

  /** `iou`: address of a state block in `memory`. */
  constructor(memory: WebAssembly.Memory, iou: number) {
    this.#words = new Words(memory);
    this.iou = iou;
  }

  reset(): void {
    const rings = this.#rings;
    const sqEntries = this.#word(IOU_SQ_ENTRIES);
    const cqEntries = this.#word(IOU_CQ_ENTRIES);
    for (const word of [IOU_SQ_HEAD, IOU_CQ_TAIL, IOU_SQ_DROPPED, IOU_CQ_OVERFLOW]) {
      this.#words.set(this.iou + word, 0);
    }
    this.#words.set(rings + IO_RINGS_SQ_RING_MASK, sqEntries - 1);
    this.#words.set(rings + IO_RINGS_CQ_RING_MASK, cqEntries - 1);
    this.#words.set(rings + IO_RINGS_SQ_RING_ENTRIES, sqEntries);
    this.#words.set(rings + IO_RINGS_CQ_RING_ENTRIES, cqEntries);
    this.#words.set(rings + IO_RINGS_SQ_DROPPED, 0);
    this.#words.set(rings + IO_RINGS_CQ_OVERFLOW, 0);
    this.#words.store(rings + IO_RINGS_SQ_FLAGS, 0);
    this.#words.store(rings + IO_RINGS_SQ_HEAD, 0);
    this.#words.store(rings + IO_RINGS_CQ_TAIL, 0);
  }

  takeSqes(max: number): number {
    const entries = this.#word(IOU_SQ_ENTRIES);
    const array = this.#word(IOU_SQ_ARRAY);
    const table = this.#word(IOU_TABLE);
    let head = this.#word(IOU_SQ_HEAD);
    const tail = this.#words.load(this.#rings + IO_RINGS_SQ_TAIL); // Q1 with submit
    const pending = Math.min((tail - head) >>> 0, entries);
    const count = Math.min(max, this.#word(IOU_TABLE_CAPACITY), pending);
    if (count === 0) return 0;
    let taken = 0;
    while (taken < count) {
      const index = this.#words.get(slot(array, head, entries, 4));
      head = (head + 1) >>> 0;
      if (index >= entries) {
        this.#drop();
        break;
      }
      this.#takeSqe(table + taken * SQE_RECORD_BYTES, index);
      taken++;
    }
    this.#words.set(this.iou + IOU_SQ_HEAD, head);
    this.#words.store(this.#rings + IO_RINGS_SQ_HEAD, head); // Q2 with getSqe: after the last copy
    return taken;
  }

  postCqes(count: number): number {
    const entries = this.#word(IOU_CQ_ENTRIES);
    const rings = this.#rings;
    const tail = this.#word(IOU_CQ_TAIL);
    const head = this.#words.load(rings + IO_RINGS_CQ_HEAD); // Q4 with advance
    const queued = Math.min((tail - head) >>> 0, entries);
    const posted = Math.min(count, this.#word(IOU_CQES_CAPACITY), entries - queued);
    if (posted === 0) return 0;
    const table = this.#word(IOU_CQES);
    for (let i = 0; i < posted; i++) {
      const cqe = slot(rings + IO_RINGS_CQES, tail + i, entries, IO_URING_CQE_BYTES);
      this.#words.copy(cqe, table + i * IO_URING_CQE_BYTES, IO_URING_CQE_BYTES);
    }
    this.#words.set(this.iou + IOU_CQ_TAIL, tail + posted);
    this.#words.store(rings + IO_RINGS_CQ_TAIL, tail + posted); // Q3 with peekCqes: the CQEs first
    return posted;
  }

  loseCqes(count: number): void {
    const lost = this.#word(IOU_CQ_OVERFLOW) + count;
    this.#words.set(this.iou + IOU_CQ_OVERFLOW, lost);
    this.#words.set(this.#rings + IO_RINGS_CQ_OVERFLOW, lost);
  }

  setSqFlags(flags: number): void {
    this.#words.store(this.#rings + IO_RINGS_SQ_FLAGS, flags);
  }

  #drop(): void {
    const dropped = this.#word(IOU_SQ_DROPPED) + 1;
    this.#words.set(this.iou + IOU_SQ_DROPPED, dropped);
    this.#words.set(this.#rings + IO_RINGS_SQ_DROPPED, dropped);
  }

  /** Copies an SQE to a record and judges the copy. */
  #takeSqe(record: number, index: number): void {
    const sqe = this.#word(IOU_SQES) + index * IO_URING_SQE_BYTES;
    this.#words.copy(record, sqe, IO_URING_SQE_BYTES);
    const first = this.#words.get(record + SQE_OPCODE);
    const flags = (first >>> 8) & 0xff;
    const isKnown = (first & 0xff) < IORING_OP_LAST && (flags & ~IOSQE_VALID) === 0;
    this.#words.set(record + SQE_ERROR, isKnown ? 0 : SQE_EINVAL);
  }

  get #rings(): number {
    return this.#word(IOU_RINGS);
  }

  #word(offset: number): number {
    return this.#words.get(this.iou + offset);
  }
}
