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
import { countOn, descAt, descOf, distance, isAskedFor, moved, usedFlags } from "./position";
import { countError, has } from "./state";

/**
 * Writes a used descriptor at position `next`; flags of the first that is staged wait for
 * `packedDevicePublish`. Returns the position after `count` descriptors.
 */
function writeUsed(
  vq: usize,
  ring: usize,
  next: u32,
  published: u32,
  id: u32,
  count: u32,
  usedBytes: u32,
): u32 {
  const desc = descOf(ring, next);
  const flags = usedFlags(next) | (usedBytes != 0 ? VIRTQ_DESC_F_WRITE : 0);
  if (next == published) {
    store<u32>(desc, usedBytes, VIRTQ_DESC_LEN);
    store<u16>(desc, <u16>id, PVIRTQ_DESC_ID);
    store<u32>(vq, flags, VQ_STAGED_FLAGS);
  } else {
    const idAndFlags = <u64>(id | (flags << 16));
    store<u64>(desc, <u64>usedBytes | (idAndFlags << 32), VIRTQ_DESC_LEN);
  }
  return moved(next, count, load<u32>(vq, VQ_NUM));
}

/** Stages a used descriptor for a list with CHAIN_HEAD `head`, which is in flight. */
export function stage(vq: usize, head: u32, usedBytes: u32): void {
  const count = head >> 16;
  const next = load<u32>(vq, VQ_USED_NEXT);
  const published = load<u32>(vq, VQ_USED_PUBLISHED);
  const id = head & 0xffff;
  const after = writeUsed(vq, load<usize>(vq, VQ_DESC), next, published, id, count, usedBytes);
  store<u32>(vq, after, VQ_USED_NEXT);
  store<u32>(vq, load<u32>(vq, VQ_IN_FLIGHT) - count, VQ_IN_FLIGHT);
}

/** DeviceRing.addUsed */
export function packedAddUsed(vq: usize, head: u32, usedBytes: u32): i32 {
  const isInFlight = head >> 16 != 0 && head >> 16 <= load<u32>(vq, VQ_IN_FLIGHT);
  if (isInFlight && (!has(vq, VQ_F_INFLIGHT) || releaseList(vq, head))) {
    stage(vq, head, usedBytes);
    return 0;
  }
  countError(vq, VRING_E_COMPLETION);
  return -VRING_E_COMPLETION;
}

/**
 * Stages `left` records from `chain` on; IN_ORDER: a used descriptor for a run of them. False at
 * the first that may not be used. `isRecorded`: gives back their entries.
 */
function stageRecords(vq: usize, left: u32, isInOrder: bool, isRecorded: bool): bool {
  const ring = load<usize>(vq, VQ_DESC);
  const published = load<u32>(vq, VQ_USED_PUBLISHED);
  let chain = load<usize>(vq, VQ_CHAINS);
  let next = load<u32>(vq, VQ_USED_NEXT);
  let inFlight = load<u32>(vq, VQ_IN_FLIGHT);
  let count: u32 = 0; // descriptors of the run, up to the record we are at
  for (; left > 0; left--) {
    const head = load<u32>(chain, CHAIN_HEAD);
    const usedBytes = load<u32>(chain, CHAIN_USED_BYTES);
    count += head >> 16;
    if (head >> 16 == 0 || count > inFlight) break;
    if (isRecorded && !releaseList(vq, head)) break;
    if (!isInOrder || left == 1 || usedBytes != load<u32>(chain, CHAIN_IN_BYTES)) {
      next = writeUsed(vq, ring, next, published, head & 0xffff, count, usedBytes);
      inFlight -= count;
      count = 0;
    }
    chain += CHAIN_BYTES;
  }
  store<u32>(vq, next, VQ_USED_NEXT);
  store<u32>(vq, inFlight, VQ_IN_FLIGHT);
  return left == 0;
}

/** DeviceRing.addUsedN */
export function packedAddUsedN(vq: usize, count: u32): i32 {
  const limit = min(count, load<u32>(vq, VQ_CHAIN_CAPACITY));
  const flags = load<u32>(vq, VQ_FLAGS);
  if (flags & VQ_F_LOG) markChains(vq, limit);
  const isInOrder = (flags & VQ_F_IN_ORDER) != 0;
  if (stageRecords(vq, limit, isInOrder, (flags & VQ_F_INFLIGHT) != 0)) return 0;
  countError(vq, VRING_E_COMPLETION);
  return -VRING_E_COMPLETION;
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
