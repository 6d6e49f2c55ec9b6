// The dirty log, for the TypeScript twins. Guest addresses are u64 in two words. The contract is in
// `recording-ring.ts`.

import {
  CHAIN_BYTES,
  CHAIN_IN_COUNT,
  CHAIN_IOV_START,
  CHAIN_OUT_COUNT,
  IOV_BYTES,
  IOV_LENGTH,
  LOG_PAGE_SHIFT,
  REGION_BYTES,
  REGION_GUEST,
  REGION_LINEAR,
  REGION_SIZE,
  VQ_CHAIN_CAPACITY,
  VQ_CHAINS,
  VQ_F_LOG,
  VQ_F_LOG_USED,
  VQ_FLAGS,
  VQ_IOV,
  VQ_LOG,
  VQ_LOG_BYTES,
  VQ_LOG_DESC,
  VQ_LOG_USED,
  VQ_NUM,
  VQ_REGION_COUNT,
  VQ_REGIONS,
  VRING_E_LOG,
} from "../spec/ring-state.js";
import { VIRTQ_RING_ELEMENTS, VIRTQ_USED_ELEM_BYTES } from "../spec/virtio-ring.js";
import { countError } from "./ts-words.js";

// Word indices: byte offsets of the layouts over four.
const NUM = VQ_NUM >>> 2;
const FLAGS = VQ_FLAGS >>> 2;
const IOV = VQ_IOV >>> 2;
const CHAINS = VQ_CHAINS >>> 2;
const CHAIN_CAPACITY = VQ_CHAIN_CAPACITY >>> 2;
const REGIONS = VQ_REGIONS >>> 2;
const REGION_COUNT = VQ_REGION_COUNT >>> 2;
const LOG = VQ_LOG >>> 2;
const LOG_BYTES = VQ_LOG_BYTES >>> 2;
const LOG_USED = VQ_LOG_USED >>> 2;
const LOG_DESC = VQ_LOG_DESC >>> 2;
const IOV_WORDS = IOV_BYTES >>> 2;
const CHAIN_WORDS = CHAIN_BYTES >>> 2;
const REGION_WORDS = REGION_BYTES >>> 2;
const GUEST = REGION_GUEST >>> 2;
const SIZE = REGION_SIZE >>> 2;

const TWO_32 = 0x1_0000_0000;
const PAGE_BYTES = 1 << LOG_PAGE_SHIFT;
const PAGES_IN_4_GIB = TWO_32 / PAGE_BYTES;

/** Bytes at the beginning of a device area that are marked together: flags and index. */
const AREA_HEAD_BYTES = 4;
const AVAIL_EVENT_BYTES = 2;

/** Marks what a device's half writes. All state is in the state block. Worker thread. */
export class TsLog {
  private readonly u8: Uint8Array;
  private readonly u32: Uint32Array;
  private readonly w: number;

  /** Over `memory`, which does not grow; `vq` is the address of a device's state block. */
  constructor(memory: WebAssembly.Memory, vq: number) {
    this.u8 = new Uint8Array(memory.buffer);
    this.u32 = new Uint32Array(memory.buffer);
    this.w = vq >>> 2;
  }

  /**
   * Marks the writable pieces of the first `count` records (cut to VQ_CHAIN_CAPACITY). Nothing
   * without VQ_F_LOG. Linux: vhost_log_write().
   */
  buffers(count: number): void {
    const { u32, w } = this;
    if ((u32[w + FLAGS] & VQ_F_LOG) === 0) return;
    let record = u32[w + CHAINS] >>> 2;
    for (let left = Math.min(count, u32[w + CHAIN_CAPACITY]); left > 0; left--) {
      const first = u32[record + (CHAIN_IOV_START >>> 2)] + u32[record + (CHAIN_OUT_COUNT >>> 2)];
      let iovec = (u32[w + IOV] >>> 2) + first * IOV_WORDS;
      for (let pieces = u32[record + (CHAIN_IN_COUNT >>> 2)]; pieces > 0; pieces--) {
        this.piece(u32[iovec], u32[iovec + (IOV_LENGTH >>> 2)]);
        iovec += IOV_WORDS;
      }
      record += CHAIN_WORDS;
    }
  }

  /** Marks bytes of the device area. Nothing without VQ_F_LOG_USED. Linux: log_used(). */
  deviceArea(offset: number, bytes: number): void {
    const { u32, w } = this;
    if ((u32[w + FLAGS] & VQ_F_LOG_USED) !== 0) this.mark(w + LOG_USED, offset, bytes);
  }

  /** Marks the device area's flags and index, as `deviceArea` does. */
  deviceAreaHead(): void {
    this.deviceArea(0, AREA_HEAD_BYTES);
  }

  /** Marks a split ring's avail_event, as `deviceArea` does. */
  availEvent(): void {
    const elements = this.u32[this.w + NUM] * VIRTQ_USED_ELEM_BYTES;
    this.deviceArea(VIRTQ_RING_ELEMENTS + elements, AVAIL_EVENT_BYTES);
  }

  /** Marks bytes of a packed ring's descriptors. Nothing without VQ_F_LOG_USED. */
  descs(offset: number, bytes: number): void {
    const { u32, w } = this;
    if ((u32[w + FLAGS] & VQ_F_LOG_USED) !== 0) this.mark(w + LOG_DESC, offset, bytes);
  }

  /** A piece of linear memory, in each region in which it begins. */
  private piece(linear: number, bytes: number): void {
    const { u32, w } = this;
    let region = u32[w + REGIONS] >>> 2;
    for (let left = u32[w + REGION_COUNT]; left > 0; left--, region += REGION_WORDS) {
      const offset = linear - u32[region + (REGION_LINEAR >>> 2)];
      const size = u32[region + SIZE + 1] * TWO_32 + u32[region + SIZE];
      if (offset < 0 || offset >= size) continue;
      this.mark(region + GUEST, offset, Math.min(bytes, size - offset));
    }
  }

  /** `bytes` bytes, from `offset` bytes behind the guest address that is at word `at`. */
  private mark(at: number, offset: number, bytes: number): void {
    if (bytes === 0) return;
    const { u8, u32, w } = this;
    const lo = u32[at] + offset;
    const hi = (u32[at + 1] + Math.floor(lo / TWO_32)) >>> 0;
    const log = u32[w + LOG];
    let page = hi * PAGES_IN_4_GIB + ((lo >>> 0) >>> LOG_PAGE_SHIFT);
    const end = page + Math.floor(((lo & (PAGE_BYTES - 1)) + bytes - 1) / PAGE_BYTES) + 1;
    const stop = Math.min(end, u32[w + LOG_BYTES] * 8);
    // Always, also when it is set: what was written before is seen by who clears the bit.
    while (page < stop) {
      const byte = log + Math.floor(page / 8);
      if (page % 8 === 0 && byte % 4 === 0 && page + 32 <= stop) {
        Atomics.or(u32, byte >>> 2, 0xffff_ffff);
        page += 32;
      } else {
        Atomics.or(u8, byte, 1 << (page & 7));
        page++;
      }
    }
    if (stop < end) countError(u32, w, VRING_E_LOG);
  }
}
