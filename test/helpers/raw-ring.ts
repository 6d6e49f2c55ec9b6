// Raw access to a split ring, as a hostile or a hand-made peer writes it. No ring logic.

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
  VIRTQ_USED_ELEM_LEN,
} from "#dist/spec/virtio-ring.js";
import { loadU16, storeU16 } from "./whole-u16.js";

/** A raw descriptor; `next` is 0 when left out. */
export interface RawDesc {
  addr: bigint;
  len: number;
  flags: number;
  next?: number;
}

/** Every field of a split ring's three areas. Addresses are linear. */
export abstract class RawRing {
  /** Entries of the ring. */
  abstract readonly num: number;
  /** The descriptor table. */
  abstract readonly desc: number;
  /** The available ring. */
  abstract readonly avail: number;
  /** The used ring. */
  abstract readonly used: number;

  readonly view: DataView;

  constructor(memory: WebAssembly.Memory) {
    this.view = new DataView(memory.buffer);
  }

  /** Writes descriptor `index` of the ring. */
  writeDesc(index: number, desc: RawDesc): void {
    this.writeDescAt(this.desc + index * VIRTQ_DESC_BYTES, desc);
  }

  /** Writes a descriptor at a linear address, as for an indirect table. */
  writeDescAt(linear: number, { addr, len, flags, next = 0 }: RawDesc): void {
    this.view.setBigUint64(linear, BigInt.asUintN(64, addr), true);
    this.view.setUint32(linear + VIRTQ_DESC_LEN, len, true);
    this.view.setUint16(linear + VIRTQ_DESC_FLAGS, flags, true);
    this.view.setUint16(linear + VIRTQ_DESC_NEXT, next, true);
  }

  /** Reads the descriptor at a linear address. */
  readDescAt(linear: number): Required<RawDesc> {
    return {
      addr: this.view.getBigUint64(linear, true),
      len: this.view.getUint32(linear + VIRTQ_DESC_LEN, true),
      flags: this.view.getUint16(linear + VIRTQ_DESC_FLAGS, true),
      next: this.view.getUint16(linear + VIRTQ_DESC_NEXT, true),
    };
  }

  get availIdx(): number {
    return loadU16(this.view, this.avail + VIRTQ_RING_IDX);
  }

  set availIdx(value: number) {
    storeU16(this.view, this.avail + VIRTQ_RING_IDX, value);
  }

  get usedIdx(): number {
    return loadU16(this.view, this.used + VIRTQ_RING_IDX);
  }

  set usedIdx(value: number) {
    storeU16(this.view, this.used + VIRTQ_RING_IDX, value);
  }

  get availFlags(): number {
    return loadU16(this.view, this.avail + VIRTQ_RING_FLAGS);
  }

  set availFlags(value: number) {
    storeU16(this.view, this.avail + VIRTQ_RING_FLAGS, value);
  }

  get usedFlags(): number {
    return loadU16(this.view, this.used + VIRTQ_RING_FLAGS);
  }

  set usedFlags(value: number) {
    storeU16(this.view, this.used + VIRTQ_RING_FLAGS, value);
  }

  get usedEvent(): number {
    return loadU16(this.view, this.availElement(this.num));
  }

  set usedEvent(value: number) {
    storeU16(this.view, this.availElement(this.num), value);
  }

  get availEvent(): number {
    return loadU16(this.view, this.usedElement(this.num));
  }

  set availEvent(value: number) {
    storeU16(this.view, this.usedElement(this.num), value);
  }

  /** The head in slot `slot` of the available ring. */
  availHead(slot: number): number {
    return loadU16(this.view, this.availElement(slot));
  }

  /** Writes a head to slot `slot` of the available ring. */
  setAvailHead(slot: number, head: number): void {
    storeU16(this.view, this.availElement(slot), head);
  }

  /** The element in slot `slot` of the used ring: id and length. */
  usedElem(slot: number): [id: number, len: number] {
    const at = this.usedElement(slot);
    return [this.view.getUint32(at, true), this.view.getUint32(at + VIRTQ_USED_ELEM_LEN, true)];
  }

  /** Writes id and length to slot `slot` of the used ring. */
  setUsedElem(slot: number, id: number, len: number): void {
    this.view.setUint32(this.usedElement(slot), id, true);
    this.view.setUint32(this.usedElement(slot) + VIRTQ_USED_ELEM_LEN, len, true);
  }

  /** What a raw driver does to offer a chain: writes the head at avail.idx, then moves it on. */
  offer(head: number): void {
    this.setAvailHead(this.availIdx % this.num, head);
    this.availIdx = this.availIdx + 1;
  }

  private availElement(slot: number): number {
    return this.avail + VIRTQ_RING_ELEMENTS + slot * VIRTQ_AVAIL_ELEM_BYTES;
  }

  private usedElement(slot: number): number {
    return this.used + VIRTQ_RING_ELEMENTS + slot * VIRTQ_USED_ELEM_BYTES;
  }
}
