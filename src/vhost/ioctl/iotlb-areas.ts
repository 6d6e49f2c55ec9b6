import { descBytes } from "../../memory/vring.js";
import { hasFeature } from "../../spec/features.js";
import { VHOST_ACCESS_RO, VHOST_ACCESS_WO } from "../../spec/vhost-iotlb.js";
import { VIRTIO_F_EVENT_IDX } from "../../spec/virtio-config.js";
import {
  VIRTQ_AVAIL_ELEM_BYTES,
  VIRTQ_DESC_BYTES,
  VIRTQ_RING_ELEMENTS,
  VIRTQ_USED_ELEM_BYTES,
} from "../../spec/virtio-ring.js";
import type { VqAreas } from "./access.js";
import type { IotlbSpace, Piece, Stop } from "./iotlb-space.js";

/** One of a ring's areas. */
export type Area = keyof VqAreas;

/** Bytes of the event word at the end of either ring, which is there with EVENT_IDX. */
const EVENT_BYTES = 2;
/** What the device does with each, in the order in which it asks for them. */
const PERMS: readonly (readonly [Area, number])[] = [
  ["desc", VHOST_ACCESS_RO],
  ["avail", VHOST_ACCESS_RO],
  ["used", VHOST_ACCESS_WO],
];

/**
 * A ring's areas where they lie under addresses that are to be translated, in one piece or in many.
 * One area in one piece is found once, until the table changes. Linux: meta_iotlb.
 */
export class IotlbAreas {
  readonly #space: IotlbSpace;
  readonly #areas: VqAreas;
  readonly #bytes: Record<Area, number>;
  readonly #view: DataView;
  readonly #words: Uint16Array<ArrayBufferLike>;
  /** User addresses of areas that lie in one piece. */
  #whole: Partial<Record<Area, bigint>> = {};
  /** Linear address of the descriptors, where all of them can be read there. */
  #nearDesc: number | undefined;
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
      if (this.#whole[area] !== undefined) continue;
      const pieces: Piece[] = [];
      const max = Number.POSITIVE_INFINITY;
      const stop = this.#space.translate(this.#areas[area], this.#bytes[area], perm, pieces, max);
      if (stop) return stop;
      if (pieces.length === 1) this.#whole[area] = pieces[0]?.uaddr as bigint;
    }
    const { desc } = this.#whole;
    const isMapped =
      desc !== undefined && this.#space.user.isMapped(desc, BigInt(this.#bytes.desc));
    this.#nearDesc = isMapped ? Number(desc) : undefined;
    return undefined;
  }

  /** What was found is of another table. */
  #forget(): void {
    const { table, user } = this.#space;
    const isSame = table.changeCount === this.#changeCount;
    if (isSame && user.changeCount === this.#userChangeCount) return;
    this.#whole = {};
    this.#nearDesc = undefined;
    this.#changeCount = table.changeCount;
    this.#userChangeCount = user.changeCount;
  }

  /** Copies a descriptor. False: it can't be read. */
  readDesc(index: number, into: Uint8Array): boolean {
    const offset = index * VIRTQ_DESC_BYTES;
    this.#forget();
    const near = this.#nearDesc;
    if (near !== undefined) {
      for (let i = 0; i < into.length; i++) into[i] = this.#view.getUint8(near + offset + i);
      return true;
    }
    const pieces: Piece[] = [];
    const stop = this.#pieces("desc", offset, into.length, VHOST_ACCESS_RO, pieces);
    return stop === undefined && this.#space.read(pieces, 0, into);
  }

  /** Writes an element of the used ring. False: it can't be written. */
  writeUsed(slot: number, id: number, len: number): boolean {
    const elem = new Uint8Array(VIRTQ_USED_ELEM_BYTES);
    const view = new DataView(elem.buffer);
    view.setUint32(0, id, true);
    view.setUint32(4, len, true);
    const offset = VIRTQ_RING_ELEMENTS + slot * VIRTQ_USED_ELEM_BYTES;
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
    this.#forget();
    const whole = this.#whole[area];
    const far = BigInt(offset);
    if (whole === undefined) {
      const iova = BigInt.asUintN(64, this.#areas[area] + far);
      return this.#space.translate(iova, bytes, perm, pieces, Number.POSITIVE_INFINITY);
    }
    pieces.push({ uaddr: whole + far, bytes });
    return undefined;
  }

  /** The u16 at an offset; `undefined`: it can't be read. Acquires: what is behind it is newer. */
  load16(area: Area, offset: number, missed: (stop: Stop) => void): number | undefined {
    const at = this.#word(area, offset, missed);
    if (at === undefined || !this.#space.user.isMapped(at, 2n)) return undefined;
    const address = Number(at);
    if (address % 2 === 0) return Atomics.load(this.#words, address >>> 1);
    return this.#view.getUint16(address, true);
  }

  /** Writes a u16 there; false: it can't be written. Releases: what was written before is seen. */
  store16(area: Area, offset: number, value: number, missed: (stop: Stop) => void): boolean {
    const at = this.#word(area, offset, missed);
    if (at === undefined || !this.#space.user.isWritable(at, 2n)) return false;
    const address = Number(at);
    if (address % 2 === 0) Atomics.store(this.#words, address >>> 1, value);
    else this.#view.setUint16(address, value, true);
    return true;
  }

  /**
   * User address of a word in one piece. Where the area is not known as a whole, the word must be
   * readable, also to be written. Linux: __vhost_get_user_slow().
   */
  #word(area: Area, offset: number, missed: (stop: Stop) => void): bigint | undefined {
    const pieces: Piece[] = [];
    const stop = this.#pieces(area, offset, 2, VHOST_ACCESS_RO, pieces);
    if (stop) missed(stop);
    return stop === undefined && pieces.length === 1 ? pieces[0]?.uaddr : undefined;
  }
}
