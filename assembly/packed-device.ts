import {
  CHAIN_BYTES,
  CHAIN_HEAD,
  CHAIN_IN_BYTES,
  CHAIN_IN_COUNT,
  CHAIN_IOV_START,
  CHAIN_OUT_BYTES,
  CHAIN_OUT_COUNT,
  CHAIN_USED_BYTES,
  IOV_BYTES,
  IOV_LENGTH,
  VQ_AVAIL_SEEN,
  VQ_CHAIN_CAPACITY,
  VQ_CHAINS,
  VQ_DEVICE,
  VQ_DRIVER,
  VQ_ERROR,
  VQ_F_EVENT_IDX,
  VQ_F_IN_ORDER,
  VQ_F_INFLIGHT,
  VQ_F_LOG,
  VQ_F_LOG_USED,
  VQ_FLAGS,
  VQ_IN_FLIGHT,
  VQ_IOV,
  VQ_IOV_CAPACITY,
  VQ_LAST_AVAIL,
  VQ_LOG_DESC,
  VQ_NOTIFY_DISABLED,
  VQ_NUM,
  VQ_RESUBMIT_NEXT,
  VQ_SIGNALLED,
  VQ_SIGNALLED_VALID,
  VQ_STAGED_FLAGS,
  VQ_USED_NEXT,
  VQ_USED_PUBLISHED,
  VQ_WALK_MAX,
  VRING_E_COMPLETION,
  VRING_E_IOV,
  VRING_E_KICK,
  VRING_E_POSITION,
} from "../src/spec/ring-state";
import {
  PVIRTQ_DESC_FLAGS,
  PVIRTQ_DESC_ID,
  PVIRTQ_EVENT_BYTES,
  RING_EVENT_FLAGS_DESC,
  RING_EVENT_FLAGS_DISABLE,
  VIRTQ_DESC_BYTES,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_WRITE,
  VIRTQ_DESC_LEN,
} from "../src/spec/virtio-ring";
import { firstRegion, isWithin } from "./chain";
import { consumeAgain } from "./inflight";
import { markChains, markDeviceArea, markEntries } from "./log";
import { announceUsed, finishLists, followAgain, recordList, releaseList } from "./packed-inflight";
import { followList, isListRefusal } from "./packed-list";
import {
  countOn,
  descAt,
  distance,
  isAskedFor,
  isAvail,
  isPosition,
  loadFlags,
  moved,
  usedFlags,
} from "./position";
import { linear } from "./region";
import { countError, has, mustWait, refuse, resubmitLeft } from "./state";

/** Writes what the device wants to be told of, as one word. */
function writeEvent(vq: usize, position: u32, flags: u32): void {
  atomic.store<u32>(load<usize>(vq, VQ_DEVICE), position | (flags << 16));
  if (has(vq, VQ_F_LOG_USED)) markDeviceArea(vq, 0, PVIRTQ_EVENT_BYTES);
}

/** DeviceRing.start */
export function packedDeviceStart(vq: usize, position: u32): i32 {
  const num = load<u32>(vq, VQ_NUM);
  const avail = position & 0xffff;
  const used = position >> 16;
  const inFlight = distance(used, avail, num);
  if (!isPosition(avail, num) || !isPosition(used, num) || inFlight > num) {
    countError(vq, VRING_E_POSITION);
    return -VRING_E_POSITION;
  }
  store<u32>(vq, avail, VQ_LAST_AVAIL);
  store<u32>(vq, avail, VQ_AVAIL_SEEN);
  store<u32>(vq, used, VQ_USED_NEXT);
  store<u32>(vq, used, VQ_USED_PUBLISHED);
  store<u32>(vq, 0, VQ_SIGNALLED);
  store<u32>(vq, 0, VQ_SIGNALLED_VALID);
  store<u32>(vq, 0, VQ_STAGED_FLAGS);
  store<u32>(vq, inFlight, VQ_IN_FLIGHT);
  store<u32>(vq, 0, VQ_ERROR);
  store<u32>(vq, 0, VQ_NOTIFY_DISABLED);
  if (has(vq, VQ_F_INFLIGHT)) store<u32>(vq, 0, VQ_RESUBMIT_NEXT);
  writeEvent(vq, 0, 0);
  return 0;
}

