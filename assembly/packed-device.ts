import {
  CHAIN_BYTES,
  CHAIN_HEAD,
  CHAIN_IN_COUNT,
  CHAIN_IOV_START,
  CHAIN_OUT_COUNT,
  CHAIN_USED_BYTES,
  VQ_AVAIL_SEEN,
  VQ_CHAIN_CAPACITY,
  VQ_CHAINS,
  VQ_DEVICE,
  VQ_ERROR,
  VQ_F_EVENT_IDX,
  VQ_F_INFLIGHT,
  VQ_F_LOG_USED,
  VQ_FLAGS,
  VQ_IN_FLIGHT,
  VQ_LAST_AVAIL,
  VQ_NOTIFY_DISABLED,
  VQ_NUM,
  VQ_RESUBMIT_NEXT,
  VQ_SIGNALLED,
  VQ_SIGNALLED_VALID,
  VQ_STAGED_FLAGS,
  VQ_USED_NEXT,
  VQ_USED_PUBLISHED,
  VQ_WALK_MAX,
  VRING_E_IOV,
  VRING_E_KICK,
  VRING_E_POSITION,
} from "../src/spec/ring-state";
import {
  PVIRTQ_EVENT_BYTES,
  RING_EVENT_FLAGS_DESC,
  RING_EVENT_FLAGS_DISABLE,
  VIRTQ_DESC_F_INDIRECT,
} from "../src/spec/virtio-ring";
import { consumeAgain } from "./inflight";
import { markDeviceArea } from "./log";
import { followAgain, recordList } from "./packed-inflight";
import { followList, isListRefusal } from "./packed-list";
import { takePlain } from "./packed-plain";
import { packedAddUsed, packedDevicePublish } from "./packed-used";
import { descAt, distance, isAvail, isPosition, loadFlags, moved } from "./position";
import { countError, has, mustWait, refuse, resubmitLeft } from "./state";

/** What `nextFlags` answers when there is no list to pop. */
const NONE: i32 = -1;
/** In the place of flags: a list is to be resubmitted. */
const AGAIN: i32 = -2;
/** What `popAny` answers when the burst ends. */
const STOP: u32 = 0xffffffff;

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

/** Moves past `count` descriptors: they are in flight now, and no refusal stands. */
function pass(vq: usize, count: u32): void {
  const num = load<u32>(vq, VQ_NUM);
  const old = load<u32>(vq, VQ_LAST_AVAIL);
  const last = moved(old, count, num);
  if (distance(old, load<u32>(vq, VQ_AVAIL_SEEN), num) < count) store<u32>(vq, last, VQ_AVAIL_SEEN);
  store<u32>(vq, last, VQ_LAST_AVAIL);
  store<u32>(vq, load<u32>(vq, VQ_IN_FLIGHT) + count, VQ_IN_FLIGHT);
  store<u32>(vq, 0, VQ_ERROR);
}

/** Records the list at `position`, which was passed; `head`: as CHAIN_HEAD. */
function recordNext(vq: usize, position: u32, head: u32): void {
  packedDevicePublish(vq); // what is staged must be finished before the entries of a list are taken
  recordList(vq, position, head);
}

/** Descriptors that may still be made available. */
function roomOf(vq: usize): u32 {
  return load<u32>(vq, VQ_NUM) - load<u32>(vq, VQ_IN_FLIGHT);
}

/** The flags of the descriptor at VQ_LAST_AVAIL; or NONE, and no refusal stands: it is not ours. */
function nextFlags(vq: usize): i32 {
  if (roomOf(vq) != 0) {
    const at = load<u32>(vq, VQ_LAST_AVAIL);
    const flags = loadFlags(descAt(vq, at));
    if (isAvail(flags, at)) return <i32>flags;
    store<u32>(vq, at, VQ_AVAIL_SEEN);
  }
  store<u32>(vq, 0, VQ_ERROR);
  return NONE;
}

