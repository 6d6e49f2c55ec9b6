// Lists in flight of a packed ring, recorded in memory that a front-end shares. The contract is in
// src/ring/recording-ring.ts.

import {
  INFLIGHT_PACKED_DESC_ADDR,
  INFLIGHT_PACKED_DESC_BYTES,
  INFLIGHT_PACKED_DESC_FLAGS,
  INFLIGHT_PACKED_DESC_ID,
  INFLIGHT_PACKED_DESC_LAST,
  INFLIGHT_PACKED_DESC_LEN,
  INFLIGHT_PACKED_DESC_NEXT,
  INFLIGHT_PACKED_DESC_NUM,
  INFLIGHT_PACKED_DESCS,
  INFLIGHT_PACKED_FREE_HEAD,
  INFLIGHT_PACKED_OLD_FREE_HEAD,
  INFLIGHT_PACKED_OLD_USED_IDX,
  INFLIGHT_PACKED_OLD_USED_WRAP,
  INFLIGHT_PACKED_USED_IDX,
  INFLIGHT_PACKED_USED_WRAP,
} from "../src/spec/inflight";
import {
  INFLIGHT_ENTRY_BYTES,
  INFLIGHT_ENTRY_COUNT,
  INFLIGHT_ENTRY_LAST,
  INFLIGHT_ENTRY_NEXT,
  INFLIGHT_ENTRY_OLDER,
  VQ_DESC,
  VQ_INFLIGHT,
  VQ_INFLIGHT_HEAD,
  VQ_INFLIGHT_OLD,
  VQ_INFLIGHT_TABLE,
  VQ_NUM,
  VQ_RESUBMIT,
  VQ_RESUBMIT_COUNT,
  VQ_RESUBMIT_NEXT,
} from "../src/spec/ring-state";
import { PVIRTQ_DESC_FLAGS, PVIRTQ_DESC_ID, VIRTQ_DESC_LEN } from "../src/spec/virtio-ring";
import { beginEntry, endEntry } from "./inflight";
import { followList } from "./packed-list";
import { descAt, loadFlags, moved, POSITION_FIRST } from "./position";
import { resubmitLeft } from "./state";

/** Follows the next list to be resubmitted, of which there is one: `outcome` of `followList`. */
export function followAgain(vq: usize, chain: usize, iovStart: u32): u32 {
  const desc = load<u32>(vq, VQ_DESC);
  const num = load<u32>(vq, VQ_NUM);
  const first = load<u32>(vq, VQ_RESUBMIT_NEXT) | POSITION_FIRST;
  store<u32>(vq, load<u32>(vq, VQ_RESUBMIT), VQ_DESC); // the table is a ring of its own
  store<u32>(vq, load<u32>(vq, VQ_RESUBMIT_COUNT), VQ_NUM);
  const flags = loadFlags(descAt(vq, first));
  const outcome = followList(vq, chain, iovStart, first, flags, resubmitLeft(vq));
  store<u32>(vq, desc, VQ_DESC);
  store<u32>(vq, num, VQ_NUM);
  return outcome;
}

/** The entry of the area. */
function shared(vq: usize, entry: u32): usize {
  const first = load<usize>(vq, VQ_INFLIGHT) + INFLIGHT_PACKED_DESCS;
  return first + <usize>entry * INFLIGHT_PACKED_DESC_BYTES;
}

/** The same of our own table. */
function mine(vq: usize, entry: u32): usize {
  return load<usize>(vq, VQ_INFLIGHT_TABLE) + <usize>entry * INFLIGHT_ENTRY_BYTES;
}

/** Address of the id's word of our table. */
function idWord(vq: usize, id: u32): usize {
  return mine(vq, load<u32>(vq, VQ_NUM)) + ((<usize>id) << 1);
}

/** Copies a descriptor to an entry. */
function copyDesc(vq: usize, position: u32, entry: u32): void {
  const desc = descAt(vq, position);
  const to = shared(vq, entry);
  store<u64>(to, load<u64>(desc), INFLIGHT_PACKED_DESC_ADDR);
  store<u32>(to, load<u32>(desc, VIRTQ_DESC_LEN), INFLIGHT_PACKED_DESC_LEN);
  store<u16>(to, load<u16>(desc, PVIRTQ_DESC_FLAGS), INFLIGHT_PACKED_DESC_FLAGS);
  store<u16>(to, load<u16>(desc, PVIRTQ_DESC_ID), INFLIGHT_PACKED_DESC_ID);
}

