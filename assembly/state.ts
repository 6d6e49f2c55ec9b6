import {
  VQ_ERROR,
  VQ_ERROR_COUNTS,
  VQ_F_IN_ORDER,
  VQ_F_INFLIGHT,
  VQ_FLAGS,
  VQ_RESUBMIT_COUNT,
  VQ_RESUBMIT_NEXT,
} from "../src/spec/ring-state";

/** Adds one to the count of `code` (VRING_E_…), and to the count of all. */
export function countError(vq: usize, code: u32): void {
  store<u32>(vq, load<u32>(vq, VQ_ERROR_COUNTS) + 1, VQ_ERROR_COUNTS);
  const slot = vq + ((<usize>code) << 2);
  store<u32>(slot, load<u32>(slot, VQ_ERROR_COUNTS) + 1, VQ_ERROR_COUNTS);
}

/** Sets the standing refusal; counts it only when it is new. Returns the code, negative. */
export function refuse(vq: usize, code: u32): i32 {
  if (load<u32>(vq, VQ_ERROR) != code) {
    store<u32>(vq, code, VQ_ERROR);
    countError(vq, code);
  }
  return -(<i32>code);
}

/** The u16 that follows: ring indices run freely and wrap at 65536, not at the queue size. */
export function next16(index: u32): u32 {
  return (index + 1) & 0xffff;
}

/** Whether VQ_FLAGS have one of `flags`. */
export function has(vq: usize, flags: u32): bool {
  return (load<u32>(vq, VQ_FLAGS) & flags) != 0;
}

/** VQ_F_INFLIGHT: what is to be resubmitted still. */
export function resubmitLeft(vq: usize): u32 {
  return load<u32>(vq, VQ_RESUBMIT_COUNT) - load<u32>(vq, VQ_RESUBMIT_NEXT);
}

/** IN_ORDER: a malformed chain can't go back before those in flight do. */
export function mustWait(vq: usize, inFlight: u32): bool {
  const flags = load<u32>(vq, VQ_FLAGS);
  if ((flags & VQ_F_IN_ORDER) == 0) return false;
  const waiting: u32 = flags & VQ_F_INFLIGHT ? resubmitLeft(vq) : 0;
  return inFlight != waiting;
}
