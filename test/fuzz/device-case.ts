// A hostile driver against the device's side: pops, gives back, publishes, asks, with writes by the
// driver in between.

import type { DeviceRing } from "#dist/ring/ring.js";
import * as s from "#dist/spec/ring-state.js";
import { type Field, must } from "./field.js";
import { Grammar, movedOn } from "./grammar.js";
import { type Layout, overlaps } from "./layout.js";
import type { Random } from "./random.js";
import { RecordModel } from "./record.js";

/** Refusals that `getDescs` may answer with. Policy linux: any error that is the driver's. */
const REFUSALS = {
  split: [s.VRING_E_AVAIL_INDEX, s.VRING_E_HEAD, s.VRING_E_IN_FLIGHT],
  packed: [s.VRING_E_LOOP, s.VRING_E_UNAVAILABLE],
};
const NOT_LINUX = [
  s.VRING_E_IN_FLIGHT,
  s.VRING_E_COMPLETION,
  s.VRING_E_INDIRECT_UNNEGOTIATED,
  s.VRING_E_INDIRECT_NEXT,
  s.VRING_E_INDIRECT_INDEX,
];

/** A chain that was popped and not yet given back. */
interface Popped {
  head: number;
  inBytes: number;
}

/** Whether the device's own writes can change how much is available. */
function feedsItself({ isPacked, desc, driver, deviceArea }: Layout): boolean {
  return isPacked ? overlaps(deviceArea, desc) : overlaps(deviceArea, driver);
}

/** Drives a device's side, and checks each answer. */
export class DeviceCase {
  readonly #field: Field;
  readonly #layout: Layout;
  readonly #ring: DeviceRing;
  /** Every answer, in order: the twin's must be the same. */
  readonly answers: number[] = [];
  #popped: Popped[] = [];
  /** Chains of the last burst, while their records hold. */
  #burst: Popped[] = [];
  #inFlight = 0;
  readonly #record: RecordModel;

  constructor(field: Field, ring: DeviceRing) {
    this.#field = field;
    this.#layout = field.layout;
    this.#ring = ring;
    this.#record = new RecordModel(field);
  }

