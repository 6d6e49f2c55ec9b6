// What a packed ring's driver adds. The rest of it is in packed-driver.ts.

import {
  CHAIN_BYTES,
  CHAIN_HEAD,
  CHAIN_IN_COUNT,
  CHAIN_IOV_START,
  CHAIN_OUT_COUNT,
  IOV_BYTES,
  IOV_LENGTH,
  SHADOW_BYTES,
  SHADOW_COUNT,
  SHADOW_IN_BYTES,
  SHADOW_NEXT,
  VQ_AVAIL_NEXT,
  VQ_AVAIL_PUBLISHED,
  VQ_CHAIN_CAPACITY,
  VQ_CHAINS,
  VQ_DESC,
  VQ_F_IN_ORDER,
  VQ_FREE_HEAD,
  VQ_GUEST_DELTA,
  VQ_IN_FLIGHT,
  VQ_INDIRECT,
  VQ_INDIRECT_CAPACITY,
  VQ_IOV,
  VQ_IOV_CAPACITY,
  VQ_NUM,
  VQ_NUM_FREE,
  VQ_SHADOW,
  VQ_STAGED_FLAGS,
  VRING_E_CHAIN,
} from "../src/spec/ring-state";
import {
  PVIRTQ_DESC_ID,
  VIRTQ_DESC_BYTES,
  VIRTQ_DESC_F_AVAIL,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_USED,
  VIRTQ_DESC_F_WRITE,
  VIRTQ_DESC_LEN,
} from "../src/spec/virtio-ring";
import { bytesOf, tableCapacity, writeTable } from "./driver-descs";
import { availFlags, INDEX, moved, WRAP } from "./position";
import { countError, has } from "./state";

/** Writes the descriptor that is staged first: its flags wait for `packedDriverPublish`. */
function writeFirst(vq: usize, desc: usize, len: u32, id: u32, flags: u32): void {
  store<u32>(desc, len, VIRTQ_DESC_LEN);
  store<u16>(desc, <u16>id, PVIRTQ_DESC_ID);
  store<u32>(vq, flags, VQ_STAGED_FLAGS);
}

/** Writes any other: len, id and flags at once. */
function writeOther(desc: usize, len: u32, id: u32, flags: u32): void {
  store<u64>(desc, <u64>len | ((<u64>(id | (flags << 16))) << 32), VIRTQ_DESC_LEN);
}

/** Adds the first records, as long as they are good chains of one piece, and `limit` at most. */
function addPlain(vq: usize, limit: u32): u32 {
  const num = load<u32>(vq, VQ_NUM);
  const isInOrder = has(vq, VQ_F_IN_ORDER);
  const iovCapacity = load<u32>(vq, VQ_IOV_CAPACITY);
  const iovs = load<usize>(vq, VQ_IOV);
  const shadows = load<usize>(vq, VQ_SHADOW);
  const delta = load<u64>(vq, VQ_GUEST_DELTA);
  const ring = load<usize>(vq, VQ_DESC);
  const next = load<u32>(vq, VQ_AVAIL_NEXT);
  const free = load<u32>(vq, VQ_NUM_FREE);
  const chains = load<usize>(vq, VQ_CHAINS);
  const end = chains + <usize>min(limit, free) * CHAIN_BYTES;
  let chain = chains;
  let id = load<u32>(vq, VQ_FREE_HEAD);
  let index = next & INDEX;
  let wrap = next & WRAP;
  let first = load<u32>(vq, VQ_AVAIL_PUBLISHED) ^ wrap; // index of what is staged first
  for (; chain != end; chain += CHAIN_BYTES) {
    const piece = load<u32>(chain, CHAIN_IOV_START);
    const outCount = load<u32>(chain, CHAIN_OUT_COUNT);
    const inCount = load<u32>(chain, CHAIN_IN_COUNT);
    if (outCount + inCount != 1) break;
    if (outCount > 1) break; // the sum went past 2^32
    if (piece >= iovCapacity) break;
    const iov = iovs + <usize>piece * IOV_BYTES;
    const len = load<u32>(iov, IOV_LENGTH);
    const desc = ring + <usize>index * VIRTQ_DESC_BYTES;
    const flags = availFlags(wrap) | (inCount << 1); // VIRTQ_DESC_F_WRITE
    store<u64>(desc, <u64>load<u32>(iov) + delta);
    if (index == first) writeFirst(vq, desc, len, id, flags);
    else writeOther(desc, len, id, flags);
    store<u32>(chain, id, CHAIN_HEAD);
    const mine = shadows + <usize>id * SHADOW_BYTES;
    store<u16>(mine, 1, SHADOW_COUNT);
    store<u32>(mine, len * inCount, SHADOW_IN_BYTES);
    if (!isInOrder) id = <u32>load<u16>(mine, SHADOW_NEXT);
    else id = id + 1 < num ? id + 1 : 0;
    index++;
    if (index < num) continue;
    index = 0;
    wrap ^= WRAP;
    first ^= WRAP;
  }
  const added = <u32>(chain - chains) / CHAIN_BYTES;
  store<u32>(vq, index | wrap, VQ_AVAIL_NEXT);
  store<u32>(vq, free - added, VQ_NUM_FREE);
  store<u32>(vq, id, VQ_FREE_HEAD);
  store<u32>(vq, load<u32>(vq, VQ_IN_FLIGHT) + added, VQ_IN_FLIGHT);
  return added;
}

