// Raw access to a packed ring, as a hostile or a hand-made peer reads and writes it. The driver's
// event structure lies where a split ring has its available ring, the device's where the used ring.

import {
  PVIRTQ_DESC_FLAGS,
  PVIRTQ_DESC_ID,
  VIRTQ_DESC_BYTES,
  VIRTQ_DESC_LEN,
} from "#dist/spec/virtio-ring.js";
import { RingFixture, type RingShape } from "./ring-fixture.js";

/** AVAIL and USED of a descriptor, for the wrap counters 1 and 0. */
export const AVAIL_1 = 0x80;
export const AVAIL_0 = 0x8000;
export const USED_1 = 0x8080;
export const USED_0 = 0;
/** Event structures as one u32: the flags are in the upper half, the position in the lower. */
export const ENABLE = 0;
export const DISABLE = 0x1_0000;
export const DESC = 0x2_0000;

/** A packed descriptor; what is left out is 0. */
export interface PackedDesc {
  addr: bigint;
  len: number;
  id: number;
  flags: number;
}

/** The position `steps` descriptors after the first, of a ring of `num`. */
export function positionAt(steps: number, num: number): number {
  return (steps % num) + (Math.floor(steps / num) % 2 === 0 ? 0x8000 : 0);
}

/** One packed ring in one memory, see `RingFixture`. */
export class PackedFixture extends RingFixture {
  constructor(memory: WebAssembly.Memory, shape: Partial<RingShape> = {}) {
    super(memory, { ...shape, packed: true });
  }

  /** Descriptor `index` of the ring. */
  packedDesc(index: number): PackedDesc {
    return this.packedDescAt(this.desc + index * VIRTQ_DESC_BYTES);
  }

  /** The descriptor at a linear address, as in an indirect table. */
  packedDescAt(linear: number): PackedDesc {
    return {
      addr: this.view.getBigUint64(linear, true),
      len: this.view.getUint32(linear + VIRTQ_DESC_LEN, true),
      id: this.view.getUint16(linear + PVIRTQ_DESC_ID, true),
      flags: this.view.getUint16(linear + PVIRTQ_DESC_FLAGS, true),
    };
  }

  /** Writes descriptor `index` of the ring. */
  writePacked(index: number, desc: Partial<PackedDesc>): void {
    this.writePackedAt(this.desc + index * VIRTQ_DESC_BYTES, desc);
  }

  /** Writes a descriptor at a linear address. */
  writePackedAt(linear: number, { addr = 0n, len = 0, id = 0, flags = 0 }: Partial<PackedDesc>) {
    this.view.setBigUint64(linear, BigInt.asUintN(64, addr), true);
    this.view.setUint32(linear + VIRTQ_DESC_LEN, len, true);
    this.view.setUint16(linear + PVIRTQ_DESC_ID, id, true);
    this.view.setUint16(linear + PVIRTQ_DESC_FLAGS, flags, true);
  }

  /** Writes the flags alone of descriptor `index`. */
  setFlags(index: number, flags: number): void {
    this.view.setUint16(this.desc + index * VIRTQ_DESC_BYTES + PVIRTQ_DESC_FLAGS, flags, true);
  }

  /** What the driver asks the device for. */
  get driverEvent(): number {
    return this.view.getUint32(this.avail, true);
  }

  set driverEvent(value: number) {
    this.view.setUint32(this.avail, value, true);
  }

  /** What the device asks the driver for. */
  get deviceEvent(): number {
    return this.view.getUint32(this.used, true);
  }

  set deviceEvent(value: number) {
    this.view.setUint32(this.used, value, true);
  }
}
