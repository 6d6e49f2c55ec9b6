import { descBytes, deviceAreaBytes, driverAreaBytes } from "../../memory/vring.js";
import {
  VIRTQ_AVAIL_ELEM_BYTES,
  VIRTQ_DESC_BYTES,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_FLAGS,
  VIRTQ_DESC_NEXT,
  VIRTQ_RING_ELEMENTS,
  VIRTQ_RING_FLAGS,
  VIRTQ_RING_IDX,
  VIRTQ_USED_ELEM_BYTES,
  VIRTQ_USED_ELEM_LEN,
} from "../../spec/virtio-ring.js";
import type { HostileMemory } from "./hostile-memory.js";
import {
  type HostileDesc,
  type HostileRing,
  type HostileRingSetup,
  type HostileUsed,
  writeAddrLen,
} from "./hostile-ring.js";

/**
 * A split ring that is written by hand. virtio 1.3, 2.7 Split Virtqueues. What a device is asked to
 * believe is kept here; what it writes is read only to see what came back.
 */
export class SplitHostileRing implements HostileRing {
  readonly num: number;
  readonly areas: HostileRing["areas"];
  readonly #memory: HostileMemory;
  readonly #firstDesc: number;
  #nextDesc: number;
  #hasEventIdx: boolean;
  /** Entries published, and come back; free-running u16. */
  #avail = 0;
  #used = 0;
  #staged = 0;
  /** Heads that were offered and have not come back. */
  #heads: number[] = [];
  #ahead = 0;
  #lie = 0;

  /** Descriptors below `firstDesc` are left alone. */
  constructor({ memory, areas, hasEventIdx }: HostileRingSetup, firstDesc = 0) {
    const { num } = areas;
    this.num = num;
    this.#memory = memory;
    this.#firstDesc = this.#nextDesc = firstDesc;
    this.#hasEventIdx = hasEventIdx;
    this.areas = {
      desc: memory.area(areas.desc, descBytes(num)),
      driver: memory.area(areas.driver, driverAreaBytes(num)),
      device: memory.area(areas.device, deviceAreaBytes(num)),
    };
  }

  get outstanding(): number {
    return (this.#avail - this.#used) & 0xffff;
  }

  get hasLied(): boolean {
    return this.#lie !== 0;
  }

  /** A descriptor nobody uses at the moment. */
  takeDesc(): number {
    const taken = this.#nextDesc++;
    if (this.#nextDesc === this.num) this.#nextDesc = this.#firstDesc;
    return taken;
  }

  /** Writes descriptor `index` as it is said. */
  writeDesc(index: number, desc: HostileDesc): void {
    this.writeDescAt(this.areas.desc.address + index * VIRTQ_DESC_BYTES, desc);
  }

  /** Writes a descriptor at a linear address as it is said. */
  writeDescAt(at: number, desc: HostileDesc): void {
    const { view } = this.#memory;
    writeAddrLen(this.#memory, at, desc);
    view.setUint16(at + VIRTQ_DESC_FLAGS, desc.flags ?? 0, true);
    view.setUint16(at + VIRTQ_DESC_NEXT, desc.next ?? 0, true);
  }

  /** Writes a chain, and gives its head; offers nothing. */
  link(descs: readonly HostileDesc[]): number {
    const at = descs.map(() => this.takeDesc());
    for (const [i, desc] of descs.entries()) {
      const next = at[i + 1];
      const flags = (desc.flags ?? 0) | (next === undefined ? 0 : VIRTQ_DESC_F_NEXT);
      this.writeDesc(at[i] as number, { ...desc, flags, next: desc.next ?? next ?? 0 });
    }
    return at[0] as number;
  }

  /** Puts a head, any u16, behind what was added. */
  offer(head: number): void {
    this.#heads.push(head & 0xffff);
    this.#setHead((this.#avail + this.#staged++) & 0xffff, head);
  }

  add(descs: readonly HostileDesc[]): void {
    this.offer(this.link(descs));
  }

  /** The next `publish` says so many entries more than there are, modulo 2^16. */
  runAhead(entries: number): void {
    this.#ahead = entries;
  }

  /** Sets the event index that the next `publish` leaves alone. */
  setUsedEvent(value: number): void {
    this.#hasEventIdx = false;
    this.#memory.storeU16(this.#usedEventAt, value);
  }

  /** Sets `flags` of the available ring. */
  setFlags(value: number): void {
    this.#memory.storeU16(this.areas.driver.address + VIRTQ_RING_FLAGS, value);
  }

  /** Writes to the used ring, which is the device's: its flags, its index, all of its elements. */
  scribbleUsed(value: number): void {
    const { address, bytes } = this.areas.device;
    for (let at = address; at < address + bytes; at += 2) this.#memory.storeU16(at, value);
  }

  publish(): void {
    this.#avail = (this.#avail + this.#staged) & 0xffff;
    this.#staged = 0;
    if (this.#hasEventIdx) this.#memory.storeU16(this.#usedEventAt, this.#used);
    this.#lie = this.#ahead;
    this.#ahead = 0;
    this.#setIdx(this.#avail + this.#lie);
  }

  take(): HostileUsed | undefined {
    const { address } = this.areas.device;
    const idx = Atomics.load(this.#memory.u16, (address + VIRTQ_RING_IDX) >>> 1);
    const count = (idx - this.#used) & 0xffff;
    if (count === 0 || count > this.outstanding) return undefined;
    const slot = this.#used & (this.num - 1);
    const at = address + VIRTQ_RING_ELEMENTS + slot * VIRTQ_USED_ELEM_BYTES;
    const { view } = this.#memory;
    const id = view.getUint32(at, true);
    const which = this.#heads.indexOf(id);
    if (which < 0) return undefined; // nobody's: nothing can be made of what comes after it
    this.#heads.splice(which, 1);
    this.#used = (this.#used + 1) & 0xffff;
    return { id, length: view.getUint32(at + VIRTQ_USED_ELEM_LEN, true) };
  }

  /** A head that was refused is still the device's next one: it must become a good one. */
  async repair(good: readonly HostileDesc[]): Promise<void> {
    const head = this.outstanding > 0 ? this.link(good) : 0;
    for (let i = 0; i < this.outstanding; i++) this.#setHead((this.#used + i) & 0xffff, head);
    this.#heads = new Array(this.outstanding).fill(head);
    this.#lie = 0;
    this.#setIdx(this.#avail);
  }

  get #usedEventAt(): number {
    const elements = this.num * VIRTQ_AVAIL_ELEM_BYTES;
    return this.areas.driver.address + VIRTQ_RING_ELEMENTS + elements;
  }

  #setHead(entry: number, head: number): void {
    const at = (entry & (this.num - 1)) * VIRTQ_AVAIL_ELEM_BYTES;
    this.#memory.storeU16(this.areas.driver.address + VIRTQ_RING_ELEMENTS + at, head);
  }

  /** Publish: the one store that makes the rest visible. Pairs with A1 of the device's ring. */
  #setIdx(idx: number): void {
    this.#memory.storeU16(this.areas.driver.address + VIRTQ_RING_IDX, idx);
  }
}
