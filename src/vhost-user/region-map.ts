import { fstatSync, statfsSync } from "node:fs";
import { discardFds } from "../linux/discard.js";
import {
  baseAddress,
  MAP_PAGE_BYTES,
  mapFile,
  sealAgainstShrinking,
  unmapFile,
} from "../linux/mapping.js";
import type { SharedMemory } from "../memory/shared-memory.js";
import { VhostError } from "../spec/errno.js";

/** A part of a file in a memory. */
export interface MappedRegion {
  /** Linear address of its first byte. */
  linearAddress: number;
  /** Takes it away, when nobody else of the same memory uses it. Rejects with ENOMEM. */
  release(): Promise<void>;
}

interface Mapping {
  /** Where it is mapped, and how much. */
  address: number;
  bytes: number;
  /** What the arena gave. */
  allocated: number;
  /** Its file: kept, so that unmapping is never the last that holds it, and quick. */
  fd: number;
  users: number;
}

/** The part of a file that is asked for: bytes. */
export interface FilePart {
  offset: bigint;
  sizeBytes: bigint;
}

/** Which files may be mapped: those that can be sealed against shrinking, or all. */
export type MemoryTrust = "sealed" | "any";

const PAGE = BigInt(MAP_PAGE_BYTES);
const HUGETLBFS_MAGIC = 0x958458f6;
/** Larger pages than these do not exist. */
const PAGE_BYTES_MAX = 1 << 30;

/**
 * Throws EINVAL for a file that has not the part or is none, and for one that may shrink later,
 * unless that is trusted: touching bytes that are gone ends the program. Side effect: seals it.
 */
export function checkFile(fd: number, part: FilePart, trust: MemoryTrust): void {
  const isSealed = sealAgainstShrinking(fd); // first: the size that is seen then stays
  if (!isSealed && trust !== "any") {
    throw new VhostError(
      "EINVAL",
      "a region's file could be truncated under us, which would end this program: use a memfd " +
        'that can be sealed (memory-backend-memfd), or trust it (--trust-memory; memory: "any")',
    );
  }
  // Its pages can be taken away without a word, and there may be none left to put in their place.
  if (trust !== "any" && statfsSync(`/proc/self/fd/${fd}`).type === HUGETLBFS_MAGIC) {
    throw new VhostError("EINVAL", "memory of huge pages must be trusted (--trust-memory)");
  }
  const stat = fstatSync(fd, { bigint: true });
  const { size } = stat;
  if (!stat.isFile()) throw new VhostError("EINVAL", "a region's descriptor is no memory file");
  if (part.offset + part.sizeBytes > size) {
    throw new VhostError("EINVAL", "a region goes past the end of its file", { ...part, size });
  }
}

/** What is mapped into one memory. Regions that two devices of a process share are mapped once. */
export class RegionMap {
  readonly #shared: SharedMemory;
  readonly #mappings = new Map<string, Mapping>();
  /** What is being taken away: it takes its place until then. */
  readonly #removals = new Set<Promise<void>>();

  private constructor(shared: SharedMemory) {
    this.#shared = shared;
  }

  static readonly #known = new WeakMap<SharedMemory, RegionMap>();

  /** The one map of `shared`. */
  static of(shared: SharedMemory): RegionMap {
    let known = RegionMap.#known.get(shared);
    if (!known) {
      known = new RegionMap(shared);
      RegionMap.#known.set(shared, known);
    }
    return known;
  }

  /**
   * Maps part of a file that `checkFile` found good. `fd` is ours from now on, unless this rejects:
   * ENOMEM, EINVAL.
   */
  async map(fd: number, { offset, sizeBytes }: FilePart): Promise<MappedRegion> {
    await Promise.all(this.#removals);
    const skip = offset % PAGE;
    const { dev, ino, blksize } = fstatSync(fd, { bigint: true });
    const key = [dev, ino, offset, sizeBytes].join(":");
    let mapping = this.#mappings.get(key);
    if (mapping) {
      void discardFds([fd]);
    } else {
      const pageBytes = pageBytesOf(Number(blksize));
      mapping = this.#add(key, fd, offset - skip, Number(skip + sizeBytes), pageBytes);
    }
    mapping.users++;
    return this.#region(key, mapping, Number(skip));
  }

  #region(key: string, mapping: Mapping, skip: number): MappedRegion {
    let isHeld = true;
    return {
      linearAddress: mapping.address + skip,
      release: async () => {
        if (!isHeld) return;
        isHeld = false;
        if (--mapping.users > 0) return;
        const removal = this.#remove(key, mapping);
        const done = removal.catch(() => {}).finally(() => this.#removals.delete(done));
        this.#removals.add(done);
        await removal;
      },
    };
  }

  #add(key: string, fd: number, offset: bigint, length: number, pageBytes: number): Mapping {
    const bytes = Math.ceil(length / pageBytes) * pageBytes;
    const { memory, guest } = this.#shared;
    const base = baseAddress(memory);
    // Pages of a huge file must lie at multiples of their size: of the address, not of the offset.
    const slack = pageBytes > MAP_PAGE_BYTES ? pageBytes : 0;
    const at = allocate(() => guest.alloc(bytes + slack, MAP_PAGE_BYTES), bytes, guest.freeBytes);
    const address = Math.ceil((base + at) / pageBytes) * pageBytes - base;
    try {
      mapFile(memory, address, bytes, fd, Number(offset));
    } catch (error) {
      guest.free(at);
      throw error;
    }
    const mapping = { address, bytes, allocated: at, fd, users: 0 };
    this.#mappings.set(key, mapping);
    return mapping;
  }

  async #remove(key: string, { address, bytes, allocated, fd }: Mapping): Promise<void> {
    this.#mappings.delete(key);
    try {
      await unmapFile(this.#shared.memory, address, bytes);
      this.#shared.guest.free(allocated);
    } finally {
      await discardFds([fd]);
    }
  }
}

function pageBytesOf(blksize: number): number {
  const isPower = Number.isInteger(Math.log2(blksize));
  return isPower && blksize > MAP_PAGE_BYTES && blksize <= PAGE_BYTES_MAX
    ? blksize
    : MAP_PAGE_BYTES;
}

function allocate(alloc: () => number, bytes: number, freeBytes: number): number {
  try {
    return alloc();
  } catch (error) {
    const facts = { bytes, freeBytes };
    throw new VhostError("ENOMEM", "the guest's memory does not fit in 4 GiB", facts, error);
  }
}
