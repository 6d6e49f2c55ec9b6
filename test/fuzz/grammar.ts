// What a hostile driver puts into a ring: chains that are almost valid, then random damage.

import { VQ_AVAIL_SEEN, VQ_LAST_AVAIL } from "#dist/spec/ring-state.js";
import {
  VIRTQ_DESC_F_INDIRECT as INDIRECT,
  VIRTQ_DESC_F_NEXT as NEXT,
  VIRTQ_DESC_F_WRITE as WRITE,
} from "#dist/spec/virtio-ring.js";
import type { Field } from "./field.js";
import type { Extent, Layout } from "./layout.js";
import type { Random } from "./random.js";

/** A descriptor but for how it goes on. */
interface Piece {
  addr: bigint;
  len: number;
  flags: number;
}

const TOP = 1n << 64n;
const WILD_LENGTHS = [0, 0xffff_ffff, 0x8000_0000, 0x7fff_ffff, 0xffff_fff0, 0x10_0000, 0x10_0010];
const WRAP = 0x8000;

/** AVAIL and USED of a descriptor that is available at `position`. */
export const availableAt = (position: number): number => (position & WRAP ? 0x80 : 0x8000);

/** A position of a packed ring, `count` descriptors on. */
export function movedOn(position: number, count: number, num: number): number {
  const index = (position & 0x7fff) + (count % num);
  const lap = (Math.floor(count / num) % 2) * WRAP;
  const flipped = index < num ? position & WRAP : ~position & WRAP;
  return (index % num) | (flipped ^ lap);
}

/** Writes the driver's side of a ring, at random. */
export class Grammar {
  readonly #field: Field;
  readonly #layout: Layout;
  readonly #random: Random;
  /** Where damage is likely to matter. */
  readonly #hot: Extent[];

  constructor(field: Field, random: Random) {
    this.#field = field;
    this.#layout = field.layout;
    this.#random = random;
    const { desc, driver, deviceArea, record } = field.layout;
    this.#hot = [desc, driver, deviceArea, ...(record ? [record.log, record.inflight] : [])];
  }

  /** What damage is done to: areas, and the tables written so far. */
  get hot(): readonly Extent[] {
    return this.#hot;
  }

  // ── addresses, buffers, tables ────────────────────────────────────────────────────────────────

  #buffer(): { addr: bigint; len: number } {
    const random = this.#random;
    const { guest, bytes } = random.pick(this.#layout.regions);
    if (random.once(12)) return this.#wildBuffer(guest, bytes);
    const offset = random.below(bytes);
    const room = bytes - offset;
    const len = random.once(6) ? room + random.below(64) : random.between(0, Math.min(room, 96));
    return { addr: guest + BigInt(offset), len };
  }

  #wildBuffer(guest: bigint, bytes: number): { addr: bigint; len: number } {
    const random = this.#random;
    const len = random.once(2) ? random.between(1, 64) : random.pick(WILD_LENGTHS);
    const { linear } = random.pick(this.#layout.regions);
    const addr = random.pick([
      guest,
      guest - 1n,
      guest + BigInt(bytes),
      guest + BigInt(bytes) - BigInt(len),
      TOP - BigInt(len),
      TOP - 1n,
      0n,
      BigInt(linear),
      BigInt(this.#layout.vq),
      random.u64(),
    ]);
    return { addr: BigInt.asUintN(64, addr), len };
  }

  #pieces(count: number): Piece[] {
    const random = this.#random;
    const readable = random.between(0, count);
    return Array.from({ length: count }, (_, i) => {
      const isReadable = random.once(40) ? random.once(2) : i < readable;
      const odd = random.once(60) ? 1 << random.below(16) : 0;
      return { ...this.#buffer(), flags: (isReadable ? 0 : WRITE) ^ odd };
    });
  }

  /** A descriptor for a table, which is written. */
  #table(): Piece {
    const random = this.#random;
    const count = random.once(10) ? random.between(1, 200) : random.between(1, 12);
    const { guest, bytes } = random.pick(this.#layout.regions);
    const room = Math.max(bytes - count * 16, 0);
    const offset = random.once(5) ? random.below(bytes) : random.between(0, room);
    const addr = BigInt.asUintN(64, guest + BigInt(offset));
    const values = Buffer.alloc(count * 16);
    for (const [i, piece] of this.#pieces(count).entries()) {
      const isLast = i === count - 1 && !random.once(10);
      const next = random.once(30) ? random.below(count + 2) : i + 1;
      values.writeBigUInt64LE(BigInt.asUintN(64, piece.addr), i * 16);
      values.writeUInt32LE(piece.len, i * 16 + 8);
      values.writeUInt16LE((piece.flags | (isLast ? 0 : NEXT)) & 0xffff, i * 16 + 12);
      values.writeUInt16LE(next & 0xffff, i * 16 + 14);
    }
    this.#field.writeGuest(addr, values);
    this.#noteTable(addr, values.length);
    const odd = random.once(12) ? random.pick([-16, 8, 16, 0x10_0000]) : 0;
    const flags = INDIRECT | (random.once(16) ? WRITE : 0) | (random.once(24) ? NEXT : 0);
    return { addr, len: Math.max(count * 16 + odd, 0), flags };
  }

  #noteTable(addr: bigint, bytes: number): void {
    const home = this.#layout.regions.find(
      ({ guest, bytes: size }) => addr >= guest && addr < guest + BigInt(size),
    );
    if (!home || this.#hot.length > 24) return;
    const offset = Number(addr - home.guest);
    this.#hot.push({ start: home.linear + offset, bytes: Math.min(bytes, home.bytes - offset) });
  }

