// The driver's descriptors: the free list, and what the shadow table remembers of each chain. What
// is written to the ring is for the device alone, never read back: the device may scribble on it.

import {
  CHAIN_IN_COUNT,
  CHAIN_IOV_START,
  CHAIN_OUT_COUNT,
  IOV_BYTES,
  IOV_LENGTH,
  SHADOW_BYTES,
  SHADOW_COUNT,
  SHADOW_IN_BYTES,
  SHADOW_NEXT,
  VQ_DESC,
  VQ_F_INDIRECT,
  VQ_FLAGS,
  VQ_FREE_HEAD,
  VQ_GUEST_DELTA,
  VQ_INDIRECT,
  VQ_INDIRECT_CAPACITY,
  VQ_IOV,
  VQ_IOV_CAPACITY,
  VQ_NUM,
  VQ_NUM_FREE,
  VQ_SHADOW,
} from "../spec/ring-state.js";
import {
  VIRTQ_DESC_BYTES,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_WRITE,
  VIRTQ_DESC_FLAGS,
  VIRTQ_DESC_LEN,
} from "../spec/virtio-ring.js";

// Word indices: byte offsets of the layouts over four.
const NUM = VQ_NUM >>> 2;
const FLAGS = VQ_FLAGS >>> 2;
const DESC = VQ_DESC >>> 2;
const IOV = VQ_IOV >>> 2;
const IOV_CAPACITY = VQ_IOV_CAPACITY >>> 2;
const FREE_HEAD = VQ_FREE_HEAD >>> 2;
const NUM_FREE = VQ_NUM_FREE >>> 2;
const SHADOW = VQ_SHADOW >>> 2;
const INDIRECT = VQ_INDIRECT >>> 2;
const INDIRECT_CAPACITY = VQ_INDIRECT_CAPACITY >>> 2;
const GUEST_DELTA = VQ_GUEST_DELTA >>> 2;
const IOV_START = CHAIN_IOV_START >>> 2;
const OUT_COUNT = CHAIN_OUT_COUNT >>> 2;
const IN_COUNT = CHAIN_IN_COUNT >>> 2;
const IOV_WORDS = IOV_BYTES >>> 2;
const IOV_LEN = IOV_LENGTH >>> 2;
const DESC_WORDS = VIRTQ_DESC_BYTES >>> 2;
const DESC_LEN = VIRTQ_DESC_LEN >>> 2;
/** One word: flags in the lower half, `next` in the upper. */
const DESC_TAIL = VIRTQ_DESC_FLAGS >>> 2;

const TWO_32 = 0x1_0000_0000;

/**
 * Writes and frees a driver's chains, for the TypeScript twin. It holds views only; what lasts is
 * in the state block and the shadow table. The driver's thread.
 */
export class TsDescs {
  private readonly u16: Uint16Array;
  private readonly u32: Uint32Array;
  private readonly w: number;

  /** Over `memory`, which does not grow; `vq` is the address of a driver's state block. */
  constructor(memory: WebAssembly.Memory, vq: number) {
    this.u16 = new Uint16Array(memory.buffer);
    this.u32 = new Uint32Array(memory.buffer);
    this.w = vq >>> 2;
  }

  /** Frees every descriptor: the list is 0, 1, 2 … (the last links to 0), and no chain starts. */
  reset(): void {
    const { u16, u32, w } = this;
    const num = u32[w + NUM];
    for (let index = 0; index < num; index++) {
      const entry = this.shadow(index);
      u16[entry + (SHADOW_NEXT >>> 1)] = (index + 1) & (num - 1);
      u16[entry + (SHADOW_COUNT >>> 1)] = 0;
      u32[(entry >>> 1) + (SHADOW_IN_BYTES >>> 2)] = 0;
    }
    u32[w + FREE_HEAD] = 0;
    u32[w + NUM_FREE] = num;
  }