/**
 * Writes the record of a list of one plain buffer, whole in `region`, at `desc`; `isWrite`: 1 when
 * it is writable. False when it is not such a one, and then nothing that holds.
 */
function takeSingle(
  vq: usize,
  chain: usize,
  iovNext: u32,
  region: usize,
  desc: usize,
  isWrite: u32,
): bool {
  const addr = load<u64>(desc);
  const len = load<u32>(desc, VIRTQ_DESC_LEN);
  if (len == 0 || iovNext >= load<u32>(vq, VQ_IOV_CAPACITY)) return false;
  if (!isWithin(region, addr, len)) return false;
  const iov = load<usize>(vq, VQ_IOV) + <usize>iovNext * IOV_BYTES;
  store<u32>(iov, linear(region, addr));
  store<u32>(iov, len, IOV_LENGTH);
  store<u32>(chain, iovNext, CHAIN_IOV_START);
  store<u32>(chain, 1 - isWrite, CHAIN_OUT_COUNT);
  store<u32>(chain, isWrite, CHAIN_IN_COUNT);
  store<u32>(chain, isWrite ? 0 : len, CHAIN_OUT_BYTES);
  store<u32>(chain, isWrite ? len : 0, CHAIN_IN_BYTES);
  store<u32>(chain, <u32>load<u16>(desc, PVIRTQ_DESC_ID) | (1 << 16), CHAIN_HEAD);
  return true;
}

/** Moves past the list that a record describes: it is in flight now, and no refusal stands. */
function consume(vq: usize, head: u32): void {
  const num = load<u32>(vq, VQ_NUM);
  const count = head >> 16;
  const old = load<u32>(vq, VQ_LAST_AVAIL);
  const last = moved(old, count, num);
  if (distance(old, load<u32>(vq, VQ_AVAIL_SEEN), num) < count) {
    store<u32>(vq, last, VQ_AVAIL_SEEN);
  }
  store<u32>(vq, last, VQ_LAST_AVAIL);
  store<u32>(vq, load<u32>(vq, VQ_IN_FLIGHT) + count, VQ_IN_FLIGHT);
  store<u32>(vq, 0, VQ_ERROR);
}

/** Moves past a list, to be resubmitted or (at `position`) of the ring, and records that. */
function take(vq: usize, position: u32, head: u32, isAgain: bool, isRecorded: bool): void {
  if (isAgain) {
    consumeAgain(vq, head >> 16);
    return;
  }
  consume(vq, head);
  if (!isRecorded) return;
  packedDevicePublish(vq); // what is staged must be finished before the entries of a list are taken
  recordList(vq, position, head);
}

