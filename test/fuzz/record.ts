// What a device records besides: where, what the host sets up before it starts, and what must hold.

import { inflightRegionBytes } from "#dist/memory/vring.js";
import * as s from "#dist/spec/ring-state.js";
import { VIRTQ_DESC_BYTES } from "#dist/spec/virtio-ring.js";
import { type Field, must } from "./field.js";
import type { Extent, Layout } from "./layout.js";
import { Random } from "./random.js";

/** Where a device records. */
export interface RecordLayout {
  /** What the front-end shares: it may write there, and the device does. */
  log: Extent;
  inflight: Extent;
  /** Our own side of the in-flight area, and what is to be resubmitted. */
  table: Extent;
  resubmit: Extent;
  /** Guest addresses at which the ring is logged. */
  usedAt: bigint;
  descAt: bigint;
}

/** Bytes that a memory has more, for records. */
export function recordRoom(memoryBytes: number): number {
  return memoryBytes > 65536 ? 48 * 65536 : 4 * 65536;
}

const IDS = 65536;
const NEXT = 1;
const WRITE = 2;
const INDIRECT = 4;
/** Available, with wrap counter 1. */
const AVAIL = 0x80;

/** What makes the seed of what a case records: all else that its seed means stays as it was. */
const RECORDS = 0x1ec0_4d00;

/**
 * Lets the device's layout of a seed record, or not: behind `from`, where the memory has room for
 * it. @returns whether it does.
 */
export function addRecord(layout: Layout, seed: number, from: number): boolean {
  const random = new Random(seed ^ RECORDS);
  if (layout.side !== "device" || random.once(2)) return false;
  const { num, isPacked, isLinux, regions, desc, deviceArea } = layout;
  const isInflight = !isLinux && !random.once(3);
  layout.flags |=
    (random.once(2) ? s.VQ_F_LOG : 0) |
    (random.once(2) ? s.VQ_F_LOG_USED : 0) |
    (isInflight ? s.VQ_F_INFLIGHT : 0);
  let top = from;
  const take = (bytes: number, align: number): Extent => {
    const start = Math.ceil((top + random.below(96)) / align) * align;
    top = start + bytes;
    return { start, bytes };
  };
  const logBytes = random.pick([0, 1, random.between(1, 64), 512]);
  const tableBytes = isPacked ? num * s.INFLIGHT_ENTRY_BYTES + 2 * IDS : 2 * num;
  const { guest, linear } = regions[0] as { guest: bigint; linear: number };
  const addressOf = ({ start }: Extent): bigint =>
    random.pick([
      guest + BigInt(start - linear),
      guest + BigInt(start - linear),
      BigInt(random.below(logBytes * 8 * 4096 + 8192)),
      random.u64() >> 1n,
    ]);
  layout.record = {
    log: take(logBytes, 1),
    inflight: take(isInflight ? inflightRegionBytes(num, isPacked) : 0, 64),
    table: take(isInflight ? tableBytes : 0, 8),
    resubmit: take(isInflight ? num * VIRTQ_DESC_BYTES : 0, 16),
    usedAt: addressOf(deviceArea),
    descAt: addressOf(desc),
  };
  layout.end = top + 64;
  return true;
}

/** The chains in flight of one case, as they should be recorded. */
export class RecordModel {
  readonly #field: Field;
  readonly #isInflight: boolean;
  /** Packed: descriptors of the lists in flight, by id, the last one popped last. */
  readonly #counts = new Map<number, number[]>();

  constructor(field: Field) {
    this.#field = field;
    this.#isInflight = (field.layout.flags & s.VQ_F_INFLIGHT) !== 0;
  }

