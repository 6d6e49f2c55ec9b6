import {
  CHAIN_IN_BYTES,
  CHAIN_IN_COUNT,
  CHAIN_IOV_START,
  CHAIN_OUT_BYTES,
  CHAIN_OUT_COUNT,
  INDIRECT_ENTRIES_MAX,
  IOV_BYTES,
  IOV_LENGTH,
  VQ_DESC,
  VQ_F_INDIRECT,
  VQ_FLAGS,
  VQ_IOV,
  VQ_IOV_CAPACITY,
  VQ_NUM,
  VQ_REGION_COUNT,
  VQ_REGIONS,
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
} from "../src/spec/ring-state";
import {
  VIRTQ_DESC_BYTES,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_WRITE,
  VIRTQ_DESC_FLAGS,
  VIRTQ_DESC_LEN,
} from "../src/spec/virtio-ring";
import { findRegion, inRegion, isMapped, linear, pushPieces, wraps } from "./region";

/** How far `followChain` came, in one number: descriptors read × 256 + error code (0: good). */
export function outcome(walked: u32, code: u32): u32 {
  return (walked << 8) | code;
}

/** Whether there is a region, and `len` bytes (not 0) from `addr` lie in it as a whole. */
export function isWithin(region: usize, addr: u64, len: u32): bool {
  return region != 0 && inRegion(region, addr, len);
}

/**
 * The error of a descriptor that refers to an indirect table, or 0. Checked in this order. `region`
 * is where the table may be.
 */
export function indirectError(vq: usize, region: usize, addr: u64, len: u32, flags: u32): u32 {
  if ((load<u32>(vq, VQ_FLAGS) & VQ_F_INDIRECT) == 0) return VRING_E_INDIRECT_UNNEGOTIATED;
  if (flags & VIRTQ_DESC_F_NEXT) return VRING_E_INDIRECT_NEXT;
  if (len == 0 || len % VIRTQ_DESC_BYTES != 0) return VRING_E_INDIRECT_LENGTH;
  if (len / VIRTQ_DESC_BYTES > <u32>INDIRECT_ENTRIES_MAX) return VRING_E_INDIRECT_LENGTH;
  if (isWithin(region, addr, len)) return 0;
  if (wraps(addr, len)) return VRING_E_ADDRESS_WRAP;
  return isMapped(vq, addr, len) ? 0 : VRING_E_INDIRECT_ADDRESS;
}

/** Linear address of an entry of an indirect table, or 0 when it lies across two regions. */
function entryAddress(vq: usize, addr: u64): usize {
  const region = findRegion(vq, addr);
  return isWithin(region, addr, VIRTQ_DESC_BYTES) ? <usize>linear(region, addr) : 0;
}

/**
 * Writes a buffer to the iovec table from entry `iovNext` on: one piece when it is whole in
 * `region`, else (`region` 0) as it is mapped. Returns the pieces, or the error, negative.
 */
export function pushBuffer(vq: usize, region: usize, iovNext: u32, addr: u64, len: u32): i32 {
  const capacity = load<u32>(vq, VQ_IOV_CAPACITY);
  const iov = load<usize>(vq, VQ_IOV) + <usize>iovNext * IOV_BYTES;
  if (region == 0 || iovNext >= capacity) {
    return pushPieces(vq, iov, capacity - iovNext, addr, len);
  }
  store<u32>(iov, linear(region, addr));
  store<u32>(iov, len, IOV_LENGTH);
  return 1;
}

/** Address of entry `index` of a table: at linear `table`, or at guest `tableGuest`; else 0. */
export function descAddress(vq: usize, table: usize, tableGuest: u64, index: u32): usize {
  const offset = <usize>index * VIRTQ_DESC_BYTES;
  return table != 0 ? table + offset : entryAddress(vq, tableGuest + offset);
}

/** The region to look in first, or 0 when there is none. */
export function firstRegion(vq: usize): usize {
  return load<u32>(vq, VQ_REGION_COUNT) != 0 ? load<usize>(vq, VQ_REGIONS) : 0;
}

