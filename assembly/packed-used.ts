// What goes back: the used descriptors of a packed ring's device. The rest is in packed-device.ts.

import {
  CHAIN_BYTES,
  CHAIN_HEAD,
  CHAIN_IN_BYTES,
  CHAIN_USED_BYTES,
  VQ_CHAIN_CAPACITY,
  VQ_CHAINS,
  VQ_DESC,
  VQ_DRIVER,
  VQ_F_EVENT_IDX,
  VQ_F_IN_ORDER,
  VQ_F_INFLIGHT,
  VQ_F_LOG,
  VQ_F_LOG_USED,
  VQ_FLAGS,
  VQ_IN_FLIGHT,
  VQ_LOG_DESC,
  VQ_NUM,
  VQ_SIGNALLED,
  VQ_SIGNALLED_VALID,
  VQ_STAGED_FLAGS,
  VQ_USED_NEXT,
  VQ_USED_PUBLISHED,
  VRING_E_COMPLETION,
} from "../src/spec/ring-state";
import {
  PVIRTQ_DESC_FLAGS,
  PVIRTQ_DESC_ID,
  VIRTQ_DESC_BYTES,
  VIRTQ_DESC_F_WRITE,
  VIRTQ_DESC_LEN,
} from "../src/spec/virtio-ring";
import { markChains, markEntries } from "./log";
import { announceUsed, finishLists, releaseList } from "./packed-inflight";
import { countOn, descAt, distance, INDEX, isAskedFor, moved, usedFlags, WRAP } from "./position";
import { countError, has } from "./state";

/** Flags of a used descriptor at `position`. */
function flagsOf(position: u32, usedBytes: u32): u32 {
  return usedFlags(position) | (usedBytes != 0 ? VIRTQ_DESC_F_WRITE : 0);
}

/** Writes the used descriptor that is staged first: its flags wait for `packedDevicePublish`. */
function writeFirst(vq: usize, desc: usize, id: u32, usedBytes: u32, flags: u32): void {
  store<u32>(desc, usedBytes, VIRTQ_DESC_LEN);
  store<u16>(desc, <u16>id, PVIRTQ_DESC_ID);
  store<u32>(vq, flags, VQ_STAGED_FLAGS);
}

/** Writes any other: len, id and flags at once. */
function writeOther(desc: usize, id: u32, usedBytes: u32, flags: u32): void {
  store<u64>(desc, <u64>usedBytes | ((<u64>(id | (flags << 16))) << 32), VIRTQ_DESC_LEN);
}

/** Stages a used descriptor for `count` of the ring's, all of them in flight. */
function stage(vq: usize, id: u32, count: u32, usedBytes: u32): void {
  const next = load<u32>(vq, VQ_USED_NEXT);
  const desc = descAt(vq, next);
  const flags = flagsOf(next, usedBytes);
  const isFirst = next == load<u32>(vq, VQ_USED_PUBLISHED);
  if (isFirst) writeFirst(vq, desc, id, usedBytes, flags);
  else writeOther(desc, id, usedBytes, flags);
  store<u32>(vq, moved(next, count, load<u32>(vq, VQ_NUM)), VQ_USED_NEXT);
  store<u32>(vq, load<u32>(vq, VQ_IN_FLIGHT) - count, VQ_IN_FLIGHT);
}

/** Whether a list of CHAIN_HEAD `head`, the last of a run of `count` descriptors, may be used. */
function mayUse(vq: usize, head: u32, count: u32): bool {
  const isInFlight = head >> 16 != 0 && count <= load<u32>(vq, VQ_IN_FLIGHT);
  return isInFlight && (!has(vq, VQ_F_INFLIGHT) || releaseList(vq, head));
}

/** Counts that a list may not be used. Returns the error, negative. */
function notUsed(vq: usize): i32 {
  countError(vq, VRING_E_COMPLETION);
  return -VRING_E_COMPLETION;
}

/** DeviceRing.addUsed */
export function packedAddUsed(vq: usize, head: u32, usedBytes: u32): i32 {
  const count = head >> 16;
  if (!mayUse(vq, head, count)) return notUsed(vq);
  stage(vq, head & 0xffff, count, usedBytes);
  return 0;
}

/** DeviceRing.addUsedN, where lists in flight are recorded. */
function addRecorded(vq: usize, left: u32, isInOrder: bool): i32 {
  let chain = load<usize>(vq, VQ_CHAINS);
  let count: u32 = 0; // descriptors of the run, up to the record we are at
  for (; left > 0; left--) {
    const head = load<u32>(chain, CHAIN_HEAD);
    const usedBytes = load<u32>(chain, CHAIN_USED_BYTES);
    count += head >> 16;
    if (!mayUse(vq, head, count)) return notUsed(vq);
    if (!isInOrder || left == 1 || usedBytes != load<u32>(chain, CHAIN_IN_BYTES)) {
      stage(vq, head & 0xffff, count, usedBytes);
      count = 0;
    }
    chain += CHAIN_BYTES;
  }
  return 0;
}

