// What the device's half of a split ring does under the policy "linux", where it differs. The
// contract is in src/ring/ring.ts, at DeviceRing.

import {
  CHAIN_BYTES,
  CHAIN_HEAD,
  CHAIN_IN_COUNT,
  CHAIN_OUT_COUNT,
  CHAIN_USED_BYTES,
  VQ_AVAIL_SEEN,
  VQ_CHAIN_CAPACITY,
  VQ_CHAINS,
  VQ_DRIVER,
  VQ_ERROR,
  VQ_F_EVENT_IDX,
  VQ_IN_FLIGHT,
  VQ_LAST_AVAIL,
  VQ_NOTIFY_DISABLED,
  VQ_NUM,
  VQ_SIGNALLED,
  VQ_SIGNALLED_VALID,
  VQ_WALK_MAX,
  VRING_E_AVAIL_INDEX,
  VRING_E_HEAD,
  VRING_E_INDIRECT,
} from "../src/spec/ring-state";
import { VIRTQ_AVAIL_ELEM_BYTES, VIRTQ_RING_ELEMENTS } from "../src/spec/virtio-ring";
import { loadAvailIdx } from "./avail";
import { writeAvailEvent, writeUsedFlags } from "./device-area";
import { followLinuxChain, IN_TABLE } from "./linux-chain";
import { countError, has, next16 } from "./state";

/** An entry, or the index, fails: counted each time it is met, unlike a refusal. */
function fail(vq: usize, code: u32): void {
  store<u32>(vq, code, VQ_ERROR);
  countError(vq, code);
}

/**
 * Whether there is an entry at VQ_LAST_AVAIL, reading avail.idx when all that was seen is popped.
 * `isFirst`: of the burst; otherwise an index that is too far ahead is left for the next call.
 */
function hasEntry(vq: usize, isFirst: bool): bool {
  const last = load<u32>(vq, VQ_LAST_AVAIL);
  if (last != load<u32>(vq, VQ_AVAIL_SEEN)) return true;
  const idx = loadAvailIdx(vq);
  const pending = (idx - last) & 0xffff;
  if (pending > load<u32>(vq, VQ_NUM)) {
    if (isFirst) {
      store<u32>(vq, idx, VQ_AVAIL_SEEN); // kept although it is wrong: the next call believes it
      fail(vq, VRING_E_AVAIL_INDEX);
    }
    return false;
  }
  store<u32>(vq, idx, VQ_AVAIL_SEEN);
  if (pending == 0) store<u32>(vq, 0, VQ_ERROR);
  return pending > 0;
}

/** DeviceRing.getDescs, policy linux. */
export function linuxGetDescs(vq: usize, max: u32): i32 {
  const num = load<u32>(vq, VQ_NUM);
  let chain = load<usize>(vq, VQ_CHAINS);
  let got: i32 = 0;
  let iovNext: u32 = 0;
  let walked: u32 = 0;
  for (let left = min(max, load<u32>(vq, VQ_CHAIN_CAPACITY)); left > 0; left--) {
    if (!hasEntry(vq, got == 0)) break;
    const last = load<u32>(vq, VQ_LAST_AVAIL);
    const slot = load<usize>(vq, VQ_DRIVER) + (last & (num - 1)) * VIRTQ_AVAIL_ELEM_BYTES;
    const head = <u32>load<u16>(slot, VIRTQ_RING_ELEMENTS);
    const outcome: u32 = head < num ? followLinuxChain(vq, chain, iovNext, head) : VRING_E_HEAD;
    const code = outcome & (IN_TABLE - 1);
    if (code != 0) {
      if (got > 0) break;
      fail(vq, code);
      if (outcome & IN_TABLE) countError(vq, VRING_E_INDIRECT);
      break;
    }
    store<u32>(vq, next16(last), VQ_LAST_AVAIL);
    store<u32>(vq, load<u32>(vq, VQ_IN_FLIGHT) + 1, VQ_IN_FLIGHT);
    store<u32>(vq, 0, VQ_ERROR);
    store<u32>(chain, head, CHAIN_HEAD);
    store<u32>(chain, 0, CHAIN_USED_BYTES);
    iovNext += load<u32>(chain, CHAIN_OUT_COUNT) + load<u32>(chain, CHAIN_IN_COUNT);
    chain += CHAIN_BYTES;
    got++;
    walked += outcome >> 8;
    if (walked >= <u32>VQ_WALK_MAX) break;
  }
  return got > 0 ? got : -(<i32>load<u32>(vq, VQ_ERROR));
}

/**
 * DeviceRing.publish, policy linux, after it: `old` and `new_` are used.idx before and now. Past
 * VQ_SIGNALLED the difference to it says nothing any more: the next question is like the first.
 */
export function linuxPublished(vq: usize, old: u32, new_: u32): void {
  const signalled = load<u32>(vq, VQ_SIGNALLED);
  if (((new_ - signalled) & 0xffff) >= ((new_ - old) & 0xffff)) return;
  store<u32>(vq, 0, VQ_SIGNALLED_VALID);
  store<u32>(vq, old, VQ_SIGNALLED);
}

/** DeviceRing.enableKick, policy linux. Order A2, as without it. */
export function linuxEnableKick(vq: usize): bool {
  if (load<u32>(vq, VQ_NOTIFY_DISABLED) == 0) return false;
  store<u32>(vq, 0, VQ_NOTIFY_DISABLED);
  if (has(vq, VQ_F_EVENT_IDX)) writeAvailEvent(vq, load<u32>(vq, VQ_AVAIL_SEEN));
  else writeUsedFlags(vq, 0);
  const idx = loadAvailIdx(vq);
  store<u32>(vq, idx, VQ_AVAIL_SEEN);
  const pending = (idx - load<u32>(vq, VQ_LAST_AVAIL)) & 0xffff;
  if (pending <= load<u32>(vq, VQ_NUM)) return pending > 0;
  fail(vq, VRING_E_AVAIL_INDEX);
  return false;
}
