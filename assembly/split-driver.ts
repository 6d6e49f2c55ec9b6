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
  VRING_E_CHAIN,
  VRING_E_USED_ID,
  VRING_E_USED_INDEX,
  VRING_E_USED_LENGTH,
} from "../src/spec/ring-state";
import {
  VIRTQ_AVAIL_ELEM_BYTES,
  VIRTQ_AVAIL_F_NO_INTERRUPT,
  VIRTQ_DESC_BYTES,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_WRITE,
  VIRTQ_RING_ELEMENTS,
  VIRTQ_RING_FLAGS,
  VIRTQ_RING_IDX,
  VIRTQ_USED_ELEM_BYTES,
  VIRTQ_USED_ELEM_LEN,
  VIRTQ_USED_F_NO_NOTIFY,
} from "../src/spec/virtio-ring";
import { bytesOf, resetShadow, shadow, tableCapacity, writeDesc } from "./driver-descs";
import { needEvent } from "./event";
import { countError, next16, refuse } from "./state";

/** DriverRing.reset */
export function driverReset(vq: usize): void {
  const num = load<u32>(vq, VQ_NUM);
  resetShadow(vq);
  store<u32>(vq, 0, VQ_AVAIL_NEXT);
  store<u32>(vq, 0, VQ_AVAIL_PUBLISHED);
  store<u32>(vq, 0, VQ_KICKED);
  store<u32>(vq, 0, VQ_LAST_USED);
  store<u32>(vq, 0, VQ_IN_FLIGHT);
  store<u32>(vq, 0, VQ_ERROR);
  store<u32>(vq, 0, VQ_NOTIFY_DISABLED);
  const driverArea = load<usize>(vq, VQ_DRIVER);
  const deviceArea = load<usize>(vq, VQ_DEVICE);
  store<u32>(driverArea, 0, VIRTQ_RING_FLAGS);
  store<u32>(deviceArea, 0, VIRTQ_RING_FLAGS);
  store<u16>(driverArea + num * VIRTQ_AVAIL_ELEM_BYTES, 0, VIRTQ_RING_ELEMENTS);
  store<u16>(deviceArea + num * VIRTQ_USED_ELEM_BYTES, 0, VIRTQ_RING_ELEMENTS);
}

/** Writes the pieces along the free list from `head` on; returns the free list's new head. */
function writeDirect(vq: usize, head: u32, iov: usize, outCount: u32, total: u32): u32 {
  const table = load<usize>(vq, VQ_DESC);
  const delta = load<u64>(vq, VQ_GUEST_DELTA);
  const shadows = load<usize>(vq, VQ_SHADOW);
  let index = head;
  for (let i: u32 = 1; ; i++) {
    const next = <u32>load<u16>(shadows + <usize>index * SHADOW_BYTES, SHADOW_NEXT);
    const write: u32 = i <= outCount ? 0 : VIRTQ_DESC_F_WRITE;
    const flags = i < total ? write | VIRTQ_DESC_F_NEXT | (next << 16) : write;
    const desc = table + <usize>index * VIRTQ_DESC_BYTES;
    writeDesc(desc, <u64>load<u32>(iov) + delta, load<u32>(iov, IOV_LENGTH), flags);
    index = next;
    if (i == total) break;
    iov += IOV_BYTES;
  }
  return index;
}

/** Writes the pieces to the head's own table and one descriptor for it; returns the next free. */
function writeIndirect(vq: usize, head: u32, iov: usize, outCount: u32, total: u32): u32 {
  const tableBytes = load<u32>(vq, VQ_INDIRECT_CAPACITY) * VIRTQ_DESC_BYTES;
  const table = load<u32>(vq, VQ_INDIRECT) + head * tableBytes;
  const delta = load<u64>(vq, VQ_GUEST_DELTA);
  let entry = <usize>table;
  for (let i: u32 = 1; ; i++) {
    const write: u32 = i <= outCount ? 0 : VIRTQ_DESC_F_WRITE;
    const flags = i < total ? write | VIRTQ_DESC_F_NEXT | (i << 16) : write;
    writeDesc(entry, <u64>load<u32>(iov) + delta, load<u32>(iov, IOV_LENGTH), flags);
    if (i == total) break;
    entry += VIRTQ_DESC_BYTES;
    iov += IOV_BYTES;
  }
  const desc = load<usize>(vq, VQ_DESC) + <usize>head * VIRTQ_DESC_BYTES;
  writeDesc(desc, <u64>table + delta, total * VIRTQ_DESC_BYTES, VIRTQ_DESC_F_INDIRECT);
  return <u32>load<u16>(shadow(vq, head), SHADOW_NEXT);
}

