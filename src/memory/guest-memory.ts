import { VhostError } from "../spec/errno.js";
import { REGION_BYTES, REGION_GUEST, REGION_LINEAR, REGION_SIZE } from "../spec/ring-state.js";

/** A range of guest addresses and where its bytes lie in the linear memory. */
export interface MemoryRegion {
  guestAddress: bigint;
  sizeBytes: bigint;
  linearAddress: number;
}

/** Regions that one table may have. Linux: max_mem_regions. */
export const MEMORY_REGIONS_MAX = 64;

const END_OF_ADDRESSES = 1n << 64n;

function overlaps(a: MemoryRegion, b: MemoryRegion): boolean {
  return (
    a.guestAddress < b.guestAddress + b.sizeBytes && b.guestAddress < a.guestAddress + a.sizeBytes
  );
}

/** Throws EINVAL or E2BIG, naming the region, when the table can't be trusted. */
function check(regions: readonly MemoryRegion[], linearStart: number, linearEnd: number): void {
  if (regions.length > MEMORY_REGIONS_MAX) {
    throw new VhostError("E2BIG", `at most ${MEMORY_REGIONS_MAX} regions`, {
      count: regions.length,
    });
  }
  for (const [index, region] of regions.entries()) {
    const { guestAddress, sizeBytes, linearAddress } = region;
    const facts = { index, guestAddress, sizeBytes, linearAddress };
    if (sizeBytes <= 0n || guestAddress < 0n || guestAddress + sizeBytes > END_OF_ADDRESSES) {
      throw new VhostError("EINVAL", `region ${index} is empty or goes past 2^64`, facts);
    }
    const isAddress = Number.isInteger(linearAddress) && linearAddress >= linearStart;
    if (!isAddress || BigInt(linearAddress) + sizeBytes > BigInt(linearEnd)) {
      throw new VhostError(
        "EINVAL",
        `region ${index} is not within the guest's part of memory`,
        facts,
      );
    }
    if (regions.slice(0, index).some((other) => overlaps(region, other))) {
      throw new VhostError("EINVAL", `region ${index} overlaps an earlier one`, facts);
    }
  }
}

/** A checked memory table: what guest addresses mean. Immutable. Linux: vhost_set_memory(). */
export class GuestMemory {
  readonly regions: readonly MemoryRegion[];

  /**
   * Every region must lie in [linearStart, linearEnd), which holds no state of ours, and overlap no
   * other. Throws EINVAL or E2BIG.
   */
  constructor(regions: readonly MemoryRegion[], linearStart: number, linearEnd: number) {
    check(regions, linearStart, linearEnd);
    this.regions = regions.map((region) => ({ ...region }));
  }

  /**
   * Linear address of `lengthBytes` bytes at a guest address, which must lie in one region as a
   * whole and be aligned, there and here; for ring areas, not for buffers. Throws EFAULT or EINVAL,
   * with `what`.
   */
  translate(guestAddress: bigint, lengthBytes: number, align: number, what: string): number {
    for (const region of this.regions) {
      const offset = guestAddress - region.guestAddress;
      if (offset < 0n || offset + BigInt(lengthBytes) > region.sizeBytes) continue;
      const address = region.linearAddress + Number(offset);
      if (guestAddress % BigInt(align) === 0n && address % align === 0) return address;
      const facts = { guestAddress, address };
      throw new VhostError("EINVAL", `the ${what} must be aligned to ${align} bytes`, facts);
    }
    throw new VhostError("EFAULT", `the ${what} is not in the memory table`, {
      guestAddress,
      lengthBytes,
    });
  }

  /** Bytes that `writeTo` writes. */
  get tableBytes(): number {
    return this.regions.length * REGION_BYTES;
  }

  /** Writes the table as the rings read it. */
  writeTo(view: DataView, address: number): void {
    writeRegions(view, address, this.regions);
  }
}

/** Writes a table of `regions` as the rings read it (`spec/ring-state.ts`, region table). */
export function writeRegions(
  view: DataView,
  address: number,
  regions: readonly MemoryRegion[],
): void {
  for (const [index, { guestAddress, sizeBytes, linearAddress }] of regions.entries()) {
    const at = address + index * REGION_BYTES;
    view.setBigUint64(at + REGION_GUEST, guestAddress, true);
    view.setBigUint64(at + REGION_SIZE, sizeBytes, true);
    view.setUint32(at + REGION_LINEAR, linearAddress, true);
  }
}