  /** What is to be resubmitted still: heads; packed: descriptors. */
  get left(): number {
    if (!this.#isInflight) return 0;
    return this.#field.word(s.VQ_RESUBMIT_COUNT) - this.resubmitted;
  }

  /** What was resubmitted so far. */
  get resubmitted(): number {
    return this.#isInflight ? this.#field.word(s.VQ_RESUBMIT_NEXT) : 0;
  }

  /**
   * Host: sets up a table of nothing in flight, or of something to be resubmitted, `limit` heads or
   * descriptors at most.
   */
  prepare(random: Random, limit = 12): void {
    if (!this.#isInflight) return;
    const { isPacked, num, record } = this.#field.layout;
    const { table, inflight } = record as RecordLayout;
    const { bytes, view } = this.#field;
    bytes.fill(0, table.start, table.start + table.bytes);
    bytes.fill(random.pick([0, 0xff]), inflight.start, inflight.start + inflight.bytes);
    const most = random.once(2) ? Math.min(num, limit) : 0;
    const count = isPacked ? this.#makeLists(random, most) : this.#makeHeads(random, most);
    this.#field.setWord(s.VQ_RESUBMIT_COUNT, count);
    this.#field.setWord(s.VQ_RESUBMIT_NEXT, 0);
    view.setBigUint64(this.#field.layout.vq + s.VQ_INFLIGHT_COUNTER, random.u64(), true);
  }

  #makeHeads(random: Random, most: number): number {
    const { num, record } = this.#field.layout;
    const { start } = (record as RecordLayout).resubmit;
    const count = random.between(0, most);
    for (let i = 0; i < count; i++) {
      this.#field.view.setUint16(start + 2 * i, random.below(num), true);
    }
    this.#field.setWord(s.VQ_INFLIGHT_HEAD, 0);
    return count;
  }

  #makeLists(random: Random, most: number): number {
    const { num } = this.#field.layout;
    for (let i = 0; i < num; i++) this.#set(i, s.INFLIGHT_ENTRY_NEXT, i + 1);
    let total = 0;
    for (let lists = random.between(0, most); lists > 0 && total < num; lists--) {
      const id = random.once(4) ? random.below(IDS) : random.below(num);
      if (this.#counts.has(id)) continue;
      const count = Math.min(random.between(1, 3), num - total);
      for (let i = 0; i < count; i++) this.#makeDesc(random, total + i, id, i === count - 1);
      this.#set(total, s.INFLIGHT_ENTRY_LAST, total + count - 1);
      this.#set(total, s.INFLIGHT_ENTRY_COUNT, count);
      this.#set(num, id * 2, total + 1);
      this.#counts.set(id, [count]);
      total += count;
    }
    this.#field.setWord(s.VQ_INFLIGHT_HEAD, total);
    this.#field.setWord(s.VQ_INFLIGHT_OLD, total);
    return total;
  }

  #makeDesc(random: Random, index: number, id: number, isLast: boolean): void {
    const { regions, record } = this.#field.layout;
    const { guest, bytes } = random.pick(regions);
    const offset = random.below(bytes);
    const len = random.between(0, bytes - offset + (random.once(8) ? 64 : 0));
    const kind = random.once(16) ? random.pick([0, INDIRECT]) : WRITE;
    const flags = kind | AVAIL | (isLast ? 0 : NEXT);
    const at = (record as RecordLayout).resubmit.start + index * VIRTQ_DESC_BYTES;
    this.#field.writeDesc(at, BigInt.asUintN(64, guest + BigInt(offset)), len, id, flags);
  }

  #at(entry: number, offset: number): number {
    const { start } = (this.#field.layout.record as RecordLayout).table;
    return start + entry * s.INFLIGHT_ENTRY_BYTES + offset;
  }

  #set(entry: number, offset: number, value: number): void {
    this.#field.view.setUint16(this.#at(entry, offset), value, true);
  }

  /**
   * A burst had these good chains, the first of which were resubmitted: so much was, in all. What
   * was malformed of that is used at once.
   */
  burst(resubmitted: number, heads: readonly number[]): void {
    const { isPacked, record } = this.#field.layout;
    if (!this.#isInflight || !isPacked) return;
    const { start } = (record as RecordLayout).resubmit;
    const end = this.resubmitted;
    let good = 0;
    let count = 1;
    for (let i = end - resubmitted; i < end; i++, count++) {
      const at = start + i * VIRTQ_DESC_BYTES;
      if (this.#field.view.getUint16(at + 14, true) & NEXT) continue;
      const id = this.#field.view.getUint16(at + 12, true);
      if (heads[good] === id + count * 0x1_0000) good++;
      else this.#counts.get(id)?.pop();
      count = 0;
    }
    for (const head of heads.slice(good)) {
      const id = head & 0xffff;
      this.#counts.set(id, [...(this.#counts.get(id) ?? []), head >>> 16]);
    }
  }

  /** Whether a list may be used, as the record has it; then it is no longer in flight. */
  uses(head: number): boolean {
    if (!this.#isInflight || !this.#field.layout.isPacked) return true;
    const counts = this.#counts.get(head & 0xffff);
    if (counts?.at(-1) !== head >>> 16) return false;
    counts.pop();
    return true;
  }

  /** Packed: every entry is free once, or in flight. */
  check(): void {
    const { isPacked, num } = this.#field.layout;
    if (!this.#isInflight) return;
    must(this.left >= 0, "more was resubmitted than there was", this.resubmitted);
    if (!isPacked) return;
    const inFlight = [...this.#counts.values()].flat().reduce((sum, count) => sum + count, 0);
    const seen = new Set<number>();
    for (let entry = this.#field.word(s.VQ_INFLIGHT_HEAD); entry < num; ) {
      must(!seen.has(entry), "free entries form a loop", entry);
      seen.add(entry);
      entry = this.#field.view.getUint16(this.#at(entry, s.INFLIGHT_ENTRY_NEXT), true);
    }
    must(seen.size === num - inFlight, "free entries", seen.size, num - inFlight);
  }
}
