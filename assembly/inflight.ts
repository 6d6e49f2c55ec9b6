// Chains in flight, recorded in memory that a front-end shares: what both formats do, and the split
// one. The contract is in src/ring/recording-ring.ts.

import {
  INFLIGHT_DESC_COUNTER,
  INFLIGHT_DESC_INFLIGHT,
  INFLIGHT_SPLIT_DESC_BYTES,
  INFLIGHT_SPLIT_DESC_NEXT,
  INFLIGHT_SPLIT_DESCS,
  INFLIGHT_SPLIT_LAST_BATCH_HEAD,
  INFLIGHT_SPLIT_USED_IDX,
} from "../src/spec/inflight";
import {
  VQ_ERROR,
  VQ_INFLIGHT,
  VQ_INFLIGHT_COUNTER,
  VQ_INFLIGHT_HEAD,
  VQ_INFLIGHT_TABLE,
  VQ_RESUBMIT,
  VQ_RESUBMIT_NEXT,
} from "../src/spec/ring-state";
import { resubmitLeft } from "./state";

/** Marks an entry as in flight: popped after all those before. */
export function beginEntry(vq: usize, entry: usize): void {
  const counter = load<u64>(vq, VQ_INFLIGHT_COUNTER);
  store<u64>(entry, counter, INFLIGHT_DESC_COUNTER);
  store<u64>(vq, counter + 1, VQ_INFLIGHT_COUNTER);
  atomic.store<u8>(entry, 1, INFLIGHT_DESC_INFLIGHT);
}

/** Marks an entry as in flight no more. */
export function endEntry(entry: usize): void {
  atomic.store<u8>(entry, 0, INFLIGHT_DESC_INFLIGHT);
}

/** Moves past `count` of what is to be resubmitted. No refusal stands. */
export function consumeAgain(vq: usize, count: u32): void {
  store<u32>(vq, load<u32>(vq, VQ_RESUBMIT_NEXT) + count, VQ_RESUBMIT_NEXT);
  store<u32>(vq, 0, VQ_ERROR);
}

/** Split: the next head to be resubmitted, or -1. */
export function headAgain(vq: usize): i32 {
  if (resubmitLeft(vq) == 0) return -1;
  const next = load<u32>(vq, VQ_RESUBMIT_NEXT);
  return <i32>load<u16>(load<usize>(vq, VQ_RESUBMIT) + ((<usize>next) << 1));
}

function splitEntry(vq: usize, head: u32): usize {
  const first = load<usize>(vq, VQ_INFLIGHT) + INFLIGHT_SPLIT_DESCS;
  return first + <usize>head * INFLIGHT_SPLIT_DESC_BYTES;
}

/** Address of the head's word of our table. */
function before(vq: usize, head: u32): usize {
  return load<usize>(vq, VQ_INFLIGHT_TABLE) + ((<usize>head) << 1);
}

/** Split: the chain at `head` was popped. */
export function recordHead(vq: usize, head: u32): void {
  beginEntry(vq, splitEntry(vq, head));
}

/** Split: the chain at `head` was staged. */
export function recordUsed(vq: usize, head: u32): void {
  const last = load<u32>(vq, VQ_INFLIGHT_HEAD);
  atomic.store<u16>(splitEntry(vq, head), <u16>last, INFLIGHT_SPLIT_DESC_NEXT);
  store<u16>(before(vq, head), <u16>last);
  store<u32>(vq, head, VQ_INFLIGHT_HEAD);
  atomic.store<u16>(load<usize>(vq, VQ_INFLIGHT), <u16>head, INFLIGHT_SPLIT_LAST_BATCH_HEAD);
}

/** Split: used.idx went from `old` to `new_`. */
export function recordPublished(vq: usize, old: u32, new_: u32): void {
  let head = load<u32>(vq, VQ_INFLIGHT_HEAD);
  for (let left = (new_ - old) & 0xffff; left > 0; left--) {
    endEntry(splitEntry(vq, head));
    head = <u32>load<u16>(before(vq, head));
  }
  atomic.store<u16>(load<usize>(vq, VQ_INFLIGHT), <u16>new_, INFLIGHT_SPLIT_USED_IDX);
}
