// A hostile device against the driver's side: adds, publishes, asks, takes, with writes by the
// device in between.

import type { DriverRing } from "#dist/ring/ring.js";
import * as s from "#dist/spec/ring-state.js";
import { type Field, must } from "./field.js";
import { movedOn } from "./grammar.js";
import type { Layout } from "./layout.js";
import type { Random } from "./random.js";

/** A chain that was added and not yet taken. */
interface Added {
  /** Descriptors of the ring. */
  need: number;
  inBytes: number;
}

/** What a record asks for. */
interface Asked {
  pieces: number;
  /** Undefined: a mistake. */
  added: Added | undefined;
}

/** Entries of the iovec table that each record has, unless it is the last. */
const PIECES = 5;

const LENGTHS = [0, 1, 7, 512, 4096, 0xffff, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff];

/** Drives a driver's side, and checks each answer. */
class DriverCase {
  readonly #field: Field;
  readonly #layout: Layout;
  readonly #ring: DriverRing;
  readonly #random: Random;
  /** Every answer, in order: the twin's must be the same. */
  readonly answers: number[] = [];
  /** By head, in the order in which they were added. */
  readonly #added = new Map<number, Added>();
  #free = 0;

  constructor(field: Field, ring: DriverRing, random: Random) {
    this.#field = field;
    this.#layout = field.layout;
    this.#ring = ring;
    this.#random = random;
  }

  /** Empties the ring, which writes to the device's area too. */
  reset(): void {
    const { num, deviceArea } = this.#layout;
    this.#field.guard([deviceArea]);
    this.#field.remember();
    this.#ring.reset();
    this.#field.compare();
    this.#field.guard();
    this.#added.clear();
    this.#free = num;
    this.#check();
  }