/** DeviceRing.addUsedN. IN_ORDER: a used descriptor for a run of records. */
export function packedAddUsedN(vq: usize, count: u32): i32 {
  const limit = min(count, load<u32>(vq, VQ_CHAIN_CAPACITY));
  const options = load<u32>(vq, VQ_FLAGS);
  const isInOrder = (options & VQ_F_IN_ORDER) != 0;
  if (options & VQ_F_LOG) markChains(vq, limit);
  if (options & VQ_F_INFLIGHT) return addRecorded(vq, limit, isInOrder);
  const num = load<u32>(vq, VQ_NUM);
  const ring = load<usize>(vq, VQ_DESC);
  const next = load<u32>(vq, VQ_USED_NEXT);
  let chain = load<usize>(vq, VQ_CHAINS);
  const end = chain + <usize>limit * CHAIN_BYTES;
  let index = next & INDEX;
  let wrap = next & WRAP;
  let first = load<u32>(vq, VQ_USED_PUBLISHED) ^ wrap; // index of what is staged first
  let inFlight = load<u32>(vq, VQ_IN_FLIGHT);
  let run: u32 = 0; // descriptors of the run, up to the record we are at
  for (; chain != end; chain += CHAIN_BYTES) {
    const head = load<u32>(chain, CHAIN_HEAD);
    const usedBytes = load<u32>(chain, CHAIN_USED_BYTES);
    run += head >> 16;
    if (head >> 16 == 0) break;
    if (run > inFlight) break;
    const isFull = usedBytes == load<u32>(chain, CHAIN_IN_BYTES);
    if (isInOrder && isFull && chain + CHAIN_BYTES != end) continue; // the run goes on
    const desc = ring + <usize>index * VIRTQ_DESC_BYTES;
    const flags = flagsOf(wrap, usedBytes);
    if (index == first) writeFirst(vq, desc, head & 0xffff, usedBytes, flags);
    else writeOther(desc, head & 0xffff, usedBytes, flags);
    inFlight -= run;
    index += run;
    run = 0;
    if (index < num) continue;
    index -= num;
    wrap ^= WRAP;
    first ^= WRAP;
  }
  store<u32>(vq, index | wrap, VQ_USED_NEXT);
  store<u32>(vq, inFlight, VQ_IN_FLIGHT);
  return chain == end ? 0 : notUsed(vq);
}

/** DeviceRing.publish. Release U1: the flags come last. Pairs with U1 in packed-driver.ts. */
export function packedDevicePublish(vq: usize): void {
  const next = load<u32>(vq, VQ_USED_NEXT);
  const published = load<u32>(vq, VQ_USED_PUBLISHED);
  if (next == published) return;
  const options = load<u32>(vq, VQ_FLAGS);
  if (options & VQ_F_INFLIGHT) announceUsed(vq, next);
  const flags = <u16>load<u32>(vq, VQ_STAGED_FLAGS);
  atomic.store<u16>(descAt(vq, published), flags, PVIRTQ_DESC_FLAGS);
  store<u32>(vq, next, VQ_USED_PUBLISHED);
  const count = distance(published, next, load<u32>(vq, VQ_NUM));
  store<u32>(vq, countOn(load<u32>(vq, VQ_SIGNALLED), count), VQ_SIGNALLED);
  if ((options & (VQ_F_INFLIGHT | VQ_F_LOG_USED)) == 0) return;
  if (options & VQ_F_INFLIGHT) finishLists(vq, next);
  if ((options & VQ_F_LOG_USED) == 0) return;
  markEntries(vq, load<u64>(vq, VQ_LOG_DESC), VIRTQ_DESC_BYTES, published & 0x7fff, count);
}

/**
 * DeviceRing.callNeeded. Order U2: `packedDevicePublish` stored flags, then we load the driver's
 * wish; the driver's `enableCall` stores its wish, then loads flags. One of the two sees the other.
 */
export function packedCallNeeded(vq: usize): bool {
  const count = load<u32>(vq, VQ_SIGNALLED);
  if (count == 0) return false;
  const isFirst = load<u32>(vq, VQ_SIGNALLED_VALID) == 0;
  store<u32>(vq, 0, VQ_SIGNALLED);
  store<u32>(vq, 1, VQ_SIGNALLED_VALID);
  const hasEventIdx = (load<u32>(vq, VQ_FLAGS) & VQ_F_EVENT_IDX) != 0;
  const area = load<usize>(vq, VQ_DRIVER);
  const position = load<u32>(vq, VQ_USED_PUBLISHED);
  return isAskedFor(area, position, count, load<u32>(vq, VQ_NUM), hasEventIdx, isFirst);
}
