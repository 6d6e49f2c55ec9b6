// The memory of a case: set-up, raw access, and the canaries: all that a side may not write is
// compared with a copy, byte by byte.

import * as s from "#dist/spec/ring-state.js";
import type { Extent, Layout } from "./layout.js";
import type { Random } from "./random.js";

/** A property that does not hold. */
export class Violation extends Error {}

/** Throws a `Violation` unless `holds`. */
export function must(holds: boolean, what: string, ...facts: (number | bigint | string)[]): void {
  if (!holds) throw new Violation(facts.length > 0 ? `${what}: ${facts.join(", ")}` : what);
}

/** Words of the state block that the sides may write: ranges of offsets. */
const OWN_WORDS: Record<Layout["side"], [number, number][]> = {
  device: [
    [s.VQ_IN_FLIGHT, s.VQ_REGIONS],
    [s.VQ_STAGED_FLAGS, s.VQ_STAGED_FLAGS + 4],
    [s.VQ_ERROR_COUNTS, s.VQ_ERROR_COUNTS + 4 * s.VRING_E_COUNT],
  ],
  driver: [
    [s.VQ_IN_FLIGHT, s.VQ_SHADOW],
    [s.VQ_STAGED_FLAGS, s.VQ_STAGED_FLAGS + 4],
    [s.VQ_ERROR_COUNTS, s.VQ_ERROR_COUNTS + 4 * s.VRING_E_COUNT],
    [s.VQ_OLDEST, s.VQ_BATCH_BYTES + 4],
  ],
};

/** Likewise, when the device records what is in flight. */
const INFLIGHT_WORDS: [number, number][] = [
  [s.VQ_INFLIGHT_COUNTER, s.VQ_INFLIGHT_OLD + 4],
  [s.VQ_RESUBMIT_NEXT, s.VQ_RESUBMIT_NEXT + 4],
];

/** What a side may write, ever. */
function writable(layout: Layout): Extent[] {
  const { side, vq, num, isPacked, flags, record } = layout;
  const words = [...OWN_WORDS[side], ...(flags & s.VQ_F_INFLIGHT ? INFLIGHT_WORDS : [])];
  const own = words.map(([from, to]) => ({ start: vq + from, bytes: to - from }));
  const chains = { start: layout.chains, bytes: layout.chainCapacity * s.CHAIN_BYTES };
  if (side === "driver") {
    const shadow = { start: layout.table, bytes: num * s.SHADOW_BYTES };
    return [...own, chains, shadow, layout.desc, layout.driver, layout.indirect];
  }
  const iov = { start: layout.iov, bytes: layout.iovCapacity * s.IOV_BYTES };
  const guest = isPacked ? [layout.desc, layout.deviceArea] : [layout.deviceArea];
  const records = record ? [record.log, record.inflight, record.table] : [];
  return [...own, chains, iov, ...guest, ...records];
}

/** What lies between `extents` and around them. */
function between(extents: readonly Extent[], end: number): Extent[] {
  const gaps: Extent[] = [];
  let at = 0;
  for (const { start, bytes } of [...extents].sort((a, b) => a.start - b.start)) {
    if (start > at) gaps.push({ start: at, bytes: start - at });
    at = Math.max(at, start + bytes);
  }
  if (end > at) gaps.push({ start: at, bytes: end - at });
  return gaps;
}

/** One memory, for one case after another. */
export class Field {
  readonly memory: WebAssembly.Memory;
  readonly bytes: Buffer;
  readonly view: DataView;
  readonly #copy: Buffer;
  #guarded: Extent[] = [];
  /** Behind this byte all is zero, in the memory and in the copy. */
  #end = 0;
  #layout!: Layout;

  constructor(memoryBytes: number) {
    const pages = memoryBytes / 65536;
    this.memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
    this.bytes = Buffer.from(this.memory.buffer);
    this.view = new DataView(this.memory.buffer);
    this.#copy = Buffer.alloc(memoryBytes);
  }

