// Lays out one driver and one device over one ring, in one memory: the host's tables, and the
// guest's regions with ring, indirect tables and data. Set-up and raw access only, no ring logic.

import {
  CHAIN_BYTES,
  CHAIN_HEAD,
  CHAIN_IN_BYTES,
  CHAIN_IN_COUNT,
  CHAIN_IOV_START,
  CHAIN_OUT_BYTES,
  CHAIN_OUT_COUNT,
  CHAIN_USED_BYTES,
  IOV_BYTES,
  IOV_LENGTH,
  REGION_BYTES,
  REGION_GUEST,
  REGION_LINEAR,
  REGION_SIZE,
  SHADOW_BYTES,
  VQ_CHAIN_CAPACITY,
  VQ_CHAINS,
  VQ_DESC,
  VQ_DEVICE,
  VQ_DRIVER,
  VQ_ERROR_COUNTS,
  VQ_F_EVENT_IDX,
  VQ_F_IN_ORDER,
  VQ_F_INDIRECT,
  VQ_F_INFLIGHT,
  VQ_F_LINUX,
  VQ_F_PACKED,
  VQ_FLAGS,
  VQ_GUEST_DELTA,
  VQ_INDIRECT,
  VQ_INDIRECT_CAPACITY,
  VQ_IOV,
  VQ_IOV_CAPACITY,
  VQ_NUM,
  VQ_REGION_COUNT,
  VQ_REGIONS,
  VQ_SHADOW,
  VQ_STATE_BYTES,
} from "#dist/spec/ring-state.js";
import {
  VIRTQ_AVAIL_ELEM_BYTES,
  VIRTQ_DESC_BYTES,
  VIRTQ_USED_ELEM_BYTES,
} from "#dist/spec/virtio-ring.js";
import { RawRing } from "./raw-ring.js";
import { type RecordAreas, takeAreas, writeAreas } from "./record-layout.js";
import type { RecordShape } from "./record-program.js";

/** A region of guest memory: its guest address, and its size in bytes. */
export interface RegionShape {
  guest: bigint;
  bytes: number;
}

/** A region behind the first. */
export interface OtherRegion {
  /** Left out: adjoins the region before it in guest addresses. */
  guest?: bigint;
  bytes: number;
  /** Linear address modulo 16; 0 when left out. */
  skew?: number;
}

/** What a fixture is made of. All fields have a default, see `DEFAULT_SHAPE`. */
export interface RingShape {
  /** Entries of the ring. */
  num: number;
  eventIdx: boolean;
  indirect: boolean;
  inOrder: boolean;
  packed: boolean;
  /** The device's policy is "linux". */
  linux: boolean;
  /** Descriptors of each of the driver's indirect tables; 0: no tables. */
  indirectCapacity: number;
  iovCapacity: number;
  /** Records of each chain table: the largest burst. */
  burst: number;
  /** Guest address of the first region, which holds ring, tables and data; its size follows. */
  guest: bigint;
  /** Bytes for data in the first region. */
  dataBytes: number;
  /** The other regions. */
  more: readonly OtherRegion[];
  /** Linear address where everything starts. */
  base: number;
  /** What the device records besides. */
  record: RecordShape | undefined;
}

/** Eight entries, no feature, one region whose guest addresses are the linear ones plus 4 GiB. */
export const DEFAULT_SHAPE: RingShape = {
  num: 8,
  eventIdx: false,
  indirect: false,
  inOrder: false,
  packed: false,
  linux: false,
  indirectCapacity: 0,
  iovCapacity: 64,
  burst: 16,
  guest: 0x1_0000_0000n,
  dataBytes: 4096,
  more: [],
  base: 4096,
  record: undefined,
};

/** A piece of linear memory, as the iovec table has it. */
export interface Piece {
  linear: number;
  bytes: number;
}

/** A record of a chain table. */
export interface ChainRecord {
  head: number;
  iovStart: number;
  outCount: number;
  inCount: number;
  outBytes: number;
  inBytes: number;
  usedBytes: number;
}

/** A memory of `pages` WebAssembly pages that a module of either target can import. */
export function makeMemory(shared: boolean, pages = 16): WebAssembly.Memory {
  return new WebAssembly.Memory({ initial: pages, maximum: 65536, shared });
}

/** One side's state block and tables: linear addresses. */
interface Side {
  vq: number;
  iov: number;
  chains: number;
}

/** One ring in one memory. Making it zeroes the range it takes and writes both state blocks. */
export class RingFixture extends RawRing {
  readonly num: number;
  readonly shape: RingShape;
  readonly memory: WebAssembly.Memory;
  readonly bytes: Uint8Array;
  /** The driver's side and the device's. */
  readonly driver: Side;
  readonly device: Side;
  readonly shadow: number;
  /** Linear addresses of the ring's areas, the indirect tables (0: none) and the data. */
  readonly desc: number;
  readonly avail: number;
  readonly used: number;
  readonly tables: number;
  readonly data: number;
  readonly areas: RecordAreas;
  /** The regions as the device knows them; the first holds all of the above. */
  readonly regions: readonly (RegionShape & { linear: number })[];
  /** Linear address of the first byte of guest memory, and of the byte after the last. */
  readonly guestStart: number;
  readonly end: number;

