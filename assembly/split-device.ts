import {
  CHAIN_BYTES,
  CHAIN_HEAD,
  CHAIN_IN_BYTES,
  CHAIN_IN_COUNT,
  CHAIN_OUT_COUNT,
  CHAIN_USED_BYTES,
  VQ_AVAIL_SEEN,
  VQ_CHAIN_CAPACITY,
  VQ_CHAINS,
  VQ_DEVICE,
  VQ_DRIVER,
  VQ_ERROR,
  VQ_F_EVENT_IDX,
  VQ_F_IN_ORDER,
  VQ_F_INFLIGHT,
  VQ_F_LINUX,
  VQ_F_LOG,
  VQ_F_LOG_USED,
  VQ_FLAGS,
  VQ_IN_FLIGHT,
  VQ_LAST_AVAIL,
  VQ_LOG_USED,
  VQ_NOTIFY_DISABLED,
  VQ_NUM,
  VQ_RESUBMIT_COUNT,
  VQ_RESUBMIT_NEXT,
  VQ_SIGNALLED,
  VQ_SIGNALLED_VALID,
  VQ_USED_NEXT,
  VQ_USED_PUBLISHED,
  VQ_WALK_MAX,
  VRING_E_AVAIL_INDEX,
  VRING_E_COMPLETION,
  VRING_E_HEAD,
  VRING_E_IN_FLIGHT,
  VRING_E_IOV,
  VRING_E_KICK,
} from "../src/spec/ring-state";
import {
  VIRTQ_AVAIL_ELEM_BYTES,
  VIRTQ_AVAIL_F_NO_INTERRUPT,
  VIRTQ_RING_ELEMENTS,
  VIRTQ_RING_FLAGS,
  VIRTQ_RING_IDX,
  VIRTQ_USED_ELEM_BYTES,
  VIRTQ_USED_ELEM_LEN,
  VIRTQ_USED_F_NO_NOTIFY,
} from "../src/spec/virtio-ring";
import { loadAvailIdx } from "./avail";
import { followChain } from "./chain";
import { writeAvailEvent, writeUsedFlags } from "./device-area";
import { needEvent } from "./event";
import { consumeAgain, headAgain, recordHead, recordPublished, recordUsed } from "./inflight";
import { linuxEnableKick, linuxGetDescs, linuxPublished } from "./linux-device";
import { markChains, markDeviceArea, markEntries } from "./log";
import { countError, has, mustWait, next16, refuse, resubmitLeft } from "./state";

/** What `nextHead` answers when there is no head to take. */
const NONE: i32 = -1;

/** Whether the policy is "linux": see `DeviceRing`. */
function isLinux(vq: usize): bool {
  return has(vq, VQ_F_LINUX);
}

/** DeviceRing.start */
export function deviceStart(vq: usize, position: u32): void {
  const isDisabled = isLinux(vq) && load<u32>(vq, VQ_NOTIFY_DISABLED) != 0;
  const used = load<u16>(load<usize>(vq, VQ_DEVICE), VIRTQ_RING_IDX);
  store<u32>(vq, position & 0xffff, VQ_LAST_AVAIL);
  store<u32>(vq, position & 0xffff, VQ_AVAIL_SEEN);
  store<u32>(vq, used, VQ_USED_NEXT);
  store<u32>(vq, used, VQ_USED_PUBLISHED);
  store<u32>(vq, used, VQ_SIGNALLED);
  store<u32>(vq, 0, VQ_SIGNALLED_VALID);
  store<u32>(vq, 0, VQ_IN_FLIGHT);
  store<u32>(vq, 0, VQ_ERROR);
  store<u32>(vq, isDisabled ? 1 : 0, VQ_NOTIFY_DISABLED);
  if (has(vq, VQ_F_INFLIGHT)) {
    store<u32>(vq, 0, VQ_RESUBMIT_NEXT);
    store<u32>(vq, load<u32>(vq, VQ_RESUBMIT_COUNT), VQ_IN_FLIGHT);
  }
  writeUsedFlags(vq, isDisabled ? VIRTQ_USED_F_NO_NOTIFY : 0);
}

