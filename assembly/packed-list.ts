import {
  CHAIN_HEAD,
  CHAIN_IN_COUNT,
  CHAIN_IOV_START,
  CHAIN_OUT_BYTES,
  CHAIN_OUT_COUNT,
  VQ_IOV_CAPACITY,
  VQ_NUM,
  VRING_E_ADDRESS_WRAP,
  VRING_E_INDIRECT_ADDRESS,
  VRING_E_IOV,
  VRING_E_LENGTH,
  VRING_E_LOOP,
  VRING_E_ORDER,
  VRING_E_UNAVAILABLE,
} from "../src/spec/ring-state";
import {
  PVIRTQ_DESC_FLAGS,
  PVIRTQ_DESC_ID,
  VIRTQ_DESC_BYTES,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_WRITE,
  VIRTQ_DESC_LEN,
} from "../src/spec/virtio-ring";
import { descAddress, firstRegion, indirectError, isWithin, outcome, pushBuffer } from "./chain";
import { descAt, isAvail, moved } from "./position";
import { findRegion, linear, wraps } from "./region";

/** The region that holds a whole buffer, or 0. */
function regionOf(vq: usize, addr: u64, len: u32): usize {
  const first = firstRegion(vq);
  if (isWithin(first, addr, len)) return first;
  const region = findRegion(vq, addr);
  return isWithin(region, addr, len) ? region : 0;
}

/** Begins the record at `chain`: no pieces yet. */
function beginRecord(chain: usize, iovStart: u32): void {
  store<u32>(chain, iovStart, CHAIN_IOV_START);
  store<u64>(chain, 0, CHAIN_OUT_COUNT);
  store<u64>(chain, 0, CHAIN_OUT_BYTES);
}

/** Adds a buffer to the record at `chain`, of `isWriting`'s direction. Returns 0 or the error. */
function pushInto(vq: usize, chain: usize, addr: u64, len: u32, isWriting: bool): u32 {
  if (len == 0) return 0;
  const region = regionOf(vq, addr, len);
  if (region == 0 && wraps(addr, len)) return VRING_E_ADDRESS_WRAP;
  const field: usize = isWriting ? 4 : 0; // the fields for writable follow those for readable
  const bytes = <u64>load<u32>(chain + field, CHAIN_OUT_BYTES) + len;
  if (bytes >> 32) return VRING_E_LENGTH;
  const outCount = load<u32>(chain, CHAIN_OUT_COUNT);
  const iovNext = load<u32>(chain, CHAIN_IOV_START) + outCount + load<u32>(chain, CHAIN_IN_COUNT);
  const pieces = pushBuffer(vq, region, iovNext, addr, len);
  if (pieces < 0) return -pieces;
  const count = load<u32>(chain + field, CHAIN_OUT_COUNT);
  store<u32>(chain + field, count + pieces, CHAIN_OUT_COUNT);
  store<u32>(chain + field, <u32>bytes, CHAIN_OUT_BYTES);
  return 0;
}

/** Follows the indirect table that a descriptor refers to. Returns `outcome`. */
function followTable(vq: usize, chain: usize, addr: u64, len: u32, flags: u32): u32 {
  const region = regionOf(vq, addr, len);
  const error = indirectError(vq, region, addr, len, flags);
  if (error != 0) return outcome(0, error);
  const table = region != 0 ? <usize>linear(region, addr) : 0;
  const entries = len / VIRTQ_DESC_BYTES;
  const capacity = load<u32>(vq, VQ_IOV_CAPACITY);
  let isWriting = false;
  for (let index: u32 = 0; index < entries; index++) {
    if (index == capacity) return outcome(index, VRING_E_IOV);
    const desc = descAddress(vq, table, addr, index);
    if (desc == 0) return outcome(index, VRING_E_INDIRECT_ADDRESS);
    const isWrite = (load<u16>(desc, PVIRTQ_DESC_FLAGS) & VIRTQ_DESC_F_WRITE) != 0;
    if (isWriting && !isWrite) return outcome(index + 1, VRING_E_ORDER);
    isWriting = isWrite;
    const code = pushInto(vq, chain, load<u64>(desc), load<u32>(desc, VIRTQ_DESC_LEN), isWrite);
    if (code != 0) return outcome(index + 1, code);
  }
  return outcome(entries, 0);
}

/**
 * Follows the list at position `first`, whose flags are known to be `firstFlags` and available, for
 * `limit` descriptors at most; writes its pieces to the iovec table from entry `iovStart` on, and
 * its record at `chain`. CHAIN_HEAD holds for a malformed list too, for a refused one nothing does.
 * Returns `outcome`.
 */
export function followList(
  vq: usize,
  chain: usize,
  iovStart: u32,
  first: u32,
  firstFlags: u32,
  limit: u32,
): u32 {
  const num = load<u32>(vq, VQ_NUM);
  let position = first;
  let flags = firstFlags;
  let isWriting = false;
  let error: u32 = 0; // the first; the list is followed to its end all the same
  let count: u32 = 0;
  let walked: u32 = 0;
  beginRecord(chain, iovStart);
  for (;;) {
    const desc = descAt(vq, position);
    count++;
    walked++;
    if (error == 0) {
      const addr = load<u64>(desc);
      const len = load<u32>(desc, VIRTQ_DESC_LEN);
      if (flags & VIRTQ_DESC_F_INDIRECT) {
        // one that is not the first counts as one with NEXT
        const wild = count > 1 ? flags | VIRTQ_DESC_F_NEXT : flags;
        const table = followTable(vq, chain, addr, len, wild);
        walked += table >> 8;
        error = table & 0xff;
      } else {
        const isWrite = (flags & VIRTQ_DESC_F_WRITE) != 0;
        error = isWriting && !isWrite ? VRING_E_ORDER : pushInto(vq, chain, addr, len, isWrite);
        isWriting = isWrite;
      }
    }
    if ((flags & VIRTQ_DESC_F_NEXT) == 0) {
      store<u32>(chain, <u32>load<u16>(desc, PVIRTQ_DESC_ID) | (count << 16), CHAIN_HEAD);
      return outcome(walked, error);
    }
    if (count == limit) break;
    position = moved(position, 1, num);
    flags = <u32>load<u16>(descAt(vq, position), PVIRTQ_DESC_FLAGS);
    if (!isAvail(flags, position)) return outcome(walked, VRING_E_UNAVAILABLE);
  }
  return outcome(walked, VRING_E_LOOP);
}

/** Whether `code` stands against the ring, not against one list. */
export function isListRefusal(code: u32): bool {
  return code == VRING_E_LOOP || code == VRING_E_UNAVAILABLE;
}