  private top: number;

  constructor(memory: WebAssembly.Memory, shape: Partial<RingShape> = {}) {
    super(memory);
    this.shape = { ...DEFAULT_SHAPE, ...shape };
    this.memory = memory;
    this.bytes = new Uint8Array(memory.buffer);
    this.top = this.shape.base;
    const { num, indirectCapacity, dataBytes } = this.shape;
    this.num = num;

    this.driver = this.takeSide();
    this.device = this.takeSide();
    this.shadow = this.take((num + 1) * SHADOW_BYTES);
    const regionTable = this.take((1 + this.shape.more.length) * REGION_BYTES);
    this.guestStart = this.top;
    const more = this.takeRegions();
    this.desc = this.take(num * VIRTQ_DESC_BYTES, 4096);
    this.avail = this.take(6 + num * VIRTQ_AVAIL_ELEM_BYTES);
    this.used = this.take(6 + num * VIRTQ_USED_ELEM_BYTES);
    const tableBytes = num * indirectCapacity * VIRTQ_DESC_BYTES;
    const tables = this.take(tableBytes);
    this.tables = indirectCapacity === 0 ? 0 : tables;
    this.data = this.take(dataBytes);
    const ringEnd = this.data + dataBytes;
    this.areas = takeAreas(this.shape, (...of) => this.take(...of));
    this.end = this.take(64) + 64;
    if (this.end > memory.buffer.byteLength) throw new RangeError(`needs ${this.end} bytes`);

    this.bytes.fill(0, this.shape.base, this.end);
    // Who looks one entry too far finds a chain there.
    this.bytes.fill(1, this.shadow + num * SHADOW_BYTES, this.shadow + (num + 1) * SHADOW_BYTES);
    this.regions = this.placeRegions(ringEnd - this.desc, more);
    this.writeRegions(regionTable);
    this.writeSide(this.driver);
    this.writeSide(this.device);
    this.writeDriver();
    this.view.setUint32(this.device.vq + VQ_REGIONS, regionTable, true);
    this.view.setUint32(this.device.vq + VQ_REGION_COUNT, this.regions.length, true);
    writeAreas(this);
  }

  /** Whether the device records what is in flight. */
  get isInflight(): boolean {
    return (this.word("device", VQ_FLAGS) & VQ_F_INFLIGHT) !== 0;
  }

  // ── the host's words ──────────────────────────────────────────────────────────────────────────

  /** A u32 of a state block, by its VQ_ offset. */
  word(side: "driver" | "device", offset: number): number {
    return this.view.getUint32(this[side].vq + offset, true);
  }

  /** Sets a u32 of a state block, by its VQ_ offset. */
  setWord(side: "driver" | "device", offset: number, value: number): void {
    this.view.setUint32(this[side].vq + offset, value, true);
  }

  /** How often an error was counted. */
  errors(side: "driver" | "device", code: number): number {
    return this.word(side, VQ_ERROR_COUNTS + 4 * code);
  }

  /** Record `index` of a side's chain table. */
  record(side: "driver" | "device", index: number): ChainRecord {
    const at = this[side].chains + index * CHAIN_BYTES;
    const get = (offset: number): number => this.view.getUint32(at + offset, true);
    return {
      head: get(CHAIN_HEAD),
      iovStart: get(CHAIN_IOV_START),
      outCount: get(CHAIN_OUT_COUNT),
      inCount: get(CHAIN_IN_COUNT),
      outBytes: get(CHAIN_OUT_BYTES),
      inBytes: get(CHAIN_IN_BYTES),
      usedBytes: get(CHAIN_USED_BYTES),
    };
  }

  /** Writes the named fields of record `index` of a side's chain table. */
  setRecord(side: "driver" | "device", index: number, fields: Partial<ChainRecord>): void {
    const at = this[side].chains + index * CHAIN_BYTES;
    const set = (offset: number, value: number | undefined): void => {
      if (value !== undefined) this.view.setUint32(at + offset, value, true);
    };
    set(CHAIN_HEAD, fields.head);
    set(CHAIN_IOV_START, fields.iovStart);
    set(CHAIN_OUT_COUNT, fields.outCount);
    set(CHAIN_IN_COUNT, fields.inCount);
    set(CHAIN_OUT_BYTES, fields.outBytes);
    set(CHAIN_IN_BYTES, fields.inBytes);
    set(CHAIN_USED_BYTES, fields.usedBytes);
  }

