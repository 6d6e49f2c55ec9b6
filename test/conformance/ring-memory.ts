// Lays a recorded ring out in memory, byte by byte, and reads back what a driver sees of it.

import { SharedMemory } from "#dist/memory/shared-memory.js";
import { descBytes, deviceAreaBytes, driverAreaBytes } from "#dist/memory/vring.js";
import { allocDeviceState } from "#dist/ring/state-block.js";
import { REGION_BYTES, REGION_GUEST, REGION_LINEAR, REGION_SIZE } from "#dist/spec/ring-state.js";
import { VIRTIO_F_EVENT_IDX, VIRTIO_F_INDIRECT_DESC } from "#dist/spec/virtio-config.js";
import {
  VIRTQ_AVAIL_ELEM_BYTES,
  VIRTQ_DESC_BYTES,
  VIRTQ_DESC_FLAGS,
  VIRTQ_DESC_LEN,
  VIRTQ_DESC_NEXT,
  VIRTQ_RING_ELEMENTS,
  VIRTQ_RING_FLAGS,
  VIRTQ_RING_IDX,
  VIRTQ_USED_ELEM_BYTES,
} from "#dist/spec/virtio-ring.js";
import type { RecordedDesc, RecordedRing } from "./ring-record.js";

const PAGE_BYTES = 65536;
/** For all that is no region: ring areas of any size, and our state, which has an eighth. */
const OTHER_BYTES = 8 << 20;

function regionBytes(ring: RecordedRing): number {
  return ring.regions.reduce((sum, [, bytes]) => sum + bytes + PAGE_BYTES, 0);
}

/** A memory that each of `rings` fits in, one at a time. */
export function memoryFor(rings: readonly RecordedRing[]): SharedMemory {
  const regions = rings.reduce((most, ring) => Math.max(most, regionBytes(ring)), 0);
  const pages = Math.ceil((OTHER_BYTES + regions) / PAGE_BYTES);
  return SharedMemory.of(new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true }));
}

function encode({ addr, len, flags, next }: RecordedDesc): Uint8Array {
  const bytes = new Uint8Array(VIRTQ_DESC_BYTES);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, addr, true);
  view.setUint32(VIRTQ_DESC_LEN, len, true);
  view.setUint16(VIRTQ_DESC_FLAGS, flags, true);
  view.setUint16(VIRTQ_DESC_NEXT, next, true);
  return bytes;
}

/** A recorded ring in memory, with the device's state block. */
export class RingMemory {
  readonly #shared: SharedMemory;
  readonly #num: number;
  readonly #regions: { gpa: bigint; bytes: number; linear: number }[];
  readonly #desc: number;
  readonly #avail: number;
  readonly #used: number;
  readonly #releases: (() => void)[] = [];
  /** Address of the state block; its policy is "linux". */
  readonly vq: number;

  /** Takes memory, until `release`. */
  constructor(shared: SharedMemory, ring: RecordedRing) {
    const { num } = ring;
    this.#shared = shared;
    this.#num = num;
    this.#desc = this.#guest(descBytes(num));
    this.#avail = this.#guest(driverAreaBytes(num));
    this.#used = this.#guest(deviceAreaBytes(num));
    this.#regions = ring.regions.map(([gpa, bytes]) => {
      return { gpa, bytes, linear: this.#guest(bytes) };
    });
    this.vq = this.#layOutState(ring);
    this.#write(ring);
  }

  #guest(bytes: number): number {
    const address = this.#shared.allocGuest(bytes);
    this.#releases.push(() => this.#shared.guest.free(address));
    return address;
  }

  #layOutState({ num, eventIdx, indirect }: RecordedRing): number {
    const { view } = this.#shared;
    const table = this.#shared.allocHost(Math.max(this.#regions.length, 1) * REGION_BYTES);
    this.#releases.push(() => this.#shared.host.free(table));
    for (const [i, { gpa, bytes, linear }] of this.#regions.entries()) {
      const at = table + i * REGION_BYTES;
      view.setBigUint64(at + REGION_GUEST, gpa, true);
      view.setBigUint64(at + REGION_SIZE, BigInt(bytes), true);
      view.setUint32(at + REGION_LINEAR, linear, true);
    }
    const features =
      (eventIdx ? 1n << BigInt(VIRTIO_F_EVENT_IDX) : 0n) |
      (indirect ? 1n << BigInt(VIRTIO_F_INDIRECT_DESC) : 0n);
    const areas = { desc: this.#desc, driver: this.#avail, device: this.#used };
    const setup = { num, ...areas, features, policy: "linux" as const };
    const state = allocDeviceState(this.#shared, setup, table, this.#regions.length);
    this.#releases.push(state.release);
    return state.vq;
  }

  #write(ring: RecordedRing): void {
    const { view, bytes } = this.#shared;
    for (const [i, desc] of ring.desc.entries()) {
      bytes.set(encode(desc), this.#desc + i * VIRTQ_DESC_BYTES);
    }
    for (const { gpa, entries } of ring.tables) {
      for (const [i, entry] of entries.entries()) {
        this.#writeGuest(gpa + BigInt(i * VIRTQ_DESC_BYTES), encode(entry));
      }
    }
    for (const [slot, head] of [...ring.availRing, ring.usedEvent ?? 0].entries()) {
      const at = this.#avail + VIRTQ_RING_ELEMENTS + slot * VIRTQ_AVAIL_ELEM_BYTES;
      view.setUint16(at, head, true);
    }
    view.setUint16(this.#avail + VIRTQ_RING_FLAGS, ring.availFlags, true);
    view.setUint16(this.#avail + VIRTQ_RING_IDX, ring.availIdx, true);
    view.setUint16(this.#used + VIRTQ_RING_IDX, ring.base, true);
  }

  /** Bytes that no region holds are dropped. */
  #writeGuest(gpa: bigint, values: Uint8Array): void {
    for (const [i, value] of values.entries()) {
      const at = gpa + BigInt(i);
      const home = this.#regions.find((one) => at >= one.gpa && at < one.gpa + BigInt(one.bytes));
      if (home) this.#shared.bytes[home.linear + Number(at - home.gpa)] = value;
    }
  }

  /** used.idx. */
  get usedIdx(): number {
    return this.#shared.view.getUint16(this.#used + VIRTQ_RING_IDX, true);
  }

  /** used.flags. */
  get usedFlags(): number {
    return this.#shared.view.getUint16(this.#used + VIRTQ_RING_FLAGS, true);
  }

  /** avail_event, behind the elements of the used ring. */
  get availEvent(): number {
    return this.#shared.view.getUint16(this.#element(this.#num), true);
  }

  /** The id of the used entry with free-running index `index`. */
  usedId(index: number): number {
    return this.#shared.view.getUint32(this.#element(index % this.#num), true);
  }

  #element(slot: number): number {
    return this.#used + VIRTQ_RING_ELEMENTS + slot * VIRTQ_USED_ELEM_BYTES;
  }

  /** Gives the memory back. */
  release(): void {
    for (const release of this.#releases) release();
  }
}