/** Sets the standing refusal, for `nextHead`. */
function refused(vq: usize, code: u32): i32 {
  refuse(vq, code);
  return NONE;
}

/** The head at VQ_LAST_AVAIL, checked; or NONE, with VQ_ERROR saying whether that is a refusal. */
function nextHead(vq: usize): i32 {
  const num = load<u32>(vq, VQ_NUM);
  const last = load<u32>(vq, VQ_LAST_AVAIL);
  if (last == load<u32>(vq, VQ_AVAIL_SEEN)) {
    const idx = loadAvailIdx(vq);
    if (((idx - last) & 0xffff) > num) return refused(vq, VRING_E_AVAIL_INDEX);
    store<u32>(vq, idx, VQ_AVAIL_SEEN);
    if (idx == last) {
      store<u32>(vq, 0, VQ_ERROR);
      return NONE;
    }
  }
  if (load<u32>(vq, VQ_IN_FLIGHT) == num) return refused(vq, VRING_E_IN_FLIGHT);
  const slot = load<usize>(vq, VQ_DRIVER) + (last & (num - 1)) * VIRTQ_AVAIL_ELEM_BYTES;
  const head = <u32>load<u16>(slot, VIRTQ_RING_ELEMENTS);
  return head < num ? <i32>head : refused(vq, VRING_E_HEAD);
}

/** Moves past the entry that `nextHead` showed: it is in flight now, and no refusal stands. */
function consume(vq: usize): void {
  store<u32>(vq, next16(load<u32>(vq, VQ_LAST_AVAIL)), VQ_LAST_AVAIL);
  store<u32>(vq, load<u32>(vq, VQ_IN_FLIGHT) + 1, VQ_IN_FLIGHT);
  store<u32>(vq, 0, VQ_ERROR);
}

/** `consume`, where chains in flight are recorded: `head` is one that was in flight, or is new. */
function consumeRecorded(vq: usize, head: u32): void {
  if (resubmitLeft(vq) != 0) {
    consumeAgain(vq, 1);
  } else {
    consume(vq);
    recordHead(vq, head);
  }
}

/** DeviceRing.getDescs */
export function getDescs(vq: usize, max: u32): i32 {
  const flags = load<u32>(vq, VQ_FLAGS);
  if (flags & VQ_F_LINUX) return linuxGetDescs(vq, max);
  const isRecorded = (flags & VQ_F_INFLIGHT) != 0;
  const chains = load<usize>(vq, VQ_CHAINS);
  let chain = chains;
  let iovNext: u32 = 0;
  let walked: u32 = 0;
  for (let left = min(max, load<u32>(vq, VQ_CHAIN_CAPACITY)); left > 0; left--) {
    let head = isRecorded ? headAgain(vq) : NONE;
    if (head == NONE) head = nextHead(vq);
    if (head < 0) break;
    const outcome = followChain(vq, chain, iovNext, <u32>head);
    const code = outcome & 0xff;
    if (code == VRING_E_IOV && iovNext > 0) break;
    if (code != 0 && mustWait(vq, load<u32>(vq, VQ_IN_FLIGHT))) break;
    if (isRecorded) consumeRecorded(vq, <u32>head);
    else consume(vq);
    if (code == 0) {
      store<u32>(chain, <u32>head, CHAIN_HEAD);
      store<u32>(chain, 0, CHAIN_USED_BYTES);
      iovNext += load<u32>(chain, CHAIN_OUT_COUNT) + load<u32>(chain, CHAIN_IN_COUNT);
      chain += CHAIN_BYTES;
    } else {
      countError(vq, code);
      addUsed(vq, <u32>head, 0);
    }
    walked += outcome >> 8;
    if (walked >= <u32>VQ_WALK_MAX) break;
  }
  const got = <i32>((chain - chains) / CHAIN_BYTES);
  return got > 0 ? got : -(<i32>load<u32>(vq, VQ_ERROR));
}

