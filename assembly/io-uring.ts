// Rings of io_uring, both sides. The contract of every function is in src/io-uring/ring.ts.

import {
  IO_RINGS_CQ_HEAD,
  IO_RINGS_CQ_OVERFLOW,
  IO_RINGS_CQ_RING_ENTRIES,
  IO_RINGS_CQ_RING_MASK,
  IO_RINGS_CQ_TAIL,
  IO_RINGS_CQES,
  IO_RINGS_SQ_DROPPED,
  IO_RINGS_SQ_FLAGS,
  IO_RINGS_SQ_HEAD,
  IO_RINGS_SQ_RING_ENTRIES,
  IO_RINGS_SQ_RING_MASK,
  IO_RINGS_SQ_TAIL,
  IO_URING_CQE_BYTES,
  IO_URING_SQE_BYTES,
  IORING_OP_LAST,
  IOSQE_VALID,
  IOU_CQ_ENTRIES,
  IOU_CQ_HEAD,
  IOU_CQ_OVERFLOW,
  IOU_CQ_PEEKED,
  IOU_CQ_TAIL,
  IOU_CQES,
  IOU_CQES_CAPACITY,
  IOU_E_CQ_TAIL,
  IOU_RINGS,
  IOU_SQ_ARRAY,
  IOU_SQ_DROPPED,
  IOU_SQ_ENTRIES,
  IOU_SQ_HEAD,
  IOU_SQ_PUBLISHED,
  IOU_SQ_TAIL,
  IOU_SQES,
  IOU_TABLE,
  IOU_TABLE_CAPACITY,
  SQE_EINVAL,
  SQE_ERROR,
  SQE_FLAGS,
  SQE_OPCODE,
  SQE_RECORD_BYTES,
} from "../src/spec/io-uring";

/** Copies whole words of 8 bytes; each is read once. */
function copy(to: usize, from: usize, bytes: u32): void {
  for (let at: usize = 0; at < bytes; at += 8) store<u64>(to + at, load<u64>(from + at));
}

/** Address of slot `index` of a table of `entries`, a power of two. */
function slot(table: usize, index: u32, entries: u32, bytes: u32): usize {
  return table + <usize>(index & (entries - 1)) * bytes;
}

/** ApplicationRing.reset */
export function iouReset(iou: usize): void {
  const rings = load<usize>(iou, IOU_RINGS);
  store<u32>(iou, 0, IOU_SQ_TAIL);
  store<u32>(iou, 0, IOU_SQ_PUBLISHED);
  store<u32>(iou, 0, IOU_CQ_HEAD);
  store<u32>(iou, 0, IOU_CQ_PEEKED);
  atomic.store<u32>(rings, 0, IO_RINGS_SQ_TAIL);
  atomic.store<u32>(rings, 0, IO_RINGS_CQ_HEAD);
}

/** ApplicationRing.getSqe */
export function iouGetSqe(iou: usize): u32 {
  // Q2 with iouTakeSqes: a slot behind the head was copied, so it may be written again. First in
  // its expression, so that both targets come out alike.
  const room =
    atomic.load<u32>(load<usize>(iou, IOU_RINGS), IO_RINGS_SQ_HEAD) -
    (load<u32>(iou, IOU_SQ_TAIL) - load<u32>(iou, IOU_SQ_ENTRIES));
  const entries = load<u32>(iou, IOU_SQ_ENTRIES);
  if (room == 0 || room > entries) return 0;
  const tail = load<u32>(iou, IOU_SQ_TAIL);
  // The kernel took more than was submitted.
  if (tail - load<u32>(iou, IOU_SQ_PUBLISHED) > entries - room) return 0;
  const sqe = slot(load<usize>(iou, IOU_SQES), tail, entries, IO_URING_SQE_BYTES);
  for (let at: usize = 0; at < <usize>IO_URING_SQE_BYTES; at += 8) store<u64>(sqe + at, 0);
  store<u32>(iou, tail + 1, IOU_SQ_TAIL);
  return <u32>sqe;
}