/** DeviceRing.getDescs */
export function packedGetDescs(vq: usize, max: u32): i32 {
  const num = load<u32>(vq, VQ_NUM);
  const region = firstRegion(vq);
  const isRecorded = has(vq, VQ_F_INFLIGHT);
  let chain = load<usize>(vq, VQ_CHAINS);
  let got: i32 = 0;
  let iovNext: u32 = 0;
  let walked: u32 = 0;
  for (let left = min(max, load<u32>(vq, VQ_CHAIN_CAPACITY)); left > 0; left--) {
    const isAgain = isRecorded && resubmitLeft(vq) != 0;
    const room = num - load<u32>(vq, VQ_IN_FLIGHT);
    const at = load<u32>(vq, VQ_LAST_AVAIL);
    const desc = descAt(vq, at);
    const flags: u32 = room != 0 ? loadFlags(desc) : 0;
    if (!isAgain && (room == 0 || !isAvail(flags, at))) {
      if (room != 0) store<u32>(vq, at, VQ_AVAIL_SEEN);
      store<u32>(vq, 0, VQ_ERROR);
      break;
    }
    let code: u32 = 0;
    const isPlain = !isAgain && (flags & (VIRTQ_DESC_F_NEXT | VIRTQ_DESC_F_INDIRECT)) == 0;
    const isWrite = (flags & VIRTQ_DESC_F_WRITE) >> 1;
    if (isPlain && takeSingle(vq, chain, iovNext, region, desc, isWrite)) {
      walked++;
    } else {
      const outcome = isAgain
        ? followAgain(vq, chain, iovNext)
        : followList(vq, chain, iovNext, at, flags, room);
      code = outcome & 0xff;
      walked += outcome >> 8;
    }
    if (isListRefusal(code)) {
      refuse(vq, code);
      break;
    }
    if (code == VRING_E_IOV && iovNext > 0) break;
    if (code != 0 && mustWait(vq)) break;
    const head = load<u32>(chain, CHAIN_HEAD);
    take(vq, at, head, isAgain, isRecorded);
    if (code == 0) {
      store<u32>(chain, 0, CHAIN_USED_BYTES);
      iovNext += load<u32>(chain, CHAIN_OUT_COUNT) + load<u32>(chain, CHAIN_IN_COUNT);
      chain += CHAIN_BYTES;
      got++;
    } else {
      countError(vq, code);
      packedAddUsed(vq, head, 0);
    }
    if (walked >= <u32>VQ_WALK_MAX) break;
  }
  return got > 0 ? got : -(<i32>load<u32>(vq, VQ_ERROR));
}

/** Stages a used descriptor for `count` of the ring's, all of them in flight. */
function stage(vq: usize, id: u32, count: u32, usedBytes: u32): void {
  const next = load<u32>(vq, VQ_USED_NEXT);
  const desc = descAt(vq, next);
  const flags = usedFlags(next) | (usedBytes != 0 ? VIRTQ_DESC_F_WRITE : 0);
  store<u32>(desc, usedBytes, VIRTQ_DESC_LEN);
  store<u16>(desc, <u16>id, PVIRTQ_DESC_ID);
  if (next == load<u32>(vq, VQ_USED_PUBLISHED)) store<u32>(vq, flags, VQ_STAGED_FLAGS);
  else store<u16>(desc, <u16>flags, PVIRTQ_DESC_FLAGS);
  store<u32>(vq, moved(next, count, load<u32>(vq, VQ_NUM)), VQ_USED_NEXT);
  store<u32>(vq, load<u32>(vq, VQ_IN_FLIGHT) - count, VQ_IN_FLIGHT);
}

/**
 * Whether a list with CHAIN_HEAD `head` may be used as the last of a run of `count` descriptors:
 * refused, it is counted. `isRecorded`: and gives back its entries.
 */
function mayUse(vq: usize, head: u32, count: u32, isRecorded: bool): bool {
  const isInFlight = head >> 16 != 0 && count <= load<u32>(vq, VQ_IN_FLIGHT);
  if (isInFlight && (!isRecorded || releaseList(vq, head))) return true;
  countError(vq, VRING_E_COMPLETION);
  return false;
}

/** DeviceRing.addUsed */
export function packedAddUsed(vq: usize, head: u32, usedBytes: u32): i32 {
  const count = head >> 16;
  if (!mayUse(vq, head, count, has(vq, VQ_F_INFLIGHT))) return -VRING_E_COMPLETION;
  stage(vq, head & 0xffff, count, usedBytes);
  return 0;
}

/** DeviceRing.addUsedN, with IN_ORDER: a used descriptor for a run of records. */
function addRuns(vq: usize, chain: usize, left: u32, isRecorded: bool): i32 {
  let count: u32 = 0; // descriptors of the run, up to the record we are at
  for (; left > 0; left--) {
    const head = load<u32>(chain, CHAIN_HEAD);
    const usedBytes = load<u32>(chain, CHAIN_USED_BYTES);
    count += head >> 16;
    if (!mayUse(vq, head, count, isRecorded)) return -VRING_E_COMPLETION;
    if (left == 1 || usedBytes != load<u32>(chain, CHAIN_IN_BYTES)) {
      stage(vq, head & 0xffff, count, usedBytes);
      count = 0;
    }
    chain += CHAIN_BYTES;
  }
  return 0;
}