/** Writes the descriptor at `position`; flags of the first that is staged wait for `publish`. */
function writeAt(
  vq: usize,
  position: u32,
  published: u32,
  addr: u64,
  len: u32,
  id: u32,
  kind: u32,
): void {
  const desc = load<usize>(vq, VQ_DESC) + <usize>(position & INDEX) * VIRTQ_DESC_BYTES;
  const flags = kind | availFlags(position);
  store<u64>(desc, addr);
  if (position == published) writeFirst(vq, desc, len, id, flags);
  else writeOther(desc, len, id, flags);
}

/** Writes the pieces from position `first` on, one descriptor each; the first of them last. */
function writeList(
  vq: usize,
  first: u32,
  published: u32,
  id: u32,
  iov: usize,
  outCount: u32,
  total: u32,
): void {
  const num = load<u32>(vq, VQ_NUM);
  const ring = load<usize>(vq, VQ_DESC);
  const delta = load<u64>(vq, VQ_GUEST_DELTA);
  let index = first & INDEX;
  let staged = published ^ (first & WRAP); // index of what is staged first
  let flags = availFlags(first) | VIRTQ_DESC_F_NEXT;
  let piece = iov;
  for (let i: u32 = 2; i <= total; i++) {
    piece += IOV_BYTES;
    index++;
    if (index == num) {
      index = 0;
      staged ^= WRAP;
      flags ^= VIRTQ_DESC_F_AVAIL | VIRTQ_DESC_F_USED;
    }
    if (i > outCount) flags |= VIRTQ_DESC_F_WRITE;
    if (i == total) flags ^= VIRTQ_DESC_F_NEXT;
    const desc = ring + <usize>index * VIRTQ_DESC_BYTES;
    store<u64>(desc, <u64>load<u32>(piece) + delta);
    const len = load<u32>(piece, IOV_LENGTH);
    if (index == staged) writeFirst(vq, desc, len, id, flags);
    else writeOther(desc, len, id, flags);
  }
  const write: u32 = outCount > 0 ? 0 : VIRTQ_DESC_F_WRITE;
  const kind = total > 1 ? write | VIRTQ_DESC_F_NEXT : write;
  const addr = <u64>load<u32>(iov) + delta;
  writeAt(vq, first, published, addr, load<u32>(iov, IOV_LENGTH), id, kind);
}

