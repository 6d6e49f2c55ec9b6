import {
  IO_RINGS_CQ_HEAD,
  IO_RINGS_CQ_TAIL,
  IO_RINGS_CQES,
  IO_RINGS_SQ_HEAD,
  IO_RINGS_SQ_TAIL,
  IO_URING_CQE_BYTES,
  IO_URING_SQE_BYTES,
  IOU_CQ_ENTRIES,
  IOU_CQ_HEAD,
  IOU_CQ_PEEKED,
  IOU_E_CQ_TAIL,
  IOU_RINGS,
  IOU_SQ_ARRAY,
  IOU_SQ_ENTRIES,
  IOU_SQ_PUBLISHED,
  IOU_SQ_TAIL,
  IOU_SQES,
  IOU_TABLE,
  IOU_TABLE_CAPACITY,
} from "../spec/io-uring.js";
import type { ApplicationRing } from "./ring.js";
import { slot, Words } from "./ts-words.js";

/** The application's half in TypeScript; see `ApplicationRing`. Throws nothing. */
export class TsApplicationRing implements ApplicationRing {
  readonly iou: number;
  readonly #words: Words;

  /** `iou`: address of a state block in `memory`. */
  constructor(memory: WebAssembly.Memory, iou: number) {
    this.#words = new Words(memory);
    this.iou = iou;
  }

  reset(): void {
    const { iou } = this;
    for (const word of [IOU_SQ_TAIL, IOU_SQ_PUBLISHED, IOU_CQ_HEAD, IOU_CQ_PEEKED]) {
      this.#words.set(iou + word, 0);
    }
    this.#words.store(this.#rings + IO_RINGS_SQ_TAIL, 0);
    this.#words.store(this.#rings + IO_RINGS_CQ_HEAD, 0);
  }

  getSqe(): number {
    const entries = this.#word(IOU_SQ_ENTRIES);
    const tail = this.#word(IOU_SQ_TAIL);
    // Q2 with takeSqes: a slot behind the head was copied, so it may be written again.
    const head = this.#words.load(this.#rings + IO_RINGS_SQ_HEAD);
    if ((this.#word(IOU_SQ_PUBLISHED) - head) >>> 0 > entries) return 0;
    if ((tail - head) >>> 0 >= entries) return 0;
    const sqe = slot(this.#word(IOU_SQES), tail, entries, IO_URING_SQE_BYTES);
    for (let at = 0; at < IO_URING_SQE_BYTES; at += 4) this.#words.set(sqe + at, 0);
    this.#words.set(this.iou + IOU_SQ_TAIL, tail + 1);
    return sqe;
  }

  submit(): number {
    const entries = this.#word(IOU_SQ_ENTRIES);
    const tail = this.#word(IOU_SQ_TAIL);
    const published = this.#word(IOU_SQ_PUBLISHED);
    const count = (tail - published) >>> 0;
    if (count === 0) return 0;
    const array = this.#word(IOU_SQ_ARRAY);
    for (let i = 0; i < count; i++) {
      const index = published + i;
      this.#words.set(slot(array, index, entries, 4), index & (entries - 1));
    }
    this.#words.set(this.iou + IOU_SQ_PUBLISHED, tail);
    // Q1 with takeSqes: SQEs and array first, the tail last.
    this.#words.store(this.#rings + IO_RINGS_SQ_TAIL, tail);
    return count;
  }

  peekCqes(max: number): number {
    const entries = this.#word(IOU_CQ_ENTRIES);
    const head = this.#word(IOU_CQ_HEAD);
    const rings = this.#rings;
    const ready = (this.#words.load(rings + IO_RINGS_CQ_TAIL) - head) >>> 0; // Q3 with postCqes
    this.#words.set(this.iou + IOU_CQ_PEEKED, 0);
    if (ready > entries) return -IOU_E_CQ_TAIL;
    const count = Math.min(max, this.#word(IOU_TABLE_CAPACITY), ready);
    const table = this.#word(IOU_TABLE);
    for (let i = 0; i < count; i++) {
      const cqe = slot(rings + IO_RINGS_CQES, head + i, entries, IO_URING_CQE_BYTES);
      this.#words.copy(table + i * IO_URING_CQE_BYTES, cqe, IO_URING_CQE_BYTES);
    }
    this.#words.set(this.iou + IOU_CQ_PEEKED, count);
    return count;
  }

  advance(count: number): void {
    const peeked = this.#word(IOU_CQ_PEEKED);
    const passed = Math.min(count, peeked);
    if (passed === 0) return;
    const head = this.#word(IOU_CQ_HEAD) + passed;
    this.#words.set(this.iou + IOU_CQ_HEAD, head);
    this.#words.set(this.iou + IOU_CQ_PEEKED, peeked - passed);
    // Q4 with postCqes: what was copied may be written over from now on.
    this.#words.store(this.#rings + IO_RINGS_CQ_HEAD, head);
  }

  get #rings(): number {
    return this.#word(IOU_RINGS);
  }

  #word(offset: number): number {
    return this.#words.get(this.iou + offset);
  }
}