  #check(): void {
    const inFlight = this.#field.word(s.VQ_IN_FLIGHT);
    must(inFlight === this.#added.size, "in flight", inFlight, this.#added.size);
    const free = this.#field.word(s.VQ_NUM_FREE);
    must(free === this.#free, "free descriptors", free, this.#free);
    this.#field.checkErrors();
  }

  /** Every free descriptor (packed: id) is in the list once, and none that is in flight. */
  checkFreeList(): void {
    const { num, isPacked, isInOrder, table } = this.#layout;
    if (isInOrder) return;
    const seen = new Set<number>();
    let at = this.#field.word(s.VQ_FREE_HEAD);
    for (let left = isPacked ? num - this.#added.size : this.#free; left > 0; left--) {
      must(at < num && !seen.has(at) && !this.#added.has(at), "the free list", at);
      seen.add(at);
      at = this.#field.view.getUint16(table + at * s.SHADOW_BYTES + s.SHADOW_NEXT, true);
    }
  }

  // ── adding ────────────────────────────────────────────────────────────────────────────────────

  #writeRecord(record: number, iovStart: number): Asked {
    const random = this.#random;
    const { iovCapacity, num, flags, indirect, indirectCapacity } = this.#layout;
    const room = Math.max(iovCapacity - iovStart, 0);
    const total = random.once(24) ? random.between(0, room + 1) : random.between(1, 4);
    const outCount = random.between(0, total);
    const start = random.once(80) ? random.pick([iovCapacity, 0xffff_ffff]) : iovStart;
    const isWild = random.once(80);
    this.#field.setRecord(record, s.CHAIN_IOV_START, start);
    this.#field.setRecord(record, s.CHAIN_OUT_COUNT, isWild ? 0xffff_ffff : outCount);
    this.#field.setRecord(record, s.CHAIN_IN_COUNT, total - outCount);
    if (isWild || total === 0 || start + total > iovCapacity)
      return { pieces: total, added: undefined };
    let bytes = 0;
    let inBytes = 0;
    for (let i = 0; i < total; i++) {
      const len = random.once(40) ? random.pick(LENGTHS) : random.below(4096);
      const at = this.#layout.iov + (start + i) * s.IOV_BYTES;
      this.#field.view.setUint32(at, random.u32(), true);
      this.#field.view.setUint32(at + s.IOV_LENGTH, len, true);
      bytes += len;
      if (i >= outCount) inBytes += len;
    }
    const hasTables = (flags & s.VQ_F_INDIRECT) !== 0 && indirect.start !== 0;
    const need = hasTables && total > 1 && total <= indirectCapacity ? 1 : total;
    const isMistake = bytes >= 2 ** 32 || total > num;
    return { pieces: total, added: isMistake ? undefined : { need, inBytes } };
  }

  /** Adds a burst; what has to come of it is known. */
  add(): void {
    const { chainCapacity, iovCapacity } = this.#layout;
    const count = this.#random.between(0, 8);
    const asked: Asked[] = [];
    for (let i = 0; i < Math.min(count, chainCapacity); i++) {
      const iovStart = i * PIECES;
      if (iovStart + PIECES > iovCapacity && i > 0) break;
      const one = this.#writeRecord(i, iovStart);
      asked.push(one);
      if (!one.added || one.pieces > PIECES) break;
    }
    this.#field.remember();
    const errors = this.#field.word(s.VQ_ERROR_COUNTS);
    const got = this.#ring.addBufs(asked.length);
    this.#field.compare();
    let expected = 0;
    let isMistake = false;
    for (const { added } of asked) {
      isMistake = added === undefined;
      if (!added || added.need > this.#free) break;
      this.#note(expected++, added);
    }
    const answer = isMistake && expected === 0 ? -s.VRING_E_CHAIN : expected;
    must(got === answer, "addBufs", got, answer);
    const counted = this.#field.word(s.VQ_ERROR_COUNTS) - errors;
    must(counted === Number(isMistake), "mistakes counted", counted);
    this.answers.push(got);
    this.#check();
  }

  #note(record: number, added: Added): void {
    const head = this.#field.record(record, s.CHAIN_HEAD);
    must(head < this.#layout.num, "a head", head);
    must(!this.#added.has(head), "a head that is in flight", head);
    this.#added.set(head, added);
    this.#free -= added.need;
  }

  // ── taking ────────────────────────────────────────────────────────────────────────────────────

  /** Takes. @returns what `getBufs` says. */
  take(max: number): number {
    const { isPacked, isInOrder, chainCapacity } = this.#layout;
    const got = this.#ring.getBufs(max);
    this.answers.push(got);
    must(got <= Math.min(max, chainCapacity), "more than asked for", got, max);
    if (got < 0) {
      const mayBe = isPacked ? [s.VRING_E_USED_ID] : [s.VRING_E_USED_INDEX, s.VRING_E_USED_ID];
      must(mayBe.includes(-got), "no refusal of getBufs", got);
      must(-got === this.#field.word(s.VQ_ERROR), "not the refusal that stands", got);
    }
    for (let i = 0; i < got; i++) {
      const head = this.#field.record(i, s.CHAIN_HEAD);
      const added = this.#added.get(head);
      if (!added) return must(false, "took what was not in flight", head) as never;
      const [oldest] = this.#added.keys();
      must(!isInOrder || head === oldest, "out of order", head, oldest ?? "");
      const usedBytes = this.#field.record(i, s.CHAIN_USED_BYTES);
      must(usedBytes <= added.inBytes, "used bytes", usedBytes, added.inBytes);
      this.answers.push(head, usedBytes);
      this.#added.delete(head);
      this.#free += added.need;
    }
    this.#check();
    return got;
  }

  /** Takes until there is nothing or a refusal: no more calls than are in flight, and one. */
  drain(): void {
    const limit = this.#added.size + 1;
    for (let calls = 0; calls < limit; calls++) {
      if (this.take(this.#random.between(1, this.#layout.chainCapacity)) <= 0) return;
    }
    must(this.#added.size === 0, "still something after so many calls", limit);
  }

  /** Publishes, and asks whether to kick; at once a second time: no more. */
  signal(): void {
    this.#ring.publish();
    this.answers.push(Number(this.#ring.kickNeeded()));
    must(!this.#ring.kickNeeded(), "kicked twice for the same");
    const next = this.#field.word(s.VQ_AVAIL_NEXT);
    must(next === this.#field.word(s.VQ_AVAIL_PUBLISHED), "something is staged after publish");
  }

  /** One call at random. */
  step(): void {
    const random = this.#random;
    const kind = random.below(12);
    if (kind < 5) this.add();
    else if (kind < 7) this.signal();
    else if (kind < 10) this.take(random.once(8) ? random.pick([0, 0xffff]) : random.below(20));
    else if (kind === 10) this.answers.push(Number(this.#ring.enableCall()));
    else this.#ring.disableCall();
    this.#check();
  }

  // ── the device ────────────────────────────────────────────────────────────────────────────────

  /** A used id and length, mostly of what is in flight. */
  #used(heads: readonly number[]): { id: number; len: number; need: number } {
    const random = this.#random;
    const head = heads.length > 0 ? random.pick(heads) : 0;
    const isWild = random.once(24);
    const id = isWild ? random.pick([this.#layout.num, random.u32(), head | 0x1_0000]) : head;
    const added = this.#added.get(head);
    const len = random.once(6) ? random.u32() : random.below((added?.inBytes ?? 0) + 1);
    return { id, len, need: added?.need ?? 1 };
  }

  /** Uses some chains, almost as it should be. */
  use(): void {
    const { num, isPacked, isInOrder, desc, deviceArea } = this.#layout;
    const random = this.#random;
    const { view } = this.#field;
    let heads = [...this.#added.keys()];
    if (!isInOrder) heads = random.shuffled(heads);
    const count = random.between(0, Math.min(heads.length + Number(random.once(12)), num));
    let at = this.#field.word(s.VQ_LAST_USED);
    for (let i = 0; i < count; i++) {
      const mine = random.once(16) ? heads : heads.slice(i, i + 1);
      const { id, len, need } = this.#used(mine);
      const slot = isPacked
        ? desc.start + (at & 0x7fff) * 16
        : deviceArea.start + 4 + (at & (num - 1)) * 8;
      view.setUint32(slot + (isPacked ? 8 : 4), len, true);
      if (isPacked) {
        const marks = (at & 0x8000 ? 0x8080 : 0) | (random.once(6) ? 0 : 2);
        view.setUint16(slot + 12, id, true);
        view.setUint16(slot + 14, marks, true);
        at = movedOn(at, need, num);
      } else {
        view.setUint32(slot, id, true);
        at = (at + 1) & 0xffff;
      }
    }
    if (isPacked) return;
    const idx = random.once(24) ? random.u32() : at;
    view.setUint16(deviceArea.start + 2, idx & 0xffff, true);
  }

  /** Damages what both sides reach. */
  mutate(times: number): void {
    const random = this.#random;
    const { desc, driver, deviceArea, indirect } = this.#layout;
    const hot = [desc, driver, deviceArea, deviceArea, indirect].filter((one) => one.bytes > 0);
    for (let i = 0; i < times; i++) {
      const { start, bytes } = random.pick(hot);
      const at = start + random.below(bytes);
      const isBit = random.once(2);
      const now = this.#field.bytes[at] as number;
      this.#field.bytes[at] = isBit ? now ^ (1 << random.below(8)) : random.u32() & 0xff;
    }
  }
}

/** A whole case. @returns the answers. */
export function runDriver(field: Field, ring: DriverRing, random: Random): number[] {
  const one = new DriverCase(field, ring, random);
  one.reset();
  for (let round = random.between(1, 6); round > 0; round--) {
    if (!random.once(3)) one.add();
    if (!random.once(4)) one.use();
    if (!random.once(2)) one.mutate(random.between(1, random.once(4) ? 40 : 5));
    field.remember();
    for (let steps = random.between(1, 8); steps > 0; steps--) one.step();
    one.checkFreeList();
    if (random.once(20)) one.reset();
  }
  one.use();
  field.remember();
  one.drain();
  one.checkFreeList();
  field.compare();
  return one.answers;
}
