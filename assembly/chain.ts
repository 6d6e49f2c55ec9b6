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
  VIRTQ_DESC_NEXT,
} from "../src/spec/virtio-ring";
import { findRegion, inRegion, isMapped, linear, pushPieces, wraps } from "./region";

/** How far `followChain` came, in one number: descriptors read × 256 + error code (0: good). */
function outcome(walked: u32, code: u32): u32 {
  return (walked << 8) | code;
}

/** The error of a descriptor that refers to an indirect table, or 0. Checked in this order. */
function indirectError(vq: usize, addr: u64, len: u32, flags: u32): u32 {
  if ((load<u32>(vq, VQ_FLAGS) & VQ_F_INDIRECT) == 0) return VRING_E_INDIRECT_UNNEGOTIATED;
  if (flags & VIRTQ_DESC_F_NEXT) return VRING_E_INDIRECT_NEXT;
  if (len == 0 || len % VIRTQ_DESC_BYTES != 0) return VRING_E_INDIRECT_LENGTH;
  if (len / VIRTQ_DESC_BYTES > <u32>INDIRECT_ENTRIES_MAX) return VRING_E_INDIRECT_LENGTH;
  if (wraps(addr, len)) return VRING_E_ADDRESS_WRAP;
  return isMapped(vq, addr, len) ? 0 : VRING_E_INDIRECT_ADDRESS;
}

/** Linear address of an entry of an indirect table, or 0 when it lies across two regions. */
function entryAddress(vq: usize, addr: u64): usize {
  const region = findRegion(vq, addr);
  if (region == 0 || !inRegion(region, addr, VIRTQ_DESC_BYTES)) return 0;
  return linear(region, addr);
}

/**
 * Follows the chain at `head` (below VQ_NUM), writes its pieces to the iovec table from entry
 * `iovStart` on, and its counts to the record at `chain`. Each descriptor is read once, then
 * checked, then used. Returns `outcome`: the record holds only when its code is 0.
 */
export function followChain(vq: usize, chain: usize, iovStart: u32, head: u32): u32 {
  const iovs = load<usize>(vq, VQ_IOV);
  const iovCapacity = load<u32>(vq, VQ_IOV_CAPACITY);
  // Where the last buffer was: the next one is often there too.
  let region = load<u32>(vq, VQ_REGION_COUNT) != 0 ? load<usize>(vq, VQ_REGIONS) : 0;
  let iovNext = iovStart;
  let outCount: u32 = 0;
  let outBytes: u64 = 0;
  let inBytes: u64 = 0;
  let isWriting = false;
  let limit = load<u32>(vq, VQ_NUM); // descriptors that may be followed in the present table
  let entries = limit;
  let tableGuest: u64 = 0; // of the indirect table, while in one
  let isIndirect = false;
  let index = head;
  let followed: u32 = 0;
  let walked: u32 = 0;
  for (;;) {
    if (index >= entries)
      return outcome(walked, isIndirect ? VRING_E_INDIRECT_INDEX : VRING_E_NEXT);
    if (followed == limit) return outcome(walked, limit == entries ? VRING_E_LOOP : VRING_E_IOV);
    followed++;
    const desc = isIndirect
      ? entryAddress(vq, tableGuest + <u64>index * VIRTQ_DESC_BYTES)
      : load<usize>(vq, VQ_DESC) + <usize>index * VIRTQ_DESC_BYTES;
    if (desc == 0) return outcome(walked, VRING_E_INDIRECT_ADDRESS);
    walked++;
    const addr = load<u64>(desc);
    const len = load<u32>(desc, VIRTQ_DESC_LEN);
    const flagsNext = load<u32>(desc, VIRTQ_DESC_FLAGS);
    const flags = flagsNext & 0xffff;

    if (flags & VIRTQ_DESC_F_INDIRECT) {
      const error = isIndirect ? VRING_E_INDIRECT_NESTED : indirectError(vq, addr, len, flags);
      if (error != 0) return outcome(walked, error);
      isIndirect = true;
      tableGuest = addr;
      entries = len / VIRTQ_DESC_BYTES;
      limit = min(entries, iovCapacity);
      followed = 0;
      index = 0;
      continue;
    }

    if (flags & VIRTQ_DESC_F_WRITE) isWriting = true;
    else if (isWriting) return outcome(walked, VRING_E_ORDER);
    if (len != 0) {
      if (wraps(addr, len)) return outcome(walked, VRING_E_ADDRESS_WRAP);
      const sum = (isWriting ? inBytes : outBytes) + len;
      if (sum >> 32) return outcome(walked, VRING_E_LENGTH);
      if (isWriting) inBytes = sum;
      else outBytes = sum;
      const iov = iovs + <usize>iovNext * IOV_BYTES;
      let pieces = 1;
      if (iovNext < iovCapacity && region != 0 && inRegion(region, addr, len)) {
        store<u32>(iov, linear(region, addr));
        store<u32>(iov, len, IOV_LENGTH);
      } else {
        pieces = pushPieces(vq, iov, iovCapacity - iovNext, addr, len);
        if (pieces < 0) return outcome(walked, -pieces);
        region = findRegion(vq, addr);
      }
      iovNext += pieces;
      if (!isWriting) outCount += pieces;
    }
    if ((flags & VIRTQ_DESC_F_NEXT) == 0) break;
    index = flagsNext >> 16;
  }
  store<u32>(chain, iovStart, CHAIN_IOV_START);
  store<u32>(chain, outCount, CHAIN_OUT_COUNT);
  store<u32>(chain, iovNext - iovStart - outCount, CHAIN_IN_COUNT);
  store<u32>(chain, <u32>outBytes, CHAIN_OUT_BYTES);
  store<u32>(chain, <u32>inBytes, CHAIN_IN_BYTES);
  return outcome(walked, 0);
}
