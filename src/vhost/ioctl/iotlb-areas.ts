import { descBytes } from "../../memory/vring.js";
import { hasFeature } from "../../spec/features.js";
import { VHOST_ACCESS_RO, VHOST_ACCESS_WO } from "../../spec/vhost-iotlb.js";
import { VIRTIO_F_EVENT_IDX } from "../../spec/virtio-config.js";
import {
  VIRTQ_AVAIL_ELEM_BYTES,
  VIRTQ_DESC_BYTES,
  VIRTQ_RING_ELEMENTS,
  VIRTQ_USED_ELEM_BYTES,
  VIRTQ_USED_ELEM_LEN,
} from "../../spec/virtio-ring.js";
import type { VqAreas } from "./access.js";
import { firstRow } from "./iotlb-columns.js";
import type { IotlbSpace, Piece, Stop } from "./iotlb-space.js";
import type { LiveSetup } from "./user-live-ring.js";

/** One of a ring's areas. */
export type Area = keyof VqAreas;

/** Bytes of the event word at the end of either ring, which is there with EVENT_IDX. */
const EVENT_BYTES = 2;
const WORD_BYTES = 2;
/** What the device does with each, in the order in which it asks for them. */
const PERMS: readonly (readonly [Area, number])[] = [
  ["desc", VHOST_ACCESS_RO],
  ["avail", VHOST_ACCESS_RO],
  ["used", VHOST_ACCESS_WO],
];

/** A part of an area that lies in one piece. */
interface Run {
  /** Offsets in the area: of its first byte, and behind its last one. */
  readonly start: number;
  readonly end: number;
  /** Where it begins. */
  readonly uaddr: bigint;
  /** The same as a linear address; -1: not all of it is mapped, and may be used as the area is. */
  readonly at: number;
  /** Words in it may be looked at. Linux: __vhost_get_user_slow(). */
  readonly hasWords: boolean;
}

/** Where an area is, by the table that it was looked up in. */
interface Known {
  readonly runs: readonly Run[];
  /** Index of the run that was asked for last. */
  last: number;
}

/**
 * A ring's areas where they lie under addresses that are to be translated, in one piece or in many.
 * What `prefetch` finds is gone by until the next one, also when the table changes meanwhile: so
 * what was popped can be given back. Before the first one, `missed` says who is asked. Linux:
 * meta_iotlb.
 */
export class IotlbAreas {
  readonly #space: IotlbSpace;
  readonly #areas: VqAreas;
  readonly #bytes: Record<Area, number>;
  readonly #view: DataView;
  readonly #words: Uint16Array<ArrayBufferLike>;
  #known: Partial<Record<Area, Known>> = {};
  /** As of which change of the table that is. */
  #changeCount = -1;

