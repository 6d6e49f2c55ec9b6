import type { MemoryRegion } from "../../memory/guest-memory.js";
import { GUEST_BASE, type SharedMemory } from "../../memory/shared-memory.js";

/** The first address that is none: 2^64. */
export const TOP = 1n << 64n;

/** Bytes of the canaries round each region. */
const GAP_BYTES = 4096;
/** Bytes of the second region: it holds a table of more than 1024 entries. */
const SECOND_BYTES = 32 * 1024;
/** Bytes of the third region. */
const TOP_BYTES = 4096;
const PAGE_BYTES = 4096;

interface Extent {
  start: number;
  bytes: number;
}

const canary = (at: number): number => (at * 7 + (at >>> 8)) & 0xff;

/** A ring's area: linear address, bytes. */
export interface HostileArea {
  address: number;
  bytes: number;
}

/**
 * A small machine's memory, inside one allocation of the guest part: three regions, with canaries
 * before, between and behind them which no guest address reaches. Region 0 is the driver's main
 * one; region 1 adjoins it in guest addresses, and nothing adjoins that; region 2 ends with the
 * addresses themselves, at 2^64. One thread.
 */
export class HostileMemory {
  /** The memory table that the device gets. */
  readonly regions: readonly [MemoryRegion, MemoryRegion, MemoryRegion];
  /** All of the process's memory. */
  readonly bytes: Uint8Array<ArrayBufferLike>;
  /** The same, for numbers. */
  readonly view: DataView;
  /** The same, for what is shared with the device: indexes and flags. */
  readonly u16: Uint16Array<ArrayBufferLike>;
  /** Where all of it is, canaries too: linear address and bytes. */
  readonly extent: Readonly<Extent>;
  readonly #shared: SharedMemory;
  readonly #gaps: Extent[];
  #guarded: Extent[] = [];

  /** `mainBytes`: of region 0, whole pages. Throws ENOMEM. */
  constructor(shared: SharedMemory, mainBytes: number) {
    this.#shared = shared;
    this.bytes = shared.bytes;
    this.view = shared.view;
    this.u16 = new Uint16Array(shared.memory.buffer);
    const sizes = [mainBytes, SECOND_BYTES, TOP_BYTES] as const;
    const all = sizes.reduce((sum, bytes) => sum + bytes + GAP_BYTES, GAP_BYTES);
    this.extent = { start: shared.allocGuest(all, PAGE_BYTES), bytes: all };
    const second = GUEST_BASE + BigInt(mainBytes);
    const guests = [GUEST_BASE, second, TOP - BigInt(TOP_BYTES)];
    let at = this.extent.start;
    this.#gaps = [{ start: at, bytes: GAP_BYTES }];
    const regions = sizes.map((bytes, i): MemoryRegion => {
      const linearAddress = at + GAP_BYTES;
      at = linearAddress + bytes;
      this.#gaps.push({ start: at, bytes: GAP_BYTES });
      return { guestAddress: guests[i] as bigint, sizeBytes: BigInt(bytes), linearAddress };
    });
    this.regions = regions as [MemoryRegion, MemoryRegion, MemoryRegion];
    this.clear();
  }

  /** Zeroes the regions, writes the canaries round them; those of `guard` are forgotten. */
  clear(): void {
    for (const { linearAddress, sizeBytes } of this.regions) {
      this.bytes.fill(0, linearAddress, linearAddress + Number(sizeBytes));
    }
    this.guardRegionsOnly();
  }

  /** Canaries inside the regions are forgotten, as for a device that is made to write anywhere. */
  guardRegionsOnly(): void {
    this.#guarded = [];
    for (const gap of this.#gaps) this.guard(gap.start, gap.bytes);
  }

  /** Writes canaries over bytes that nobody may change from now on. Linear address. */
  guard(start: number, bytes: number): void {
    for (let at = start; at < start + bytes; at++) this.bytes[at] = canary(at);
    this.#guarded.push({ start, bytes });
  }

  /** Linear address of the first canary that was changed. */
  get damagedAt(): number | undefined {
    for (const { start, bytes } of this.#guarded) {
      for (let at = start; at < start + bytes; at++) if (this.bytes[at] !== canary(at)) return at;
    }
    return undefined;
  }

  /** Guest address of a region's first byte. */
  startOf(region: 0 | 1 | 2): bigint {
    return this.regions[region].guestAddress;
  }

  /** Guest address of the byte after a region. */
  endOf(region: 0 | 1 | 2): bigint {
    return this.regions[region].guestAddress + this.regions[region].sizeBytes;
  }

  /** So many bytes at a guest address that is in a region. */
  area(guest: bigint, bytes: number): HostileArea {
    return { address: this.toLinear(guest), bytes };
  }

  /** Stores a u16 at a linear address, atomically: a device may look on. Cuts `value`. */
  storeU16(at: number, value: number): void {
    Atomics.store(this.u16, at >>> 1, value & 0xffff);
  }

  /** Linear address of a guest address that is in a region. */
  toLinear(guest: bigint): number {
    const home = this.regions.find(
      ({ guestAddress, sizeBytes }) => guest >= guestAddress && guest < guestAddress + sizeBytes,
    );
    if (!home) throw new RangeError(`0x${guest.toString(16)} is in no region`);
    return home.linearAddress + Number(guest - home.guestAddress);
  }

  /** Guest address of a linear address in region 0. */
  toGuest(linear: number): bigint {
    return this.regions[0].guestAddress + BigInt(linear - this.regions[0].linearAddress);
  }

  /** Writes to guest addresses that are in regions, across regions too. */
  write(guest: bigint, bytes: Uint8Array): void {
    let done = 0;
    for (const { start, bytes: length } of this.#pieces(guest, bytes.length)) {
      this.bytes.set(bytes.subarray(done, done + length), start);
      done += length;
    }
  }

  /** What lies at guest addresses that are in regions, across regions too. */
  read(guest: bigint, lengthBytes: number): Uint8Array {
    const all = new Uint8Array(lengthBytes);
    let done = 0;
    for (const { start, bytes } of this.#pieces(guest, lengthBytes)) {
      all.set(this.bytes.subarray(start, start + bytes), done);
      done += bytes;
    }
    return all;
  }

  /** Where a range lies: a piece for each region. */
  #pieces(guest: bigint, lengthBytes: number): Extent[] {
    const pieces: Extent[] = [];
    for (let done = 0; done < lengthBytes; ) {
      const start = this.toLinear(guest + BigInt(done));
      const home = this.regions.find(({ linearAddress, sizeBytes }) => {
        return start >= linearAddress && start < linearAddress + Number(sizeBytes);
      }) as MemoryRegion;
      const room = home.linearAddress + Number(home.sizeBytes) - start;
      pieces.push({ start, bytes: Math.min(room, lengthBytes - done) });
      done += room;
    }
    return pieces;
  }

  /** Gives it back. The device must not have it any more. */
  free(): void {
    this.#shared.guest.free(this.extent.start);
  }
}
