import { setTimeout as sleep } from "node:timers/promises";
import { descBytes } from "../../memory/vring.js";
import {
  PVIRTQ_DESC_FLAGS,
  PVIRTQ_DESC_ID,
  PVIRTQ_EVENT_BYTES,
  VIRTQ_DESC_BYTES,
  VIRTQ_DESC_F_AVAIL,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_USED,
  VIRTQ_DESC_LEN,
} from "../../spec/virtio-ring.js";
import type { HostileMemory } from "./hostile-memory.js";
import {
  type HostileDesc,
  type HostileRing,
  type HostileRingSetup,
  type HostileUsed,
  writeAddrLen,
} from "./hostile-ring.js";

/** Longer than a device needs for one list that it is reading. */
const ONE_LIST_MS = 2;
const MARKS = VIRTQ_DESC_F_AVAIL | VIRTQ_DESC_F_USED;

interface Position {
  index: number;
  wrap: boolean;
}

/** A packed ring that is written by hand. virtio 1.3, 2.8 Packed Virtqueues. */
export class PackedHostileRing implements HostileRing {
  readonly num: number;
  readonly areas: HostileRing["areas"];
  readonly #memory: HostileMemory;
  readonly hasLied = false;
  #avail: Position = { index: 0, wrap: true };
  #used: Position = { index: 0, wrap: true };
  /** Lists that have not come back: ids, and descriptors of each; the staged ones apart. */
  #lists: { id: number; count: number }[] = [];
  #staged: { id: number; count: number }[] = [];
  /** The first descriptor's flags of what is staged: written last. */
  #held: { at: number; flags: number } | undefined;
  #nextId = 0;

  constructor({ memory, areas }: HostileRingSetup) {
    const { num } = areas;
    this.num = num;
    this.#memory = memory;
    this.areas = {
      desc: memory.area(areas.desc, descBytes(num)),
      driver: memory.area(areas.driver, PVIRTQ_EVENT_BYTES),
      device: memory.area(areas.device, PVIRTQ_EVENT_BYTES),
    };
  }

  get outstanding(): number {
    return this.#lists.length;
  }

  add(descs: readonly HostileDesc[], id = this.#takeId()): void {
    for (const [i, desc] of descs.entries()) {
      const next = i + 1 < descs.length ? VIRTQ_DESC_F_NEXT : 0;
      const flags = (desc.flags ?? 0) | next | this.#availableMarks();
      const at = this.areas.desc.address + this.#avail.index * VIRTQ_DESC_BYTES;
      writeAddrLen(this.#memory, at, desc);
      this.#memory.view.setUint16(at + PVIRTQ_DESC_ID, id, true);
      if (this.#held) this.#memory.storeU16(at + PVIRTQ_DESC_FLAGS, flags);
      else this.#held = { at: at + PVIRTQ_DESC_FLAGS, flags };
      this.#avail = this.#moved(this.#avail, 1);
    }
    this.#staged.push({ id, count: descs.length });
  }

  /** The last descriptor added so far says the opposite of its wrap counter: is not available. */
  spoilLast(): void {
    const index = (this.#avail.index + this.num - 1) % this.num;
    const at = this.areas.desc.address + index * VIRTQ_DESC_BYTES + PVIRTQ_DESC_FLAGS;
    this.#memory.storeU16(at, this.#memory.view.getUint16(at, true) ^ MARKS);
  }

  /** Writes to an event suppression structure: the driver's own, or the device's. */
  setEvent(whose: "driver" | "device", desc: number, flags: number): void {
    const { address } = this.areas[whose];
    this.#memory.storeU16(address, desc);
    this.#memory.storeU16(address + 2, flags);
  }

  /** Publish: the one store that makes the rest visible. */
  publish(): void {
    this.#lists.push(...this.#staged.splice(0));
    if (this.#held) this.#memory.storeU16(this.#held.at, this.#held.flags);
    this.#held = undefined;
  }

  take(): HostileUsed | undefined {
    if (this.#lists.length === 0) return undefined;
    const { view, u16 } = this.#memory;
    const at = this.areas.desc.address + this.#used.index * VIRTQ_DESC_BYTES;
    const flags = Atomics.load(u16, (at + PVIRTQ_DESC_FLAGS) >>> 1);
    if ((flags & MARKS) !== (this.#used.wrap ? MARKS : 0)) return undefined;
    const id = view.getUint16(at + PVIRTQ_DESC_ID, true);
    const which = this.#lists.findIndex((list) => list.id === id);
    if (which < 0) return undefined;
    const [list] = this.#lists.splice(which, 1);
    this.#used = this.#moved(this.#used, list?.count ?? 1);
    return { id, length: view.getUint32(at + VIRTQ_DESC_LEN, true) };
  }

  /** Flags of 0 are available in no lap: what was published can be taken back, first one first. */
  async repair(): Promise<void> {
    const flagsAt = (index: number) =>
      this.areas.desc.address + index * VIRTQ_DESC_BYTES + PVIRTQ_DESC_FLAGS;
    this.#memory.storeU16(flagsAt(this.#used.index), 0);
    await sleep(ONE_LIST_MS);
    for (let index = 0; index < this.num; index++) this.#memory.storeU16(flagsAt(index), 0);
    this.#avail = this.#used;
    this.#lists = [];
  }

  #takeId(): number {
    this.#nextId = (this.#nextId + 1) % this.num;
    return this.#nextId;
  }

  #availableMarks(): number {
    return this.#avail.wrap ? VIRTQ_DESC_F_AVAIL : VIRTQ_DESC_F_USED;
  }

  #moved({ index, wrap }: Position, count: number): Position {
    const next = index + count;
    return next < this.num ? { index: next, wrap } : { index: next - this.num, wrap: !wrap };
  }
}
