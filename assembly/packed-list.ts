import {
  CHAIN_HEAD,
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
import {
  descAddress,
  firstRegion,
  indirectError,
  isWithin,
  outcome,
  pushBuffer,
  writeCounts,
} from "./chain";
import { descAt, isAvail, moved } from "./position";
import { findRegion, linear, wraps } from "./region";

/** Writes CHAIN_HEAD: the id in the last descriptor of a list, and their number. */
function setHead(chain: usize, last: usize, count: u32): void {
  store<u32>(chain, <u32>load<u16>(last, PVIRTQ_DESC_ID) | (count << 16), CHAIN_HEAD);
}

/**
 * Goes on to the end of a list in which `error` was found, for its id: from the descriptor at
 * `position`, the `count`th. Returns `outcome`, of the error or of a refusal.
 */
function skipList(
  vq: usize,
  chain: usize,
  position: u32,
  flags: u32,
  count: u32,
  limit: u32,
  error: u32,
): u32 {
  const num = load<u32>(vq, VQ_NUM);
  while (flags & VIRTQ_DESC_F_NEXT) {
    if (count == limit) return outcome(count, VRING_E_LOOP);
    position = moved(position, 1, num);
    flags = <u32>load<u16>(descAt(vq, position), PVIRTQ_DESC_FLAGS);
    if (!isAvail(flags, position)) return outcome(count, VRING_E_UNAVAILABLE);
    count++;
  }
  setHead(chain, descAt(vq, position), count);
  return outcome(count, error);
}

/** Follows the indirect table that a descriptor refers to, to the record at `chain`: `outcome`. */
function followTable(vq: usize, chain: usize, iovStart: u32, addr: u64, len: u32, flags: u32): u32 {
  let region = firstRegion(vq);
  const error = indirectError(vq, region, addr, len, flags);
  if (error != 0) return outcome(0, error);
  if (!isWithin(region, addr, len)) region = findRegion(vq, addr);
  const table = isWithin(region, addr, len) ? <usize>linear(region, addr) : 0;
  const entries = len / VIRTQ_DESC_BYTES;
  const capacity = load<u32>(vq, VQ_IOV_CAPACITY);
  let iovNext = iovStart;
  let iovWritable = iovStart;
  let outBytes: u64 = 0;
  let bytes: u64 = 0; // of the direction we are in
  let isWriting = false;
  for (let index: u32 = 0; index < entries; index++) {
    if (index == capacity) return outcome(index, VRING_E_IOV);
    const desc = descAddress(vq, table, addr, index);
    if (desc == 0) return outcome(index, VRING_E_INDIRECT_ADDRESS);
    const isWrite = (load<u16>(desc, PVIRTQ_DESC_FLAGS) & VIRTQ_DESC_F_WRITE) != 0;
    if (isWriting && !isWrite) return outcome(index + 1, VRING_E_ORDER);
    if (isWrite && !isWriting) {
      isWriting = true;
      iovWritable = iovNext;
      outBytes = bytes;
      bytes = 0;
    }
    const start = load<u64>(desc);
    const length = load<u32>(desc, VIRTQ_DESC_LEN);
    bytes += length;
    const pieces = placeBuffer(vq, region, iovNext, start, length, bytes);
    if (pieces < 0) return outcome(index + 1, -pieces);
    iovNext += pieces;
  }
  if (isWriting) writeCounts(chain, iovStart, iovWritable, iovNext, outBytes, bytes);
  else writeCounts(chain, iovStart, iovNext, iovNext, bytes, 0);
  return outcome(entries, 0);
}

/**
 * Writes a buffer to the iovec table from entry `iovNext` on; `region`: where it may well be;
 * `bytes`: of its direction, it included. Returns the pieces, or the error, negative.
 */
function placeBuffer(vq: usize, region: usize, iovNext: u32, addr: u64, len: u32, bytes: u64): i32 {
  if (len == 0) return 0;
  let home = region;
  if (!isWithin(home, addr, len)) {
    if (wraps(addr, len)) return -VRING_E_ADDRESS_WRAP;
    home = findRegion(vq, addr);
    if (!isWithin(home, addr, len)) home = 0;
  }
  if (bytes >> 32) return -VRING_E_LENGTH;
  return pushBuffer(vq, home, iovNext, addr, len);
}

/** `followList`, of one whose first descriptor refers to an indirect table. */
function followIndirect(
  vq: usize,
  chain: usize,
  iovStart: u32,
  first: u32,
  flags: u32,
  limit: u32,
): u32 {
  const desc = descAt(vq, first);
  const addr = load<u64>(desc);
  const table = followTable(vq, chain, iovStart, addr, load<u32>(desc, VIRTQ_DESC_LEN), flags);
  const error = table & 0xff;
  const walked = table & ~0xff; // the table's entries count, however it ends
  if (error != 0) return walked + skipList(vq, chain, first, flags, 1, limit, error);
  setHead(chain, desc, 1);
  return walked + outcome(1, 0);
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
  if (firstFlags & VIRTQ_DESC_F_INDIRECT) {
    return followIndirect(vq, chain, iovStart, first, firstFlags, limit);
  }
  const num = load<u32>(vq, VQ_NUM);
  const region = firstRegion(vq);
  let iovNext = iovStart;
  let iovWritable = iovStart;
  let outBytes: u64 = 0;
  let bytes: u64 = 0; // of the direction we are in
  let isWriting = false;
  let position = first;
  let flags = firstFlags;
  let desc = descAt(vq, first);
  let error: u32 = 0;
  let count: u32 = 1; // descriptors of the list
  for (;;) {
    const addr = load<u64>(desc);
    const len = load<u32>(desc, VIRTQ_DESC_LEN);
    if (flags & VIRTQ_DESC_F_INDIRECT) {
      error = indirectError(vq, region, addr, len, flags | VIRTQ_DESC_F_NEXT); // it is not alone
      break;
    }
    const isWrite = (flags & VIRTQ_DESC_F_WRITE) != 0;
    if (isWrite && !isWriting) {
      isWriting = true;
      iovWritable = iovNext;
      outBytes = bytes;
      bytes = 0;
    } else if (isWriting && !isWrite) {
      error = VRING_E_ORDER;
      break;
    }
    bytes += len;
    const pieces = placeBuffer(vq, region, iovNext, addr, len, bytes);
    if (pieces < 0) {
      error = -pieces;
      break;
    }
    iovNext += pieces;
    if ((flags & VIRTQ_DESC_F_NEXT) == 0) break;
    if (count == limit) return outcome(count, VRING_E_LOOP);
    position = moved(position, 1, num);
    desc = descAt(vq, position);
    flags = <u32>load<u16>(desc, PVIRTQ_DESC_FLAGS);
    if (!isAvail(flags, position)) return outcome(count, VRING_E_UNAVAILABLE);
    count++;
  }
  if (error != 0) return skipList(vq, chain, position, flags, count, limit, error);
  if (isWriting) writeCounts(chain, iovStart, iovWritable, iovNext, outBytes, bytes);
  else writeCounts(chain, iovStart, iovNext, iovNext, bytes, 0);
  setHead(chain, desc, count);
  return outcome(count, 0);
}

/** Whether `code` stands against the ring, not against one list. */
export function isListRefusal(code: u32): bool {
  return code == VRING_E_LOOP || code == VRING_E_UNAVAILABLE;
}