/** Stages one used entry that stands for `chains`, or returns the error when they can't be. */
function stage(vq: usize, head: u32, usedBytes: u32, chains: u32): i32 {
  const num = load<u32>(vq, VQ_NUM);
  const inFlight = load<u32>(vq, VQ_IN_FLIGHT);
  if (head >= num || inFlight < chains) {
    countError(vq, VRING_E_COMPLETION);
    return -VRING_E_COMPLETION;
  }
  const next = load<u32>(vq, VQ_USED_NEXT);
  const slot = load<usize>(vq, VQ_DEVICE) + (next & (num - 1)) * VIRTQ_USED_ELEM_BYTES;
  store<u32>(slot, head, VIRTQ_RING_ELEMENTS);
  store<u32>(slot, usedBytes, VIRTQ_RING_ELEMENTS + VIRTQ_USED_ELEM_LEN);
  store<u32>(vq, (next + chains) & 0xffff, VQ_USED_NEXT);
  store<u32>(vq, inFlight - chains, VQ_IN_FLIGHT);
  return 0;
}

/** DeviceRing.addUsed */
export function addUsed(vq: usize, head: u32, usedBytes: u32): i32 {
  const error = stage(vq, head, usedBytes, 1);
  if (error == 0 && has(vq, VQ_F_INFLIGHT)) recordUsed(vq, head);
  return error;
}

/** DeviceRing.addUsedN, with IN_ORDER: one used entry for a run of records. */
function addRuns(vq: usize, count: u32): i32 {
  let chain = load<usize>(vq, VQ_CHAINS);
  let chains: u32 = 0; // of the run, up to the record we are at
  for (let left = count; left > 0; left--) {
    const head = load<u32>(chain, CHAIN_HEAD);
    const usedBytes = load<u32>(chain, CHAIN_USED_BYTES);
    chains++;
    if (head >= load<u32>(vq, VQ_NUM) || chains > load<u32>(vq, VQ_IN_FLIGHT)) {
      return stage(vq, head, usedBytes, chains); // which refuses it
    }
    if (left == 1 || usedBytes != load<u32>(chain, CHAIN_IN_BYTES)) {
      stage(vq, head, usedBytes, chains);
      chains = 0;
    }
    chain += CHAIN_BYTES;
  }
  return 0;
}

/** DeviceRing.addUsedN, without it. */
function addEach(vq: usize, count: u32): i32 {
  let chain = load<usize>(vq, VQ_CHAINS);
  for (let left = count; left > 0; left--) {
    const error = stage(vq, load<u32>(chain, CHAIN_HEAD), load<u32>(chain, CHAIN_USED_BYTES), 1);
    if (error != 0) return error;
    chain += CHAIN_BYTES;
  }
  return 0;
}

/** Records that the first `count` records were staged. */
function recordStaged(vq: usize, count: u32): void {
  let chain = load<usize>(vq, VQ_CHAINS);
  for (let left = count; left > 0; left--) {
    recordUsed(vq, load<u32>(chain, CHAIN_HEAD));
    chain += CHAIN_BYTES;
  }
}

/** DeviceRing.addUsedN */
export function addUsedN(vq: usize, count: u32): i32 {
  const limit = min(count, load<u32>(vq, VQ_CHAIN_CAPACITY));
  const flags = load<u32>(vq, VQ_FLAGS);
  if (flags & VQ_F_LOG) markChains(vq, limit);
  const next = load<u32>(vq, VQ_USED_NEXT);
  const error = flags & VQ_F_IN_ORDER ? addRuns(vq, limit) : addEach(vq, limit);
  if (flags & VQ_F_INFLIGHT) recordStaged(vq, (load<u32>(vq, VQ_USED_NEXT) - next) & 0xffff);
  return error;
}

/** What `devicePublish` does besides, where something is asked for by `flags`. */
function published(vq: usize, old: u32, next: u32, flags: u32): void {
  if (flags & VQ_F_LINUX) linuxPublished(vq, old, next);
  if (flags & VQ_F_INFLIGHT) recordPublished(vq, old, next);
  if ((flags & VQ_F_LOG_USED) == 0) return;
  const elements = load<u64>(vq, VQ_LOG_USED) + VIRTQ_RING_ELEMENTS;
  const first = old & (load<u32>(vq, VQ_NUM) - 1);
  markEntries(vq, elements, VIRTQ_USED_ELEM_BYTES, first, (next - old) & 0xffff);
  markDeviceArea(vq, 0, VIRTQ_RING_ELEMENTS);
}