  /** Pieces of one chain, in the ring. */
  #chain(most: number): Piece[] {
    const random = this.#random;
    const count = random.once(12) ? random.between(1, most) : random.between(1, Math.min(most, 5));
    const pieces = this.#pieces(count);
    if (random.once(3)) pieces[random.once(5) ? random.below(count) : count - 1] = this.#table();
    return pieces;
  }

  // ── split rings ───────────────────────────────────────────────────────────────────────────────

  /** Offers up to `count` entries of a split ring, behind those that were popped. */
  offerSplit(count: number): void {
    const { num, driver } = this.#layout;
    const { view } = this.#field;
    const random = this.#random;
    const last = this.#field.word(VQ_LAST_AVAIL);
    const heads: number[] = [];
    for (let i = 0; i < count; i++) {
      const isKnown = heads.length > 0 && random.once(3);
      heads.push(isKnown ? random.pick(heads) : this.#writeChain());
    }
    for (const [i, head] of heads.entries()) {
      const slot = (last + i) & (num - 1);
      const value = random.once(200) ? random.pick([num, 0xffff, num + 1]) : head;
      view.setUint16(driver.start + 4 + slot * 2, value, true);
    }
    const ahead = random.once(24) ? random.pick([num, num + 1, 0x8000, 0xffff, 0]) : count;
    view.setUint16(driver.start + 2, (last + ahead) & 0xffff, true);
  }

  /** Writes a chain anywhere in the table. @returns its head. */
  #writeChain(): number {
    const random = this.#random;
    const { num, desc } = this.#layout;
    const step = random.once(3) ? random.between(1, 7) | 1 : 1;
    const head = random.below(num);
    const pieces = this.#chain(Math.min(num, 64));
    for (const [i, { addr, len, flags }] of pieces.entries()) {
      const at = (head + i * step) % num;
      const wild = random.once(80) ? random.pick([num, 0xffff, head, at]) : 0;
      const isLast = i === pieces.length - 1 && !random.once(40);
      const next = wild || (head + (i + 1) * step) % num;
      const all = (flags | (isLast ? 0 : NEXT)) & 0xffff;
      this.#field.writeDesc(desc.start + at * 16, BigInt.asUintN(64, addr), len, all, next);
    }
    return head;
  }

  // ── packed rings ──────────────────────────────────────────────────────────────────────────────

  /** Offers up to `count` lists of a packed ring, from where the device looks next. */
  offerPacked(count: number): void {
    const { num, desc } = this.#layout;
    const random = this.#random;
    const seen = random.once(3) ? VQ_AVAIL_SEEN : VQ_LAST_AVAIL;
    let position = this.#field.word(seen);
    let left = num;
    for (let list = 0; list < count && left > 0; list++) {
      const pieces = this.#chain(Math.min(left, 64));
      const id = random.once(16) ? random.below(0x1_0000) : random.below(num);
      for (const [i, { addr, len, flags }] of pieces.entries()) {
        const next = i === pieces.length - 1 && !random.once(60) ? 0 : NEXT;
        const marks = random.once(100) ? random.pick([0, 0x8080]) : availableAt(position);
        const at = desc.start + (position & 0x7fff) * 16;
        const all = ((flags & 0x7f7f) | next | marks) & 0xffff;
        this.#field.writeDesc(at, BigInt.asUintN(64, addr), len, id, all);
        position = movedOn(position, 1, num);
      }
      left -= pieces.length;
    }
  }

  // ── both ──────────────────────────────────────────────────────────────────────────────────────

  /** What the driver asks the device for. */
  askForCalls(): void {
    const { driver, num, isPacked } = this.#layout;
    const random = this.#random;
    const { view } = this.#field;
    if (isPacked) {
      const position = random.below(num) | (random.once(2) ? WRAP : 0);
      const value = random.once(4) ? random.u32() : position | (random.below(4) << 16);
      view.setUint32(driver.start, value, true);
      return;
    }
    view.setUint16(driver.start, random.once(8) ? random.u32() & 0xffff : random.below(2), true);
    view.setUint16(driver.start + 4 + num * 2, random.u32() & 0xffff, true);
  }

  /** Offers something. */
  offer(): void {
    const random = this.#random;
    const count = random.between(0, Math.min(this.#layout.num, random.once(4) ? 40 : 8));
    if (this.#layout.isPacked) this.offerPacked(count);
    else this.offerSplit(count);
    if (random.once(3)) this.askForCalls();
  }

  /** Damages what is there, in `times` places. */
  mutate(times: number): void {
    const random = this.#random;
    const { view, bytes } = this.#field;
    for (let i = 0; i < times; i++) {
      const { start, bytes: length } = random.pick(this.#hot);
      if (length === 0) continue;
      const at = start + random.below(length);
      const kind = random.below(6);
      if (kind === 0) bytes[at] = (bytes[at] as number) ^ (1 << random.below(8));
      else if (kind === 1) bytes[at] = random.u32() & 0xff;
      else if (kind === 2) bytes[at] = ((bytes[at] as number) + random.pick([1, 255])) & 0xff;
      else if (kind === 3) this.#copyDesc(start, length);
      else {
        const even = at & ~1;
        if (even < start || even + 2 > start + length) continue;
        view.setUint16(even, random.pick([0, 1, 0x7fff, 0x8000, 0xffff, this.#layout.num]), true);
      }
    }
  }

  /** Sixteen bytes to another place of the same range. */
  #copyDesc(start: number, length: number): void {
    const slots = Math.floor(length / 16);
    if (slots < 2) return;
    const from = start + this.#random.below(slots) * 16;
    this.#field.bytes.copyWithin(start + this.#random.below(slots) * 16, from, from + 16);
  }
}
