import {
  CHAIN_BYTES,
  CHAIN_HEAD,
  CHAIN_USED_BYTES,
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
  VQ_IN_FLIGHT,
  VQ_KICKED,
  VQ_LAST_USED,
  VQ_NOTIFY_DISABLED,
  VQ_NUM,
  VQ_NUM_FREE,
  VQ_OLDEST,
  VQ_SHADOW,
  VQ_STAGED_FLAGS,
  VRING_E_USED_ID,
  VRING_E_USED_LENGTH,
} from "../src/spec/ring-state";
import {
  PVIRTQ_DESC_FLAGS,
  PVIRTQ_DESC_ID,
  RING_EVENT_FLAGS_DESC,
  RING_EVENT_FLAGS_DISABLE,
  VIRTQ_DESC_BYTES,
  VIRTQ_DESC_F_WRITE,
  VIRTQ_DESC_LEN,
} from "../src/spec/virtio-ring";
import { resetShadow, shadow } from "./driver-descs";
import {
  countOn,
  descAt,
  distance,
  INDEX,
  isAskedFor,
  isUsed,
  loadFlags,
  moved,
  POSITION_FIRST,
  WRAP,
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
  const ring = load<usize>(vq, VQ_DESC);
  const shadows = load<usize>(vq, VQ_SHADOW);
  const last = load<u32>(vq, VQ_LAST_USED);
  const inFlight = load<u32>(vq, VQ_IN_FLIGHT);
  const chains = load<usize>(vq, VQ_CHAINS);
  const end = chains + <usize>min(limit, inFlight) * CHAIN_BYTES;
  let chain = chains;
  let index = last & INDEX;
  let wrap = last & WRAP;
  let freeHead = load<u32>(vq, VQ_FREE_HEAD);
  let free = load<u32>(vq, VQ_NUM_FREE);
  let step: u32 = 1; // COUNT of the one before: where the next is need not wait for this one's
  let tooLong: u32 = 0; // lengths that were cut
  let isRefused = false;
  for (; chain != end; chain += CHAIN_BYTES) {
    const desc = ring + <usize>index * VIRTQ_DESC_BYTES;
    const flags = loadFlags(desc);
    if (!isUsed(flags, wrap)) break;
    isRefused = true;
    const id = <u32>load<u16>(desc, PVIRTQ_DESC_ID);
    if (id >= num) break;
    const mine = shadows + <usize>id * SHADOW_BYTES;
    const count = <u32>load<u16>(mine, SHADOW_COUNT);
    if (count == 0) break;
    isRefused = false;
    const inBytes = load<u32>(mine, SHADOW_IN_BYTES);
    const len: u32 = flags & VIRTQ_DESC_F_WRITE ? load<u32>(desc, VIRTQ_DESC_LEN) : 0;
    if (len > inBytes) tooLong++;
    store<u32>(chain, id, CHAIN_HEAD);
    store<u32>(chain, min(len, inBytes), CHAIN_USED_BYTES);
    store<u32>(mine, freeHead, SHADOW_NEXT); // and COUNT, the upper half: 0
    freeHead = id;
    free += step;
    index += step;
    if (count != step) {
      free += count - step;
      index += count - step;
      step = count;
    }
    if (index < num) continue;
    index -= num;
    wrap ^= WRAP;
  }
  const got = <u32>(chain - chains) / CHAIN_BYTES;
  store<u32>(vq, index | wrap, VQ_LAST_USED);
  store<u32>(vq, inFlight - got, VQ_IN_FLIGHT);
  store<u32>(vq, free, VQ_NUM_FREE);
  store<u32>(vq, freeHead, VQ_FREE_HEAD);
  for (; tooLong > 0; tooLong--) countError(vq, VRING_E_USED_LENGTH);
  const error = isRefused ? refuse(vq, VRING_E_USED_ID) : 0;
  if (error == 0) store<u32>(vq, 0, VQ_ERROR);
  return got > 0 ? <i32>got : error;
}

/** DriverRing.enableCall. Order U2: see `packedCallNeeded` in packed-used.ts. */
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
