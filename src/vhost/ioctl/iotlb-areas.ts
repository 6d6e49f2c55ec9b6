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
import type { IotlbSpace, Piece, Stop } from "./iotlb-space.js";

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
  /** Linear address, or -1: it is not all there. */
  readonly at: number;
}

/** What is known of an area, until the table changes. */
interface Known {
  readonly runs: readonly Run[];
  /** Index of the run that was asked for last. */
  last: number;
}

/**
 * A ring's areas where they lie under addresses that are to be translated, in one piece or in many.
 * What `prefetch` finds is known until the table changes, or what is mapped. Linux: meta_iotlb.
 */
export class IotlbAreas {
  readonly #space: IotlbSpace;
  readonly #areas: VqAreas;
  readonly #bytes: Record<Area, number>;
  readonly #view: DataView;
  readonly #words: Uint16Array<ArrayBufferLike>;
  #known: Partial<Record<Area, Known>> = {};
  /** As of which change of the table, and of what is mapped, that is. */
  #changeCount = -1;
  #userChangeCount = -1;

  constructor(
    memory: WebAssembly.Memory,
    space: IotlbSpace,
    areas: VqAreas,
    num: number,
    features: bigint,
  ) {
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

  /** Looks for all of them. Linux: vq_meta_prefetch(). */
  prefetch(): Stop | undefined {
    this.#forget();
    for (const [area, perm] of PERMS) {
      if (this.#known[area] !== undefined) continue;
      const pieces: Piece[] = [];
      const max = Number.POSITIVE_INFINITY;
      const stop = this.#space.translate(this.#areas[area], this.#bytes[area], perm, pieces, max);
      if (stop) return stop;
      this.#known[area] = { runs: this.#runs(pieces, perm), last: 0 };
    }
    return undefined;
  }

  #runs(pieces: readonly Piece[], perm: number): Run[] {
    const { user } = this.#space;
    let start = 0;
    return pieces.map(({ uaddr, bytes }) => {
      const size = BigInt(bytes);
      const isThere =
        perm === VHOST_ACCESS_WO ? user.isWritable(uaddr, size) : user.isMapped(uaddr, size);
      const run = { start, end: start + bytes, at: isThere ? Number(uaddr) : -1 };
      start = run.end;
      return run;
    });
  }

  /** What was found is of another table. */
  #forget(): void {
    const { table, user } = this.#space;
    const isSame = table.changeCount === this.#changeCount;
    if (isSame && user.changeCount === this.#userChangeCount) return;
    this.#known = {};
    this.#changeCount = table.changeCount;
    this.#userChangeCount = user.changeCount;
  }

  /**
   * Linear address of bytes of an area that are known to lie there in one piece; else -1. A used
   * ring in several pieces is not: see `#word`.
   */
  #near(area: Area, offset: number, bytes: number): number {
    const known = this.#known[area];
    if (known === undefined || (area === "used" && known.runs.length > 1)) return -1;
    let run = known.runs[known.last] as Run;
    if (offset < run.start || offset >= run.end) {
      known.last = runAt(known.runs, offset);
      run = known.runs[known.last] as Run;
    }
    return run.at >= 0 && offset + bytes <= run.end ? run.at + (offset - run.start) : -1;
  }

  /** Copies a descriptor, of a ring whose head was just read. False: it can't be read. */
  readDesc(index: number, into: DataView<ArrayBuffer>): boolean {
    const offset = index * VIRTQ_DESC_BYTES;
    const near = this.#near("desc", offset, VIRTQ_DESC_BYTES);
    if (near >= 0) {
      for (let i = 0; i < VIRTQ_DESC_BYTES; i += 4) {
        into.setUint32(i, this.#view.getUint32(near + i, true), true);
      }
      return true;
    }
    const pieces: Piece[] = [];
    const stop = this.#pieces("desc", offset, VIRTQ_DESC_BYTES, VHOST_ACCESS_RO, pieces);
    return stop === undefined && this.#space.read(pieces, 0, new Uint8Array(into.buffer));
  }

  /** Writes an element of the used ring. False: it can't be written. */
  writeUsed(slot: number, id: number, len: number): boolean {
    this.#forget();
    const offset = VIRTQ_RING_ELEMENTS + slot * VIRTQ_USED_ELEM_BYTES;
    const near = this.#near("used", offset, VIRTQ_USED_ELEM_BYTES);
    if (near >= 0) {
      this.#view.setUint32(near, id, true);
      this.#view.setUint32(near + VIRTQ_USED_ELEM_LEN, len, true);
      return true;
    }
    const elem = new Uint8Array(VIRTQ_USED_ELEM_BYTES);
    const view = new DataView(elem.buffer);
    view.setUint32(0, id, true);
    view.setUint32(VIRTQ_USED_ELEM_LEN, len, true);
    const pieces: Piece[] = [];
    const stop = this.#pieces("used", offset, elem.length, VHOST_ACCESS_WO, pieces);
    return stop === undefined && this.#space.write(pieces, elem);
  }

  #pieces(
    area: Area,
    offset: number,
    bytes: number,
    perm: number,
    pieces: Piece[],
  ): Stop | undefined {
    const iova = BigInt.asUintN(64, this.#areas[area] + BigInt(offset));
    return this.#space.translate(iova, bytes, perm, pieces, Number.POSITIVE_INFINITY);
  }

  /** The u16 at an offset; `undefined`: it can't be read. Acquires: what is behind it is newer. */
  load16(area: Area, offset: number, missed: (stop: Stop) => void): number | undefined {
    const at = this.#word(area, offset, false, missed);
    if (at < 0) return undefined;
    return at % 2 === 0 ? Atomics.load(this.#words, at >>> 1) : this.#view.getUint16(at, true);
  }

  /** Writes a u16 there; false: it can't be written. Releases: what was written before is seen. */
  store16(area: Area, offset: number, value: number, missed: (stop: Stop) => void): boolean {
    const at = this.#word(area, offset, true, missed);
    if (at < 0) return false;
    if (at % 2 === 0) Atomics.store(this.#words, at >>> 1, value);
    else this.#view.setUint16(at, value, true);
    return true;
  }

  /**
   * Linear address of a word in one piece, or -1. Where the area is not known as a whole, the word
   * must be readable, also to be written. Linux: __vhost_get_user_slow().
   */
  #word(area: Area, offset: number, isWrite: boolean, missed: (stop: Stop) => void): number {
    this.#forget();
    const near = this.#near(area, offset, WORD_BYTES);
    if (near >= 0) return near;
    const pieces: Piece[] = [];
    const stop = this.#pieces(area, offset, WORD_BYTES, VHOST_ACCESS_RO, pieces);
    if (stop) missed(stop);
    const [piece, more] = pieces;
    if (stop || piece === undefined || more) return -1;
    const { user } = this.#space;
    const size = BigInt(WORD_BYTES);
    const isThere = isWrite ? user.isWritable(piece.uaddr, size) : user.isMapped(piece.uaddr, size);
    return isThere ? Number(piece.uaddr) : -1;
  }
}

/** Index of the run that has an offset; the runs have all that an area has. */
function runAt(runs: readonly Run[], offset: number): number {
  let low = 0;
  let high = runs.length - 1;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((runs[middle] as Run).end > offset) high = middle;
    else low = middle + 1;
  }
  return low;
}