/** Writes the pieces to the id's table, and the descriptor for it at `position`. */
function writeIndirect(
  vq: usize,
  position: u32,
  published: u32,
  id: u32,
  iov: usize,
  outCount: u32,
  total: u32,
): void {
  const tableBytes = load<u32>(vq, VQ_INDIRECT_CAPACITY) * VIRTQ_DESC_BYTES;
  const table = load<u32>(vq, VQ_INDIRECT) + id * tableBytes;
  const delta = load<u64>(vq, VQ_GUEST_DELTA);
  writeTable(table, delta, iov, outCount, total);
  const len = total * VIRTQ_DESC_BYTES;
  writeAt(vq, position, published, <u64>table + delta, len, id, VIRTQ_DESC_F_INDIRECT);
}

/** Adds the records from number `before` on. Returns as `packedAddBufs` does. */
function addLists(vq: usize, before: u32, limit: u32): i32 {
  const num = load<u32>(vq, VQ_NUM);
  const isInOrder = has(vq, VQ_F_IN_ORDER);
  const iovCapacity = load<u32>(vq, VQ_IOV_CAPACITY);
  const iovs = load<usize>(vq, VQ_IOV);
  const shadows = load<usize>(vq, VQ_SHADOW);
  const tableMax = tableCapacity(vq);
  let next = load<u32>(vq, VQ_AVAIL_NEXT);
  const published = load<u32>(vq, VQ_AVAIL_PUBLISHED);
  let free = load<u32>(vq, VQ_NUM_FREE);
  let id = load<u32>(vq, VQ_FREE_HEAD);
  let chain = load<usize>(vq, VQ_CHAINS) + <usize>before * CHAIN_BYTES;
  let added = before;
  let error = 0;
  for (; added < limit; added++) {
    const iovStart = load<u32>(chain, CHAIN_IOV_START);
    const outCount = load<u32>(chain, CHAIN_OUT_COUNT);
    const inCount = load<u32>(chain, CHAIN_IN_COUNT);
    const pieces = <u64>outCount + <u64>inCount;
    const total = <u32>pieces;
    const isIndirect = total > 1 && total <= tableMax;
    const need: u32 = isIndirect ? 1 : total;
    error = VRING_E_CHAIN;
    if (pieces == 0 || <u64>iovStart + pieces > iovCapacity) break;
    const iov = iovs + <usize>iovStart * IOV_BYTES;
    const inBytes = bytesOf(iov + <usize>outCount * IOV_BYTES, inCount);
    if ((inBytes + bytesOf(iov, outCount)) >> 32) break;
    if (total > num) break;
    error = 0;
    if (need > free) break;
    if (isIndirect) writeIndirect(vq, next, published, id, iov, outCount, total);
    else writeList(vq, next, published, id, iov, outCount, total);
    next = moved(next, need, num);
    free -= need;
    const mine = shadows + <usize>id * SHADOW_BYTES;
    store<u16>(mine, <u16>need, SHADOW_COUNT);
    store<u32>(mine, <u32>inBytes, SHADOW_IN_BYTES);
    store<u32>(chain, id, CHAIN_HEAD);
    if (!isInOrder) id = <u32>load<u16>(mine, SHADOW_NEXT);
    else id = id + 1 < num ? id + 1 : 0;
    chain += CHAIN_BYTES;
  }
  store<u32>(vq, next, VQ_AVAIL_NEXT);
  store<u32>(vq, free, VQ_NUM_FREE);
  store<u32>(vq, id, VQ_FREE_HEAD);
  store<u32>(vq, load<u32>(vq, VQ_IN_FLIGHT) + added - before, VQ_IN_FLIGHT);
  if (error != 0) {
    countError(vq, VRING_E_CHAIN);
    if (added == 0) return -VRING_E_CHAIN;
  }
  return <i32>added;
}

/** DriverRing.addBufs */
export function packedAddBufs(vq: usize, count: u32): i32 {
  const limit = min(count, load<u32>(vq, VQ_CHAIN_CAPACITY));
  const added = addPlain(vq, limit);
  return added == limit ? <i32>added : addLists(vq, added, limit);
}
