import {
  CHAIN_BYTES,
  CHAIN_HEAD,
  CHAIN_IN_COUNT,
  CHAIN_IOV_START,
  CHAIN_OUT_COUNT,
  CHAIN_USED_BYTES,
  IOV_BYTES,
  IOV_LENGTH,
  SHADOW_BYTES,
  SHADOW_COUNT,
  SHADOW_IN_BYTES,
  SHADOW_NEXT,
  VQ_AVAIL_NEXT,
  VQ_AVAIL_PUBLISHED,
  VQ_BATCH_BYTES,
  VQ_BATCH_LEFT,
  VQ_CHAIN_CAPACITY,
  VQ_CHAINS,
  VQ_DESC,
  VQ_DEVICE,
  VQ_DRIVER,
  VQ_ERROR,
  VQ_F_EVENT_IDX,
  VQ_F_IN_ORDER,
  VQ_FLAGS,
  VQ_FREE_HEAD,
  VQ_GUEST_DELTA,
  VQ_IN_FLIGHT,
  VQ_INDIRECT,
  VQ_INDIRECT_CAPACITY,
  VQ_IOV,
  VQ_IOV_CAPACITY,
  VQ_KICKED,
  VQ_LAST_USED,
  VQ_NOTIFY_DISABLED,
  VQ_NUM,
  VQ_NUM_FREE,
  VQ_OLDEST,
  VQ_SHADOW,
  VQ_STAGED_FLAGS,
  VRING_E_CHAIN,
  VRING_E_USED_ID,
  VRING_E_USED_LENGTH,
} from "../src/spec/ring-state";
import {
  PVIRTQ_DESC_FLAGS,
  PVIRTQ_DESC_ID,
  RING_EVENT_FLAGS_DESC,
  RING_EVENT_FLAGS_DISABLE,
  VIRTQ_DESC_BYTES,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_WRITE,
  VIRTQ_DESC_LEN,
} from "../src/spec/virtio-ring";
import { bytesOf, resetShadow, shadow, tableCapacity, writeTable } from "./driver-descs";
import {
  availFlags,
  countOn,
  descAt,
  distance,
  isAskedFor,
  isUsed,
  loadFlags,
  moved,
  POSITION_FIRST,
} from "./position";
import { countError, refuse } from "./state";