/** DeviceRing.publish. Release U1: the elements come first. Pairs with U1 in split-driver.ts. */
export function devicePublish(vq: usize): void {
  const next = load<u32>(vq, VQ_USED_NEXT);
  const old = load<u32>(vq, VQ_USED_PUBLISHED);
  if (next == old) return;
  atomic.store<u16>(load<usize>(vq, VQ_DEVICE), <u16>next, VIRTQ_RING_IDX);
  store<u32>(vq, next, VQ_USED_PUBLISHED);
  const flags = load<u32>(vq, VQ_FLAGS);
  if (flags & (VQ_F_LINUX | VQ_F_INFLIGHT | VQ_F_LOG_USED)) published(vq, old, next, flags);
}

/**
 * DeviceRing.callNeeded. Order U2: `devicePublish` stored used.idx, then we load the driver's wish;
 * the driver's `enableCall` stores its wish, then loads used.idx. All four are sequentially
 * consistent, so one of the two sees the other.
 */
export function callNeeded(vq: usize): bool {
  const old = load<u32>(vq, VQ_SIGNALLED);
  const new_ = load<u32>(vq, VQ_USED_PUBLISHED);
  if (old == new_) return false;
  const isFirst = load<u32>(vq, VQ_SIGNALLED_VALID) == 0;
  store<u32>(vq, new_, VQ_SIGNALLED);
  store<u32>(vq, 1, VQ_SIGNALLED_VALID);
  const driverArea = load<usize>(vq, VQ_DRIVER);
  if ((load<u32>(vq, VQ_FLAGS) & VQ_F_EVENT_IDX) == 0) {
    return (atomic.load<u16>(driverArea, VIRTQ_RING_FLAGS) & VIRTQ_AVAIL_F_NO_INTERRUPT) == 0;
  }
  if (isFirst) return true;
  const usedEvent = driverArea + load<u32>(vq, VQ_NUM) * VIRTQ_AVAIL_ELEM_BYTES;
  return needEvent(atomic.load<u16>(usedEvent, VIRTQ_RING_ELEMENTS), new_, old);
}

/**
 * DeviceRing.enableKick. Order A2: mirror of `callNeeded`, with `kickNeeded` in split-driver.ts.
 */
export function enableKick(vq: usize): bool {
  if (isLinux(vq)) return linuxEnableKick(vq);
  store<u32>(vq, 0, VQ_NOTIFY_DISABLED);
  if (has(vq, VQ_F_EVENT_IDX)) writeAvailEvent(vq, loadAvailIdx(vq));
  else writeUsedFlags(vq, 0);
  if (has(vq, VQ_F_INFLIGHT) && resubmitLeft(vq) != 0) return true;
  return loadAvailIdx(vq) != load<u32>(vq, VQ_LAST_AVAIL);
}

/** DeviceRing.disableKick */
export function disableKick(vq: usize): void {
  if (load<u32>(vq, VQ_NOTIFY_DISABLED) != 0) return;
  store<u32>(vq, 1, VQ_NOTIFY_DISABLED);
  if (has(vq, VQ_F_EVENT_IDX)) return;
  writeUsedFlags(vq, VIRTQ_USED_F_NO_NOTIFY);
}

/** DeviceRing.availLen */
export function availLen(vq: usize): u32 {
  const ahead = (loadAvailIdx(vq) - load<u32>(vq, VQ_LAST_AVAIL)) & 0xffff;
  return has(vq, VQ_F_INFLIGHT) ? ahead + resubmitLeft(vq) : ahead;
}

/** DeviceRing.kicked */
export function kicked(vq: usize, position: u32): i32 {
  if (position <= 0xffff) return 0;
  countError(vq, VRING_E_KICK);
  return -VRING_E_KICK;
}