/** ApplicationRing.submit */
export function iouSubmit(iou: usize): u32 {
  const entries = load<u32>(iou, IOU_SQ_ENTRIES);
  const published = load<u32>(iou, IOU_SQ_PUBLISHED);
  const count = load<u32>(iou, IOU_SQ_TAIL) - published;
  if (count == 0) return 0;
  const array = load<usize>(iou, IOU_SQ_ARRAY);
  for (let i: u32 = 0; i < count; i++) {
    store<u32>(slot(array, published + i, entries, 4), (published + i) & (entries - 1));
  }
  store<u32>(iou, published + count, IOU_SQ_PUBLISHED);
  // Q1 with iouTakeSqes: SQEs and array first, the tail last.
  atomic.store<u32>(load<usize>(iou, IOU_RINGS), published + count, IO_RINGS_SQ_TAIL);
  return count;
}

/** ApplicationRing.peekCqes */
export function iouPeekCqes(iou: usize, max: u32): i32 {
  const rings = load<usize>(iou, IOU_RINGS);
  // Q3 with iouPostCqes. First in its expression, so that both targets come out alike.
  const ready = atomic.load<u32>(rings, IO_RINGS_CQ_TAIL) - load<u32>(iou, IOU_CQ_HEAD);
  store<u32>(iou, 0, IOU_CQ_PEEKED);
  const entries = load<u32>(iou, IOU_CQ_ENTRIES);
  const head = load<u32>(iou, IOU_CQ_HEAD);
  if (ready > entries) return -IOU_E_CQ_TAIL;
  const count = min(min(max, load<u32>(iou, IOU_TABLE_CAPACITY)), ready);
  let to = load<usize>(iou, IOU_TABLE);
  for (let i: u32 = 0; i < count; i++) {
    const cqe = slot(rings + IO_RINGS_CQES, head + i, entries, IO_URING_CQE_BYTES);
    copy(to, cqe, IO_URING_CQE_BYTES);
    to += IO_URING_CQE_BYTES;
  }
  store<u32>(iou, count, IOU_CQ_PEEKED);
  return <i32>count;
}

/** ApplicationRing.advance */
export function iouAdvance(iou: usize, count: u32): void {
  const peeked = load<u32>(iou, IOU_CQ_PEEKED);
  const passed = min(count, peeked);
  if (passed == 0) return;
  const head = load<u32>(iou, IOU_CQ_HEAD) + passed;
  store<u32>(iou, head, IOU_CQ_HEAD);
  store<u32>(iou, peeked - passed, IOU_CQ_PEEKED);
  // Q4 with iouPostCqes: what was copied may be written over from now on.
  atomic.store<u32>(load<usize>(iou, IOU_RINGS), head, IO_RINGS_CQ_HEAD);
}

/** KernelRing.reset */
export function iouKernelReset(iou: usize): void {
  const rings = load<usize>(iou, IOU_RINGS);
  const sqEntries = load<u32>(iou, IOU_SQ_ENTRIES);
  const cqEntries = load<u32>(iou, IOU_CQ_ENTRIES);
  store<u32>(iou, 0, IOU_SQ_HEAD);
  store<u32>(iou, 0, IOU_CQ_TAIL);
  store<u32>(iou, 0, IOU_SQ_DROPPED);
  store<u32>(iou, 0, IOU_CQ_OVERFLOW);
  store<u32>(rings, sqEntries - 1, IO_RINGS_SQ_RING_MASK);
  store<u32>(rings, cqEntries - 1, IO_RINGS_CQ_RING_MASK);
  store<u32>(rings, sqEntries, IO_RINGS_SQ_RING_ENTRIES);
  store<u32>(rings, cqEntries, IO_RINGS_CQ_RING_ENTRIES);
  store<u32>(rings, 0, IO_RINGS_SQ_DROPPED);
  store<u32>(rings, 0, IO_RINGS_CQ_OVERFLOW);
  atomic.store<u32>(rings, 0, IO_RINGS_SQ_FLAGS);
  atomic.store<u32>(rings, 0, IO_RINGS_SQ_HEAD);
  atomic.store<u32>(rings, 0, IO_RINGS_CQ_TAIL);
}

