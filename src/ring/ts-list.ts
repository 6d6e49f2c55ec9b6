// Follows one list of descriptors of a packed ring on the device's side. Each descriptor is read
// once, its flags first; what was read is checked and used, and never read again.

import {
  VQ_DESC,
  VQ_F_INDIRECT,
  VQ_FLAGS,
  VQ_IN_FLIGHT,
  VQ_IOV_CAPACITY,
  VQ_NUM,
  VQ_RESUBMIT,
  VQ_RESUBMIT_COUNT,
  VQ_RESUBMIT_NEXT,
  VRING_E_INDIRECT_ADDRESS,
  VRING_E_INDIRECT_NEXT,
  VRING_E_INDIRECT_UNNEGOTIATED,
  VRING_E_IOV,
  VRING_E_LOOP,
  VRING_E_UNAVAILABLE,
} from "../spec/ring-state.js";
import {
  PVIRTQ_DESC_FLAGS,
  PVIRTQ_DESC_ID,
  VIRTQ_DESC_BYTES,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_WRITE,
  VIRTQ_DESC_LEN,
} from "../spec/virtio-ring.js";
import { TsBuffers } from "./ts-buffers.js";
import { indexOf, isAvailable, moved, POSITION_FIRST } from "./ts-position.js";

// Word indices: byte offsets of the layouts over four.
const NUM = VQ_NUM >>> 2;
const FLAGS = VQ_FLAGS >>> 2;
const DESC = VQ_DESC >>> 2;
const IN_FLIGHT = VQ_IN_FLIGHT >>> 2;
const RESUBMIT = VQ_RESUBMIT >>> 2;
const RESUBMIT_COUNT = VQ_RESUBMIT_COUNT >>> 2;
const RESUBMIT_NEXT = VQ_RESUBMIT_NEXT >>> 2;
const IOV_CAPACITY = VQ_IOV_CAPACITY >>> 2;
const DESC_LEN = VIRTQ_DESC_LEN >>> 2;
/** One word: `id` in the lower half, flags in the upper. */
const DESC_TAIL = PVIRTQ_DESC_ID >>> 2;

/** The walk over one list, for `getDescs` of the packed twin. Worker thread. */
export class TsList extends TsBuffers {
  /** Buffer id of the list followed last. */
  id = 0;
  /** Its descriptors in the ring. */
  count = 0;

  /** Where the list is followed: the descriptors' linear address, and how many there are. */
  private descs = 0;
  private size = 0;

  /** Linear address of the descriptor at a position. */
  descAt(position: number): number {
    return this.u32[this.w + DESC] + indexOf(position) * VIRTQ_DESC_BYTES;
  }

  /** Flags of the descriptor at a position. Acquire: the rest of the list is read after it. */
  flagsAt(position: number): number {
    return Atomics.load(this.u16, (this.descAt(position) + PVIRTQ_DESC_FLAGS) >>> 1);
  }

  /**
   * Follows the list at `position`, whose first descriptor has these flags and is available; its
   * pieces go to the iovec table from entry `iov` on. Side effects: the iovec table; the scratch
   * fields; nothing in the state block.
   * @returns 0; VRING_E_LOOP or VRING_E_UNAVAILABLE when the list has no end; else what is wrong
   * with the first buffer that is. virtio 1.3, 2.8.6 Next Flag: Descriptor Chaining.
   */
  follow(position: number, flags: number, iov: number): number {
    const { u32, w } = this;
    this.descs = u32[w + DESC];
    this.size = u32[w + NUM];
    return this.walk(position, flags, this.size - u32[w + IN_FLIGHT], iov);
  }

  /**
   * As `follow`, the list that is to be resubmitted next: descriptor VQ_RESUBMIT_NEXT of the table
   * at VQ_RESUBMIT. vhost-user, section "Inflight I/O tracking".
   */
  followAgain(iov: number): number {
    const { u16, u32, w } = this;
    const next = u32[w + RESUBMIT_NEXT];
    this.descs = u32[w + RESUBMIT];
    this.size = u32[w + RESUBMIT_COUNT];
    const flags = u16[(this.descs + next * VIRTQ_DESC_BYTES + PVIRTQ_DESC_FLAGS) >>> 1];
    return this.walk(POSITION_FIRST | next, flags, this.size - next, iov);
  }

  /** Follows the list at `position` of those, which has `limit` descriptors at most. */
  private walk(position: number, flags: number, limit: number, iov: number): number {
    const { u16, u32, descs, size } = this;
    let code = 0;
    this.begin(iov);
    for (this.count = 1; ; this.count++) {
      this.read++;
      const at = descs + indexOf(position) * VIRTQ_DESC_BYTES;
      const desc = at >>> 2;
      this.id = u16[(at + PVIRTQ_DESC_ID) >>> 1];
      if (code === 0) code = this.take(u32[desc], u32[desc + 1], u32[desc + DESC_LEN], flags);
      if ((flags & VIRTQ_DESC_F_NEXT) === 0) return code;
      if (this.count >= limit) return VRING_E_LOOP;
      position = moved(position, 1, size);
      const next = descs + indexOf(position) * VIRTQ_DESC_BYTES;
      flags = u16[(next + PVIRTQ_DESC_FLAGS) >>> 1];
      if (!isAvailable(flags, position)) return VRING_E_UNAVAILABLE;
    }
  }

  /** What one descriptor of the ring names: a buffer, or a table of them. */
  private take(lo: number, hi: number, len: number, flags: number): number {
    if ((flags & VIRTQ_DESC_F_INDIRECT) === 0) {
      return this.buffer(lo, hi, len, (flags & VIRTQ_DESC_F_WRITE) !== 0);
    }
    if ((this.u32[this.w + FLAGS] & VQ_F_INDIRECT) === 0) return VRING_E_INDIRECT_UNNEGOTIATED;
    if ((flags & VIRTQ_DESC_F_NEXT) !== 0 || this.count > 1) return VRING_E_INDIRECT_NEXT;
    const code = this.checkTable(lo, hi, len);
    return code !== 0 ? code : this.table(lo, hi, len / VIRTQ_DESC_BYTES);
  }

  /** virtio 1.3, 2.8.7 Indirect Flag: the entries of a table, one after another, all of them. */
  private table(lo: number, hi: number, entries: number): number {
    const capacity = this.u32[this.w + IOV_CAPACITY];
    for (let index = 0; index < entries; index++) {
      if (index >= capacity) return VRING_E_IOV;
      if (!this.readEntry(lo, hi, index)) return VRING_E_INDIRECT_ADDRESS;
      const { words, at } = this;
      const write = ((words[at + DESC_TAIL] >>> 16) & VIRTQ_DESC_F_WRITE) !== 0;
      const code = this.buffer(words[at], words[at + 1], words[at + DESC_LEN], write);
      if (code !== 0) return code;
    }
    return 0;
  }
}
