import {
  CHAIN_BYTES,
  CHAIN_HEAD,
  CHAIN_IN_COUNT,
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

/** Moves past `count` descriptors, up to `last`: they are in flight now, and no refusal stands. */
function pass(vq: usize, last: u32, count: u32): void {
  if (count == 0) return;
  const old = load<u32>(vq, VQ_LAST_AVAIL);
  if (distance(old, load<u32>(vq, VQ_AVAIL_SEEN), load<u32>(vq, VQ_NUM)) < count) {
    store<u32>(vq, last, VQ_AVAIL_SEEN);
  }
  store<u32>(vq, last, VQ_LAST_AVAIL);
  store<u32>(vq, load<u32>(vq, VQ_IN_FLIGHT) + count, VQ_IN_FLIGHT);
  store<u32>(vq, 0, VQ_ERROR);
}

/** Records the list at `position`, which was passed; `head`: as CHAIN_HEAD. */
function recordNext(vq: usize, position: u32, head: u32): void {
  packedDevicePublish(vq); // what is staged must be finished before the entries of a list are taken
  recordList(vq, position, head);
}

/** Counts what is wrong with a list that was passed, and stages it with length 0. */
function putBack(vq: usize, head: u32, code: u32): void {
  countError(vq, code);
  packedAddUsed(vq, head, 0);
}

/** DeviceRing.getDescs. What a burst moves past is written to the state block when it ends. */
export function packedGetDescs(vq: usize, max: u32): i32 {
  const num = load<u32>(vq, VQ_NUM);
  const isRecorded = has(vq, VQ_F_INFLIGHT);
  const chains = load<usize>(vq, VQ_CHAINS);
  let chain = chains;
  let at = load<u32>(vq, VQ_LAST_AVAIL);
  let room = num - load<u32>(vq, VQ_IN_FLIGHT);
  let passed: u32 = 0;
  let iovNext: u32 = 0;
  let walked: u32 = 0;
  let refusal: u32 = 0;
  let isEmpty = false;
  let left = min(max, load<u32>(vq, VQ_CHAIN_CAPACITY));
  for (; left > 0 && walked < <u32>VQ_WALK_MAX; left--) {
    const isAgain = isRecorded && resubmitLeft(vq) != 0;
    const flags: u32 = room != 0 ? loadFlags(descAt(vq, at)) : 0;
    if (!isAgain && (room == 0 || !isAvail(flags, at))) {
      isEmpty = true;
      break;
    }
    if (!isRecorded && (flags & VIRTQ_DESC_F_INDIRECT) == 0) {
      const enough = <u32>VQ_WALK_MAX - walked;
      const taken = takePlain(vq, chain, iovNext, at, flags, left, room, enough);
      const lists = taken >> 16;
      if (lists != 0) {
        const descs = taken & 0xffff;
        at = moved(at, descs, num);
        room -= descs;
        passed += descs;
        walked += descs;
        iovNext += descs;
        chain += <usize>lists * CHAIN_BYTES;
        left -= lists - 1;
        continue;
      }
    }
    const outcome = isAgain
      ? followAgain(vq, chain, iovNext)
      : followList(vq, chain, iovNext, at, flags, room);
    const code = outcome & 0xff;
    walked += outcome >> 8;
    if (isListRefusal(code)) {
      refusal = code;
      break;
    }
    if (code == VRING_E_IOV && iovNext > 0) break;
    if (code != 0 && mustWait(vq, num - room)) break;
    const head = load<u32>(chain, CHAIN_HEAD);
    const count = head >> 16;
    const first = at;
    if (isAgain) {
      consumeAgain(vq, count);
    } else {
      at = moved(at, count, num);
      room -= count;
      passed += count;
    }
    if (isRecorded || code != 0) {
      pass(vq, at, passed);
      passed = 0;
      if (isRecorded && !isAgain) recordNext(vq, first, head);
      if (code != 0) putBack(vq, head, code);
      room = num - load<u32>(vq, VQ_IN_FLIGHT);
    }
    if (code != 0) continue;
    store<u32>(chain, 0, CHAIN_USED_BYTES);
    iovNext += load<u32>(chain, CHAIN_OUT_COUNT) + load<u32>(chain, CHAIN_IN_COUNT);
    chain += CHAIN_BYTES;
  }
  pass(vq, at, passed);
  if (refusal != 0) refuse(vq, refusal);
  if (isEmpty) {
    if (room != 0) store<u32>(vq, at, VQ_AVAIL_SEEN);
    store<u32>(vq, 0, VQ_ERROR);
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
  if (isPosition(position, load<u32>(vq, VQ_NUM))) return 0;
  countError(vq, VRING_E_KICK);
  return -VRING_E_KICK;
}
