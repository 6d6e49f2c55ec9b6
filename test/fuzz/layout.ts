// Where everything of a case lies: the side's own blocks, the guest's regions, the ring's areas.

import { vringAreas } from "#dist/memory/vring.js";
import * as s from "#dist/spec/ring-state.js";
import type { Random } from "./random.js";
import type { RecordLayout } from "./record.js";

/** A range of linear memory. */
export interface Extent {
  start: number;
  bytes: number;
}

/** A region of guest memory. */
export interface Region {
  guest: bigint;
  bytes: number;
  linear: number;
}

/** One side of one ring in one memory: linear addresses, and what was negotiated. */
export interface Layout {
  side: "device" | "driver";
  isPacked: boolean;
  isLinux: boolean;
  isInOrder: boolean;
  /** VQ_F_… bits. */
  flags: number;
  num: number;
  iovCapacity: number;
  chainCapacity: number;
  /** The side's own blocks. */
  vq: number;
  iov: number;
  chains: number;
  /** Device: the region table. Driver: the shadow table. */
  table: number;
  regions: Region[];
  /** The ring's areas, which may overlap. */
  desc: Extent;
  driver: Extent;
  deviceArea: Extent;
  /** Driver: the indirect tables (`start` 0: none), and descriptors of each. */
  indirect: Extent;
  indirectCapacity: number;
  /** Driver: guest address minus linear address. */
  delta: bigint;
  /** Device: where it records, when it does. */
  record?: RecordLayout;
  /** End of all that is laid out, and a little more. */
  end: number;
}

/** Bytes of the memory that a case is laid out in. */
export const SMALL_BYTES = 65536;
/** Bytes of the memory for the few cases with large rings. */
export const LARGE_BYTES = 32 * 65536;

const TOP = 1n << 64n;

const align = (value: number, to: number): number => Math.ceil(value / to) * to;

/** Whether two ranges have a byte in common. */
export function overlaps(a: Extent, b: Extent): boolean {
  return a.start < b.start + b.bytes && b.start < a.start + a.bytes;
}

function pickNum(random: Random, isPacked: boolean, isLarge: boolean): number {
  const power = isLarge ? random.between(10, 15) : random.pick([0, 1, 2, 2, 3, 3, 3, 4, 5, 8]);
  const num = 2 ** power;
  return isPacked ? random.between(Math.max(1, num >> 1), num) : num;
}

function pickFlags(random: Random, isPacked: boolean, isLinux: boolean): number {
  return (
    (random.once(2) ? s.VQ_F_EVENT_IDX : 0) |
    (random.once(4) ? 0 : s.VQ_F_INDIRECT) |
    (random.once(3) ? s.VQ_F_IN_ORDER : 0) |
    (isPacked ? s.VQ_F_PACKED : 0) |
    (isLinux ? s.VQ_F_LINUX : 0)
  );
}

/** Sizes of the regions; the first holds the ring's areas. */
function regionSizes(random: Random, mainBytes: number): number[] {
  const count = random.once(32) ? 63 : random.below(7);
  const most = count > 8 ? 64 : 2048;
  const others = Array.from({ length: count }, () =>
    random.once(3) ? random.between(1, 40) : random.between(1, most),
  );
  return [mainBytes, ...others];
}

/** Guest addresses that don't overlap: adjoining, apart, and at both ends of what there is. */
function placeGuest(random: Random, sizes: readonly number[]): bigint[] {
  const total = sizes.reduce((sum, size) => sum + BigInt(size), 0n);
  const runs = random.shuffled(sizes.map((size, index) => ({ size, index })));
  const guests: bigint[] = [];
  let at = random.pick([0n, 1n, 4096n, (1n << 32n) - 512n, TOP - total, random.u64() >> 1n]);
  let left = total;
  for (const { size, index } of runs) {
    if (random.once(3)) {
      const room = TOP - left - at; // what may be skipped
      const jump = random.pick([1n, 15n, 4096n, room, room >> 1n, 1n << 32n]);
      at += jump < room ? jump : room;
    }
    guests[index] = at;
    at += BigInt(size);
    left -= BigInt(size);
  }
  return guests;
}

/** A place for an area in the first region; anywhere, so that areas may overlap. */
function placeArea(random: Random, main: Extent, bytes: number, to: number): Extent {
  const first = align(main.start, to);
  const steps = Math.floor((main.start + main.bytes - bytes - first) / to);
  const step = random.once(8) ? random.pick([0, steps]) : random.between(0, steps);
  return { start: first + step * to, bytes };
}

