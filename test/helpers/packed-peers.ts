// The packed ring by hand: descriptors as they lie in memory, and peers that go by the
// specification and by nothing else. virtio 1.3, 2.8 Packed Virtqueues.

import type { RingKind } from "#dist/ring/load.js";
import { VQ_F_PACKED } from "#dist/spec/ring-state.js";
import {
  PVIRTQ_DESC_FLAGS,
  PVIRTQ_DESC_ID,
  VIRTQ_DESC_BYTES,
  VIRTQ_DESC_F_AVAIL,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_USED,
  VIRTQ_DESC_F_WRITE,
  VIRTQ_DESC_LEN,
} from "#dist/spec/virtio-ring.js";
import type { Access } from "./recorded-ring.js";
import type { RingFixture, RingShape } from "./ring-fixture.js";
import { makePair, type Pair, pieces } from "./split-pair.js";

export const MARKS = VIRTQ_DESC_F_AVAIL | VIRTQ_DESC_F_USED;

/** A descriptor of a packed ring. */
export interface PackedDesc {
  addr: bigint;
  len: number;
  id: number;
  flags: number;
}

/** A packed ring that begins; `flags` are more VQ_F_… bits. */
export function makePacked(kind: RingKind, shape: Partial<RingShape> = {}, flags = 0): Pair {
  return makePair(kind, shape, VQ_F_PACKED | flags);
}

export function readPacked({ view }: RingFixture, at: number): PackedDesc {
  return {
    addr: view.getBigUint64(at, true),
    len: view.getUint32(at + VIRTQ_DESC_LEN, true),
    id: view.getUint16(at + PVIRTQ_DESC_ID, true),
    flags: view.getUint16(at + PVIRTQ_DESC_FLAGS, true),
  };
}

export function writePacked({ view }: RingFixture, at: number, desc: PackedDesc): void {
  view.setBigUint64(at, desc.addr, true);
  view.setUint32(at + VIRTQ_DESC_LEN, desc.len, true);
  view.setUint16(at + PVIRTQ_DESC_ID, desc.id, true);
  view.setUint16(at + PVIRTQ_DESC_FLAGS, desc.flags, true);
}

/** Linear address of descriptor `slot` of the ring. */
export const descAt = (f: RingFixture, slot: number) => f.desc + slot * VIRTQ_DESC_BYTES;

/** AVAIL and USED of a descriptor that is available, in lap `lap` of the ring, from 0. */
export const availableMarks = (lap: number) =>
  lap % 2 === 0 ? VIRTQ_DESC_F_AVAIL : VIRTQ_DESC_F_USED;

/** AVAIL and USED of one that is used then. */
export const usedMarks = (lap: number) => (lap % 2 === 0 ? MARKS : 0);

/** One side by hand: a place that goes round the ring. */
class Hand {
  /** Descriptors passed since the ring began. */
  passed = 0;

  constructor(readonly f: RingFixture) {}

  get slot(): number {
    return this.passed % this.f.num;
  }

  get lap(): number {
    return Math.floor(this.passed / this.f.num);
  }
}

/** A driver by hand. */
export class HandDriver extends Hand {
  /**
   * Makes a list available: the first descriptor last. `flags` of each, without marks and NEXT. The
   * id is the last one's: 2.8.6 Next Flag: Descriptor Chaining.
   */
  offer(id: number, buffers: readonly { addr: bigint; len: number; flags: number }[]): void {
    const { f } = this;
    const late: (() => void)[] = [];
    for (const [i, { addr, len, flags }] of buffers.entries()) {
      const next = i + 1 < buffers.length ? VIRTQ_DESC_F_NEXT : 0;
      const desc = {
        addr,
        len,
        id: next === 0 ? id : 0x7777,
        flags: flags | next | availableMarks(this.lap),
      };
      const at = descAt(f, this.slot);
      late.push(() => writePacked(f, at, desc));
      this.passed++;
    }
    for (const write of late.reverse()) write();
  }

  /** A list of `count` buffers of 8 bytes, the last one writable. */
  offerSome(id: number, count: number): void {
    const all = pieces(this.f, Array(count).fill(8));
    this.offer(
      id,
      all.map(({ linear, bytes }, i) => ({
        addr: this.f.guestOf(linear),
        len: bytes,
        flags: i + 1 === count ? VIRTQ_DESC_F_WRITE : 0,
      })),
    );
  }
}

/** A device by hand. */
export class HandDevice extends Hand {
  /** Uses the list with this id, of `count` descriptors. */
  use(id: number, count: number, len = 0): void {
    const flags = usedMarks(this.lap) | (len > 0 ? VIRTQ_DESC_F_WRITE : 0);
    writePacked(this.f, descAt(this.f, this.slot), { addr: 0n, len, id, flags });
    this.passed += count;
  }
}

/** A store to the descriptor ring. */
export interface DescStore {
  slot: number;
  /** Flags, when they are stored. */
  flags: number | undefined;
  access: Access;
}

/** The stores to the descriptor ring, in order. */
export function descStores(f: RingFixture, all: readonly Access[]): DescStore[] {
  const bytes = f.num * VIRTQ_DESC_BYTES;
  return all
    .filter(({ op, at }) => op === "store" && at >= f.desc && at < f.desc + bytes)
    .map((access) => {
      const offset = access.at - f.desc;
      const slot = Math.floor(offset / VIRTQ_DESC_BYTES);
      const isFlags = (offset % VIRTQ_DESC_BYTES) + access.bytes === VIRTQ_DESC_BYTES;
      const shift = BigInt(8 * (access.bytes - 2));
      const flags = isFlags ? Number(BigInt(access.value) >> shift) : undefined;
      return { slot, flags, access };
    });
}

/** Whether a descriptor's flags have AVAIL and USED differ, as available ones have. */
export const isMarked = (flags: number) =>
  (flags & MARKS) === VIRTQ_DESC_F_AVAIL || (flags & MARKS) === VIRTQ_DESC_F_USED;
