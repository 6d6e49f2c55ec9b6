// The chains in flight of a split ring, in the area that the front-end shares, for the TypeScript
// twin. The contract is in `recording-ring.ts`. What is in the area is written and never read.

import {
  INFLIGHT_DESC_COUNTER,
  INFLIGHT_DESC_INFLIGHT,
  INFLIGHT_SPLIT_DESC_BYTES,
  INFLIGHT_SPLIT_DESC_NEXT,
  INFLIGHT_SPLIT_DESCS,
  INFLIGHT_SPLIT_LAST_BATCH_HEAD,
  INFLIGHT_SPLIT_USED_IDX,
} from "../spec/inflight.js";
import {
  VQ_F_INFLIGHT,
  VQ_F_LINUX,
  VQ_FLAGS,
  VQ_INFLIGHT,
  VQ_INFLIGHT_COUNTER,
  VQ_INFLIGHT_HEAD,
  VQ_INFLIGHT_TABLE,
  VQ_RESUBMIT,
  VQ_RESUBMIT_COUNT,
  VQ_RESUBMIT_NEXT,
} from "../spec/ring-state.js";

// Word indices in the state block: byte offsets over four.
const FLAGS = VQ_FLAGS >>> 2;
const AREA = VQ_INFLIGHT >>> 2;
const TABLE = VQ_INFLIGHT_TABLE >>> 2;
const COUNTER = VQ_INFLIGHT_COUNTER >>> 2;
const HEAD = VQ_INFLIGHT_HEAD >>> 2;
const RESUBMIT = VQ_RESUBMIT >>> 2;
const RESUBMIT_COUNT = VQ_RESUBMIT_COUNT >>> 2;
const RESUBMIT_NEXT = VQ_RESUBMIT_NEXT >>> 2;

/** What the records of both ring formats are made with. Views only. Worker thread. */
export abstract class TsRecord {
  protected readonly u8: Uint8Array;
  protected readonly u16: Uint16Array;
  protected readonly u32: Uint32Array;
  protected readonly w: number;

  /** Over `memory`, which does not grow; `vq` is the address of a device's state block. */
  constructor(memory: WebAssembly.Memory, vq: number) {
    this.u8 = new Uint8Array(memory.buffer);
    this.u16 = new Uint16Array(memory.buffer);
    this.u32 = new Uint32Array(memory.buffer);
    this.w = vq >>> 2;
  }

  /** Whether chains in flight are recorded: VQ_F_INFLIGHT, which policy linux does not have. */
  get isOn(): boolean {
    return (this.u32[this.w + FLAGS] & (VQ_F_INFLIGHT | VQ_F_LINUX)) === VQ_F_INFLIGHT;
  }

  /** What is to be resubmitted still: heads; packed: descriptors. */
  get left(): number {
    const { u32, w } = this;
    return this.isOn ? u32[w + RESUBMIT_COUNT] - u32[w + RESUBMIT_NEXT] : 0;
  }

  /** Begins with what is to be resubmitted. */
  start(): void {
    if (this.isOn) this.u32[this.w + RESUBMIT_NEXT] = 0;
  }

  /** So many heads, or descriptors, were resubmitted. */
  passAgain(count: number): void {
    this.u32[this.w + RESUBMIT_NEXT] += count;
  }

  /** Linear address of a byte of the queue's part of the area. */
  protected area(offset: number): number {
    return this.u32[this.w + AREA] + offset;
  }

  /** Gives the entry at `entry` the next counter. */
  protected count(entry: number): void {
    const { u32, w } = this;
    const at = (entry + INFLIGHT_DESC_COUNTER) >>> 2;
    u32[at] = u32[w + COUNTER];
    u32[at + 1] = u32[w + COUNTER + 1];
    u32[w + COUNTER]++;
    if (u32[w + COUNTER] === 0) u32[w + COUNTER + 1]++;
  }

  /** Stores a u8 of the area, at a linear address. */
  protected store8(at: number, value: number): void {
    Atomics.store(this.u8, at, value);
  }

  /** Stores a u16 of the area, at a linear address. */
  protected store16(at: number, value: number): void {
    Atomics.store(this.u16, at >>> 1, value);
  }
}

/** The record of a split ring. vhost-user, section "Inflight I/O tracking". */
export class TsInflight extends TsRecord {
  /** The head that is to be resubmitted next. */
  headAgain(): number {
    const { u16, u32, w } = this;
    return u16[(u32[w + RESUBMIT] >>> 1) + u32[w + RESUBMIT_NEXT]];
  }

  /** A chain is popped. */
  record(head: number): void {
    const entry = this.entry(head);
    this.count(entry);
    this.store8(entry + INFLIGHT_DESC_INFLIGHT, 1);
  }

  /** A chain is staged: it heads the list of those that are used and not yet published. */
  use(head: number): void {
    const { u16, u32, w } = this;
    const before = u32[w + HEAD];
    this.store16(this.entry(head) + INFLIGHT_SPLIT_DESC_NEXT, before);
    u16[(u32[w + TABLE] >>> 1) + head] = before;
    u32[w + HEAD] = head;
    this.store16(this.area(INFLIGHT_SPLIT_LAST_BATCH_HEAD), head);
  }

  /** The last `count` chains that were staged are published: used.idx is `usedIdx`. */
  published(count: number, usedIdx: number): void {
    const { u16, u32, w } = this;
    const table = u32[w + TABLE] >>> 1;
    let head = u32[w + HEAD];
    for (let left = count; left > 0; left--) {
      this.store8(this.entry(head) + INFLIGHT_DESC_INFLIGHT, 0);
      head = u16[table + head];
    }
    this.store16(this.area(INFLIGHT_SPLIT_USED_IDX), usedIdx);
  }

  private entry(head: number): number {
    return this.area(INFLIGHT_SPLIT_DESCS + head * INFLIGHT_SPLIT_DESC_BYTES);
  }
}