  /** Entry `index` of a side's iovec table. */
  piece(side: "driver" | "device", index: number): Piece {
    const at = this[side].iov + index * IOV_BYTES;
    const bytes = this.view.getUint32(at + IOV_LENGTH, true);
    return { linear: this.view.getUint32(at, true), bytes };
  }

  /** Writes entry `index` of a side's iovec table. */
  setPiece(index: number, { linear, bytes }: Piece, side: "driver" | "device" = "driver"): void {
    const at = this[side].iov + index * IOV_BYTES;
    this.view.setUint32(at, linear, true);
    this.view.setUint32(at + IOV_LENGTH, bytes, true);
  }

  /** Writes record `index` for `addBufs`, with its pieces in the iovec table from `iovStart` on. */
  setChain(index: number, iovStart: number, out: readonly Piece[], into: readonly Piece[]): void {
    [...out, ...into].forEach((piece, i) => {
      this.setPiece(iovStart + i, piece);
    });
    this.setRecord("driver", index, { iovStart, outCount: out.length, inCount: into.length });
  }

  // ── addresses ─────────────────────────────────────────────────────────────────────────────────

  /** The guest address of a linear one in the first region. */
  guestOf(linear: number): bigint {
    return this.shape.guest + BigInt(linear - this.desc);
  }

  /** The linear address of byte `offset` of region `index`. */
  linearOf(index: number, offset = 0): number {
    return this.region(index).linear + offset;
  }

  /** Region `index`, which exists. */
  region(index: number): RegionShape & { linear: number } {
    const region = this.regions[index];
    if (region === undefined) throw new RangeError(`no region ${index}`);
    return region;
  }

  // ── layout ────────────────────────────────────────────────────────────────────────────────────

  private take(bytes: number, align = 16, gap = 0): number {
    const start = Math.ceil(this.top / align) * align;
    this.top = start + bytes + gap;
    return start;
  }

  /** Later regions first, with gaps: neighbours in guest addresses are none in linear ones. */
  private takeRegions(): number[] {
    return [...this.shape.more].reverse().map(({ bytes, skew = 0 }) => {
      return this.take(skew + bytes + 16) + skew;
    });
  }

  private takeSide(): Side {
    const vq = this.take(VQ_STATE_BYTES);
    const iov = this.take(this.shape.iovCapacity * IOV_BYTES);
    return { vq, iov, chains: this.take(this.shape.burst * CHAIN_BYTES) };
  }

  private placeRegions(ringBytes: number, more: number[]): (RegionShape & { linear: number })[] {
    const regions = [{ guest: this.shape.guest, bytes: ringBytes, linear: this.desc }];
    let next = this.shape.guest + BigInt(ringBytes);
    for (const { guest = next, bytes } of this.shape.more) {
      regions.push({ guest, bytes, linear: more.pop() ?? 0 });
      next = guest + BigInt(bytes);
    }
    return regions;
  }

  private writeRegions(table: number): void {
    this.regions.forEach(({ guest, bytes, linear }, i) => {
      const at = table + i * REGION_BYTES;
      this.view.setBigUint64(at + REGION_GUEST, BigInt.asUintN(64, guest), true);
      this.view.setBigUint64(at + REGION_SIZE, BigInt(bytes), true);
      this.view.setUint32(at + REGION_LINEAR, linear, true);
    });
  }

  private writeSide({ vq, iov, chains }: Side): void {
    const { num, eventIdx, indirect, inOrder, packed, linux } = this.shape;
    const { iovCapacity, burst } = this.shape;
    const flags =
      (eventIdx ? VQ_F_EVENT_IDX : 0) |
      (indirect ? VQ_F_INDIRECT : 0) |
      (inOrder ? VQ_F_IN_ORDER : 0) |
      (packed ? VQ_F_PACKED : 0) |
      (linux ? VQ_F_LINUX : 0);
    const words: [number, number][] = [
      [VQ_NUM, num],
      [VQ_FLAGS, flags],
      [VQ_DESC, this.desc],
      [VQ_DRIVER, this.avail],
      [VQ_DEVICE, this.used],
      [VQ_IOV, iov],
      [VQ_IOV_CAPACITY, iovCapacity],
      [VQ_CHAINS, chains],
      [VQ_CHAIN_CAPACITY, burst],
    ];
    for (const [offset, value] of words) this.view.setUint32(vq + offset, value, true);
  }

  private writeDriver(): void {
    this.setWord("driver", VQ_SHADOW, this.shadow);
    this.setWord("driver", VQ_INDIRECT, this.tables);
    this.setWord("driver", VQ_INDIRECT_CAPACITY, this.shape.indirectCapacity);
    const delta = BigInt.asUintN(64, this.shape.guest - BigInt(this.desc));
    this.view.setBigUint64(this.driver.vq + VQ_GUEST_DELTA, delta, true);
  }
}
