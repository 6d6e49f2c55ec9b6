// What chains of both ring formats are checked by on the device's side: buffers become pieces of
// linear memory. Guest addresses are u64 in two halves, `lo` and `hi`.

import {
  CHAIN_BYTES,
  CHAIN_HEAD,
  CHAIN_IN_BYTES,
  CHAIN_IN_COUNT,
  CHAIN_IOV_START,
  CHAIN_OUT_BYTES,
  CHAIN_OUT_COUNT,
  CHAIN_USED_BYTES,
  INDIRECT_ENTRIES_MAX,
  IOV_BYTES,
  IOV_LENGTH,
  REGION_BYTES,
  REGION_GUEST,
  REGION_LINEAR,
  REGION_SIZE,
  VQ_CHAINS,
  VQ_IOV,
  VQ_IOV_CAPACITY,
  VQ_REGION_COUNT,
  VQ_REGIONS,
  VRING_E_ADDRESS,
  VRING_E_ADDRESS_WRAP,
  VRING_E_INDIRECT_ADDRESS,
  VRING_E_INDIRECT_LENGTH,
  VRING_E_IOV,
  VRING_E_LENGTH,
  VRING_E_ORDER,
} from "../spec/ring-state.js";
import { VIRTQ_DESC_BYTES } from "../spec/virtio-ring.js";

// Word indices: byte offsets of the layouts over four.
const IOV = VQ_IOV >>> 2;
const IOV_CAPACITY = VQ_IOV_CAPACITY >>> 2;
const CHAINS = VQ_CHAINS >>> 2;
const REGIONS = VQ_REGIONS >>> 2;
const REGION_COUNT = VQ_REGION_COUNT >>> 2;
const IOV_WORDS = IOV_BYTES >>> 2;
const IOV_LEN = IOV_LENGTH >>> 2;
const REGION_WORDS = REGION_BYTES >>> 2;
const GUEST = REGION_GUEST >>> 2;
const SIZE = REGION_SIZE >>> 2;
const LINEAR = REGION_LINEAR >>> 2;
const DESC_WORDS = VIRTQ_DESC_BYTES >>> 2;

const TWO_32 = 0x1_0000_0000;

/**
 * The buffers of one chain, for `getDescs` of the TypeScript twins. Its fields are scratch: they
 * say what was found in the chain followed last and mean nothing between two calls of the ring;
 * what lasts is in the state block. Worker thread.
 */
export abstract class TsBuffers {
  /** Descriptors read since it was last set to 0, indirect tables' included. */
  read = 0;
  /** Pieces in the iovec table, those of earlier chains included. */
  iov = 0;
  /** Device-readable pieces of the chain. */
  protected outCount = 0;
  /** Device-writable pieces of the chain. */
  protected inCount = 0;
  /** Bytes of the device-readable pieces. */
  protected outBytes = 0;
  /** Bytes of the device-writable pieces. */
  protected inBytes = 0;
  /** Where `readEntry` found an entry: the words, and the index of its first one. */
  protected words: Uint32Array;
  protected at = 0;

  /** A device-writable buffer was met: no readable one may follow. */
  private writable = false;
  /** Where `translate` came out: the linear address, and bytes from there to the region's end. */
  private linear = 0;
  private room = 0;

  protected readonly u16: Uint16Array;
  protected readonly u32: Uint32Array;
  protected readonly w: number;
  private readonly u8: Uint8Array;
  /** A copy of a table entry that is not aligned to words. */
  private readonly entry = new Uint32Array(DESC_WORDS);
  private readonly entryBytes = new Uint8Array(this.entry.buffer);

  /** Over `memory`, which does not grow; `vq` is the address of a device's state block. */
  constructor(memory: WebAssembly.Memory, vq: number) {
    this.u8 = new Uint8Array(memory.buffer);
    this.u16 = new Uint16Array(memory.buffer);
    this.u32 = this.words = new Uint32Array(memory.buffer);
    this.w = vq >>> 2;
  }

  /** Writes record `index` of the chain table: the chain just followed, whose pieces begin there. */
  record(index: number, head: number, iovStart: number): void {
    const { u32, w } = this;
    const record = (u32[w + CHAINS] + index * CHAIN_BYTES) >>> 2;
    u32[record + (CHAIN_HEAD >>> 2)] = head;
    u32[record + (CHAIN_IOV_START >>> 2)] = iovStart;
    u32[record + (CHAIN_OUT_COUNT >>> 2)] = this.outCount;
    u32[record + (CHAIN_IN_COUNT >>> 2)] = this.inCount;
    u32[record + (CHAIN_OUT_BYTES >>> 2)] = this.outBytes;
    u32[record + (CHAIN_IN_BYTES >>> 2)] = this.inBytes;
    u32[record + (CHAIN_USED_BYTES >>> 2)] = 0;
  }

  /** Begins a chain, whose pieces go to the iovec table from entry `iov` on. */
  protected begin(iov: number): void {
    this.iov = iov;
    this.outCount = this.inCount = this.outBytes = this.inBytes = 0;
    this.writable = false;
  }

  /** What is wrong with the place of an indirect table: its length, then its address; 0: nothing. */
  protected checkTable(lo: number, hi: number, len: number): number {
    const entries = len / VIRTQ_DESC_BYTES;
    if (len === 0 || len % VIRTQ_DESC_BYTES !== 0 || entries > INDIRECT_ENTRIES_MAX) {
      return VRING_E_INDIRECT_LENGTH;
    }
    if (wraps(lo, hi, len)) return VRING_E_ADDRESS_WRAP;
    return this.mapped(lo, hi, len) ? 0 : VRING_E_INDIRECT_ADDRESS;
  }

  /**
   * Finds entry `index` of a table at a guest address: it is at `words[at]`, and counts as read.
   * False when it lies across two regions.
   */
  protected readEntry(lo: number, hi: number, index: number): boolean {
    const start = lo + index * VIRTQ_DESC_BYTES;
    const known =
      start < TWO_32 ? this.translate(start, hi) : this.translate(start - TWO_32, hi + 1);
    if (!known || this.room < VIRTQ_DESC_BYTES) return false;
    this.read++;
    const aligned = (this.linear & 3) === 0;
    this.words = aligned ? this.u32 : this.copyEntry(this.linear);
    this.at = aligned ? this.linear >>> 2 : 0;
    return true;
  }

  /** A table needs no alignment in virtio, word views do: the 16 bytes at `linear`, copied once. */
  private copyEntry(linear: number): Uint32Array {
    for (let i = 0; i < VIRTQ_DESC_BYTES; i++) this.entryBytes[i] = this.u8[linear + i];
    return this.entry;
  }

  /** One buffer: its order, its sums, its pieces. */
  protected buffer(lo: number, hi: number, len: number, write: boolean): number {
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
