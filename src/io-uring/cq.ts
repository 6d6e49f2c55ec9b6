import {
  CQE_FLAGS,
  CQE_RES,
  CQE_USER_DATA,
  IO_RINGS_CQ_HEAD,
  IO_URING_CQE_BYTES,
  IORING_SQ_CQ_OVERFLOW,
  IORING_SQ_NEED_WAKEUP,
  IOU_CQ_ENTRIES,
  IOU_CQ_TAIL,
  IOU_CQES,
  IOU_RINGS,
} from "../spec/io-uring.js";
import type { KernelRing } from "./ring.js";
import { IOU_BURST_MAX } from "./state-block.js";

/** The memory that a ring lies in. */
interface RingMemory {
  readonly memory: WebAssembly.Memory;
  readonly view: DataView;
}

interface Completion {
  readonly userData: bigint;
  readonly res: number;
}

/**
 * The kernel's end of a CQ. What finds no room waits, in its order, and IORING_SQ_CQ_OVERFLOW is
 * shown; whoever adds limits how much that can be. Linux: io_cqring_overflow_flush().
 */
export class CompletionQueue {
  readonly #shared: RingMemory;
  readonly #ring: KernelRing;
  readonly #waiting: Completion[] = [];
  #isOverflown = false;
  #needsWakeup = false;

  constructor(shared: RingMemory, ring: KernelRing) {
    this.#shared = shared;
    this.#ring = ring;
  }

  /** CQEs that found no room. */
  get waiting(): number {
    return this.#waiting.length;
  }

  /** CQEs that the application has not taken; CQ entries at most, whatever its head claims. */
  get ready(): number {
    const { view, memory } = this.#shared;
    const word = (offset: number) => view.getUint32(this.#ring.iou + offset, true);
    const head = (word(IOU_RINGS) + IO_RINGS_CQ_HEAD) >>> 2;
    const taken = Atomics.load(new Uint32Array(memory.buffer), head);
    return Math.min((word(IOU_CQ_TAIL) - taken) >>> 0, word(IOU_CQ_ENTRIES));
  }

  /** Adds a CQE; `flush` posts it. */
  add(userData: bigint, res: number): void {
    this.#waiting.push({ userData, res });
  }

  /** Posts what there is room for. Whether there was any. */
  flush(): boolean {
    const before = this.#waiting.length;
    for (let isRoom = true; isRoom && this.#waiting.length > 0; ) {
      const burst = this.#waiting.slice(0, IOU_BURST_MAX);
      this.#write(burst);
      const posted = this.#ring.postCqes(burst.length);
      this.#waiting.splice(0, posted);
      isRoom = posted === burst.length;
    }
    const isOverflown = this.#waiting.length > 0;
    if (isOverflown !== this.#isOverflown) {
      this.#isOverflown = isOverflown;
      this.#showFlags();
    }
    return this.#waiting.length < before;
  }

  /** Whether IORING_SQ_NEED_WAKEUP is shown. */
  set needsWakeup(value: boolean) {
    this.#needsWakeup = value;
    this.#showFlags();
  }

  #showFlags(): void {
    const overflow = this.#isOverflown ? IORING_SQ_CQ_OVERFLOW : 0;
    this.#ring.setSqFlags(overflow | (this.#needsWakeup ? IORING_SQ_NEED_WAKEUP : 0));
  }

  #write(burst: readonly Completion[]): void {
    const { view } = this.#shared;
    const table = view.getUint32(this.#ring.iou + IOU_CQES, true);
    for (const [i, { userData, res }] of burst.entries()) {
      const cqe = table + i * IO_URING_CQE_BYTES;
      view.setBigUint64(cqe + CQE_USER_DATA, userData, true);
      view.setInt32(cqe + CQE_RES, res, true);
      view.setUint32(cqe + CQE_FLAGS, 0, true);
    }
  }
}