/** Pops the lists at VQ_LAST_AVAIL that `takePlain` takes, as it does. Returns how many. */
function popPlain(
  vq: usize,
  chain: usize,
  iovStart: u32,
  flags: u32,
  limit: u32,
  enough: u32,
): u32 {
  const isRecorded = has(vq, VQ_F_INFLIGHT);
  const first = load<u32>(vq, VQ_LAST_AVAIL);
  const most = isRecorded ? 1 : limit;
  const taken = takePlain(vq, chain, iovStart, first, flags, most, roomOf(vq), enough);
  if (taken == 0) return 0;
  pass(vq, taken & 0xffff);
  if (isRecorded) recordNext(vq, first, load<u32>(chain, CHAIN_HEAD));
  return taken >> 16;
}

/**
 * Pops any list: that at VQ_LAST_AVAIL, or with `flags` AGAIN the next to be resubmitted. Returns
 * `outcome`: the record holds when its code is 0, and when it is STOP the list stays where it is.
 */
function popAny(vq: usize, chain: usize, iovStart: u32, flags: i32): u32 {
  const isAgain = flags == AGAIN;
  const first = load<u32>(vq, VQ_LAST_AVAIL);
  const result = isAgain
    ? followAgain(vq, chain, iovStart)
    : followList(vq, chain, iovStart, first, <u32>flags, roomOf(vq));
  const code = result & 0xff;
  if (isListRefusal(code)) {
    refuse(vq, code);
    return STOP;
  }
  if (code == VRING_E_IOV && iovStart > 0) return STOP;
  if (code != 0 && mustWait(vq, load<u32>(vq, VQ_IN_FLIGHT))) return STOP;
  const head = load<u32>(chain, CHAIN_HEAD);
  if (isAgain) {
    consumeAgain(vq, head >> 16);
  } else {
    pass(vq, head >> 16);
    if (has(vq, VQ_F_INFLIGHT)) recordNext(vq, first, head);
  }
  store<u32>(chain, 0, CHAIN_USED_BYTES);
  if (code == 0) return result;
  countError(vq, code);
  packedAddUsed(vq, head, 0);
  return result;
}

/** The iovec after the last one of a record. */
function iovAfter(chain: usize): u32 {
  const pieces = load<u32>(chain, CHAIN_OUT_COUNT) + load<u32>(chain, CHAIN_IN_COUNT);
  return load<u32>(chain, CHAIN_IOV_START) + pieces;
}

/** DeviceRing.getDescs */
export function packedGetDescs(vq: usize, max: u32): i32 {
  const chains = load<usize>(vq, VQ_CHAINS);
  let chain = chains;
  let iovNext: u32 = 0;
  let walked: u32 = 0;
  let left = min(max, load<u32>(vq, VQ_CHAIN_CAPACITY));
  while (left > 0 && walked < <u32>VQ_WALK_MAX) {
    const isAgain = has(vq, VQ_F_INFLIGHT) && resubmitLeft(vq) != 0;
    const flags = isAgain ? AGAIN : nextFlags(vq);
    if (flags == NONE) break;
    const enough = <u32>VQ_WALK_MAX - walked;
    const lists = isAgain ? 0 : popPlain(vq, chain, iovNext, <u32>flags, left, enough);
    if (lists != 0) {
      chain += <usize>lists * CHAIN_BYTES;
      left -= lists;
      const iov = iovAfter(chain - CHAIN_BYTES);
      walked += iov - iovNext + (flags & VIRTQ_DESC_F_INDIRECT ? lists : 0);
      iovNext = iov;
      continue;
    }
    const result = popAny(vq, chain, iovNext, flags);
    if (result == STOP) break;
    left--;
    walked += result >> 8;
    if (result & 0xff) continue;
    iovNext = iovAfter(chain);
    chain += CHAIN_BYTES;
  }
  const got = <i32>((chain - chains) / CHAIN_BYTES);
  return got > 0 ? got : -(<i32>load<u32>(vq, VQ_ERROR));
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
  if (load<u32>(vq, VQ_NOTIFY_DISABLED) != 0) return;
  store<u32>(vq, 1, VQ_NOTIFY_DISABLED);
  writeEvent(vq, 0, RING_EVENT_FLAGS_DISABLE);
}

/** DeviceRing.availLen */
export function packedAvailLen(vq: usize): u32 {
  const num = load<u32>(vq, VQ_NUM);
  const room = roomOf(vq);
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
  if (isPosition(position, load<u32>(vq, VQ_NUM))) return 0;
  countError(vq, VRING_E_KICK);
  return -VRING_E_KICK;
}
