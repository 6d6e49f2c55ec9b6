// The lists that most are: plain buffers, each whole in the first region. Nothing here looks at the
// state of the ring, or calls anything: a burst of them goes through one loop.

import {
  CHAIN_BYTES,
  CHAIN_HEAD,
  CHAIN_OUT_BYTES,
  CHAIN_OUT_COUNT,
  CHAIN_USED_BYTES,
  IOV_BYTES,
  REGION_GUEST,
  REGION_LINEAR,
  REGION_SIZE,
  VQ_DESC,
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
import { firstRegion, writeCounts } from "./chain";
import { availFlags, INDEX, loadFlags } from "./position";

/** AVAIL and USED, as a descriptor has them, say that it is the driver's; INDIRECT is not ours. */
const KIND: u32 = VIRTQ_DESC_F_AVAIL | VIRTQ_DESC_F_USED | VIRTQ_DESC_F_INDIRECT;

/**
 * As `takePlain`, of lists of one descriptor; `limit` is not 0, and as much is left in every table.
 * Returns how many.
 */
function takeSingles(
  vq: usize,
  chain: usize,
  iovStart: u32,
  first: u32,
  flags: u32,
  limit: u32,
): u32 {
  const region = firstRegion(vq);
  const num = load<u32>(vq, VQ_NUM);
  const ring = load<usize>(vq, VQ_DESC);
  const iovs = load<usize>(vq, VQ_IOV);
  const guest = load<u64>(region, REGION_GUEST);
  const size = load<u64>(region, REGION_SIZE);
  const linear = load<u32>(region, REGION_LINEAR);
  const iovEnd = iovStart + limit;
  let index = first & INDEX;
  let avail = availFlags(first);
  let iov = iovStart;
  let desc = ring + <usize>index * VIRTQ_DESC_BYTES;
  while (true) {
    if ((flags & (KIND | VIRTQ_DESC_F_NEXT)) != avail) break;
    const offset = load<u64>(desc) - guest;
    const len = load<u32>(desc, VIRTQ_DESC_LEN);
    if (len == 0) break;
    if (offset >= size) break;
    if (<u64>len > size - offset) break;
    const id = <u32>load<u16>(desc, PVIRTQ_DESC_ID);
    store<u64>(iovs + <usize>iov * IOV_BYTES, <u64>(linear + <u32>offset) | ((<u64>len) << 32));
    // Two words at once, each time: HEAD and IOV_START, OUT_ and IN_COUNT, OUT_ and IN_BYTES.
    const half = (<u64>(flags & VIRTQ_DESC_F_WRITE)) << 4;
    store<u64>(chain, <u64>(id | (1 << 16)) | ((<u64>iov) << 32), CHAIN_HEAD);
    store<u64>(chain, (<u64>1) << half, CHAIN_OUT_COUNT);
    store<u64>(chain, (<u64>len) << half, CHAIN_OUT_BYTES);
    store<u32>(chain, 0, CHAIN_USED_BYTES);
    chain += CHAIN_BYTES;
    iov++;
    if (iov == iovEnd) break;
    index++;
    if (index == num) {
      index = 0;
      avail ^= VIRTQ_DESC_F_AVAIL | VIRTQ_DESC_F_USED;
    }
    desc = ring + <usize>index * VIRTQ_DESC_BYTES;
    flags = loadFlags(desc);
  }
  return iov - iovStart;
}

/**
 * Writes the record of each such list from position `first` on, whose flags are `firstFlags`, to
 * `chain` and after it, and their pieces from iovec `iovStart` on: a piece for each descriptor.
 * Stops before a list that is not such a one or is longer than what is left of `room` (its record
 * and pieces hold nothing), after `limit` lists, which is not 0, and when `enough` descriptors were
 * read. Returns the number of lists × 65536 + that of their descriptors.
 */
export function takePlain(
  vq: usize,
  chain: usize,
  iovStart: u32,
  first: u32,
  firstFlags: u32,
  limit: u32,
  room: u32,
  enough: u32,
): u32 {
  const region = firstRegion(vq);
  const iovEnd = min(load<u32>(vq, VQ_IOV_CAPACITY), iovStart + room);
  if (region == 0 || iovStart == iovEnd) return 0;
  if ((firstFlags & VIRTQ_DESC_F_NEXT) == 0) {
    const most = min(min(limit, iovEnd - iovStart), enough);
    const singles = takeSingles(vq, chain, iovStart, first, firstFlags, most);
    return (singles << 16) + singles;
  }
  const num = load<u32>(vq, VQ_NUM);
  const ring = load<usize>(vq, VQ_DESC);
  const iovs = load<usize>(vq, VQ_IOV);
  const guest = load<u64>(region, REGION_GUEST);
  const size = load<u64>(region, REGION_SIZE);
  const linear = load<u32>(region, REGION_LINEAR);
  let index = first & INDEX;
  let avail = availFlags(first);
  let flags = firstFlags;
  let iov = iovStart;
  let lists: u32 = 0;
  while (true) {
    const start = iov;
    let writable = start; // the first writable piece: after the last readable one
    let outBytes: u64 = 0;
    let inBytes: u64 = 0;
    for (;;) {
      const desc = ring + <usize>index * VIRTQ_DESC_BYTES;
      const offset = load<u64>(desc) - guest;
      const len = load<u32>(desc, VIRTQ_DESC_LEN);
      const isPlain = (flags & KIND) == avail && iov < iovEnd && len != 0;
      if (!isPlain || offset >= size || <u64>len > size - offset) return lists + start - iovStart;
      store<u64>(iovs + <usize>iov * IOV_BYTES, <u64>(linear + <u32>offset) | ((<u64>len) << 32));
      if (flags & VIRTQ_DESC_F_WRITE) {
        inBytes += len;
        iov++;
      } else {
        if (iov != writable) return lists + start - iovStart;
        outBytes += len;
        writable = ++iov;
      }
      const isLast = (flags & VIRTQ_DESC_F_NEXT) == 0;
      index++;
      if (index == num) {
        index = 0;
        avail ^= VIRTQ_DESC_F_AVAIL | VIRTQ_DESC_F_USED;
      }
      if (isLast) break;
      flags = <u32>load<u16>(ring + <usize>index * VIRTQ_DESC_BYTES, PVIRTQ_DESC_FLAGS);
    }
    if ((outBytes | inBytes) >> 32) return lists + start - iovStart;
    const last = ring + <usize>(index == 0 ? num - 1 : index - 1) * VIRTQ_DESC_BYTES;
    const head = <u32>load<u16>(last, PVIRTQ_DESC_ID) | ((iov - start) << 16);
    // Two words at once, each time: HEAD and IOV_START, OUT_ and IN_COUNT, OUT_ and IN_BYTES.
    store<u64>(chain, <u64>head | ((<u64>start) << 32), CHAIN_HEAD);
    store<u64>(chain, <u64>(writable - start) | ((<u64>(iov - writable)) << 32), CHAIN_OUT_COUNT);
    store<u64>(chain, outBytes | (inBytes << 32), CHAIN_OUT_BYTES);
    store<u32>(chain, 0, CHAIN_USED_BYTES);
    lists += 1 << 16;
    if (lists >> 16 == limit || iov - iovStart >= enough) return lists + iov - iovStart;
    chain += CHAIN_BYTES;
    flags = loadFlags(ring + <usize>index * VIRTQ_DESC_BYTES);
  }
}

/**
 * Writes the counts of an indirect table of `bytes` bytes at linear `table` to `chain`, and its
 * pieces from iovec `iovStart` on, when each of its buffers is whole in the first region. Returns
 * how many pieces, which is how many entries; 0, and nothing written holds, when it is not so.
 */
export function takeTable(vq: usize, chain: usize, iovStart: u32, table: usize, bytes: u32): u32 {
  const region = firstRegion(vq);
  const iovs = load<usize>(vq, VQ_IOV);
  const iovEnd = load<u32>(vq, VQ_IOV_CAPACITY);
  const guest = load<u64>(region, REGION_GUEST);
  const size = load<u64>(region, REGION_SIZE);
  const linear = load<u32>(region, REGION_LINEAR);
  const end = table + bytes;
  let iov = iovStart;
  let writable = iovStart; // the first writable piece: after the last readable one
  let outBytes: u64 = 0;
  let inBytes: u64 = 0;
  for (let entry = table; entry != end; entry += VIRTQ_DESC_BYTES) {
    const offset = load<u64>(entry) - guest;
    const len = load<u32>(entry, VIRTQ_DESC_LEN);
    if (iov >= iovEnd || len == 0) return 0;
    if (offset >= size || <u64>len > size - offset) return 0;
    store<u64>(iovs + <usize>iov * IOV_BYTES, <u64>(linear + <u32>offset) | ((<u64>len) << 32));
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
  writeCounts(chain, iovStart, writable, iov, outBytes, inBytes);
  return iov - iovStart;
}
