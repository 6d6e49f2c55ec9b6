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
  VQ_CHAIN_CAPACITY,
  VQ_CHAINS,
  VQ_DESC,
  VQ_DEVICE,
  VQ_DRIVER,
  VQ_ERROR,
  VQ_F_EVENT_IDX,
  VQ_F_INDIRECT,
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
  VIRTQ_DESC_FLAGS,
  VIRTQ_DESC_LEN,
  VIRTQ_RING_ELEMENTS,
  VIRTQ_RING_FLAGS,
  VIRTQ_RING_IDX,
  VIRTQ_USED_ELEM_BYTES,
  VIRTQ_USED_ELEM_LEN,
  VIRTQ_USED_F_NO_NOTIFY,
} from "../src/spec/virtio-ring";
import { needEvent } from "./event";
import { countError, next16, refuse } from "./state";

/** DriverRing.reset */
export function driverReset(vq: usize): void {
  const num = load<u32>(vq, VQ_NUM);
  let entry = load<usize>(vq, VQ_SHADOW);
  for (let i: u32 = 0; i < num; i++) {
    store<u16>(entry, <u16>(i + 1 < num ? i + 1 : 0), SHADOW_NEXT);
    store<u16>(entry, 0, SHADOW_COUNT);
    store<u32>(entry, 0, SHADOW_IN_BYTES);
    entry += SHADOW_BYTES;
  }
  store<u32>(vq, 0, VQ_AVAIL_NEXT);
  store<u32>(vq, 0, VQ_AVAIL_PUBLISHED);
  store<u32>(vq, 0, VQ_KICKED);
  store<u32>(vq, 0, VQ_LAST_USED);
  store<u32>(vq, 0, VQ_FREE_HEAD);
  store<u32>(vq, num, VQ_NUM_FREE);
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

/** Address of the shadow entry of descriptor `index`. */
function shadow(vq: usize, index: u32): usize {
  return load<usize>(vq, VQ_SHADOW) + <usize>index * SHADOW_BYTES;
}

/** Bytes of `count` pieces from `iov` on. */
function bytesOf(iov: usize, count: u32): u64 {
  let sum: u64 = 0;
  for (; count > 0; count--) {
    sum += load<u32>(iov, IOV_LENGTH);
    iov += IOV_BYTES;
  }
  return sum;
}

/** Writes one descriptor; `linear` is an address in our memory. */
function writeDesc(vq: usize, desc: usize, linear: u32, len: u32, flags: u32, next: u32): void {
  store<u64>(desc, <u64>linear + load<u64>(vq, VQ_GUEST_DELTA));
  store<u32>(desc, len, VIRTQ_DESC_LEN);
  store<u32>(desc, flags | (next << 16), VIRTQ_DESC_FLAGS);
}

/** Flags of piece `i` of `total`, of which the first `outCount` are readable. */
function pieceFlags(i: u32, total: u32, outCount: u32): u32 {
  const write: u32 = i < outCount ? 0 : VIRTQ_DESC_F_WRITE;
  return i + 1 < total ? write | VIRTQ_DESC_F_NEXT : write;
}

/** Writes the pieces along the free list from `head` on; returns the free list's new head. */
function writeDirect(vq: usize, head: u32, iov: usize, outCount: u32, total: u32): u32 {
  const table = load<usize>(vq, VQ_DESC);
  let index = head;
  for (let i: u32 = 0; i < total; i++) {
    const next = <u32>load<u16>(shadow(vq, index), SHADOW_NEXT); // our link, never the ring's
    const flags = pieceFlags(i, total, outCount);
    const desc = table + <usize>index * VIRTQ_DESC_BYTES;
    writeDesc(
      vq,
      desc,
      load<u32>(iov),
      load<u32>(iov, IOV_LENGTH),
      flags,
      i + 1 < total ? next : 0,
    );
    index = next;
    iov += IOV_BYTES;
  }
  return index;
}

/** Writes the pieces to the head's own table and one descriptor for it; returns the next free. */
function writeIndirect(vq: usize, head: u32, iov: usize, outCount: u32, total: u32): u32 {
  const tableBytes = load<u32>(vq, VQ_INDIRECT_CAPACITY) * VIRTQ_DESC_BYTES;
  const table = load<u32>(vq, VQ_INDIRECT) + head * tableBytes;
  let entry = <usize>table;
  for (let i: u32 = 0; i < total; i++) {
    const flags = pieceFlags(i, total, outCount);
    writeDesc(
      vq,
      entry,
      load<u32>(iov),
      load<u32>(iov, IOV_LENGTH),
      flags,
      i + 1 < total ? i + 1 : 0,
    );
    entry += VIRTQ_DESC_BYTES;
    iov += IOV_BYTES;
  }
  const desc = load<usize>(vq, VQ_DESC) + <usize>head * VIRTQ_DESC_BYTES;
  writeDesc(vq, desc, table, total * VIRTQ_DESC_BYTES, VIRTQ_DESC_F_INDIRECT, 0);
  return <u32>load<u16>(shadow(vq, head), SHADOW_NEXT);
}

/** What `addChain` answers. */
const ADDED: i32 = 0;
const FULL: i32 = 1;

/** Adds the chain of one record: ADDED, FULL, or -VRING_E_CHAIN with nothing changed. */
function addChain(vq: usize, chain: usize): i32 {
  const iovStart = load<u32>(chain, CHAIN_IOV_START);
  const outCount = load<u32>(chain, CHAIN_OUT_COUNT);
  const inCount = load<u32>(chain, CHAIN_IN_COUNT);
  const pieces = <u64>outCount + <u64>inCount;
  if (pieces == 0 || <u64>iovStart + pieces > load<u32>(vq, VQ_IOV_CAPACITY)) return -VRING_E_CHAIN;
  const total = <u32>pieces;
  const iov = load<usize>(vq, VQ_IOV) + <usize>iovStart * IOV_BYTES;
  const inBytes = bytesOf(iov + <usize>outCount * IOV_BYTES, inCount);
  if ((inBytes + bytesOf(iov, outCount)) >> 32) return -VRING_E_CHAIN;
  const isIndirect =
    total > 1 &&
    (load<u32>(vq, VQ_FLAGS) & VQ_F_INDIRECT) != 0 &&
    total <= load<u32>(vq, VQ_INDIRECT_CAPACITY) &&
    load<u32>(vq, VQ_INDIRECT) != 0;
  const need: u32 = isIndirect ? 1 : total;
  const num = load<u32>(vq, VQ_NUM);
  const free = load<u32>(vq, VQ_NUM_FREE);
  if (need > num) return -VRING_E_CHAIN;
  if (need > free) return FULL;

  const head = load<u32>(vq, VQ_FREE_HEAD);
  const freeHead = isIndirect
    ? writeIndirect(vq, head, iov, outCount, total)
    : writeDirect(vq, head, iov, outCount, total);
  store<u32>(vq, freeHead, VQ_FREE_HEAD);
  store<u32>(vq, free - need, VQ_NUM_FREE);
  const mine = shadow(vq, head);
  store<u16>(mine, <u16>need, SHADOW_COUNT);
  store<u32>(mine, <u32>inBytes, SHADOW_IN_BYTES);
  stage(vq, head, num);
  store<u32>(chain, head, CHAIN_HEAD);
  return ADDED;
}

/** Puts `head` in the available ring; visible with the next publish. */
function stage(vq: usize, head: u32, num: u32): void {
  const next = load<u32>(vq, VQ_AVAIL_NEXT);
  const slot = load<usize>(vq, VQ_DRIVER) + (next & (num - 1)) * VIRTQ_AVAIL_ELEM_BYTES;
  store<u16>(slot, <u16>head, VIRTQ_RING_ELEMENTS);
  store<u32>(vq, next16(next), VQ_AVAIL_NEXT);
  store<u32>(vq, load<u32>(vq, VQ_IN_FLIGHT) + 1, VQ_IN_FLIGHT);
}

/** DriverRing.addBufs */
export function addBufs(vq: usize, count: u32): i32 {
  const limit = min(count, load<u32>(vq, VQ_CHAIN_CAPACITY));
  let chain = load<usize>(vq, VQ_CHAINS);
  for (let i: u32 = 0; i < limit; i++) {
    const result = addChain(vq, chain);
    if (result == FULL) return <i32>i;
    if (result < 0) {
      countError(vq, VRING_E_CHAIN);
      return i > 0 ? <i32>i : result;
    }
    chain += CHAIN_BYTES;
  }
  return <i32>limit;
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

/** Gives the descriptors of the chain at `head` back, to the front of the free list. */
function freeChain(vq: usize, head: u32): void {
  const first = shadow(vq, head);
  const count = <u32>load<u16>(first, SHADOW_COUNT);
  let last = first;
  for (let left = count; left > 1; left--) last = shadow(vq, load<u16>(last, SHADOW_NEXT));
  store<u16>(last, <u16>load<u32>(vq, VQ_FREE_HEAD), SHADOW_NEXT);
  store<u16>(first, 0, SHADOW_COUNT);
  store<u32>(vq, head, VQ_FREE_HEAD);
  store<u32>(vq, load<u32>(vq, VQ_NUM_FREE) + count, VQ_NUM_FREE);
}

/** Takes one used element into `chain`. False when its id can't be trusted: nothing has changed. */
function takeUsed(vq: usize, chain: usize): bool {
  const num = load<u32>(vq, VQ_NUM);
  const last = load<u32>(vq, VQ_LAST_USED);
  const slot = load<usize>(vq, VQ_DEVICE) + (last & (num - 1)) * VIRTQ_USED_ELEM_BYTES;
  const id = load<u32>(slot, VIRTQ_RING_ELEMENTS);
  const len = load<u32>(slot, VIRTQ_RING_ELEMENTS + VIRTQ_USED_ELEM_LEN);
  if (id >= num) return false;
  const mine = shadow(vq, id);
  if (load<u16>(mine, SHADOW_COUNT) == 0) return false;
  const inBytes = load<u32>(mine, SHADOW_IN_BYTES);
  if (len > inBytes) countError(vq, VRING_E_USED_LENGTH);
  store<u32>(chain, id, CHAIN_HEAD);
  store<u32>(chain, min(len, inBytes), CHAIN_USED_BYTES);
  freeChain(vq, id);
  store<u32>(vq, next16(last), VQ_LAST_USED);
  store<u32>(vq, load<u32>(vq, VQ_IN_FLIGHT) - 1, VQ_IN_FLIGHT);
  return true;
}

/** DriverRing.getBufs */
export function getBufs(vq: usize, max: u32): i32 {
  const pending = (loadUsedIdx(vq) - load<u32>(vq, VQ_LAST_USED)) & 0xffff;
  if (pending > load<u32>(vq, VQ_IN_FLIGHT)) return refuse(vq, VRING_E_USED_INDEX);
  const limit = min(min(max, load<u32>(vq, VQ_CHAIN_CAPACITY)), pending);
  let chain = load<usize>(vq, VQ_CHAINS);
  for (let i: u32 = 0; i < limit; i++) {
    if (!takeUsed(vq, chain)) {
      const refusal = refuse(vq, VRING_E_USED_ID);
      return i > 0 ? <i32>i : refusal;
    }
    chain += CHAIN_BYTES;
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
