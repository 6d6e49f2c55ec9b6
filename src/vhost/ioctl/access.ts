import { descBytes, deviceAreaBytes, driverAreaBytes } from "../../memory/vring.js";
import { VHOST_PAGE_SIZE } from "../../spec/vhost.js";
import { accessOk } from "../user-access.js";
import type { UserRegion } from "./memory-table.js";

/** Pages that a byte of the dirty log stands for. */
export const PAGES_A_BYTE = 8n;
/** Bytes of a page, as the log counts them. */
export const PAGE = BigInt(VHOST_PAGE_SIZE);
const ADDRESS_MAX = 2n ** 64n - 1n;

/** User addresses of a ring's areas. */
export interface VqAreas {
  readonly desc: bigint;
  readonly avail: bigint;
  readonly used: bigint;
}

/** Where the writes to a ring are logged. */
export interface VqLog {
  /** User address of the dirty log. */
  readonly base: bigint;
  /** Guest address of the used ring, if writes to it are logged. Linux: log_used, log_addr. */
  readonly used: bigint | undefined;
}

/** Whether the bits of a range of guest addresses can be the program's. Linux: log_access_ok(). */
export function logAccessOk(base: bigint, guest: bigint, bytes: bigint): boolean {
  const at = base + guest / PAGE / PAGES_A_BYTE;
  const span = PAGE * PAGES_A_BYTE;
  return at <= ADDRESS_MAX && accessOk(at, (bytes + span - 1n) / span);
}

/**
 * Whether all regions can be the program's, and their bits of the dirty log, if one is kept. Linux:
 * vq_memory_access_ok().
 */
export function memoryAccessOk(
  regions: readonly UserRegion[] | undefined,
  logBase: bigint,
  isLogged: boolean,
): boolean {
  if (regions === undefined) return false;
  return regions.every(({ guest, bytes, user }) => {
    if (!accessOk(user, bytes)) return false;
    return !isLogged || logAccessOk(logBase, guest, bytes);
  });
}

/** The same for the used ring's bits, too. Linux: vq_log_access_ok(). */
export function vqLogAccessOk(
  regions: readonly UserRegion[] | undefined,
  log: VqLog,
  isLogged: boolean,
  num: number,
): boolean {
  if (!memoryAccessOk(regions, log.base, isLogged)) return false;
  return log.used === undefined || logAccessOk(log.base, log.used, areaBytes(num).used);
}

/** Whether a ring's areas can be the program's. Linux: vq_access_ok(). */
export function vqAccessOk({ desc, avail, used }: VqAreas, num: number): boolean {
  const bytes = areaBytes(num);
  return accessOk(desc, bytes.desc) && accessOk(avail, bytes.avail) && accessOk(used, bytes.used);
}

/** Bytes of a ring's areas, the event words among them. */
export const areaBytes = (num: number): VqAreas => ({
  desc: BigInt(descBytes(num)),
  avail: BigInt(driverAreaBytes(num)),
  used: BigInt(deviceAreaBytes(num)),
});
