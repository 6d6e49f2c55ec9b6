// The lists that most are: plain buffers, each whole in the first region, as are the tables that
// refer to them. Nothing here changes the state of the ring: a burst of one kind goes through one
// loop.

import {
  CHAIN_BYTES,
  CHAIN_HEAD,
  CHAIN_OUT_BYTES,
  CHAIN_OUT_COUNT,
  CHAIN_USED_BYTES,
  INDIRECT_ENTRIES_MAX,
  IOV_BYTES,
  REGION_GUEST,
  REGION_LINEAR,
  REGION_SIZE,
  VQ_DESC,
  VQ_F_INDIRECT,
  VQ_IOV,
  VQ_IOV_CAPACITY,
  VQ_NUM,
} from "../src/spec/ring-state";
import {
  PVIRTQ_DESC_FLAGS,
  PVIRTQ_DESC_ID,
  VIRTQ_DESC_BYTES,
  VIRTQ_DESC_F_AVAIL,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_USED,
  VIRTQ_DESC_F_WRITE,
  VIRTQ_DESC_LEN,
} from "../src/spec/virtio-ring";
import { firstRegion } from "./chain";
import { availFlags, descAt, INDEX, loadFlags, moved } from "./position";
import { has } from "./state";

/** AVAIL and USED, as a descriptor has them, say that it is the driver's; INDIRECT is not ours. */
const KIND: u32 = VIRTQ_DESC_F_AVAIL | VIRTQ_DESC_F_USED | VIRTQ_DESC_F_INDIRECT;

/**
 * As `takePlain`, of lists of one descriptor; `limit` is not 0, and as much is left in every table.
 * Returns how many.
 */
function takeSingles(
  vq: usize,
  region: usize,
  chain: usize,
  iovStart: u32,
  first: u32,
  flags: u32,
  limit: u32,
): u32 {
  const ring = load<usize>(vq, VQ_DESC);
  const ringEnd = ring + <usize>load<u32>(vq, VQ_NUM) * VIRTQ_DESC_BYTES;
  const iovs = load<usize>(vq, VQ_IOV);
  const guest = load<u64>(region, REGION_GUEST);
  const size = load<u64>(region, REGION_SIZE);
  const linear = load<u32>(region, REGION_LINEAR);
  const iovEnd = iovStart + limit;
  let avail = availFlags(first);
  let iov = iovStart;
  let desc = ring + <usize>(first & INDEX) * VIRTQ_DESC_BYTES;
  while (true) {
    if ((flags & (KIND | VIRTQ_DESC_F_NEXT)) != avail) break;
    const offset = load<u64>(desc) - guest;
    const len = <u64>load<u32>(desc, VIRTQ_DESC_LEN);
    if (offset >= size) break;
    if (len - 1 >= size - offset) break; // a length of 0 too
    const id = <u32>load<u16>(desc, PVIRTQ_DESC_ID);
    store<u64>(iovs + <usize>iov * IOV_BYTES, <u64>(linear + <u32>offset) | (len << 32));
    // Two words at once, each time: HEAD and IOV_START, OUT_ and IN_COUNT, OUT_ and IN_BYTES.
    const half = (<u64>(flags & VIRTQ_DESC_F_WRITE)) << 4;
    store<u64>(chain, <u64>(id | (1 << 16)) | ((<u64>iov) << 32), CHAIN_HEAD);
    store<u64>(chain, (<u64>1) << half, CHAIN_OUT_COUNT);
    store<u64>(chain, len << half, CHAIN_OUT_BYTES);
    store<u32>(chain, 0, CHAIN_USED_BYTES);
    chain += CHAIN_BYTES;
    iov++;
    if (iov == iovEnd) break;
    desc += VIRTQ_DESC_BYTES;
    if (desc == ringEnd) {
      desc = ring;
      avail ^= VIRTQ_DESC_F_AVAIL | VIRTQ_DESC_F_USED;
    }
    flags = loadFlags(desc);
  }
  return iov - iovStart;
}