  /** The layout of the present case. */
  get layout(): Layout {
    return this.#layout;
  }

  /** Fills the memory, and writes what the host sets up. */
  setUp(layout: Layout, random: Random): void {
    this.#layout = layout;
    this.bytes.fill(0, layout.end, Math.max(this.#end, layout.end));
    this.#copy.fill(0, layout.end, Math.max(this.#end, layout.end));
    this.#end = layout.end;
    this.bytes.fill(random.pick([0x5a, 0xff, 0x01, 0x80]), 0, layout.end);
    this.bytes.fill(0, layout.vq, layout.vq + s.VQ_STATE_BYTES);
    for (const { linear, bytes } of layout.regions) {
      this.bytes.fill(random.pick([0, 0, 0, 0xff, 0x11]), linear, linear + bytes);
    }
    const words: [number, number][] = [
      [s.VQ_NUM, layout.num],
      [s.VQ_FLAGS, layout.flags],
      [s.VQ_DESC, layout.desc.start],
      [s.VQ_DRIVER, layout.driver.start],
      [s.VQ_DEVICE, layout.deviceArea.start],
      [s.VQ_IOV, layout.iov],
      [s.VQ_IOV_CAPACITY, layout.iovCapacity],
      [s.VQ_CHAINS, layout.chains],
      [s.VQ_CHAIN_CAPACITY, layout.chainCapacity],
    ];
    if (layout.side === "device") {
      words.push([s.VQ_REGIONS, layout.table], [s.VQ_REGION_COUNT, layout.regions.length]);
      this.#writeRegions(layout);
    } else {
      words.push([s.VQ_SHADOW, layout.table], [s.VQ_INDIRECT, layout.indirect.start]);
      words.push([s.VQ_INDIRECT_CAPACITY, layout.indirectCapacity]);
      this.view.setBigUint64(layout.vq + s.VQ_GUEST_DELTA, layout.delta, true);
    }
    for (const [offset, value] of words) this.setWord(offset, value);
    this.#writeRecord(layout);
    this.guard();
  }

  #writeRegions({ regions, table }: Layout): void {
    for (const [i, { guest, bytes, linear }] of regions.entries()) {
      const at = table + i * s.REGION_BYTES;
      this.view.setBigUint64(at + s.REGION_GUEST, guest, true);
      this.view.setBigUint64(at + s.REGION_SIZE, BigInt(bytes), true);
      this.view.setUint32(at + s.REGION_LINEAR, linear, true);
      this.view.setUint32(at + s.REGION_LINEAR + 4, 0, true);
    }
  }

  #writeRecord({ vq, record }: Layout): void {
    if (!record) return;
    this.setWord(s.VQ_LOG, record.log.start);
    this.setWord(s.VQ_LOG_BYTES, record.log.bytes);
    this.setWord(s.VQ_INFLIGHT, record.inflight.start);
    this.setWord(s.VQ_INFLIGHT_TABLE, record.table.start);
    this.setWord(s.VQ_RESUBMIT, record.resubmit.start);
    this.view.setBigUint64(vq + s.VQ_LOG_USED, record.usedAt, true);
    this.view.setBigUint64(vq + s.VQ_LOG_DESC, record.descAt, true);
    const { start, bytes } = record.log;
    this.bytes.fill(0, start, start + bytes);
  }

  // ── canaries ──────────────────────────────────────────────────────────────────────────────────