/** DriverRing.addBufs */
export function addBufs(vq: usize, count: u32): i32 {
  const limit = min(count, load<u32>(vq, VQ_CHAIN_CAPACITY));
  const num = load<u32>(vq, VQ_NUM);
  const iovCapacity = load<u32>(vq, VQ_IOV_CAPACITY);
  const iovs = load<usize>(vq, VQ_IOV);
  const heads = load<usize>(vq, VQ_DRIVER) + VIRTQ_RING_ELEMENTS;
  const shadows = load<usize>(vq, VQ_SHADOW);
  const tableMax = tableCapacity(vq);
  let next = load<u32>(vq, VQ_AVAIL_NEXT);
  let free = load<u32>(vq, VQ_NUM_FREE);
  let head = load<u32>(vq, VQ_FREE_HEAD);
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
    const mine = shadows + <usize>head * SHADOW_BYTES;
    const freeHead = isIndirect
      ? writeIndirect(vq, head, iov, outCount, total)
      : writeDirect(vq, head, iov, outCount, total);
    free -= need;
    store<u16>(mine, <u16>need, SHADOW_COUNT);
    store<u32>(mine, <u32>inBytes, SHADOW_IN_BYTES);
    store<u16>(heads + ((next & (num - 1)) << 1), <u16>head);
    store<u32>(chain, head, CHAIN_HEAD);
    next = next16(next);
    head = freeHead;
    chain += CHAIN_BYTES;
  }
  store<u32>(vq, next, VQ_AVAIL_NEXT);
  store<u32>(vq, free, VQ_NUM_FREE);
  store<u32>(vq, head, VQ_FREE_HEAD);
  store<u32>(vq, load<u32>(vq, VQ_IN_FLIGHT) + added, VQ_IN_FLIGHT);
  if (error != 0) {
    countError(vq, VRING_E_CHAIN);
    if (added == 0) return -VRING_E_CHAIN;
  }
  return <i32>added;
}

/** DriverRing.publish. Release A1: the elements come first. Pairs with A1 in split-device.ts. */
export function driverPublish(vq: usize): void {
  const next = load<u32>(vq, VQ_AVAIL_NEXT);
  if (next == load<u32>(vq, VQ_AVAIL_PUBLISHED)) return;
  atomic.store<u16>(load<usize>(vq, VQ_DRIVER), <u16>next, VIRTQ_RING_IDX);
  store<u32>(vq, next, VQ_AVAIL_PUBLISHED);
}

/**
 * DriverRing.kickNeeded. Order A2: `driverPublish` stored avail.idx, then we load the device's
 * wish; the device's `enableKick` stores its wish, then loads avail.idx. One of the two sees the
 * other.
 */
export function kickNeeded(vq: usize): bool {
  const old = load<u32>(vq, VQ_KICKED);
  const new_ = load<u32>(vq, VQ_AVAIL_PUBLISHED);
  if (old == new_) return false;
  store<u32>(vq, new_, VQ_KICKED);
  const deviceArea = load<usize>(vq, VQ_DEVICE);
  if ((load<u32>(vq, VQ_FLAGS) & VQ_F_EVENT_IDX) == 0) {
    return (atomic.load<u16>(deviceArea, VIRTQ_RING_FLAGS) & VIRTQ_USED_F_NO_NOTIFY) == 0;
  }
  const availEvent = deviceArea + load<u32>(vq, VQ_NUM) * VIRTQ_USED_ELEM_BYTES;
  return needEvent(atomic.load<u16>(availEvent, VIRTQ_RING_ELEMENTS), new_, old);
}