/** DriverRing.reset */
export function packedDriverReset(vq: usize): void {
  const num = load<u32>(vq, VQ_NUM);
  resetShadow(vq);
  store<u32>(vq, POSITION_FIRST, VQ_AVAIL_NEXT);
  store<u32>(vq, POSITION_FIRST, VQ_AVAIL_PUBLISHED);
  store<u32>(vq, POSITION_FIRST, VQ_LAST_USED);
  store<u32>(vq, 0, VQ_KICKED);
  store<u32>(vq, 0, VQ_IN_FLIGHT);
  store<u32>(vq, 0, VQ_ERROR);
  store<u32>(vq, 0, VQ_NOTIFY_DISABLED);
  store<u32>(vq, 0, VQ_STAGED_FLAGS);
  memory.fill(load<usize>(vq, VQ_DESC), 0, <usize>num * VIRTQ_DESC_BYTES);
  atomic.store<u32>(load<usize>(vq, VQ_DRIVER), 0);
  atomic.store<u32>(load<usize>(vq, VQ_DEVICE), 0);
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
  const desc = descAt(vq, position);
  const flags = kind | availFlags(position);
  store<u64>(desc, addr);
  store<u32>(desc, len, VIRTQ_DESC_LEN);
  if (position == published) {
    store<u16>(desc, <u16>id, PVIRTQ_DESC_ID);
    store<u32>(vq, flags, VQ_STAGED_FLAGS);
  } else {
    store<u32>(desc, id | (flags << 16), PVIRTQ_DESC_ID);
  }
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
  const delta = load<u64>(vq, VQ_GUEST_DELTA);
  let position = first;
  let piece = iov;
  for (let i: u32 = 2; i <= total; i++) {
    position = moved(position, 1, num);
    piece += IOV_BYTES;
    const write: u32 = i <= outCount ? 0 : VIRTQ_DESC_F_WRITE;
    const kind = i < total ? write | VIRTQ_DESC_F_NEXT : write;
    const addr = <u64>load<u32>(piece) + delta;
    writeAt(vq, position, published, addr, load<u32>(piece, IOV_LENGTH), id, kind);
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

/** DriverRing.addBufs */
export function packedAddBufs(vq: usize, count: u32): i32 {
  const limit = min(count, load<u32>(vq, VQ_CHAIN_CAPACITY));
  const num = load<u32>(vq, VQ_NUM);
  const isInOrder = (load<u32>(vq, VQ_FLAGS) & VQ_F_IN_ORDER) != 0;
  const iovCapacity = load<u32>(vq, VQ_IOV_CAPACITY);
  const iovs = load<usize>(vq, VQ_IOV);
  const shadows = load<usize>(vq, VQ_SHADOW);
  const tableMax = tableCapacity(vq);
  let next = load<u32>(vq, VQ_AVAIL_NEXT);
  const published = load<u32>(vq, VQ_AVAIL_PUBLISHED);
  let free = load<u32>(vq, VQ_NUM_FREE);
  let id = load<u32>(vq, VQ_FREE_HEAD);
  let chain = load<usize>(vq, VQ_CHAINS);
  let added: u32 = 0;
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
  store<u32>(vq, load<u32>(vq, VQ_IN_FLIGHT) + added, VQ_IN_FLIGHT);
  if (error != 0) {
    countError(vq, VRING_E_CHAIN);
    if (added == 0) return -VRING_E_CHAIN;
  }
  return <i32>added;
}

/** DriverRing.publish. Release A1: the flags come last. Pairs with A1 in packed-device.ts. */
export function packedDriverPublish(vq: usize): void {
  const next = load<u32>(vq, VQ_AVAIL_NEXT);
  const published = load<u32>(vq, VQ_AVAIL_PUBLISHED);
  if (next == published) return;
  const flags = <u16>load<u32>(vq, VQ_STAGED_FLAGS);
  atomic.store<u16>(descAt(vq, published), flags, PVIRTQ_DESC_FLAGS);
  store<u32>(vq, next, VQ_AVAIL_PUBLISHED);
  const count = distance(published, next, load<u32>(vq, VQ_NUM));
  store<u32>(vq, countOn(load<u32>(vq, VQ_KICKED), count), VQ_KICKED);
}

/**
 * DriverRing.kickNeeded. Order A2: `packedDriverPublish` stored flags, then we load the device's
 * wish; the device's `packedEnableKick` stores its wish, then loads flags. One sees the other.
 */
export function packedKickNeeded(vq: usize): bool {
  const count = load<u32>(vq, VQ_KICKED);
  if (count == 0) return false;
  store<u32>(vq, 0, VQ_KICKED);
  const hasEventIdx = (load<u32>(vq, VQ_FLAGS) & VQ_F_EVENT_IDX) != 0;
  const area = load<usize>(vq, VQ_DEVICE);
  const position = load<u32>(vq, VQ_AVAIL_PUBLISHED);
  return isAskedFor(area, position, count, load<u32>(vq, VQ_NUM), hasEventIdx, false);
}

/** Whether the descriptor that is to be taken next is used. */
function hasUsed(vq: usize): bool {
  if (load<u32>(vq, VQ_IN_FLIGHT) == 0) return false;
  const at = load<u32>(vq, VQ_LAST_USED);
  return isUsed(loadFlags(descAt(vq, at)), at);
}

/**
 * Chains of the batch that the used id `id` ends; 0 when it is not in flight. IN_ORDER: the ids in
 * flight follow one another.
 */
function batchOf(vq: usize, id: u32): u32 {
  const num = load<u32>(vq, VQ_NUM);
  if (id >= num || load<u16>(shadow(vq, id), SHADOW_COUNT) == 0) return 0;
  const oldest = load<u32>(vq, VQ_OLDEST);
  const chains = (id >= oldest ? id - oldest : id + num - oldest) + 1;
  return chains <= load<u32>(vq, VQ_IN_FLIGHT) ? chains : 0;
}

/** The length in a used descriptor with these flags, cut to the `inBytes` that it may have. */
function usedBytesOf(vq: usize, desc: usize, flags: u32, inBytes: u32): u32 {
  const len: u32 = flags & VIRTQ_DESC_F_WRITE ? load<u32>(desc, VIRTQ_DESC_LEN) : 0;
  if (len <= inBytes) return len;
  countError(vq, VRING_E_USED_LENGTH);
  return inBytes;
}

/**
 * Begins a batch by the used descriptor at VQ_LAST_USED. Returns its chains, 0 when there is no
 * such descriptor, or the refusal, negative.
 */
function beginBatch(vq: usize): i32 {
  if (load<u32>(vq, VQ_IN_FLIGHT) == 0) return 0;
  const at = load<u32>(vq, VQ_LAST_USED);
  const desc = descAt(vq, at);
  const flags = loadFlags(desc);
  if (!isUsed(flags, at)) return 0;
  const id = <u32>load<u16>(desc, PVIRTQ_DESC_ID);
  const chains = batchOf(vq, id);
  if (chains == 0) return refuse(vq, VRING_E_USED_ID);
  const bytes = usedBytesOf(vq, desc, flags, load<u32>(shadow(vq, id), SHADOW_IN_BYTES));
  store<u32>(vq, bytes, VQ_BATCH_BYTES);
  return <i32>chains;
}

/** Gives the descriptors of an id back and moves past them. */
function release(vq: usize, mine: usize): void {
  const count = <u32>load<u16>(mine, SHADOW_COUNT);
  const last = load<u32>(vq, VQ_LAST_USED);
  store<u16>(mine, 0, SHADOW_COUNT);
  store<u32>(vq, load<u32>(vq, VQ_NUM_FREE) + count, VQ_NUM_FREE);
  store<u32>(vq, load<u32>(vq, VQ_IN_FLIGHT) - 1, VQ_IN_FLIGHT);
  store<u32>(vq, moved(last, count, load<u32>(vq, VQ_NUM)), VQ_LAST_USED);
}

/** DriverRing.getBufs, with IN_ORDER. */
function getBatches(vq: usize, limit: u32): i32 {
  const num = load<u32>(vq, VQ_NUM);
  let chain = load<usize>(vq, VQ_CHAINS);
  for (let got: u32 = 0; got < limit; got++) {
    let batchLeft = <i32>load<u32>(vq, VQ_BATCH_LEFT);
    if (batchLeft == 0) batchLeft = beginBatch(vq);
    if (batchLeft < 0) return got > 0 ? <i32>got : batchLeft;
    if (batchLeft == 0) {
      limit = got;
      break;
    }
    const id = load<u32>(vq, VQ_OLDEST);
    const mine = shadow(vq, id);
    const inBytes = load<u32>(mine, SHADOW_IN_BYTES);
    release(vq, mine);
    store<u32>(vq, id + 1 < num ? id + 1 : 0, VQ_OLDEST);
    store<u32>(vq, batchLeft - 1, VQ_BATCH_LEFT);
    store<u32>(chain, id, CHAIN_HEAD);
    store<u32>(chain, batchLeft == 1 ? load<u32>(vq, VQ_BATCH_BYTES) : inBytes, CHAIN_USED_BYTES);
    chain += CHAIN_BYTES;
  }
  store<u32>(vq, 0, VQ_ERROR);
  return <i32>limit;
}

/** DriverRing.getBufs */
export function packedGetBufs(vq: usize, max: u32): i32 {
  const limit = min(max, load<u32>(vq, VQ_CHAIN_CAPACITY));
  if (load<u32>(vq, VQ_FLAGS) & VQ_F_IN_ORDER) return getBatches(vq, limit);
  const num = load<u32>(vq, VQ_NUM);
  let inFlight = load<u32>(vq, VQ_IN_FLIGHT);
  let at = load<u32>(vq, VQ_LAST_USED);
  let freeHead = load<u32>(vq, VQ_FREE_HEAD);
  let free = load<u32>(vq, VQ_NUM_FREE);
  let chain = load<usize>(vq, VQ_CHAINS);
  let got: u32 = 0;
  let isRefused = false;
  for (; got < limit && inFlight > 0; got++) {
    const desc = descAt(vq, at);
    const flags = loadFlags(desc);
    if (!isUsed(flags, at)) break;
    const id = <u32>load<u16>(desc, PVIRTQ_DESC_ID);
    const mine = shadow(vq, id);
    const count: u32 = id < num ? <u32>load<u16>(mine, SHADOW_COUNT) : 0;
    if (count == 0) {
      isRefused = true;
      break;
    }
    const bytes = usedBytesOf(vq, desc, flags, load<u32>(mine, SHADOW_IN_BYTES));
    store<u32>(chain, id, CHAIN_HEAD);
    store<u32>(chain, bytes, CHAIN_USED_BYTES);
    store<u16>(mine, <u16>freeHead, SHADOW_NEXT);
    store<u16>(mine, 0, SHADOW_COUNT);
    freeHead = id;
    free += count;
    inFlight--;
    at = moved(at, count, num);
    chain += CHAIN_BYTES;
  }
  store<u32>(vq, at, VQ_LAST_USED);
  store<u32>(vq, inFlight, VQ_IN_FLIGHT);
  store<u32>(vq, free, VQ_NUM_FREE);
  store<u32>(vq, freeHead, VQ_FREE_HEAD);
  const error = isRefused ? refuse(vq, VRING_E_USED_ID) : 0;
  if (error == 0) store<u32>(vq, 0, VQ_ERROR);
  return got > 0 ? <i32>got : error;
}

/** DriverRing.enableCall. Order U2: see `packedCallNeeded` in packed-device.ts. */
export function packedEnableCall(vq: usize): bool {
  store<u32>(vq, 0, VQ_NOTIFY_DISABLED);
  const hasEventIdx = (load<u32>(vq, VQ_FLAGS) & VQ_F_EVENT_IDX) != 0;
  const event: u32 = hasEventIdx ? load<u32>(vq, VQ_LAST_USED) | (RING_EVENT_FLAGS_DESC << 16) : 0;
  atomic.store<u32>(load<usize>(vq, VQ_DRIVER), event);
  return load<u32>(vq, VQ_BATCH_LEFT) != 0 || hasUsed(vq);
}

/** DriverRing.disableCall */
export function packedDisableCall(vq: usize): void {
  store<u32>(vq, 1, VQ_NOTIFY_DISABLED);
  atomic.store<u32>(load<usize>(vq, VQ_DRIVER), RING_EVENT_FLAGS_DISABLE << 16);
}