/** Places areas one after another, with gaps where there is room. */
function placeApart(random: Random, main: Extent, sizes: readonly [number, number][]): Extent[] {
  let at = main.start;
  return sizes.map(([bytes, to]) => {
    const start = align(at + random.below(32), to);
    at = start + bytes;
    return { start, bytes };
  });
}

interface Block {
  name: string;
  bytes: number;
  to: number;
}

/** Addresses for blocks in any order, close together or apart; the last may end the memory. */
function placeBlocks(random: Random, blocks: readonly Block[], most: number): Map<string, number> {
  const places = new Map<string, number>();
  let at = 64 + random.below(256);
  const order = random.shuffled(blocks);
  for (const [i, { name, bytes, to }] of order.entries()) {
    const isLast = i === order.length - 1 && random.once(4);
    at = isLast ? Math.floor((most - bytes) / to) * to : align(at, to);
    if (at + bytes > most) throw new RangeError(`a layout of more than ${most} bytes`);
    places.set(name, at);
    places.set("end", Math.min(at + bytes + 128, most));
    at += bytes + (random.once(3) ? 0 : random.below(96));
  }
  return places;
}

/** Everything but the addresses of the side's own blocks and of the ring's areas. */
function shapeOf(random: Random, side: Layout["side"], isLarge: boolean) {
  const isPacked = random.once(2);
  const isLinux = side === "device" && !isPacked && random.once(3);
  const flags = pickFlags(random, isPacked, isLinux);
  const num = pickNum(random, isPacked, isLarge);
  const tableRoom = Math.floor(8192 / (num * s.IOV_BYTES * 2));
  return {
    side,
    isPacked,
    isLinux,
    isInOrder: (flags & s.VQ_F_IN_ORDER) !== 0,
    flags,
    num,
    iovCapacity: random.once(16) ? 1100 : random.between(1, 70),
    chainCapacity: random.between(1, random.once(4) ? 128 : 16),
    indirectCapacity: side === "driver" ? random.below(Math.min(12, tableRoom) + 1) : 0,
  };
}

/** A layout at random; `memoryBytes`: what it must fit in. */
export function makeLayout(random: Random, side: Layout["side"], memoryBytes: number): Layout {
  const shape = shapeOf(random, side, memoryBytes > SMALL_BYTES);
  const { num, isPacked, indirectCapacity } = shape;
  const areas = vringAreas(num, isPacked);
  const indirectBytes = num * indirectCapacity * 16;
  const areaSizes: [number, number][] = [
    [areas.desc.bytes, areas.desc.align],
    [areas.driver.bytes, areas.driver.align],
    [areas.device.bytes, areas.device.align],
    [indirectBytes, 16],
  ];
  const mainBytes =
    areaSizes.reduce((sum, [bytes, to]) => sum + bytes + to + 32, 0) + random.below(1024);
  const sizes = regionSizes(random, mainBytes);
  const tableBytes = side === "device" ? sizes.length * s.REGION_BYTES : num * s.SHADOW_BYTES;
  const places = placeBlocks(
    random,
    [
      { name: "vq", bytes: s.VQ_STATE_BYTES, to: 8 },
      { name: "iov", bytes: shape.iovCapacity * s.IOV_BYTES, to: 8 },
      { name: "chains", bytes: shape.chainCapacity * s.CHAIN_BYTES, to: 8 },
      { name: "table", bytes: tableBytes, to: 8 },
      ...sizes.map((bytes, i) => ({ name: `region ${i}`, bytes, to: 1 })),
    ],
    memoryBytes,
  );
  const at = (name: string): number => places.get(name) as number;
  const guests = placeGuest(random, sizes);
  const regions = sizes.map((bytes, i) => {
    return { guest: guests[i] as bigint, bytes, linear: at(`region ${i}`) };
  });
  const main = { start: at("region 0"), bytes: mainBytes };
  const placed = random.once(4)
    ? areaSizes.map(([bytes, to]) => placeArea(random, main, bytes, to))
    : placeApart(random, main, areaSizes);
  const [desc, driver, deviceArea, tables] = placed as [Extent, Extent, Extent, Extent];
  return {
    ...shape,
    vq: at("vq"),
    iov: at("iov"),
    chains: at("chains"),
    table: at("table"),
    regions,
    desc,
    driver,
    deviceArea,
    indirect: indirectCapacity === 0 ? { start: 0, bytes: 0 } : tables,
    end: at("end"),
    delta: BigInt.asUintN(64, (guests[0] as bigint) - BigInt(main.start)),
  };
}
