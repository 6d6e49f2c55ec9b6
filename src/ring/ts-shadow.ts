// What a driver of either ring format remembers of its chains, in memory that no device reaches:
// the shadow table, and the batch of an IN_ORDER device that is being taken.

import {
  CHAIN_HEAD,
  CHAIN_IN_COUNT,
  CHAIN_IOV_START,
  CHAIN_OUT_COUNT,
  CHAIN_USED_BYTES,
  IOV_BYTES,
  IOV_LENGTH,
  SHADOW_BYTES,
  SHADOW_COUNT,
  SHADOW_IN_BYTES,
  SHADOW_NEXT,
  VQ_BATCH_BYTES,
  VQ_BATCH_LEFT,
  VQ_F_IN_ORDER,
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
  VQ_OLDEST,
  VQ_SHADOW,
  VRING_E_USED_LENGTH,
} from "../spec/ring-state.js";
import { VIRTQ_DESC_BYTES, VIRTQ_DESC_LEN } from "../spec/virtio-ring.js";
import { countError } from "./ts-words.js";

// Word indices: byte offsets of the layouts over four.
const NUM = VQ_NUM >>> 2;
const FLAGS = VQ_FLAGS >>> 2;
const IOV = VQ_IOV >>> 2;
const IOV_CAPACITY = VQ_IOV_CAPACITY >>> 2;
const FREE_HEAD = VQ_FREE_HEAD >>> 2;
const NUM_FREE = VQ_NUM_FREE >>> 2;
const SHADOW = VQ_SHADOW >>> 2;
const INDIRECT = VQ_INDIRECT >>> 2;
const INDIRECT_CAPACITY = VQ_INDIRECT_CAPACITY >>> 2;
const GUEST_DELTA = VQ_GUEST_DELTA >>> 2;
const OLDEST = VQ_OLDEST >>> 2;
const BATCH_LEFT = VQ_BATCH_LEFT >>> 2;
const BATCH_BYTES = VQ_BATCH_BYTES >>> 2;
const IOV_START = CHAIN_IOV_START >>> 2;
const OUT_COUNT = CHAIN_OUT_COUNT >>> 2;
const IN_COUNT = CHAIN_IN_COUNT >>> 2;
const HEAD = CHAIN_HEAD >>> 2;
const USED_BYTES = CHAIN_USED_BYTES >>> 2;
const IOV_WORDS = IOV_BYTES >>> 2;
const IOV_LEN = IOV_LENGTH >>> 2;
const DESC_LEN = VIRTQ_DESC_LEN >>> 2;

const TWO_32 = 0x1_0000_0000;

/**
 * The shadow table of the TypeScript twins' drivers. It holds views only; what lasts is in the
 * state block and the table. The driver's thread.
 */
export abstract class TsShadow {
  protected readonly u16: Uint16Array;
  protected readonly u32: Uint32Array;
  protected readonly w: number;

  /** Over `memory`, which does not grow; `vq` is the address of a driver's state block. */
  constructor(memory: WebAssembly.Memory, vq: number) {
    this.u16 = new Uint16Array(memory.buffer);
    this.u32 = new Uint32Array(memory.buffer);
    this.w = vq >>> 2;
  }

  /** Frees every entry: the list is 0, 1, 2 … (the last links to 0), and no chain starts. */
  reset(): void {
    const { u16, u32, w } = this;
    const num = u32[w + NUM];
    for (let index = 0; index < num; index++) {
      const entry = this.shadow(index);
      u16[entry + (SHADOW_NEXT >>> 1)] = (index + 1) % num;
      u16[entry + (SHADOW_COUNT >>> 1)] = 0;
      u32[(entry >>> 1) + (SHADOW_IN_BYTES >>> 2)] = 0;
    }
    u32[w + FREE_HEAD] = 0;
    u32[w + NUM_FREE] = num;
    u32[w + OLDEST] = u32[w + BATCH_LEFT] = u32[w + BATCH_BYTES] = 0;
  }

  /**
   * Pieces of the chain record at word `record`, or -1 when it is a mistake (VRING_E_CHAIN): no
   * piece, past the iovec table, 2^32 bytes, more pieces than the ring has entries. No side effect.
   */
  check(record: number): number {
    const { u32, w } = this;
    const pieces = u32[record + OUT_COUNT] + u32[record + IN_COUNT];
    const start = u32[record + IOV_START];
    if (pieces === 0 || start + pieces > u32[w + IOV_CAPACITY]) return -1;
    if (pieces > u32[w + NUM]) return -1;
    const lengths = (u32[w + IOV] >>> 2) + IOV_LEN;
    let bytes = 0;
    for (let i = start; i < start + pieces; i++) bytes += u32[lengths + i * IOV_WORDS];
    return bytes < TWO_32 ? pieces : -1;
  }