/** Writes a record, two words at once: HEAD and IOV_START, OUT_ and IN_COUNT, OUT_ and IN_BYTES. */
function writeRecord(
  chain: usize,
  head: u32,
  start: u32,
  writable: u32,
  end: u32,
  outBytes: u64,
  inBytes: u64,
): void {
  store<u64>(chain, <u64>head | ((<u64>start) << 32), CHAIN_HEAD);
  store<u64>(chain, <u64>(writable - start) | ((<u64>(end - writable)) << 32), CHAIN_OUT_COUNT);
  store<u64>(chain, outBytes | (inBytes << 32), CHAIN_OUT_BYTES);
  store<u32>(chain, 0, CHAIN_USED_BYTES);
}

/** As `takePlain`, of lists of descriptors, pieces up to iovec `iovEnd`. */
function takeLists(
  vq: usize,
  region: usize,
  chain: usize,
  iovStart: u32,
  iovEnd: u32,
  first: u32,
  firstFlags: u32,
  limit: u32,
  enough: u32,
): u32 {
  const ring = load<usize>(vq, VQ_DESC);
  const ringEnd = ring + <usize>load<u32>(vq, VQ_NUM) * VIRTQ_DESC_BYTES;
  const iovs = load<usize>(vq, VQ_IOV);
  const guest = load<u64>(region, REGION_GUEST);
  const size = load<u64>(region, REGION_SIZE);
  const linear = load<u32>(region, REGION_LINEAR);
  let desc = ring + <usize>(first & INDEX) * VIRTQ_DESC_BYTES;
  let avail = availFlags(first);
  let flags = firstFlags;
  let lists: u32 = 0;
  let start = iovStart; // of the list, as what follows
  let iov = start;
  let writable = start; // the first writable piece: after the last readable one
  let outBytes: u64 = 0;
  let inBytes: u64 = 0;
  while (true) {
    const offset = load<u64>(desc) - guest;
    const len = <u64>load<u32>(desc, VIRTQ_DESC_LEN);
    if ((flags & KIND) != avail || iov >= iovEnd) break;
    if (offset >= size || len - 1 >= size - offset) break; // a length of 0 too
    store<u64>(iovs + <usize>iov * IOV_BYTES, <u64>(linear + <u32>offset) | (len << 32));
    if (flags & VIRTQ_DESC_F_WRITE) {
      inBytes += len;
      iov++;
    } else {
      if (iov != writable) break;
      outBytes += len;
      writable = ++iov;
    }
    const id = <u32>load<u16>(desc, PVIRTQ_DESC_ID);
    desc += VIRTQ_DESC_BYTES;
    if (desc == ringEnd) {
      desc = ring;
      avail ^= VIRTQ_DESC_F_AVAIL | VIRTQ_DESC_F_USED;
    }
    if (flags & VIRTQ_DESC_F_NEXT) {
      flags = <u32>load<u16>(desc, PVIRTQ_DESC_FLAGS);
      continue;
    }
    if ((outBytes | inBytes) >> 32) break;
    writeRecord(chain, id | ((iov - start) << 16), start, writable, iov, outBytes, inBytes);
    start = writable = iov;
    outBytes = inBytes = 0;
    lists++;
    if (lists == limit || iov - iovStart >= enough) break;
    chain += CHAIN_BYTES;
    flags = loadFlags(desc);
  }
  return (lists << 16) | (start - iovStart);
}

/**
 * Takes an indirect table of `bytes` bytes at linear `table`, of the descriptor with `id`. Returns
 * how many pieces, which is how many entries; 0 when it is not plain.
 */
