import type { MemoryRegion } from "../../memory/guest-memory.js";
import { VhostError } from "../../spec/errno.js";
import { VHOST_MEMORY, VHOST_MEMORY_MAX_NREGIONS, VHOST_MEMORY_REGION } from "../../spec/vhost.js";
import type { UserMemory } from "../user-access.js";

/** A range of guest addresses, and where the program says that it has it. */
export interface UserRegion {
  readonly guest: bigint;
  readonly bytes: bigint;
  /** User address. */
  readonly user: bigint;
}

const ADDRESS_END = 2n ** 64n;

/**
 * The table that `address` points to. EFAULT: it can't be read, or a region goes past 2^64, or is
 * empty and not at 0; EOPNOTSUPP: padding that is not 0; E2BIG. Where the program has its regions
 * is not looked at. Linux: vhost_set_memory().
 */
export function readMemoryTable(memory: UserMemory, address: bigint): UserRegion[] {
  const { nregions = 0, padding = 0 } = memory.readStruct(address, VHOST_MEMORY);
  if (padding !== 0) throw new VhostError("EOPNOTSUPP", "the table's padding is 0", { padding });
  if (nregions > VHOST_MEMORY_MAX_NREGIONS) {
    const message = `a table has ${VHOST_MEMORY_MAX_NREGIONS} regions at most`;
    throw new VhostError("E2BIG", message, { nregions });
  }
  const first = address + BigInt(VHOST_MEMORY.bytes);
  const { bytes } = VHOST_MEMORY_REGION;
  memory.read(first, Number(nregions) * bytes); // all of it, before any is looked at
  const regions: UserRegion[] = [];
  for (let i = 0; i < Number(nregions); i++) {
    const region = memory.readStruct(first + BigInt(i * bytes), VHOST_MEMORY_REGION);
    regions.push(...userRegion(region as Record<string, bigint>));
  }
  return regions;
}

/** One, or two: 2^64 bytes at 0 are more than a size can say. Linux: vhost_iotlb_add_range(). */
function userRegion(fields: Record<string, bigint>): UserRegion[] {
  const {
    guest_phys_addr: guest = 0n,
    memory_size: bytes = 0n,
    userspace_addr: user = 0n,
  } = fields;
  if (bytes === 0n && guest === 0n) {
    const half = ADDRESS_END / 2n;
    return [
      { guest, bytes: half, user },
      { guest: half, bytes: half, user: BigInt.asUintN(64, user + half) },
    ];
  }
  if (bytes > 0n && guest + bytes <= ADDRESS_END) return [{ guest, bytes, user }];
  throw new VhostError("EFAULT", "a region is empty or goes past 2^64", { guest, bytes });
}

/**
 * The parts of the regions that are mapped, as rings take them. What is not mapped can't be a
 * buffer: Linux finds that when it copies, here it is as if no region had it.
 */
export function mappedRegions(regions: readonly UserRegion[], memory: UserMemory): MemoryRegion[] {
  return regions.flatMap(({ guest, bytes, user }) =>
    memory.mappedParts(user, user + bytes).map(({ start, end }) => ({
      guestAddress: guest + (start - user),
      sizeBytes: end - start,
      linearAddress: Number(start),
    })),
  );
}