  /** Whether a chain in flight starts at `head`: false for one past the queue size. */
  isInFlight(head: number): boolean {
    return head < this.u32[this.w + NUM] && this.countOf(head) !== 0;
  }

  /**
   * What a device may have written to the chain in flight at `head`, given what it claims: above
   * the chain's writable bytes it is cut and counted.
   */
  cut(head: number, length: number): number {
    const inBytes = this.u32[(this.shadow(head) >>> 1) + (SHADOW_IN_BYTES >>> 2)];
    if (length <= inBytes) return length;
    countError(this.u32, this.w, VRING_E_USED_LENGTH);
    return inBytes;
  }

  /** Begins a batch of `count` chains, the last of which has so many used bytes. */
  beginBatch(count: number, usedBytes: number): void {
    this.u32[this.w + BATCH_LEFT] = count;
    this.u32[this.w + BATCH_BYTES] = usedBytes;
  }

  /** Whether chains of a batch are still to be taken. */
  hasBatch(): boolean {
    return this.u32[this.w + BATCH_LEFT] !== 0;
  }

  /**
   * Takes the next chain of the batch, the oldest in flight, into the record at word `record`, and
   * frees it. @returns its ring descriptors. virtio 1.3, 2.7.9 In-order use of descriptors.
   */
  takeOldest(record: number): number {
    const { u16, u32, w } = this;
    const head = u32[w + OLDEST];
    const entry = this.shadow(head);
    const count = u16[entry + (SHADOW_COUNT >>> 1)];
    u32[w + BATCH_LEFT]--;
    u32[record + HEAD] = head;
    u32[record + USED_BYTES] = this.hasBatch()
      ? u32[(entry >>> 1) + (SHADOW_IN_BYTES >>> 2)]
      : u32[w + BATCH_BYTES];
    u16[entry + (SHADOW_COUNT >>> 1)] = 0;
    u32[w + NUM_FREE] += count;
    u32[w + OLDEST] = this.after(head, count);
    return count;
  }

  /** IN_ORDER: the head (packed: id) that follows a chain of so many descriptors. */
  protected abstract after(head: number, count: number): number;

  /** Whether chains are used in the order in which they were made available. */
  protected isInOrder(): boolean {
    return (this.u32[this.w + FLAGS] & VQ_F_IN_ORDER) !== 0;
  }

  /** Index in `u16` of the shadow entry of a descriptor (packed: an id). */
  protected shadow(index: number): number {
    return (this.u32[this.w + SHADOW] + index * SHADOW_BYTES) >>> 1;
  }

  /** Ring descriptors of the chain that starts at `head`, which is below VQ_NUM; 0: none does. */
  protected countOf(head: number): number {
    return this.u16[this.shadow(head) + (SHADOW_COUNT >>> 1)];
  }

  /** Whether so many pieces go into an indirect table. virtio 1.3, 2.7.5.3 Indirect Descriptors. */
  protected fitsTable(pieces: number): boolean {
    const { u32, w } = this;
    if (pieces === 1 || (u32[w + FLAGS] & VQ_F_INDIRECT) === 0) return false;
    return pieces <= u32[w + INDIRECT_CAPACITY] && u32[w + INDIRECT] !== 0;
  }

  /** Linear address of the indirect table of a head (packed: an id). */
  protected tableOf(head: number): number {
    const { u32, w } = this;
    return u32[w + INDIRECT] + head * u32[w + INDIRECT_CAPACITY] * VIRTQ_DESC_BYTES;
  }

  /** Takes a chain off the free list, which goes on at `free`, and remembers it in the shadow. */
  protected begin(head: number, free: number, descs: number, inBytes: number): void {
    const { u16, u32, w } = this;
    const entry = this.shadow(head);
    u16[entry + (SHADOW_COUNT >>> 1)] = descs;
    u32[(entry >>> 1) + (SHADOW_IN_BYTES >>> 2)] = inBytes;
    u32[w + FREE_HEAD] = free;
    u32[w + NUM_FREE] -= descs;
  }

  /** Writes address, as the guest has it, and length of the descriptor at word `desc`. */
  protected writeRange(desc: number, linear: number, length: number): void {
    const { u32, w } = this;
    const lo = linear + u32[w + GUEST_DELTA];
    u32[desc] = lo; // stored modulo 2^32, like the upper half
    u32[desc + 1] = u32[w + GUEST_DELTA + 1] + (lo >= TWO_32 ? 1 : 0);
    u32[desc + DESC_LEN] = length;
  }
}