/** Acquire U1: the elements below idx are visible after it. Pairs with U1 in split-device.ts. */
function loadUsedIdx(vq: usize): u32 {
  return <u32>atomic.load<u16>(load<usize>(vq, VQ_DEVICE), VIRTQ_RING_IDX);
}

/** Address of the used ring's element at a free-running index. */
function usedElement(vq: usize, index: u32): usize {
  const slot = index & (load<u32>(vq, VQ_NUM) - 1);
  return load<usize>(vq, VQ_DEVICE) + VIRTQ_RING_ELEMENTS + slot * VIRTQ_USED_ELEM_BYTES;
}

/**
 * Chains of the batch that the used id `id` ends, at most `pending`; 0 when it ends none. They
 * follow one another in the descriptor table.
 */
function batchOf(vq: usize, id: u32, pending: u32): u32 {
  const mask = load<u32>(vq, VQ_NUM) - 1;
  let head = load<u32>(vq, VQ_OLDEST);
  for (let chains: u32 = 1; chains <= pending; chains++) {
    if (head == id) return chains;
    head = (head + <u32>load<u16>(shadow(vq, head), SHADOW_COUNT)) & mask;
  }
  return 0;
}

/** Begins a batch by the element at VQ_LAST_USED. Returns its chains, or the refusal, negative. */
function beginBatch(vq: usize, pending: u32): i32 {
  const element = usedElement(vq, load<u32>(vq, VQ_LAST_USED));
  const id = load<u32>(element);
  const len = load<u32>(element, VIRTQ_USED_ELEM_LEN);
  const chains = batchOf(vq, id, pending);
  if (chains == 0) return refuse(vq, VRING_E_USED_ID);
  const inBytes = load<u32>(shadow(vq, id), SHADOW_IN_BYTES);
  if (len > inBytes) countError(vq, VRING_E_USED_LENGTH);
  store<u32>(vq, min(len, inBytes), VQ_BATCH_BYTES);
  return <i32>chains;
}

/** DriverRing.getBufs, with IN_ORDER: `limit` chains at most, of `pending` that were used. */
function getBatches(vq: usize, limit: u32, pending: u32): i32 {
  const mask = load<u32>(vq, VQ_NUM) - 1;
  let chain = load<usize>(vq, VQ_CHAINS);
  for (let got: u32 = 0; got < limit; got++) {
    let batchLeft = <i32>load<u32>(vq, VQ_BATCH_LEFT);
    if (batchLeft == 0) batchLeft = beginBatch(vq, pending - got);
    if (batchLeft < 0) return got > 0 ? <i32>got : batchLeft;
    const id = load<u32>(vq, VQ_OLDEST);
    const mine = shadow(vq, id);
    const count = <u32>load<u16>(mine, SHADOW_COUNT);
    const bytes = load<u32>(batchLeft == 1 ? vq + VQ_BATCH_BYTES : mine + SHADOW_IN_BYTES);
    store<u16>(mine, 0, SHADOW_COUNT);
    store<u32>(vq, load<u32>(vq, VQ_NUM_FREE) + count, VQ_NUM_FREE);
    store<u32>(vq, load<u32>(vq, VQ_IN_FLIGHT) - 1, VQ_IN_FLIGHT);
    store<u32>(vq, next16(load<u32>(vq, VQ_LAST_USED)), VQ_LAST_USED);
    store<u32>(vq, (id + count) & mask, VQ_OLDEST);
    store<u32>(vq, batchLeft - 1, VQ_BATCH_LEFT);
    store<u32>(chain, id, CHAIN_HEAD);
    store<u32>(chain, bytes, CHAIN_USED_BYTES);
    chain += CHAIN_BYTES;
  }
  if (limit > 0 || pending == 0) store<u32>(vq, 0, VQ_ERROR);
  return <i32>limit;
}