  constructor(memory: WebAssembly.Memory, space: IotlbSpace, setup: LiveSetup) {
    const { num, areas, features } = setup;
    const event = hasFeature(features, VIRTIO_F_EVENT_IDX) ? EVENT_BYTES : 0;
    this.#space = space;
    this.#areas = areas;
    this.#bytes = {
      desc: descBytes(num),
      avail: VIRTQ_RING_ELEMENTS + num * VIRTQ_AVAIL_ELEM_BYTES + event,
      used: VIRTQ_RING_ELEMENTS + num * VIRTQ_USED_ELEM_BYTES + event,
    };
    this.#view = new DataView(memory.buffer);
    this.#words = new Uint16Array(memory.buffer);
  }

  /** Looks for all of them, by the table of the moment. Linux: vq_meta_prefetch(). */
  prefetch(): Stop | undefined {
    const { changeCount } = this.#space.table; // first: what changes while it looks is looked at
    if (changeCount !== this.#changeCount) this.#known = {};
    this.#changeCount = changeCount;
    for (const [area, perm] of PERMS) {
      if (this.#known[area] !== undefined) continue;
      const pieces: Piece[] = [];
      const stop = this.#pieces(area, 0, this.#bytes[area], perm, pieces);
      if (stop) return stop;
      this.#known[area] = { runs: this.#runs(area, pieces), last: 0 };
    }
    return undefined;
  }

  #pieces(
    area: Area,
    offset: number,
    bytes: number,
    perm: number,
    into: Piece[],
  ): Stop | undefined {
    const iova = BigInt.asUintN(64, this.#areas[area] + BigInt(offset));
    return this.#space.translate(iova, bytes, perm, into, Number.POSITIVE_INFINITY);
  }

  #runs(area: Area, pieces: readonly Piece[]): Run[] {
    let end = 0;
    return pieces.map(({ uaddr, bytes, perm }) => {
      const start = end;
      end += bytes;
      const at = this.#isThere(area, uaddr, bytes) ? Number(uaddr) : -1;
      const hasWords = pieces.length === 1 || (perm & VHOST_ACCESS_RO) !== 0;
      return { start, end, uaddr, at, hasWords };
    });
  }

  #isThere(area: Area, uaddr: bigint, bytes: number): boolean {
    const { user } = this.#space;
    const size = BigInt(bytes);
    return area === "used" ? user.isWritable(uaddr, size) : user.isMapped(uaddr, size);
  }

  /** The run that has an offset; `undefined`: the area is not known. */
  #run(area: Area, offset: number): Run | undefined {
    const known = this.#known[area];
    if (known === undefined) return undefined;
    const run = known.runs[known.last] as Run;
    if (offset >= run.start && offset < run.end) return run;
    const rows = known.runs.length - 1; // all that an area has: the last has what no other has
    known.last = firstRow(rows, (i) => (known.runs[i] as Run).end > offset);
    return known.runs[known.last];
  }

  /** Linear address of bytes of an area that is known, which lie in one piece; -1: they don't. */
  #at(area: Area, offset: number, bytes: number, isWord = false): number {
    const run = this.#run(area, offset);
    if (run === undefined || offset + bytes > run.end || (isWord && !run.hasWords)) return -1;
    if (run.at >= 0) return run.at + (offset - run.start);
    const uaddr = run.uaddr + BigInt(offset - run.start);
    return this.#isThere(area, uaddr, bytes) ? Number(uaddr) : -1;
  }

  /** Copies a descriptor, of a ring whose head was just read. False: it can't be read. */
  readDesc(index: number, into: DataView<ArrayBuffer>): boolean {
    const offset = index * VIRTQ_DESC_BYTES;
    const near = this.#at("desc", offset, VIRTQ_DESC_BYTES);
    for (let i = 0; near >= 0 && i < VIRTQ_DESC_BYTES; i += 4) {
      into.setUint32(i, this.#view.getUint32(near + i, true), true);
    }
    if (near >= 0) return true;
    for (let i = 0; i < VIRTQ_DESC_BYTES; i++) {
      const at = this.#at("desc", offset + i, 1);
      if (at < 0) return false;
      into.setUint8(i, this.#view.getUint8(at));
    }
    return true;
  }

  /** Writes an element of the used ring. False: it can't be written, and was not. */
  writeUsed(slot: number, id: number, len: number): boolean {
    const offset = VIRTQ_RING_ELEMENTS + slot * VIRTQ_USED_ELEM_BYTES;
    const near = this.#at("used", offset, VIRTQ_USED_ELEM_BYTES);
    if (near < 0) return this.#writeUsedApart(offset, id, len);
    this.#view.setUint32(near, id, true);
    this.#view.setUint32(near + VIRTQ_USED_ELEM_LEN, len, true);
    return true;
  }

  #writeUsedApart(offset: number, id: number, len: number): boolean {
    const elem = new DataView(new ArrayBuffer(VIRTQ_USED_ELEM_BYTES));
    elem.setUint32(0, id, true);
    elem.setUint32(VIRTQ_USED_ELEM_LEN, len, true);
    const places = Array.from({ length: VIRTQ_USED_ELEM_BYTES }, (_, i) =>
      this.#at("used", offset + i, 1),
    );
    if (places.some((at) => at < 0)) return false;
    for (const [i, at] of places.entries()) this.#view.setUint8(at, elem.getUint8(i));
    return true;
  }

  /** Where bytes of the used ring lie, to be logged; nowhere, as far as that is not known. */
  usedPieces(offset: number, bytes: number): readonly Piece[] {
    const pieces: Piece[] = [];
    if (!this.#known.used) this.#pieces("used", offset, bytes, VHOST_ACCESS_WO, pieces);
    for (const { start, end, uaddr } of this.#known.used?.runs ?? []) {
      const from = Math.max(start, offset);
      const size = Math.min(end, offset + bytes) - from;
      if (size <= 0) continue;
      pieces.push({ uaddr: uaddr + BigInt(from - start), bytes: size, perm: VHOST_ACCESS_WO });
    }
    return pieces;
  }

  /** The u16 at an offset; `undefined`: it can't be read. Acquires: what is behind it is newer. */
  load16(area: Area, offset: number, missed?: (stop: Stop) => void): number | undefined {
    const at = this.#word(area, offset, missed);
    if (at < 0) return undefined;
    return at % 2 === 0 ? Atomics.load(this.#words, at >>> 1) : this.#view.getUint16(at, true);
  }

  /** Writes a u16 there; false: it can't be written. Releases: what was written before is seen. */
  store16(area: Area, offset: number, value: number, missed?: (stop: Stop) => void): boolean {
    const at = this.#word(area, offset, missed);
    if (at < 0) return false;
    if (at % 2 === 0) Atomics.store(this.#words, at >>> 1, value);
    else this.#view.setUint16(at, value, true);
    return true;
  }

  /**
   * Linear address of a word in one piece, or -1. `missed`: before anything is known, it is looked
   * up, and must be readable, also to be written. Linux: __vhost_get_user_slow().
   */
  #word(area: Area, offset: number, missed?: (stop: Stop) => void): number {
    if (!missed || this.#known[area] !== undefined) return this.#at(area, offset, WORD_BYTES, true);
    const pieces: Piece[] = [];
    const stop = this.#pieces(area, offset, WORD_BYTES, VHOST_ACCESS_RO, pieces);
    if (stop) missed(stop);
    const [piece, more] = pieces;
    if (stop || piece === undefined || more) return -1;
    return this.#isThere(area, piece.uaddr, WORD_BYTES) ? Number(piece.uaddr) : -1;
  }
}
