// The descriptors of a packed ring's driver: ids, and what the shadow table remembers of each. What
// is written to the ring is for the device alone, never read back: the device may scribble on it.

import {
  CHAIN_IOV_START,
  CHAIN_OUT_COUNT,
  IOV_BYTES,
  IOV_LENGTH,
  SHADOW_COUNT,
  SHADOW_NEXT,
  VQ_AVAIL_NEXT,
  VQ_AVAIL_PUBLISHED,
  VQ_DESC,
  VQ_FREE_HEAD,
  VQ_IOV,
  VQ_NUM,
  VQ_NUM_FREE,
  VQ_OLDEST,
  VQ_STAGED_FLAGS,
} from "../spec/ring-state.js";
import {
  PVIRTQ_DESC_FLAGS,
  PVIRTQ_DESC_ID,
  VIRTQ_DESC_BYTES,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_WRITE,
} from "../spec/virtio-ring.js";
import { availableMarks, indexOf, moved } from "./ts-position.js";
import { TsShadow } from "./ts-shadow.js";

// Word indices: byte offsets of the layouts over four.
const NUM = VQ_NUM >>> 2;
const DESC = VQ_DESC >>> 2;
const IOV = VQ_IOV >>> 2;
const FREE_HEAD = VQ_FREE_HEAD >>> 2;
const NUM_FREE = VQ_NUM_FREE >>> 2;
const AVAIL_NEXT = VQ_AVAIL_NEXT >>> 2;
const AVAIL_PUBLISHED = VQ_AVAIL_PUBLISHED >>> 2;
const STAGED_FLAGS = VQ_STAGED_FLAGS >>> 2;
const OLDEST = VQ_OLDEST >>> 2;
const IOV_START = CHAIN_IOV_START >>> 2;
const OUT_COUNT = CHAIN_OUT_COUNT >>> 2;
const IOV_WORDS = IOV_BYTES >>> 2;
const IOV_LEN = IOV_LENGTH >>> 2;
const DESC_WORDS = VIRTQ_DESC_BYTES >>> 2;
/** One word: `id` in the lower half, flags in the upper. */
const DESC_TAIL = PVIRTQ_DESC_ID >>> 2;

/**
 * Writes and frees a driver's chains, for the packed twin. It holds views only; what lasts is in
 * the state block and the shadow table. The driver's thread.
 */
export class TsPackedDescs extends TsShadow {
  /** Frees every id, and zeroes the descriptors of the ring. */
  override reset(): void {
    super.reset();
    const { u32, w } = this;
    const ring = u32[w + DESC] >>> 2;
    u32.fill(0, ring, ring + u32[w + NUM] * DESC_WORDS);
  }

  /**
   * Writes the chain of a checked record to the next descriptors of the ring, or to its id's
   * indirect table, and remembers it. Side effects: ring, table, shadow, VQ_AVAIL_NEXT,
   * VQ_STAGED_FLAGS. @returns the id, or -1 with no side effect when descriptors run out. virtio
   * 1.3, 2.8.21 Supplying Buffers to The Device. Linux: virtqueue_add_packed().
   */
  add(record: number, pieces: number): number {
    const { u16, u32, w } = this;
    const inTable = this.fitsTable(pieces);
    const count = inTable ? 1 : pieces;
    if (count > u32[w + NUM_FREE]) return -1;
    const id = u32[w + FREE_HEAD];
    const iovec = (u32[w + IOV] >>> 2) + u32[record + IOV_START] * IOV_WORDS;
    const outCount = u32[record + OUT_COUNT];
    const inBytes = inTable
      ? this.addTable(id, iovec, outCount, pieces)
      : this.addDirect(id, iovec, outCount, pieces);
    const following = u16[this.shadow(id) + (SHADOW_NEXT >>> 1)];
    this.begin(id, this.isInOrder() ? this.after(id) : following, count, inBytes);
    return id;
  }

  /** Linear address of the descriptor at a position. */
  descAt(position: number): number {
    return this.u32[this.w + DESC] + indexOf(position) * VIRTQ_DESC_BYTES;
  }

  /** Gives an id back, to the front of the free list. @returns its ring descriptors. */
  free(id: number): number {
    const { u16, u32, w } = this;
    const entry = this.shadow(id);
    const count = this.countOf(id);
    u16[entry + (SHADOW_NEXT >>> 1)] = u32[w + FREE_HEAD];
    u16[entry + (SHADOW_COUNT >>> 1)] = 0;
    u32[w + FREE_HEAD] = id;
    u32[w + NUM_FREE] += count;
    return count;
  }

  /** Chains from the oldest in flight to that with this id, which is in flight. */
  batchTo(id: number): number {
    const { u32, w } = this;
    const before = id - u32[w + OLDEST];
    return (before < 0 ? before + u32[w + NUM] : before) + 1;
  }

  protected after(id: number): number {
    return id + 1 < this.u32[this.w + NUM] ? id + 1 : 0;
  }

  /** A chain of ring descriptors, its head last of all. @returns its device-writable bytes. */
  private addDirect(id: number, iovec: number, outCount: number, pieces: number): number {
    const { u32, w } = this;
    const head = u32[w + AVAIL_NEXT];
    let inBytes = 0;
    for (let i = pieces - 1; i >= 0; i--) {
      const piece = iovec + i * IOV_WORDS;
      const write = i < outCount ? 0 : VIRTQ_DESC_F_WRITE;
      const length = u32[piece + IOV_LEN];
      const kind = i + 1 < pieces ? write | VIRTQ_DESC_F_NEXT : write;
      this.place(moved(head, i, u32[w + NUM]), id, u32[piece], length, kind);
      if (write !== 0) inBytes += length;
    }
    u32[w + AVAIL_NEXT] = moved(head, pieces, u32[w + NUM]);
    return inBytes;
  }

  /** A chain in its id's table, and the ring descriptor for it. @returns its writable bytes. */
  private addTable(id: number, iovec: number, outCount: number, pieces: number): number {
    const { u32, w } = this;
    const address = this.tableOf(id);
    let desc = address >>> 2;
    let inBytes = 0;
    for (let i = 0; i < pieces; i++, iovec += IOV_WORDS, desc += DESC_WORDS) {
      const write = i < outCount ? 0 : VIRTQ_DESC_F_WRITE;
      const length = u32[iovec + IOV_LEN];
      this.writeRange(desc, u32[iovec], length);
      u32[desc + DESC_TAIL] = write << 16;
      if (write !== 0) inBytes += length;
    }
    const next = u32[w + AVAIL_NEXT];
    this.place(next, id, address, pieces * VIRTQ_DESC_BYTES, VIRTQ_DESC_F_INDIRECT);
    u32[w + AVAIL_NEXT] = moved(next, 1, u32[w + NUM]);
    return inBytes;
  }

  /** Writes the descriptor at a position. The flags of the first one wait for `publish`. */
  private place(at: number, id: number, linear: number, length: number, kind: number): void {
    const { u16, u32, w } = this;
    const desc = this.descAt(at);
    const flags = kind | availableMarks(at);
    this.writeRange(desc >>> 2, linear, length);
    u16[(desc + PVIRTQ_DESC_ID) >>> 1] = id;
    if (at === u32[w + AVAIL_PUBLISHED]) u32[w + STAGED_FLAGS] = flags;
    else u16[(desc + PVIRTQ_DESC_FLAGS) >>> 1] = flags;
  }
}