/** DriverRing.getBufs */
export function getBufs(vq: usize, max: u32): i32 {
  const pending = (loadUsedIdx(vq) - load<u32>(vq, VQ_LAST_USED)) & 0xffff;
  const inFlight = load<u32>(vq, VQ_IN_FLIGHT);
  if (pending > inFlight) return refuse(vq, VRING_E_USED_INDEX);
  if (load<u32>(vq, VQ_FLAGS) & VQ_F_IN_ORDER) {
    return getBatches(vq, min(min(max, load<u32>(vq, VQ_CHAIN_CAPACITY)), pending), pending);
  }
  const num = load<u32>(vq, VQ_NUM);
  const elements = load<usize>(vq, VQ_DEVICE) + VIRTQ_RING_ELEMENTS;
  const shadows = load<usize>(vq, VQ_SHADOW);
  const limit = min(min(max, load<u32>(vq, VQ_CHAIN_CAPACITY)), pending);
  let last = load<u32>(vq, VQ_LAST_USED);
  let free = load<u32>(vq, VQ_NUM_FREE);
  let freeHead = load<u32>(vq, VQ_FREE_HEAD);
  let chain = load<usize>(vq, VQ_CHAINS);
  let got: u32 = 0;
  for (; got < limit; got++) {
    const slot = elements + (last & (num - 1)) * VIRTQ_USED_ELEM_BYTES;
    const id = load<u32>(slot);
    const len = load<u32>(slot, VIRTQ_USED_ELEM_LEN);
    if (id >= num) break;
    const mine = shadows + <usize>id * SHADOW_BYTES;
    const count = <u32>load<u16>(mine, SHADOW_COUNT);
    if (count == 0) break;
    const inBytes = load<u32>(mine, SHADOW_IN_BYTES);
    if (len > inBytes) countError(vq, VRING_E_USED_LENGTH);
    store<u32>(chain, id, CHAIN_HEAD);
    store<u32>(chain, min(len, inBytes), CHAIN_USED_BYTES);
    let tail = mine;
    for (let left = count; left > 1; left--) {
      tail = shadows + <usize>load<u16>(tail, SHADOW_NEXT) * SHADOW_BYTES;
    }
    store<u16>(tail, <u16>freeHead, SHADOW_NEXT);
    store<u16>(mine, 0, SHADOW_COUNT);
    freeHead = id;
    free += count;
    last = next16(last);
    chain += CHAIN_BYTES;
  }
  store<u32>(vq, last, VQ_LAST_USED);
  store<u32>(vq, inFlight - got, VQ_IN_FLIGHT);
  store<u32>(vq, free, VQ_NUM_FREE);
  store<u32>(vq, freeHead, VQ_FREE_HEAD);
  if (got < limit) {
    const refusal = refuse(vq, VRING_E_USED_ID);
    return got > 0 ? <i32>got : refusal;
  }
  if (limit > 0 || pending == 0) store<u32>(vq, 0, VQ_ERROR);
  return <i32>limit;
}

/** DriverRing.enableCall. Order U2: see `callNeeded` in split-device.ts. */
export function enableCall(vq: usize): bool {
  const driverArea = load<usize>(vq, VQ_DRIVER);
  const last = load<u32>(vq, VQ_LAST_USED);
  store<u32>(vq, 0, VQ_NOTIFY_DISABLED);
  if (load<u32>(vq, VQ_FLAGS) & VQ_F_EVENT_IDX) {
    const usedEvent = driverArea + load<u32>(vq, VQ_NUM) * VIRTQ_AVAIL_ELEM_BYTES;
    atomic.store<u16>(usedEvent, <u16>last, VIRTQ_RING_ELEMENTS);
  } else {
    atomic.store<u16>(driverArea, 0, VIRTQ_RING_FLAGS);
  }
  return loadUsedIdx(vq) != last;
}

/** DriverRing.disableCall */
export function disableCall(vq: usize): void {
  store<u32>(vq, 1, VQ_NOTIFY_DISABLED);
  if (load<u32>(vq, VQ_FLAGS) & VQ_F_EVENT_IDX) return;
  atomic.store<u16>(load<usize>(vq, VQ_DRIVER), VIRTQ_AVAIL_F_NO_INTERRUPT, VIRTQ_RING_FLAGS);
}