  /**
   * Pieces of the chain record at word `record`, or -1 when it is a mistake (VRING_E_CHAIN): no
   * piece, past the iovec table, 2^32 bytes, more descriptors than the ring has. No side effect.
   */
  check(record: number): number {
    const { u32, w } = this;
    const pieces = u32[record + OUT_COUNT] + u32[record + IN_COUNT];
    const start = u32[record + IOV_START];
    if (pieces === 0 || start + pieces > u32[w + IOV_CAPACITY]) return -1;
    if (pieces > u32[w + NUM] && !this.fitsTable(pieces)) return -1;
    const lengths = (u32[w + IOV] >>> 2) + IOV_LEN;
    let bytes = 0;
    for (let i = start; i < start + pieces; i++) bytes += u32[lengths + i * IOV_WORDS];
    return bytes < TWO_32 ? pieces : -1;
  }

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
   * Bytes that the device may write to the chain that starts at `head`; -1 when none starts there,
   * `head` past the queue size included. No side effect.
   */
  inBytes(head: number): number {
    if (head >= this.u32[this.w + NUM]) return -1;
    const entry = this.shadow(head);
    if (this.u16[entry + (SHADOW_COUNT >>> 1)] === 0) return -1;
    return this.u32[(entry >>> 1) + (SHADOW_IN_BYTES >>> 2)];
  }

  /**
   * Gives the descriptors of the chain that starts at `head` back: to the front of the free list,
   * in their own order. Linux: detach_buf_split().
   */
  free(head: number): void {
    const { u16, u32, w } = this;
    const entry = this.shadow(head);
    const count = u16[entry + (SHADOW_COUNT >>> 1)];
    let last = entry;
    for (let i = 1; i < count; i++) last = this.shadow(u16[last + (SHADOW_NEXT >>> 1)]);
    u16[last + (SHADOW_NEXT >>> 1)] = u32[w + FREE_HEAD];
    u16[entry + (SHADOW_COUNT >>> 1)] = 0;
    u32[w + FREE_HEAD] = head;
    u32[w + NUM_FREE] += count;
  }

  /** Index in `u16` of a descriptor's shadow entry. */
  private shadow(index: number): number {
    return (this.u32[this.w + SHADOW] + index * SHADOW_BYTES) >>> 1;
  }

  /** Whether so many pieces go into an indirect table. virtio 1.3, 2.7.5.3 Indirect Descriptors. */
  private fitsTable(pieces: number): boolean {
    const { u32, w } = this;
    if (pieces === 1 || (u32[w + FLAGS] & VQ_F_INDIRECT) === 0) return false;
    return pieces <= u32[w + INDIRECT_CAPACITY] && u32[w + INDIRECT] !== 0;
  }

  /** A chain of ring descriptors, as the free list has them. */
  private addDirect(head: number, iovec: number, outCount: number, pieces: number): void {
    const { u16, u32, w } = this;
    const table = u32[w + DESC] >>> 2;
    let inBytes = 0;
    let index = head;
    for (let i = 0; i < pieces; i++, iovec += IOV_WORDS) {
      const following = u16[this.shadow(index) + (SHADOW_NEXT >>> 1)];
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
    const { u16, u32, w } = this;
    const address = u32[w + INDIRECT] + head * u32[w + INDIRECT_CAPACITY] * VIRTQ_DESC_BYTES;
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
    this.begin(head, u16[this.shadow(head) + (SHADOW_NEXT >>> 1)], 1, inBytes);
  }

  /** Takes a chain off the free list, which goes on at `free`, and remembers it in the shadow. */
  private begin(head: number, free: number, descs: number, inBytes: number): void {
    const { u16, u32, w } = this;
    const entry = this.shadow(head);
    u16[entry + (SHADOW_COUNT >>> 1)] = descs;
    u32[(entry >>> 1) + (SHADOW_IN_BYTES >>> 2)] = inBytes;
    u32[w + FREE_HEAD] = free;
    u32[w + NUM_FREE] -= descs;
  }

  /** Writes the descriptor at word `desc`; `tail` is flags in its lower half, next in its upper. */
  private write(desc: number, linear: number, length: number, tail: number): void {
    const { u32, w } = this;
    const lo = linear + u32[w + GUEST_DELTA];
    u32[desc] = lo; // stored modulo 2^32, like the upper half
    u32[desc + 1] = u32[w + GUEST_DELTA + 1] + (lo >= TWO_32 ? 1 : 0);
    u32[desc + DESC_LEN] = length;
    u32[desc + DESC_TAIL] = tail;
  }
}