/** The list at `position` was popped; `head`: as CHAIN_HEAD. Nothing is staged. */
export function recordList(vq: usize, position: u32, head: u32): void {
  const num = load<u32>(vq, VQ_NUM);
  const count = head >> 16;
  const first = load<u32>(vq, VQ_INFLIGHT_HEAD);
  const entry = shared(vq, first);
  atomic.store<u16>(entry, 0, INFLIGHT_PACKED_DESC_NUM);
  beginEntry(vq, entry);
  let last = first;
  let free = first;
  for (let left = count; left > 0; left--) {
    copyDesc(vq, position, free);
    position = moved(position, 1, num);
    last = free;
    free = <u32>load<u16>(mine(vq, last), INFLIGHT_ENTRY_NEXT);
  }
  atomic.store<u16>(entry, <u16>last, INFLIGHT_PACKED_DESC_LAST);
  atomic.store<u16>(entry, <u16>count, INFLIGHT_PACKED_DESC_NUM);
  const ours = mine(vq, first);
  const word = idWord(vq, head & 0xffff);
  store<u16>(ours, <u16>last, INFLIGHT_ENTRY_LAST);
  store<u16>(ours, <u16>count, INFLIGHT_ENTRY_COUNT);
  store<u16>(ours, load<u16>(word), INFLIGHT_ENTRY_OLDER);
  store<u16>(word, <u16>(first + 1));
  store<u32>(vq, free, VQ_INFLIGHT_HEAD);
  store<u32>(vq, free, VQ_INFLIGHT_OLD);
  const region = load<usize>(vq, VQ_INFLIGHT);
  atomic.store<u16>(region, <u16>free, INFLIGHT_PACKED_FREE_HEAD);
  atomic.store<u16>(region, <u16>free, INFLIGHT_PACKED_OLD_FREE_HEAD);
}

/** Gives back the entries of a list that is used; `head`: as CHAIN_HEAD. False: there is none. */
export function releaseList(vq: usize, head: u32): bool {
  const word = idWord(vq, head & 0xffff);
  const known = <u32>load<u16>(word);
  if (known == 0) return false;
  const first = known - 1;
  const ours = mine(vq, first);
  if (<u32>load<u16>(ours, INFLIGHT_ENTRY_COUNT) != head >> 16) return false;
  const last = <u32>load<u16>(ours, INFLIGHT_ENTRY_LAST);
  const free = <u16>load<u32>(vq, VQ_INFLIGHT_HEAD);
  store<u16>(mine(vq, last), free, INFLIGHT_ENTRY_NEXT);
  atomic.store<u16>(shared(vq, last), free, INFLIGHT_PACKED_DESC_NEXT);
  store<u32>(vq, first, VQ_INFLIGHT_HEAD);
  atomic.store<u16>(load<usize>(vq, VQ_INFLIGHT), <u16>first, INFLIGHT_PACKED_FREE_HEAD);
  store<u16>(word, load<u16>(ours, INFLIGHT_ENTRY_OLDER));
  return true;
}

/** The next used position will be `next`: what `finishLists` confirms, after it is so. */
export function announceUsed(vq: usize, next: u32): void {
  const region = load<usize>(vq, VQ_INFLIGHT);
  atomic.store<u16>(region, <u16>(next & 0x7fff), INFLIGHT_PACKED_USED_IDX);
  atomic.store<u8>(region, <u8>(next >> 15), INFLIGHT_PACKED_USED_WRAP);
}

/** What was staged is published, up to `next`. */
export function finishLists(vq: usize, next: u32): void {
  const region = load<usize>(vq, VQ_INFLIGHT);
  const head = load<u32>(vq, VQ_INFLIGHT_HEAD);
  const old = load<u32>(vq, VQ_INFLIGHT_OLD);
  let entry = head;
  for (let left = load<u32>(vq, VQ_NUM); left > 0 && entry != old; left--) {
    endEntry(shared(vq, entry));
    const last = <u32>load<u16>(mine(vq, entry), INFLIGHT_ENTRY_LAST);
    entry = <u32>load<u16>(mine(vq, last), INFLIGHT_ENTRY_NEXT);
  }
  store<u32>(vq, head, VQ_INFLIGHT_OLD);
  atomic.store<u16>(region, <u16>head, INFLIGHT_PACKED_OLD_FREE_HEAD);
  atomic.store<u16>(region, <u16>(next & 0x7fff), INFLIGHT_PACKED_OLD_USED_IDX);
  atomic.store<u8>(region, <u8>(next >> 15), INFLIGHT_PACKED_OLD_USED_WRAP);
}
