import { VhostError } from "../spec/errno.js";
import {
  INFLIGHT_REGION_NUM,
  INFLIGHT_REGION_VERSION,
  INFLIGHT_VERSION,
} from "../spec/inflight.js";

/** Where a ring goes on that was ended at any point, and what must be done again first. */
export interface Recovery {
  /** What `DeviceRing.start` takes. */
  position: number;
  /** For VQ_RESUBMIT: u16 heads, or descriptors of 16 bytes. */
  resubmit: Uint8Array<ArrayBuffer>;
  /** For VQ_RESUBMIT_COUNT. */
  resubmitCount: number;
  /** For VQ_INFLIGHT_TABLE: our own side. */
  table: Uint8Array<ArrayBuffer>;
  /** For VQ_INFLIGHT_COUNTER. */
  counter: bigint;
  /** For VQ_INFLIGHT_HEAD and VQ_INFLIGHT_OLD. */
  head: number;
}

/** Throws EINVAL: the region can't be gone on from, for it says what can't be. */
export function badRegion(why: string, facts: Record<string, unknown>): VhostError {
  return new VhostError("EINVAL", `the in-flight area is not to be trusted: ${why}`, facts);
}

/** A copy of what the front-end shares, which it can't change while we read it. */
export function snapshot(region: DataView): DataView {
  const bytes = new Uint8Array(region.byteLength);
  bytes.set(new Uint8Array(region.buffer, region.byteOffset, region.byteLength));
  return new DataView(bytes.buffer);
}

/**
 * Whether the region was ever written. Throws EINVAL for one of another version or ring size: its
 * entries would be taken for others.
 */
export function isWritten(region: DataView, num: number): boolean {
  const version = region.getUint16(INFLIGHT_REGION_VERSION, true);
  if (version === 0) return false;
  const entries = region.getUint16(INFLIGHT_REGION_NUM, true);
  if (version === INFLIGHT_VERSION && entries === num) return true;
  throw badRegion("it is of another ring", { version, entries, num });
}

/** Says whose the region is: last, when all else in it holds. */
export function signRegion(region: DataView, num: number): void {
  region.setUint16(INFLIGHT_REGION_NUM, num, true);
  region.setUint16(INFLIGHT_REGION_VERSION, INFLIGHT_VERSION, true);
}

/** Entries in the order of their counters; of equal ones, the lower index first. */
export function byCounter<T extends { index: number; counter: bigint }>(entries: T[]): T[] {
  return entries.sort((a, b) => {
    if (a.counter !== b.counter) return a.counter < b.counter ? -1 : 1;
    return a.index - b.index;
  });
}

/** The counter for the next chain after `last`; it wraps like the shared ones. */
export function counterAfter(last: { counter: bigint } | undefined): bigint {
  return last ? BigInt.asUintN(64, last.counter + 1n) : 0n;
}