/** Writes what a good chain came to: pieces `start` to `writable` to `end`, and bytes of each. */
export function writeCounts(
  chain: usize,
  start: u32,
  writable: u32,
  end: u32,
  outBytes: u64,
  inBytes: u64,
): void {
  store<u32>(chain, start, CHAIN_IOV_START);
  store<u32>(chain, writable - start, CHAIN_OUT_COUNT);
  store<u32>(chain, end - writable, CHAIN_IN_COUNT);
  store<u32>(chain, <u32>outBytes, CHAIN_OUT_BYTES);
  store<u32>(chain, <u32>inBytes, CHAIN_IN_BYTES);
}

/**
 * Follows the chain at `head` (below VQ_NUM), writes its pieces to the iovec table from entry
 * `iovStart` on, and its counts to the record at `chain`. Each descriptor is read once, then
 * checked, then used. Returns `outcome`: the record holds only when its code is 0.
 */
export function followChain(vq: usize, chain: usize, iovStart: u32, head: u32): u32 {
  const iovCapacity = load<u32>(vq, VQ_IOV_CAPACITY);
  let region = firstRegion(vq); // where the last buffer was: the next is often there too
  let iovNext = iovStart;
  let iovWritable = iovStart; // the first writable piece, once there is one
  let outBytes: u64 = 0;
  let bytes: u64 = 0; // of the direction we are in
  let isWriting = false;
  let limit = load<u32>(vq, VQ_NUM); // descriptors that may be followed in the present table
  let entries = limit;
  let table = load<usize>(vq, VQ_DESC); // the present table, or 0: in several regions
  let tableGuest: u64 = 0; // of the indirect table, while in one
  let isIndirect = false;
  let index = head;
  let followed: u32 = 0;
  let walked: u32 = 0;
  for (;;) {
    const wild: u32 = isIndirect ? VRING_E_INDIRECT_INDEX : VRING_E_NEXT;
    if (index >= entries) return outcome(walked, wild);
    if (followed == limit) return outcome(walked, limit == entries ? VRING_E_LOOP : VRING_E_IOV);
    followed++;
    const desc = descAddress(vq, table, tableGuest, index);
    if (desc == 0) return outcome(walked, VRING_E_INDIRECT_ADDRESS);
    walked++;
    const addr = load<u64>(desc);
    const len = load<u32>(desc, VIRTQ_DESC_LEN);
    const flags = load<u32>(desc, VIRTQ_DESC_FLAGS); // `next` is the upper half
    if (flags & VIRTQ_DESC_F_INDIRECT) {
      if (isIndirect) return outcome(walked, VRING_E_INDIRECT_NESTED);
      const error = indirectError(vq, region, addr, len, flags);
      if (error != 0) return outcome(walked, error);
      if (!isWithin(region, addr, len)) region = findRegion(vq, addr);
      table = isWithin(region, addr, len) ? <usize>linear(region, addr) : 0;
      tableGuest = addr;
      isIndirect = true;
      entries = len / VIRTQ_DESC_BYTES;
      limit = min(entries, iovCapacity);
      followed = 0;
      index = 0;
      continue;
    }
    if (flags & VIRTQ_DESC_F_WRITE && !isWriting) {
      isWriting = true;
      iovWritable = iovNext;
      outBytes = bytes;
      bytes = 0;
    } else if (isWriting && (flags & VIRTQ_DESC_F_WRITE) == 0) {
      return outcome(walked, VRING_E_ORDER);
    }
    if (len != 0) {
      let isWhole = isWithin(region, addr, len);
      if (!isWhole) {
        if (wraps(addr, len)) return outcome(walked, VRING_E_ADDRESS_WRAP);
        region = findRegion(vq, addr);
        isWhole = isWithin(region, addr, len);
      }
      bytes += len;
      if (bytes >> 32) return outcome(walked, VRING_E_LENGTH);
      const pieces = pushBuffer(vq, isWhole ? region : 0, iovNext, addr, len);
      if (pieces < 0) return outcome(walked, -pieces);
      iovNext += pieces;
    }
    if ((flags & VIRTQ_DESC_F_NEXT) == 0) break;
    index = flags >> 16;
  }
  if (isWriting) writeCounts(chain, iovStart, iovWritable, iovNext, outBytes, bytes);
  else writeCounts(chain, iovStart, iovNext, iovNext, bytes, 0);
  return outcome(walked, 0);
}