/** DeviceRing.addUsedN */
export function packedAddUsedN(vq: usize, count: u32): i32 {
  const limit = min(count, load<u32>(vq, VQ_CHAIN_CAPACITY));
  let chain = load<usize>(vq, VQ_CHAINS);
  const flags = load<u32>(vq, VQ_FLAGS);
  const isRecorded = (flags & VQ_F_INFLIGHT) != 0;
  if (flags & VQ_F_LOG) markChains(vq, limit);
  if (flags & VQ_F_IN_ORDER) return addRuns(vq, chain, limit, isRecorded);
  for (let left = limit; left > 0; left--) {
    const head = load<u32>(chain, CHAIN_HEAD);
    const descs = head >> 16;
    if (!mayUse(vq, head, descs, isRecorded)) return -VRING_E_COMPLETION;
    stage(vq, head & 0xffff, descs, load<u32>(chain, CHAIN_USED_BYTES));
    chain += CHAIN_BYTES;
  }
  return 0;
}

/** DeviceRing.publish. Release U1: the flags come last. Pairs with U1 in packed-driver.ts. */
export function packedDevicePublish(vq: usize): void {
  const next = load<u32>(vq, VQ_USED_NEXT);
  const published = load<u32>(vq, VQ_USED_PUBLISHED);
  if (next == published) return;
  const num = load<u32>(vq, VQ_NUM);
  const isRecorded = has(vq, VQ_F_INFLIGHT);
  if (isRecorded) announceUsed(vq, next);
  const flags = <u16>load<u32>(vq, VQ_STAGED_FLAGS);
  atomic.store<u16>(descAt(vq, published), flags, PVIRTQ_DESC_FLAGS);
  store<u32>(vq, next, VQ_USED_PUBLISHED);
  const count = distance(published, next, num);
  store<u32>(vq, countOn(load<u32>(vq, VQ_SIGNALLED), count), VQ_SIGNALLED);
  if (isRecorded) finishLists(vq, next);
  if (!has(vq, VQ_F_LOG_USED)) return;
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

/** DeviceRing.enableKick. Order A2: mirror of `packedCallNeeded`, with `packedKickNeeded`. */
export function packedEnableKick(vq: usize): bool {
  store<u32>(vq, 0, VQ_NOTIFY_DISABLED);
  if (load<u32>(vq, VQ_FLAGS) & VQ_F_EVENT_IDX) {
    packedAvailLen(vq);
    writeEvent(vq, load<u32>(vq, VQ_AVAIL_SEEN), RING_EVENT_FLAGS_DESC);
  } else {
    writeEvent(vq, 0, 0);
  }
  return packedAvailLen(vq) != 0;
}

/** DeviceRing.disableKick */
export function packedDisableKick(vq: usize): void {
  store<u32>(vq, 1, VQ_NOTIFY_DISABLED);
  writeEvent(vq, 0, RING_EVENT_FLAGS_DISABLE);
}

/** DeviceRing.availLen */
export function packedAvailLen(vq: usize): u32 {
  const num = load<u32>(vq, VQ_NUM);
  const room = num - load<u32>(vq, VQ_IN_FLIGHT);
  let seen = load<u32>(vq, VQ_AVAIL_SEEN);
  let count = distance(load<u32>(vq, VQ_LAST_AVAIL), seen, num);
  while (count < room && isAvail(loadFlags(descAt(vq, seen)), seen)) {
    seen = moved(seen, 1, num);
    count++;
  }
  store<u32>(vq, seen, VQ_AVAIL_SEEN);
  return has(vq, VQ_F_INFLIGHT) ? count + resubmitLeft(vq) : count;
}

/** DeviceRing.kicked */
export function packedKicked(vq: usize, position: u32): i32 {
  if (isPosition(position & 0xffff, load<u32>(vq, VQ_NUM))) return 0;
  countError(vq, VRING_E_KICK);
  return -VRING_E_KICK;
}