function takeTable(
  vq: usize,
  region: usize,
  chain: usize,
  start: u32,
  table: usize,
  bytes: u32,
  id: u32,
): u32 {
  const iovs = load<usize>(vq, VQ_IOV);
  const iovEnd = load<u32>(vq, VQ_IOV_CAPACITY);
  const guest = load<u64>(region, REGION_GUEST);
  const size = load<u64>(region, REGION_SIZE);
  const linear = load<u32>(region, REGION_LINEAR);
  const end = table + bytes;
  let iov = start;
  let writable = start; // the first writable piece: after the last readable one
  let outBytes: u64 = 0;
  let inBytes: u64 = 0;
  for (let entry = table; entry != end; entry += VIRTQ_DESC_BYTES) {
    const offset = load<u64>(entry) - guest;
    const len = <u64>load<u32>(entry, VIRTQ_DESC_LEN);
    if (iov >= iovEnd) return 0;
    if (offset >= size || len - 1 >= size - offset) return 0; // a length of 0 too
    store<u64>(iovs + <usize>iov * IOV_BYTES, <u64>(linear + <u32>offset) | (len << 32));
    if (load<u16>(entry, PVIRTQ_DESC_FLAGS) & VIRTQ_DESC_F_WRITE) {
      inBytes += len;
      iov++;
    } else {
      if (iov != writable) return 0;
      outBytes += len;
      writable = ++iov;
    }
  }
  if ((outBytes | inBytes) >> 32) return 0;
  writeRecord(chain, id | (1 << 16), start, writable, iov, outBytes, inBytes);
  return iov - start;
}

/** As `takePlain`, of descriptors that refer to tables, which were negotiated; `limit` is not 0. */
function takeTables(
  vq: usize,
  region: usize,
  chain: usize,
  iovStart: u32,
  first: u32,
  firstFlags: u32,
  limit: u32,
  enough: u32,
): u32 {
  const num = load<u32>(vq, VQ_NUM);
  const guest = load<u64>(region, REGION_GUEST);
  const size = load<u64>(region, REGION_SIZE);
  const linear = load<u32>(region, REGION_LINEAR);
  let at = first;
  let flags = firstFlags;
  let iov = iovStart;
  let lists: u32 = 0;
  while (true) {
    if ((flags & (KIND | VIRTQ_DESC_F_NEXT)) != (availFlags(at) | VIRTQ_DESC_F_INDIRECT)) break;
    const desc = descAt(vq, at);
    const offset = load<u64>(desc) - guest;
    const bytes = load<u32>(desc, VIRTQ_DESC_LEN);
    if (bytes == 0 || bytes % VIRTQ_DESC_BYTES != 0) break;
    if (bytes > <u32>INDIRECT_ENTRIES_MAX * VIRTQ_DESC_BYTES) break;
    if (offset >= size || <u64>bytes > size - offset) break;
    const id = <u32>load<u16>(desc, PVIRTQ_DESC_ID);
    const pieces = takeTable(vq, region, chain, iov, linear + <u32>offset, bytes, id);
    if (pieces == 0) break;
    lists++;
    iov += pieces;
    if (lists == limit || iov - iovStart + lists >= enough) break;
    chain += CHAIN_BYTES;
    at = moved(at, 1, num);
    flags = loadFlags(descAt(vq, at));
  }
  return (lists << 16) | lists;
}

/**
 * Writes the record of each such list from position `first` on, whose flags are `flags`, to `chain`
 * and after it, and their pieces from iovec `iovStart` on: a piece for each descriptor, or entry of
 * a table. They are of one kind: single descriptors, or several, or tables. Stops before a list
 * that is not such a one or is longer than what is left of `room` (its record and pieces hold
 * nothing), after `limit` lists, which is not 0, and when `enough` descriptors were read. Returns
 * the number of lists × 65536 + that of their descriptors in the ring.
 */
export function takePlain(
  vq: usize,
  chain: usize,
  iovStart: u32,
  first: u32,
  flags: u32,
  limit: u32,
  room: u32,
  enough: u32,
): u32 {
  const region = firstRegion(vq);
  if (region == 0) return 0;
  if (flags & VIRTQ_DESC_F_INDIRECT) {
    if (!has(vq, VQ_F_INDIRECT)) return 0;
    return takeTables(vq, region, chain, iovStart, first, flags, min(limit, room), enough);
  }
  const iovEnd = min(load<u32>(vq, VQ_IOV_CAPACITY), iovStart + room);
  if (flags & VIRTQ_DESC_F_NEXT) {
    return takeLists(vq, region, chain, iovStart, iovEnd, first, flags, limit, enough);
  }
  if (iovStart == iovEnd) return 0;
  const most = min(min(limit, iovEnd - iovStart), enough);
  const singles = takeSingles(vq, region, chain, iovStart, first, flags, most);
  return (singles << 16) + singles;
}