/** Copies an SQE to a record and judges the copy. */
function takeSqe(record: usize, sqe: usize): void {
  copy(record, sqe, IO_URING_SQE_BYTES);
  const isKnown =
    load<u8>(record, SQE_OPCODE) < <u8>IORING_OP_LAST &&
    (<u32>load<u8>(record, SQE_FLAGS) & ~IOSQE_VALID) == 0;
  store<u32>(record, isKnown ? 0 : SQE_EINVAL, SQE_ERROR);
}

/** KernelRing.takeSqes */
export function iouTakeSqes(iou: usize, max: u32): u32 {
  const rings = load<usize>(iou, IOU_RINGS);
  // Q1 with iouSubmit. First in its expression, so that both targets come out alike.
  let count = atomic.load<u32>(rings, IO_RINGS_SQ_TAIL) - load<u32>(iou, IOU_SQ_HEAD);
  const entries = load<u32>(iou, IOU_SQ_ENTRIES);
  count = min(count, entries);
  count = min(count, max);
  count = min(count, load<u32>(iou, IOU_TABLE_CAPACITY));
  if (count == 0) return 0;
  const array = load<usize>(iou, IOU_SQ_ARRAY);
  let head = load<u32>(iou, IOU_SQ_HEAD);
  let record = load<usize>(iou, IOU_TABLE);
  let taken: u32 = 0;
  while (taken < count) {
    const index = load<u32>(slot(array, head, entries, 4));
    head++;
    if (index >= entries) {
      const dropped = load<u32>(iou, IOU_SQ_DROPPED) + 1;
      store<u32>(iou, dropped, IOU_SQ_DROPPED);
      store<u32>(rings, dropped, IO_RINGS_SQ_DROPPED);
      break;
    }
    takeSqe(record, load<usize>(iou, IOU_SQES) + <usize>index * IO_URING_SQE_BYTES);
    record += SQE_RECORD_BYTES;
    taken++;
  }
  store<u32>(iou, head, IOU_SQ_HEAD);
  atomic.store<u32>(rings, head, IO_RINGS_SQ_HEAD); // Q2 with iouGetSqe: after the last copy
  return taken;
}

/** KernelRing.postCqes */
export function iouPostCqes(iou: usize, count: u32): u32 {
  const rings = load<usize>(iou, IOU_RINGS);
  // Q4 with iouAdvance. First in its expression, so that both targets come out alike.
  const room =
    atomic.load<u32>(rings, IO_RINGS_CQ_HEAD) -
    (load<u32>(iou, IOU_CQ_TAIL) - load<u32>(iou, IOU_CQ_ENTRIES));
  const entries = load<u32>(iou, IOU_CQ_ENTRIES);
  if (room > entries) return 0;
  let posted = min(room, count);
  posted = min(posted, load<u32>(iou, IOU_CQES_CAPACITY));
  if (posted == 0) return 0;
  const tail = load<u32>(iou, IOU_CQ_TAIL);
  let from = load<usize>(iou, IOU_CQES);
  for (let i: u32 = 0; i < posted; i++) {
    const cqe = slot(rings + IO_RINGS_CQES, tail + i, entries, IO_URING_CQE_BYTES);
    copy(cqe, from, IO_URING_CQE_BYTES);
    from += IO_URING_CQE_BYTES;
  }
  store<u32>(iou, tail + posted, IOU_CQ_TAIL);
  atomic.store<u32>(rings, tail + posted, IO_RINGS_CQ_TAIL); // Q3 with iouPeekCqes: the CQEs first
  return posted;
}

/** KernelRing.loseCqes */
export function iouLoseCqes(iou: usize, count: u32): void {
  const lost = load<u32>(iou, IOU_CQ_OVERFLOW) + count;
  store<u32>(iou, lost, IOU_CQ_OVERFLOW);
  store<u32>(load<usize>(iou, IOU_RINGS), lost, IO_RINGS_CQ_OVERFLOW);
}

/** KernelRing.setSqFlags */
export function iouSetSqFlags(iou: usize, flags: u32): void {
  atomic.store<u32>(load<usize>(iou, IOU_RINGS), flags, IO_RINGS_SQ_FLAGS);
}
