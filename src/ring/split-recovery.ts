import {
  INFLIGHT_DESC_COUNTER,
  INFLIGHT_SPLIT_DESC_BYTES,
  INFLIGHT_SPLIT_DESC_NEXT,
  INFLIGHT_SPLIT_DESCS,
  INFLIGHT_SPLIT_LAST_BATCH_HEAD,
  INFLIGHT_SPLIT_USED_IDX,
} from "../spec/inflight.js";
import {
  badRegion,
  byCounter,
  counterAfter,
  isWritten,
  type Recovery,
  signRegion,
  snapshot,
} from "./inflight.js";

const U16 = 0xffff;

/** Address in the region of the entry of a head. */
const entryAt = (head: number) => INFLIGHT_SPLIT_DESCS + head * INFLIGHT_SPLIT_DESC_BYTES;

/** The heads in flight, in the order in which they were popped. */
function headsInFlight(region: DataView, num: number): { index: number; counter: bigint }[] {
  const heads = [];
  for (let index = 0; index < num; index++) {
    if (region.getUint8(entryAt(index)) === 0) continue;
    const counter = region.getBigUint64(entryAt(index) + INFLIGHT_DESC_COUNTER, true);
    heads.push({ index, counter });
  }
  return byCounter(heads);
}

/** What the last back-end published and had no time to strike out: struck out in a copy. */
function finishBatch(region: DataView, num: number, usedIdx: number): number[] {
  const known = region.getUint16(INFLIGHT_SPLIT_USED_IDX, true);
  const count = (usedIdx - known) & U16;
  if (count > num) throw badRegion("its used index is not the ring's", { known, usedIdx, num });
  const batch: number[] = [];
  let head = region.getUint16(INFLIGHT_SPLIT_LAST_BATCH_HEAD, true);
  for (let left = count; left > 0; left--) {
    if (head >= num) throw badRegion("a head of its last batch is none", { head, num });
    batch.push(head);
    region.setUint8(entryAt(head), 0);
    head = region.getUint16(entryAt(head) + INFLIGHT_SPLIT_DESC_NEXT, true);
  }
  return batch;
}

/**
 * Where a split ring goes on, by its region of the in-flight area, which may hold anything, and by
 * used.idx in the ring. Side effect: the region is mended, in an order that may end anywhere; or
 * begun when it was never written: then the ring goes on at `position`. Throws EINVAL with nothing
 * changed: the region says what can't be. vhost-user, section "Inflight I/O tracking".
 */
export function recoverSplit(
  shared: DataView,
  num: number,
  usedIdx: number,
  position: number,
): Recovery {
  const region = snapshot(shared);
  const isOld = isWritten(region, num);
  const struck = isOld ? finishBatch(region, num, usedIdx) : [...new Array(num).keys()];
  const heads = isOld ? headsInFlight(region, num) : [];
  for (const head of struck) shared.setUint8(entryAt(head), 0);
  shared.setUint16(INFLIGHT_SPLIT_USED_IDX, usedIdx, true);
  signRegion(shared, num);
  return {
    position: isOld ? (usedIdx + heads.length) & U16 : position,
    resubmit: new Uint8Array(Uint16Array.from(heads, ({ index }) => index).buffer),
    resubmitCount: heads.length,
    table: new Uint8Array(num * 2),
    counter: counterAfter(heads.at(-1)),
    head: 0,
  };
}