  /** Starts at a random position, at times at one that a ring can't have. */
  start(random: Random): void {
    const { num, isPacked, deviceArea } = this.#layout;
    const { view } = this.#field;
    this.#record.prepare(random);
    const { left } = this.#record;
    if (!isPacked) {
      view.setUint16(deviceArea.start + 2, random.pick([0, 0xffff, 0xfffe, random.u32()]), true);
      const position = random.pick([0, 0xffff, 0xfff0, random.u32() & 0xffff]);
      must(this.#ring.start(position) === 0, "start refused a position of a split ring");
      this.#inFlight = left;
      return;
    }
    if (random.once(6)) this.#startWild(random);
    const used = random.below(num) | (random.once(2) ? 0x8000 : 0);
    const behind = random.once(3) && !this.#isInflight ? random.between(0, num) : left;
    const position = (used * 0x1_0000 + movedOn(used, behind, num)) >>> 0;
    must(this.#ring.start(position) === 0, "start refused a position", position);
    this.#inFlight = behind;
    this.#checkCounts();
  }

  get #isInflight(): boolean {
    return (this.#layout.flags & s.VQ_F_INFLIGHT) !== 0;
  }

  #startWild(random: Random): void {
    const { num } = this.#layout;
    const position = random.u32();
    const [avail, used] = [position & 0xffff, position >>> 16];
    const gap = (avail & 0x7fff) - (used & 0x7fff) + ((avail ^ used) & 0x8000 ? num : 0);
    const between = gap < 0 ? gap + 2 * num : gap;
    const isGood = (avail & 0x7fff) < num && (used & 0x7fff) < num && between <= num;
    const answer = this.#ring.start(position);
    must(answer === (isGood ? 0 : -s.VRING_E_POSITION), "start", position, answer);
    this.answers.push(answer);
  }

  #checkCounts(): void {
    const { num, isLinux, isPacked } = this.#layout;
    const inFlight = this.#field.word(s.VQ_IN_FLIGHT);
    must(inFlight === this.#inFlight, "in flight", inFlight, this.#inFlight);
    must(isLinux || inFlight <= num, "more in flight than the ring holds", inFlight);
    this.#field.checkErrors();
    this.#record.check();
    if (!isPacked) return;
    for (const word of [s.VQ_LAST_AVAIL, s.VQ_AVAIL_SEEN, s.VQ_USED_NEXT, s.VQ_USED_PUBLISHED]) {
      const position = this.#field.word(word);
      must((position & 0x7fff) < num && position <= 0xffff, "a position", word, position);
    }
  }

  /** Pops. @returns what `getDescs` says. */
  pop(max: number): number {
    const { isLinux, isPacked, chainCapacity } = this.#layout;
    const before = this.#record.resubmitted;
    const got = this.#ring.getDescs(max);
    this.answers.push(got);
    must(got <= Math.min(max, chainCapacity), "more chains than asked for", got, max);
    const refused = this.#field.word(s.VQ_ERROR);
    if (got < 0) {
      must(-got === refused, "the refusal is not the one that stands", got, refused);
      const known = REFUSALS[isPacked ? "packed" : "split"];
      const may = isLinux ? !NOT_LINUX.includes(-got) : known.includes(-got);
      must(may, "no refusal of getDescs", got);
    }
    if (got === 0) must(refused === 0, "a refusal stands, the answer is 0", refused);
    this.#burst = this.checkBurst(Math.max(got, 0));
    const resubmitted = this.#record.resubmitted - before;
    const heads = this.#burst.map(({ head }) => head);
    this.#record.burst(resubmitted, heads);
    for (const head of heads) this.#inFlight += isPacked ? head >>> 16 : 1;
    this.#inFlight -= resubmitted; // it was in flight already, or is used
    this.#popped.push(...this.#burst);
    this.#checkCounts();
    return got;
  }

  /** The records of a burst: whole pieces in guest regions, and their sums. */
  checkBurst(count: number): Popped[] {
    const { num, isPacked, isLinux, iovCapacity } = this.#layout;
    const field = this.#field;
    let iov = 0;
    return Array.from({ length: count }, (_, i) => {
      const head = field.record(i, s.CHAIN_HEAD);
      const descs = isPacked ? head >>> 16 : 1;
      must(isPacked || head < num, "a head", head);
      must(descs >= 1 && descs <= num, "descriptors of a list", descs);
      const outCount = field.record(i, s.CHAIN_OUT_COUNT);
      const inCount = field.record(i, s.CHAIN_IN_COUNT);
      must(field.record(i, s.CHAIN_IOV_START) === iov, "start in the iovec table", i);
      must(outCount + inCount <= iovCapacity - iov, "more pieces than the table", i);
      if (isLinux) must(outCount + inCount <= s.VQ_LINUX_IOV_MAX, "more pieces than Linux", i);
      const outBytes = this.#bytesOf(iov, outCount);
      const inBytes = this.#bytesOf(iov + outCount, inCount);
      must(outBytes === field.record(i, s.CHAIN_OUT_BYTES), "readable bytes", i, outBytes);
      must(inBytes === field.record(i, s.CHAIN_IN_BYTES), "writable bytes", i, inBytes);
      must(field.record(i, s.CHAIN_USED_BYTES) === 0, "used bytes of a new chain", i);
      iov += outCount + inCount;
      this.answers.push(head, outCount, inCount);
      return { head, inBytes };
    });
  }

  #bytesOf(iov: number, count: number): number {
    const { iov: table, regions } = this.#layout;
    const { view } = this.#field;
    let sum = 0;
    for (let at = table + iov * s.IOV_BYTES; count > 0; count--, at += s.IOV_BYTES) {
      const linear = view.getUint32(at, true);
      const bytes = view.getUint32(at + s.IOV_LENGTH, true);
      const isInside = regions.some(
        (one) => linear >= one.linear && linear + bytes <= one.linear + one.bytes,
      );
      must(isInside && bytes > 0, "a piece that is not in guest memory", linear, bytes);
      sum += bytes;
      this.answers.push(linear, bytes);
    }
    return sum;
  }

