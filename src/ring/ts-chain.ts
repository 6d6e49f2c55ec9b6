// Follows one descriptor chain on the device's side: checks it and turns it into pieces of linear
// memory. Each descriptor is read once; what was read is checked and used, and never read again.

import {
  INDIRECT_ENTRIES_MAX,
  IOV_BYTES,
  IOV_LENGTH,
  REGION_BYTES,
  REGION_GUEST,
  REGION_LINEAR,
  REGION_SIZE,
  VQ_DESC,
  VQ_F_INDIRECT,
  VQ_FLAGS,
  VQ_IOV,
  VQ_IOV_CAPACITY,
  VQ_NUM,
  VQ_REGION_COUNT,
  VQ_REGIONS,
  VRING_E_ADDRESS,
  VRING_E_ADDRESS_WRAP,
  VRING_E_INDIRECT_ADDRESS,
  VRING_E_INDIRECT_INDEX,
  VRING_E_INDIRECT_LENGTH,
  VRING_E_INDIRECT_NESTED,
  VRING_E_INDIRECT_NEXT,
  VRING_E_INDIRECT_UNNEGOTIATED,
  VRING_E_IOV,
  VRING_E_LENGTH,
  VRING_E_LOOP,
  VRING_E_NEXT,
  VRING_E_ORDER,
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
const REGIONS = VQ_REGIONS >>> 2;
const REGION_COUNT = VQ_REGION_COUNT >>> 2;
const IOV_WORDS = IOV_BYTES >>> 2;
const IOV_LEN = IOV_LENGTH >>> 2;
const REGION_WORDS = REGION_BYTES >>> 2;
const GUEST = REGION_GUEST >>> 2;
const SIZE = REGION_SIZE >>> 2;
const LINEAR = REGION_LINEAR >>> 2;
const DESC_WORDS = VIRTQ_DESC_BYTES >>> 2;
const DESC_LEN = VIRTQ_DESC_LEN >>> 2;
/** One word: flags in the lower half, `next` in the upper. */
const DESC_TAIL = VIRTQ_DESC_FLAGS >>> 2;

const TWO_32 = 0x1_0000_0000;

/**
 * The walk over one descriptor chain, for `getDescs` of the TypeScript twin. Its fields are
 * scratch: they say what the last `follow` found and mean nothing between two calls of the ring;
 * what lasts is in the state block. Guest addresses are u64 in two halves, `lo` and `hi`. Worker
 * thread.
 */
export class TsChain {
  /** Descriptors read since it was last set to 0, indirect tables' included. */
  read = 0;
  /** Pieces in the iovec table, those of earlier chains included. */
  iov = 0;
  /** Device-readable pieces of the chain. */
  outCount = 0;
  /** Device-writable pieces of the chain. */
  inCount = 0;
  /** Bytes of the device-readable pieces. */
  outBytes = 0;
  /** Bytes of the device-writable pieces. */
  inBytes = 0;

  /** A device-writable buffer was met: no readable one may follow. */
  private writable = false;
  /** Where `translate` came out: the linear address, and bytes from there to the region's end. */
  private linear = 0;
  private room = 0;

  private readonly u8: Uint8Array;
  private readonly u32: Uint32Array;
  private readonly w: number;
  /** A copy of a table entry that is not aligned to words. */
  private readonly entry = new Uint32Array(DESC_WORDS);
  private readonly entryBytes = new Uint8Array(this.entry.buffer);

  /** Over `memory`, which does not grow; `vq` is the address of a device's state block. */
  constructor(memory: WebAssembly.Memory, vq: number) {
    this.u8 = new Uint8Array(memory.buffer);
    this.u32 = new Uint32Array(memory.buffer);
    this.w = vq >>> 2;
  }

  /**
   * Follows the chain at `head`, which is below VQ_NUM; its pieces go to the iovec table from entry
   * `iov` on. Side effects: the iovec table; the fields above; nothing in the state block.
   * @returns 0, or the code (VRING_E_…, positive) of the first check that failed.
   * virtio 1.3, 2.7.5 The Virtqueue Descriptor Table. Linux: vhost_get_vq_desc().
   */
  follow(head: number, iov: number): number {
    const { u32, w } = this;
    const num = u32[w + NUM];
    const table = u32[w + DESC] >>> 2;
    this.iov = iov;
    this.outCount = this.inCount = this.outBytes = this.inBytes = 0;
    this.writable = false;
    for (let index = head, followed = 0; ; followed++) {
      if (index >= num) return VRING_E_NEXT;
      if (followed >= num) return VRING_E_LOOP;
      this.read++;
      const desc = table + index * DESC_WORDS;
      const lo = u32[desc];
      const hi = u32[desc + 1];
      const len = u32[desc + DESC_LEN];
      const tail = u32[desc + DESC_TAIL];
      if ((tail & VIRTQ_DESC_F_INDIRECT) !== 0) return this.indirect(lo, hi, len, tail);
      const code = this.buffer(lo, hi, len, tail);
      if (code !== 0) return code;
      if ((tail & VIRTQ_DESC_F_NEXT) === 0) return 0;
      index = tail >>> 16;
    }
  }

  /** virtio 1.3, 2.7.5.3 Indirect Descriptors: one that names a table. Linux: get_indirect(). */
  private indirect(lo: number, hi: number, len: number, tail: number): number {
    if ((this.u32[this.w + FLAGS] & VQ_F_INDIRECT) === 0) return VRING_E_INDIRECT_UNNEGOTIATED;
    if ((tail & VIRTQ_DESC_F_NEXT) !== 0) return VRING_E_INDIRECT_NEXT;
    const entries = len / VIRTQ_DESC_BYTES;
    if (len === 0 || len % VIRTQ_DESC_BYTES !== 0 || entries > INDIRECT_ENTRIES_MAX) {
      return VRING_E_INDIRECT_LENGTH;
    }
    if (wraps(lo, hi, len)) return VRING_E_ADDRESS_WRAP;
    if (!this.mapped(lo, hi, len)) return VRING_E_INDIRECT_ADDRESS;
    return this.table(lo, hi, entries);
  }

  /** The entries of an indirect table that is mapped, though maybe in pieces. */
  private table(lo: number, hi: number, entries: number): number {
    const capacity = this.u32[this.w + IOV_CAPACITY];
    for (let index = 0, followed = 0; ; followed++) {
      if (index >= entries) return VRING_E_INDIRECT_INDEX;
      if (followed >= entries) return VRING_E_LOOP;
      if (followed >= capacity) return VRING_E_IOV;
      const at = lo + index * VIRTQ_DESC_BYTES;
      const known = at < TWO_32 ? this.translate(at, hi) : this.translate(at - TWO_32, hi + 1);
      if (!known || this.room < VIRTQ_DESC_BYTES) return VRING_E_INDIRECT_ADDRESS;
      this.read++;
      const aligned = (this.linear & 3) === 0;
      const words = aligned ? this.u32 : this.copyEntry(this.linear);
      const desc = aligned ? this.linear >>> 2 : 0;
      const tail = words[desc + DESC_TAIL];
      if ((tail & VIRTQ_DESC_F_INDIRECT) !== 0) return VRING_E_INDIRECT_NESTED;
      const code = this.buffer(words[desc], words[desc + 1], words[desc + DESC_LEN], tail);
      if (code !== 0) return code;
      if ((tail & VIRTQ_DESC_F_NEXT) === 0) return 0;
      index = tail >>> 16;
    }
  }

  /** A table needs no alignment in virtio, word views do: the 16 bytes at `linear`, copied once. */
  private copyEntry(linear: number): Uint32Array {
    for (let i = 0; i < VIRTQ_DESC_BYTES; i++) this.entryBytes[i] = this.u8[linear + i];
    return this.entry;
  }

  /** One buffer: its order, its sums, its pieces. */
  private buffer(lo: number, hi: number, len: number, tail: number): number {
    const write = (tail & VIRTQ_DESC_F_WRITE) !== 0;
    if (write) this.writable = true;
    else if (this.writable) return VRING_E_ORDER;
    if (len === 0) return 0;
    if (wraps(lo, hi, len)) return VRING_E_ADDRESS_WRAP;
    const bytes = (write ? this.inBytes : this.outBytes) + len;
    if (bytes >= TWO_32) return VRING_E_LENGTH;
    const before = this.iov;
    const code = this.pieces(lo, hi, len);
    if (code !== 0) return code;
    if (write) {
      this.inBytes = bytes;
      this.inCount += this.iov - before;
    } else {
      this.outBytes = bytes;
      this.outCount += this.iov - before;
    }
    return 0;
  }

  /** Puts a range, which does not wrap, into the iovec table: a piece for each region it meets. */
  private pieces(lo: number, hi: number, len: number): number {
    const { u32, w } = this;
    const iovecs = u32[w + IOV] >>> 2;
    const capacity = u32[w + IOV_CAPACITY];
    for (;;) {
      if (!this.translate(lo, hi)) return VRING_E_ADDRESS;
      if (this.iov >= capacity) return VRING_E_IOV;
      const iovec = iovecs + this.iov * IOV_WORDS;
      this.iov++;
      const room = this.room;
      u32[iovec] = this.linear;
      if (len <= room) {
        u32[iovec + IOV_LEN] = len;
        return 0;
      }
      u32[iovec + IOV_LEN] = room;
      len -= room;
      lo += room;
      if (lo >= TWO_32) {
        lo -= TWO_32;
        hi++;
      }
    }
  }

  /** Whether every byte of a range, which does not wrap, is in some region. */
  private mapped(lo: number, hi: number, len: number): boolean {
    while (this.translate(lo, hi)) {
      if (len <= this.room) return true;
      len -= this.room;
      lo += this.room;
      if (lo >= TWO_32) {
        lo -= TWO_32;
        hi++;
      }
    }
    return false;
  }

  /**
   * Finds the region of one guest address; the answer is in `linear` and `room`. As a double the
   * distance to a region's start is exact below 2^53, and beyond that still far outside any region.
   */
  private translate(lo: number, hi: number): boolean {
    const { u32, w } = this;
    let region = u32[w + REGIONS] >>> 2;
    for (let left = u32[w + REGION_COUNT]; left > 0; left--) {
      const offset = (hi - u32[region + GUEST + 1]) * TWO_32 + (lo - u32[region + GUEST]);
      const size = u32[region + SIZE + 1] * TWO_32 + u32[region + SIZE];
      if (offset >= 0 && offset < size) {
        this.linear = u32[region + LINEAR] + offset;
        this.room = size - offset;
        return true;
      }
      region += REGION_WORDS;
    }
    return false;
  }
}

/** Whether address plus length goes past 2^64; a range that ends there exactly does not. */
function wraps(lo: number, hi: number, len: number): boolean {
  return hi === 0xffff_ffff && lo + len > TWO_32;
}
