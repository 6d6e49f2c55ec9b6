// The dirty log. The contract is in src/ring/recording-ring.ts.

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
  VQ_CHAINS,
  VQ_IOV,
  VQ_LOG,
  VQ_LOG_BYTES,
  VQ_LOG_USED,
  VQ_NUM,
  VQ_REGION_COUNT,
  VQ_REGIONS,
  VRING_E_LOG,
} from "../src/spec/ring-state";
import { countError } from "./state";

const LOG_PAGE_MASK: u64 = (1 << LOG_PAGE_SHIFT) - 1;

/**
 * Marks the pages of `bytes` bytes from guest address `guest` on. Never skips a bit that is set:
 * the atomic OR comes after our write and before the other side's look at the page.
 */
function mark(vq: usize, guest: u64, bytes: u64): void {
  if (bytes == 0) return;
  const log = load<usize>(vq, VQ_LOG);
  const logEnd = (<u64>load<u32>(vq, VQ_LOG_BYTES)) << 3;
  let page = guest >> LOG_PAGE_SHIFT;
  const end = page + (((guest & LOG_PAGE_MASK) + (bytes - 1)) >> LOG_PAGE_SHIFT) + 1;
  const stop = min(end, logEnd);
  while (page < stop) {
    const at = log + <usize>(page >> 3);
    // 64 pages at a time where that can be: a piece may be as large as the guest's memory.
    if ((page & 7) == 0 && (at & 7) == 0 && page + 64 <= stop) {
      atomic.or<u64>(at, ~0);
      page += 64;
    } else {
      const bit: u32 = 1 << (<u32>page & 7);
      atomic.or<u8>(at, <u8>bit);
      page++;
    }
  }
  if (stop < end) countError(vq, VRING_E_LOG);
}

/** Marks `bytes` bytes of linear memory under each guest address that they have. */
function markLinear(vq: usize, linear: u32, bytes: u32): void {
  let region = load<usize>(vq, VQ_REGIONS);
  for (let left = load<u32>(vq, VQ_REGION_COUNT); left > 0; left--) {
    const offset = <u64>(linear - load<u32>(region, REGION_LINEAR));
    const size = load<u64>(region, REGION_SIZE);
    if (offset < size) {
      const room = size - offset;
      mark(vq, load<u64>(region, REGION_GUEST) + offset, <u64>bytes < room ? <u64>bytes : room);
    }
    region += REGION_BYTES;
  }
}

/** Marks the writable pieces of the first `count` records. */
export function markChains(vq: usize, count: u32): void {
  let chain = load<usize>(vq, VQ_CHAINS);
  for (let left = count; left > 0; left--) {
    const first = load<u32>(chain, CHAIN_IOV_START) + load<u32>(chain, CHAIN_OUT_COUNT);
    let iov = load<usize>(vq, VQ_IOV) + <usize>first * IOV_BYTES;
    for (let pieces = load<u32>(chain, CHAIN_IN_COUNT); pieces > 0; pieces--) {
      markLinear(vq, load<u32>(iov), load<u32>(iov, IOV_LENGTH));
      iov += IOV_BYTES;
    }
    chain += CHAIN_BYTES;
  }
}

/** Marks `bytes` bytes of the device area, from `offset` on. */
export function markDeviceArea(vq: usize, offset: u32, bytes: u32): void {
  mark(vq, load<u64>(vq, VQ_LOG_USED) + offset, bytes);
}

/**
 * Marks `count` entries (VQ_NUM at most) of a ring, from entry `first` on, past its end from entry
 * 0 on. `guest`: guest address of entry 0; `entryBytes`: of each.
 */
export function markEntries(vq: usize, guest: u64, entryBytes: u32, first: u32, count: u32): void {
  const num = load<u32>(vq, VQ_NUM);
  const all = min(count, num);
  const toEnd = min(all, num - first);
  mark(vq, guest + <u64>first * entryBytes, <u64>toEnd * entryBytes);
  mark(vq, guest, <u64>(all - toEnd) * entryBytes);
}