  /** Gives the whole burst back by `addUsedN`, or nothing when it was given back already. */
  giveBackBurst(random: Random): void {
    const count = this.#burst.length;
    const burst = this.#burst;
    this.#burst = [];
    let isGood = true;
    let run = 0;
    for (const [i, { head, inBytes }] of burst.entries()) {
      const bytes = random.once(3) ? random.u32() : inBytes;
      this.#field.setRecord(i, s.CHAIN_USED_BYTES, bytes);
      isGood = isGood && this.#record.uses(head);
      if (!isGood) continue;
      run += this.#layout.isPacked ? head >>> 16 : 1;
      if (this.#layout.isInOrder && i + 1 < count && bytes === inBytes) continue;
      this.#inFlight -= run;
      run = 0;
    }
    const answer = this.#ring.addUsedN(count);
    this.answers.push(answer);
    must(answer === (isGood ? 0 : -s.VRING_E_COMPLETION), "addUsedN", answer, count);
    this.#popped = this.#popped.filter((one) => !burst.includes(one));
    this.#checkCounts();
  }

  /** Gives one chain back by `addUsed`; at times one that was never popped. */
  giveBackOne(random: Random): void {
    const { isPacked, isInOrder, num } = this.#layout;
    const isWild = this.#popped.length === 0 || random.once(16);
    if (isWild && this.#record.left > 0) return; // it may be what was not popped yet
    const place = isInOrder ? 0 : random.below(Math.max(this.#popped.length, 1));
    const head = isWild ? random.pick([num, random.u32(), 0xffff_ffff, 0]) : undefined;
    const popped = head === undefined ? this.#popped[place] : { head, inBytes: 0 };
    if (!popped) return;
    const descs = isPacked ? popped.head >>> 16 : 1;
    const isGood = isPacked
      ? descs > 0 && descs <= this.#inFlight && this.#record.uses(popped.head)
      : popped.head < num && this.#inFlight > 0;
    const answer = this.#ring.addUsed(popped.head, random.once(2) ? popped.inBytes : random.u32());
    this.answers.push(answer);
    must(answer === (isGood ? 0 : -s.VRING_E_COMPLETION), "addUsed", answer, popped.head);
    if (isGood) this.#inFlight -= descs;
    if (isWild && isGood)
      this.#popped.length = 0; // whose turn it was is no longer known
    else this.#popped = this.#popped.filter((one) => one !== popped);
    this.#burst = [];
    this.#checkCounts();
  }

  /** Publishes, and asks whether to call; at once a second time: no more. */
  signal(): void {
    this.#ring.publish();
    this.answers.push(Number(this.#ring.callNeeded()));
    must(!this.#ring.callNeeded(), "called twice for the same");
    const next = this.#field.word(s.VQ_USED_NEXT);
    must(next === this.#field.word(s.VQ_USED_PUBLISHED), "something is staged after publish");
  }

  /** One call at random. */
  step(random: Random): void {
    const ring = this.#ring;
    const kind = random.below(12);
    if (kind < 4) this.pop(random.once(8) ? random.pick([0, 0xffff]) : random.between(1, 20));
    else if (kind < 6) this.giveBackBurst(random);
    else if (kind < 8) this.giveBackOne(random);
    else if (kind < 10) this.signal();
    else if (kind === 10) this.answers.push(Number(ring.enableKick()), this.available());
    else {
      ring.disableKick();
      this.answers.push(this.available());
    }
    this.#checkCounts();
  }

  /** One turn of a worker, while a driver writes. */
  raceStep(random: Random): void {
    this.pop(random.between(1, 32));
    this.giveBackBurst(random);
    this.#ring.publish();
    this.#ring.callNeeded();
    if (random.once(4)) this.#ring.enableKick();
    if (random.once(8)) this.#ring.disableKick();
    this.available();
    this.#checkCounts();
  }

  /** What `availLen` says. */
  available(): number {
    const available = this.#ring.availLen();
    const { num, isPacked } = this.#layout;
    const room = isPacked ? num - this.#field.word(s.VQ_IN_FLIGHT) : 0xffff;
    const most = room + this.#record.left;
    must(available >= 0 && available <= most, "availLen", available, most);
    return available;
  }

  /**
   * Works until there is nothing or a refusal. Each call gets past one entry at least, and nothing
   * comes behind what is there: so many calls do, and one that finds nothing. (IN_ORDER, and
   * something is in flight for ever: what is malformed may wait for that for ever. So it is, too,
   * when a driver has lists of two lengths in flight under one id, and the record refuses one.)
   */
  drain(random: Random): void {
    const { num, isPacked, chainCapacity } = this.#layout;
    this.#giveBackAll();
    const mayWait = () => this.#layout.isInOrder && this.#inFlight > 0;
    const isBounded = !feedsItself(this.#layout) && !mayWait();
    const seen = (this.#field.word(s.VQ_AVAIL_SEEN) - this.#field.word(s.VQ_LAST_AVAIL)) & 0xffff;
    const { left } = this.#record;
    const before = isPacked ? num + left : Math.max(this.available(), seen + left);
    const limit = isBounded ? before + 1 : 64;
    let calls = 0;
    for (; calls < limit; calls++) {
      const got = this.pop(random.between(1, chainCapacity));
      this.giveBackBurst(random);
      this.signal();
      if (got < 0 || this.#field.word(s.VQ_ERROR) !== 0 || this.available() === 0) return;
    }
    must(!isBounded || mayWait(), "still work after so many calls", calls, this.available());
  }

  #giveBackAll(): void {
    for (const { head } of this.#popped) {
      const descs = this.#layout.isPacked ? head >>> 16 : 1;
      const isGood = this.#record.uses(head);
      const answer = this.#ring.addUsed(head, 0);
      must(answer === (isGood ? 0 : -s.VRING_E_COMPLETION), "addUsed of what was popped", head);
      if (isGood) this.#inFlight -= descs;
    }
    this.#popped = [];
    this.#burst = [];
    this.signal();
    this.#checkCounts();
  }
}

/** A whole case. @returns the answers. */
export function runDevice(field: Field, ring: DeviceRing, random: Random): number[] {
  const one = new DeviceCase(field, ring);
  const grammar = new Grammar(field, random);
  grammar.mutate(random.once(3) ? 40 : 0);
  one.start(random);
  for (let round = random.between(1, 5); round > 0; round--) {
    if (!random.once(5)) grammar.offer();
    grammar.mutate(random.once(2) ? 0 : random.between(1, random.once(4) ? 40 : 5));
    field.remember();
    for (let steps = random.between(1, 8); steps > 0; steps--) one.step(random);
    field.compare();
  }
  field.remember();
  one.drain(random);
  field.compare();
  return one.answers;
}
