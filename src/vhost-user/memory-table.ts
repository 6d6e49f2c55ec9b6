import type { MemoryRegion } from "../memory/guest-memory.js";
import { MEMORY_REGIONS_MAX } from "../memory/guest-memory.js";
import { VhostError } from "../spec/errno.js";
import type { VhostDev } from "../vhost/dev.js";
import { checkFile, type MappedRegion, type MemoryTrust, RegionMap } from "./region-map.js";

/** A memory region as the front-end describes it. Section "Memory region description". */
export interface RegionDescription {
  guestAddress: bigint;
  sizeBytes: bigint;
  /** Where the front-end has it: what it names rings by. */
  userAddress: bigint;
  /** Where it begins in its file. */
  offset: bigint;
}

interface Region extends RegionDescription {
  mapped: MappedRegion;
}

const END_OF_ADDRESSES = 1n << 64n;
const END_OF_FILES = 1n << 63n;

/** Reads a description: four u64. */
export function readRegion(payload: DataView, at: number): RegionDescription {
  return {
    guestAddress: payload.getBigUint64(at, true),
    sizeBytes: payload.getBigUint64(at + 8, true),
    userAddress: payload.getBigUint64(at + 16, true),
    offset: payload.getBigUint64(at + 24, true),
  };
}

const meets = (a: bigint, aSize: bigint, b: bigint, bSize: bigint) =>
  a < b + bSize && b < a + aSize;

/** Throws EINVAL or E2BIG for descriptions that can't all hold, whatever their files are. */
function checkDescriptions(regions: readonly RegionDescription[], bytesMax: number): void {
  if (regions.length > MEMORY_REGIONS_MAX) {
    throw new VhostError("E2BIG", `at most ${MEMORY_REGIONS_MAX} memory regions`);
  }
  for (const [index, region] of regions.entries()) {
    const { guestAddress, sizeBytes, userAddress, offset } = region;
    const ends = [guestAddress + sizeBytes, userAddress + sizeBytes];
    const wraps = ends.some((end) => end > END_OF_ADDRESSES) || offset + sizeBytes > END_OF_FILES;
    if (sizeBytes === 0n || wraps) {
      throw new VhostError("EINVAL", `memory region ${index} is empty or wraps`, { ...region });
    }
    for (const other of regions.slice(0, index)) {
      const { guestAddress: guest, userAddress: user, sizeBytes: size } = other;
      const isTwice = meets(guestAddress, sizeBytes, guest, size);
      if (!isTwice && !meets(userAddress, sizeBytes, user, size)) continue;
      throw new VhostError("EINVAL", `memory region ${index} overlaps another`, { ...region });
    }
  }
  const total = regions.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0n);
  if (total <= BigInt(bytesMax)) return;
  throw new VhostError("ENOMEM", `${total} bytes of guest memory: at most ${bytesMax} fit`);
}

/** The guest's memory, mapped into the owner's. Changes only while no ring runs. */
export class MemoryTable {
  readonly #dev: VhostDev;
  readonly #map: RegionMap;
  readonly #trust: MemoryTrust;
  #regions: Region[] = [];

  constructor(dev: VhostDev, trust: MemoryTrust) {
    this.#dev = dev;
    this.#map = RegionMap.of(dev.sharedMemory);
    this.#trust = trust;
  }

  /** Whether there is any. */
  get isEmpty(): boolean {
    return this.#regions.length === 0;
  }

  /** Throws what makes the regions unusable, before anything is changed: EINVAL, E2BIG, ENOMEM. */
  check(wanted: readonly RegionDescription[], fds: readonly number[], kept = 0): void {
    const old = this.#regions.slice(0, kept);
    checkDescriptions([...old, ...wanted], this.#dev.sharedMemory.guestBytes);
    for (const [index, part] of wanted.entries()) {
      checkFile(fds[index] as number, part, this.#trust);
    }
  }

  /** Throws what stands against one more region. */
  checkAdded(region: RegionDescription, fd: number): void {
    this.check([region], [fd], this.#regions.length);
  }

  /**
   * These regions and no others; takes their descriptors. The old ones make room first, so that
   * when mapping fails (ENOMEM) there is none left.
   */
  async replace(wanted: readonly RegionDescription[], fds: number[]): Promise<void> {
    await this.clear();
    try {
      for (const region of wanted) await this.#mapOne(region, fds);
      this.publish();
    } catch (error) {
      await this.clear();
      throw error;
    }
  }

  /** Takes the first of `fds`. */
  async #mapOne(region: RegionDescription, fds: number[]): Promise<void> {
    const mapped = await this.#map.map(fds[0] as number, region);
    fds.shift();
    this.#regions.push({ ...region, mapped });
  }

  /** One more region; takes its descriptor. Rejects with EINVAL, ENOMEM; the others stay. */
  async add(region: RegionDescription, fds: number[]): Promise<void> {
    await this.#mapOne(region, fds);
    this.publish();
  }

  /** Throws EINVAL when there is no such region. */
  find({ guestAddress, sizeBytes, userAddress }: RegionDescription): RegionDescription {
    const found = this.#regions.find(
      (region) =>
        region.guestAddress === guestAddress &&
        region.sizeBytes === sizeBytes &&
        region.userAddress === userAddress,
    );
    if (found) return found;
    throw new VhostError("EINVAL", "there is no such memory region", { guestAddress, sizeBytes });
  }

  /** Takes away what `find` gave. */
  async remove(region: RegionDescription): Promise<void> {
    const index = this.#regions.indexOf(region as Region);
    const [removed] = this.#regions.splice(index, 1);
    this.publish();
    await removed?.mapped.release();
  }

  /** Takes all of it away. */
  async clear(): Promise<void> {
    await Promise.all(this.#regions.splice(0).map(({ mapped }) => mapped.release()));
  }

  /** Tells the device where the guest's memory is. */
  publish(): void {
    const regions = this.#regions.map(
      ({ guestAddress, sizeBytes, mapped }): MemoryRegion => ({
        guestAddress,
        sizeBytes,
        linearAddress: mapped.linearAddress,
      }),
    );
    this.#dev.setMemTable(regions);
  }

  /** The guest address of one that the front-end uses itself. Throws EFAULT. */
  toGuest(userAddress: bigint): bigint {
    for (const { userAddress: start, sizeBytes, guestAddress } of this.#regions) {
      const offset = userAddress - start;
      if (offset >= 0n && offset < sizeBytes) return guestAddress + offset;
    }
    throw new VhostError("EFAULT", "a ring lies outside the guest's memory", { userAddress });
  }
}