  /** From now on all is guarded but what the side may write, and `also`. */
  guard(also: readonly Extent[] = []): void {
    const open = [...writable(this.#layout), ...also];
    this.#guarded = between(open, this.bytes.length);
  }

  /** What is there now is what has to be there at the next `compare`. */
  remember(): void {
    this.bytes.copy(this.#copy, 0, 0, this.#end);
  }

  /** A violation when a guarded byte is not what it was. */
  compare(): void {
    for (const { start, bytes } of this.#guarded) {
      const end = start + bytes;
      if (this.bytes.compare(this.#copy, start, end, start, end) === 0) continue;
      let at = start;
      while (this.bytes[at] === this.#copy[at]) at++;
      throw new Violation(`wrote outside its own: at ${at}, ${this.#nameOf(at)}`);
    }
  }

  /**
   * A violation when the twin's memory is another. The tables are left out: what a burst did not
   * answer is of no account, and what it did was held against the twin's answer.
   */
  compareTwin({ bytes }: Field): void {
    const { iov, iovCapacity, chains, chainCapacity } = this.#layout;
    const tables = [
      { start: iov, bytes: iovCapacity * s.IOV_BYTES },
      { start: chains, bytes: chainCapacity * s.CHAIN_BYTES },
    ];
    for (const { start, bytes: length } of between(tables, this.bytes.length)) {
      const end = start + length;
      if (this.bytes.compare(bytes, start, end, start, end) === 0) continue;
      let at = start;
      while (this.bytes[at] === bytes[at]) at++;
      throw new Violation(`the rings' memories differ: at ${at}, ${this.#nameOf(at)}`);
    }
  }

  #nameOf(at: number): string {
    const { vq, regions } = this.#layout;
    if (at >= vq && at < vq + s.VQ_STATE_BYTES) return `word ${(at - vq) & ~3} of the state block`;
    const region = regions.findIndex(({ linear, bytes }) => at >= linear && at < linear + bytes);
    return region < 0 ? "no guest memory" : `region ${region}`;
  }

  // ── raw access ────────────────────────────────────────────────────────────────────────────────

  /** A word of the state block. */
  word(offset: number): number {
    return this.view.getUint32(this.#layout.vq + offset, true);
  }

  /** Sets a word of the state block. */
  setWord(offset: number, value: number): void {
    this.view.setUint32(this.#layout.vq + offset, value, true);
  }

  /** A word of a chain record. */
  record(chain: number, offset: number): number {
    return this.view.getUint32(this.#layout.chains + chain * s.CHAIN_BYTES + offset, true);
  }

  /** Sets a word of a chain record. */
  setRecord(chain: number, offset: number, value: number): void {
    this.view.setUint32(this.#layout.chains + chain * s.CHAIN_BYTES + offset, value, true);
  }

  /** Writes a descriptor; `third` and `fourth` are its last two u16. */
  writeDesc(at: number, addr: bigint, len: number, third: number, fourth: number): void {
    this.view.setBigUint64(at, addr, true);
    this.view.setUint32(at + 8, len, true);
    this.view.setUint16(at + 12, third, true);
    this.view.setUint16(at + 14, fourth, true);
  }

  /** Writes to a guest address; bytes that no region holds are dropped. */
  writeGuest(guest: bigint, values: Uint8Array): void {
    for (const { guest: from, bytes, linear } of this.#layout.regions) {
      const offset = guest - from;
      if (offset >= BigInt(bytes) || offset + BigInt(values.length) <= 0n) continue;
      const skip = offset < 0n ? Number(-offset) : 0;
      const start = Number(offset) + skip;
      const count = Math.min(values.length - skip, bytes - start);
      this.bytes.set(values.subarray(skip, skip + count), linear + start);
    }
  }

  /** What holds after every call: the error counts, and a refusal that has a name. */
  checkErrors(): void {
    let sum = 0;
    for (let code = 1; code < s.VRING_E_COUNT; code++) {
      sum += this.word(s.VQ_ERROR_COUNTS + 4 * code);
    }
    must(sum === this.word(s.VQ_ERROR_COUNTS), "error counts do not add up", sum);
    must(this.word(s.VQ_ERROR) < s.VRING_E_COUNT, "no such refusal", this.word(s.VQ_ERROR));
  }
}
