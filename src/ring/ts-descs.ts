// The descriptors of a split ring's driver: the free list, and what the shadow table remembers of
// each chain. What is written to the ring is for the device alone, never read back: the device may
// scribble on it.

import {
  CHAIN_IOV_START,
  CHAIN_OUT_COUNT,
  IOV_BYTES,
  IOV_LENGTH,
  SHADOW_COUNT,
  SHADOW_NEXT,
  VQ_DESC,
  VQ_FREE_HEAD,
  VQ_IOV,
  VQ_NUM,
  VQ_NUM_FREE,
  VQ_OLDEST,
} from "../spec/ring-state.js";
import {
  VIRTQ_DESC_BYTES,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_WRITE,
  VIRTQ_DESC_FLAGS,
} from "../spec/virtio-ring.js";
import { TsShadow } from "./ts-shadow.js";

// Word indices: byte offsets of the layouts over four.
const NUM = VQ_NUM >>> 2;
const DESC = VQ_DESC >>> 2;
const IOV = VQ_IOV >>> 2;
const FREE_HEAD = VQ_FREE_HEAD >>> 2;
const NUM_FREE = VQ_NUM_FREE >>> 2;
const OLDEST = VQ_OLDEST >>> 2;
const IOV_START = CHAIN_IOV_START >>> 2;
const OUT_COUNT = CHAIN_OUT_COUNT >>> 2;
const IOV_WORDS = IOV_BYTES >>> 2;
const IOV_LEN = IOV_LENGTH >>> 2;
const DESC_WORDS = VIRTQ_DESC_BYTES >>> 2;
/** One word: flags in the lower half, `next` in the upper. */
const DESC_TAIL = VIRTQ_DESC_FLAGS >>> 2;

/**
 * Writes and frees a driver's chains, for the split twin. It holds views only; what lasts is in the
 * state block and the shadow table. The driver's thread.
 */
export class TsDescs extends TsShadow {
  /**
   * Writes the chain of a checked record, directly or into its head's indirect table, and remembers
   * it. Side effects: ring descriptors, table, shadow, free list. @returns the head, or -1 with no
   * side effect when descriptors run out. virtio 1.3, 2.7.13.1 Placing Buffers Into The Descriptor
   * Table. Linux: virtqueue_add_split().
   */
  add(record: number, pieces: number): number {
    const { u32, w } = this;
    const inTable = this.fitsTable(pieces);
    if ((inTable ? 1 : pieces) > u32[w + NUM_FREE]) return -1;
    const head = u32[w + FREE_HEAD];
    const iovec = (u32[w + IOV] >>> 2) + u32[record + IOV_START] * IOV_WORDS;
    if (inTable) this.addTable(head, iovec, u32[record + OUT_COUNT], pieces);
    else this.addDirect(head, iovec, u32[record + OUT_COUNT], pieces);
    return head;
  }

  /**
   * Gives the descriptors of the chain that starts at `head` back: to the front of the free list,
   * in their own order. Linux: detach_buf_split().
   */
  free(head: number): void {
    const { u16, u32, w } = this;
    const entry = this.shadow(head);
    const count = this.countOf(head);
    let last = entry;
    for (let i = 1; i < count; i++) last = this.shadow(u16[last + (SHADOW_NEXT >>> 1)]);
    u16[last + (SHADOW_NEXT >>> 1)] = u32[w + FREE_HEAD];
    u16[entry + (SHADOW_COUNT >>> 1)] = 0;
    u32[w + FREE_HEAD] = head;
    u32[w + NUM_FREE] += count;
  }

  /**
   * Chains from the oldest in flight to the one at `head`, which is; 0 when they are more than
   * `most`, which is no more than are in flight.
   */
  batchTo(head: number, most: number): number {
    let oldest = this.u32[this.w + OLDEST];
    for (let count = 1; count <= most; count++) {
      if (oldest === head) return count;
      oldest = this.after(oldest, this.countOf(oldest));
    }
    return 0;
  }

  protected after(head: number, count: number): number {
    return (head + count) & (this.u32[this.w + NUM] - 1);
  }

  /** The descriptor to take after one that is free: with IN_ORDER the next of the ring. */
  private following(index: number): number {
    if (this.isInOrder()) return this.after(index, 1);
    return this.u16[this.shadow(index) + (SHADOW_NEXT >>> 1)];
  }

  /** A chain of ring descriptors, as the free list has them. */
  private addDirect(head: number, iovec: number, outCount: number, pieces: number): void {
    const { u32, w } = this;
    const table = u32[w + DESC] >>> 2;
    let inBytes = 0;
    let index = head;
    for (let i = 0; i < pieces; i++, iovec += IOV_WORDS) {
      const following = this.following(index);
      const flags = i < outCount ? 0 : VIRTQ_DESC_F_WRITE;
      const length = u32[iovec + IOV_LEN];
      const tail = i + 1 < pieces ? flags | VIRTQ_DESC_F_NEXT | (following << 16) : flags;
      this.write(table + index * DESC_WORDS, u32[iovec], length, tail);
      if (flags !== 0) inBytes += length;
      index = following;
    }
    this.begin(head, index, pieces, inBytes);
  }

  /** A chain in the table of its head, and the one ring descriptor that names the table. */
  private addTable(head: number, iovec: number, outCount: number, pieces: number): void {
    const { u32, w } = this;
    const address = this.tableOf(head);
    let desc = address >>> 2;
    let inBytes = 0;
    for (let i = 0; i < pieces; i++, iovec += IOV_WORDS, desc += DESC_WORDS) {
      const flags = i < outCount ? 0 : VIRTQ_DESC_F_WRITE;
      const length = u32[iovec + IOV_LEN];
      const tail = i + 1 < pieces ? flags | VIRTQ_DESC_F_NEXT | ((i + 1) << 16) : flags;
      this.write(desc, u32[iovec], length, tail);
      if (flags !== 0) inBytes += length;
    }
    const ringDesc = (u32[w + DESC] >>> 2) + head * DESC_WORDS;
    this.write(ringDesc, address, pieces * VIRTQ_DESC_BYTES, VIRTQ_DESC_F_INDIRECT);
    this.begin(head, this.following(head), 1, inBytes);
  }

  /** Writes the descriptor at word `desc`; `tail` is flags in its lower half, next in its upper. */
  private write(desc: number, linear: number, length: number, tail: number): void {
    this.writeRange(desc, linear, length);
    this.u32[desc + DESC_TAIL] = tail;
  }
}
