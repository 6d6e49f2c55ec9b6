import { hasFeature } from "../../spec/features.js";
import { VHOST_F_LOG_ALL, VHOST_PAGE_SIZE } from "../../spec/vhost.js";
import { VHOST_ACCESS_WO } from "../../spec/vhost-iotlb.js";
import type { IotlbSpace, Piece } from "./iotlb-space.js";
import type { LiveMemory, LiveSetup } from "./live-ring.js";

const PAGE = BigInt(VHOST_PAGE_SIZE);
/** Pages that a byte of the log stands for. */
const PAGES_A_BYTE = 8n;

/**
 * Marks, in the dirty log if one is kept, the pages that a ring with translations wrote: of the
 * first `written` bytes of `pieces`, by each region of the memory table that has them. Linux:
 * vhost_log_write(), log_write_hva().
 */
export function logWritten(
  memory: LiveMemory,
  setup: LiveSetup,
  pieces: readonly Piece[],
  written: number,
): void {
  if (!hasFeature(setup.features, VHOST_F_LOG_ALL)) return;
  let left = written;
  for (const { uaddr, bytes } of pieces) {
    if (left === 0) return;
    const take = Math.min(bytes, left);
    left -= take;
    const end = uaddr + BigInt(take);
    for (const region of setup.regions) {
      const start = uaddr > region.user ? uaddr : region.user;
      const regionEnd = region.user + region.bytes;
      const stop = end < regionEnd ? end : regionEnd;
      if (start >= stop) continue;
      const guest = region.guest + (start - region.user);
      mark(memory, setup.log.base, guest, stop - start);
    }
  }
}

/** The same for bytes of the used ring, if that is to be logged. Linux: log_used(). */
export function logRing(
  memory: LiveMemory,
  setup: LiveSetup,
  space: IotlbSpace,
  offset: number,
  bytes: number,
): void {
  if (setup.log.used === undefined || !hasFeature(setup.features, VHOST_F_LOG_ALL)) return;
  const pieces: Piece[] = [];
  const iova = BigInt.asUintN(64, setup.areas.used + BigInt(offset));
  const stop = space.translate(iova, bytes, VHOST_ACCESS_WO, pieces, Number.POSITIVE_INFINITY);
  if (stop === undefined) logWritten(memory, setup, pieces, bytes);
}

/** Bits of pages, one after the other; where the log is not mapped, nothing is marked. */
function mark({ shared, user }: LiveMemory, base: bigint, guest: bigint, bytes: bigint): void {
  const last = (guest + bytes - 1n) / PAGE;
  for (let page = guest / PAGE; page <= last; page++) {
    const at = base + page / PAGES_A_BYTE;
    if (!user.isWritable(at, 1n)) return;
    Atomics.or(shared.bytes, Number(at), 1 << Number(page % PAGES_A_BYTE));
  }
}
