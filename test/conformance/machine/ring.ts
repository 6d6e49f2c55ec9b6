// The driver's side of a ring, byte by byte in the memory of the process that has the device.

import { EventFd } from "#dist/kernel/eventfd.js";
import { descBytes, deviceAreaBytes, driverAreaBytes } from "#dist/memory/vring.js";
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
import { VIRTIO_VSOCK_HEADER_BYTES, VMADDR_CID_HOST } from "#dist/spec/virtio-vsock.js";
import { writeHeader } from "#dist/vsock/header.js";
import { attempt } from "./errors.js";

const PAGE_BYTES = 4096;
/** A CID that no guest has: packets from it are dropped, and their buffers come back. */
const CID_OF_NOBODY = 99;

const pages = (bytes: number) => Math.ceil(bytes / PAGE_BYTES) * PAGE_BYTES;

/** An eventfd as a program has it. */
export class ProgramEventFd {
  constructor(readonly file = new EventFd()) {}

  /** Adds one. */
  signal(): void {
    this.file.write(1n);
  }

  /** write(2): how many bytes were taken. */
  write(value: bigint): number {
    this.file.write(value);
    return 8;
  }

  /** What was added since the last read; 0 where a read would have to wait. */
  read(): number {
    let value = 0;
    attempt(() => {
      value = Number(this.file.read());
    });
    return value;
  }
}

/** A descriptor, as it lies in memory. */
export interface Desc {
  readonly addr: number | bigint;
  readonly len: number;
  readonly flags?: number;
  readonly next?: number;
}

/** Where a ring is, and how large: user addresses, which are the guest's as well. */
export interface RingPlace {
  readonly num: number;
  /** Of all that the ring has: its areas, a page each at least, and its packet. */
  readonly address: number;
}

/** Bytes that a ring of `num` entries takes. */
export const ringBytes = (num: number): number =>
  pages(descBytes(num)) + pages(driverAreaBytes(num)) + pages(deviceAreaBytes(num)) + PAGE_BYTES;

/**
 * A ring in memory that processes share, with its three eventfds. It lies in the memory of whoever
 * has said to a device that it is there, and at first in its maker's.
 */
export class Ring {
  readonly kick = new ProgramEventFd();
  call = new ProgramEventFd();
  readonly err = new ProgramEventFd();
  readonly num: number;
  readonly desc: number;
  readonly avail: number;
  used: number;
  /** A packet that every descriptor names at first. */
  readonly packet: number;
  readonly #place: RingPlace;
  #memory: WebAssembly.Memory;
  #view: DataView;
  /** What a worker's thread may be at as well is read and written whole: DataView's is not. */
  #halves: Uint16Array;

  constructor(memory: WebAssembly.Memory, place: RingPlace) {
    const { num, address } = place;
    this.#place = place;
    this.#memory = memory;
    this.#view = new DataView(memory.buffer);
    this.#halves = new Uint16Array(memory.buffer);
    this.num = num;
    this.desc = address;
    this.avail = this.desc + pages(descBytes(num));
    this.used = this.avail + pages(driverAreaBytes(num));
    this.packet = this.used + pages(deviceAreaBytes(num));
    const from = { srcCid: CID_OF_NOBODY, dstCid: VMADDR_CID_HOST, srcPort: 1, dstPort: 1 };
    const rest = { len: 0, type: 1, op: 5, flags: 0, bufAlloc: 0, fwdCnt: 0 };
    writeHeader(this.#view, this.packet, { ...from, ...rest });
    for (let i = 0; i < num; i++) {
      this.setDesc(i, { addr: this.packet, len: VIRTIO_VSOCK_HEADER_BYTES });
      this.setSlot(i, i);
    }
  }

  /** All that it has is, from now on, in that memory: a program there has said where it is. */
  moveTo(memory: WebAssembly.Memory): void {
    if (memory === this.#memory) return;
    const { address, num } = this.#place;
    const bytes = new Uint8Array(this.#memory.buffer, address, ringBytes(num));
    new Uint8Array(memory.buffer).set(bytes, address);
    this.#memory = memory;
    this.#view = new DataView(memory.buffer);
    this.#halves = new Uint16Array(memory.buffer);
  }

  #load(at: number): number {
    return Atomics.load(this.#halves, at / 2);
  }

  #store(at: number, value: number): void {
    Atomics.store(this.#halves, at / 2, value);
  }

  /** Writes a descriptor, of the ring's table or of one at `table`. */
  setDesc(index: number, { addr, len, flags = 0, next = 0 }: Desc, table = this.desc): void {
    const at = table + index * VIRTQ_DESC_BYTES;
    this.#view.setBigUint64(at, BigInt(addr), true);
    this.#view.setUint32(at + VIRTQ_DESC_LEN, len, true);
    this.#view.setUint16(at + VIRTQ_DESC_FLAGS, flags, true);
    this.#view.setUint16(at + VIRTQ_DESC_NEXT, next, true);
  }

  /** Writes an entry of the available ring. */
  setSlot(slot: number, head: number): void {
    const at = this.avail + VIRTQ_RING_ELEMENTS + (slot % this.num) * VIRTQ_AVAIL_ELEM_BYTES;
    this.#store(at, head);
  }

  /** Makes `head` available as the next entry. */
  publish(head: number): void {
    this.setSlot(this.availIdx, head);
    this.availIdx++;
  }

  get availIdx(): number {
    return this.#load(this.avail + VIRTQ_RING_IDX);
  }

  set availIdx(idx: number) {
    this.#store(this.avail + VIRTQ_RING_IDX, idx & 0xffff);
  }

  /** avail.flags. */
  set availFlags(flags: number) {
    this.#store(this.avail + VIRTQ_RING_FLAGS, flags);
  }

  /** used_event, behind the entries of the available ring. */
  set usedEvent(idx: number) {
    const at = this.avail + VIRTQ_RING_ELEMENTS + this.num * VIRTQ_AVAIL_ELEM_BYTES;
    this.#store(at, idx & 0xffff);
  }

  get usedIdx(): number {
    return this.#load(this.used + VIRTQ_RING_IDX);
  }

  set usedIdx(idx: number) {
    this.#store(this.used + VIRTQ_RING_IDX, idx & 0xffff);
  }

  /** used.flags. */
  get usedFlags(): number {
    return this.#load(this.used + VIRTQ_RING_FLAGS);
  }

  /** avail_event, behind the entries of the used ring. */
  get availEvent(): number {
    return this.#load(this.#usedAt(this.num));
  }

  /** The entry of the used ring at a slot. */
  usedEntry(slot: number): { id: number; len: number } {
    const at = this.#usedAt(slot % this.num);
    const len = this.#view.getUint32(at + VIRTQ_USED_ELEM_LEN, true);
    return { id: this.#view.getUint32(at, true), len };
  }

  #usedAt(slot: number): number {
    return this.used + VIRTQ_RING_ELEMENTS + slot * VIRTQ_USED_ELEM_BYTES;
  }

  /** The memory that the ring is in now. */
  get view(): DataView {
    return this.#view;
  }

  /** Makes `count` packets available, good ones that the device drops. Kicks nobody. */
  add(count = 1): void {
    this.availIdx += count;
  }
}
