// Random programs for one ring: what a driver, a device and a hostile peer may do, in any order.
// Steps are plain data, so that fast-check can print and shrink them; `ring-steps.ts` runs them.

import fc from "fast-check";
import { type RecoverStep, recordArb, recoverArb } from "./record-program.js";
import type { OtherRegion, RingShape } from "./ring-fixture.js";

/** A guest address, relative to the regions of whatever fixture it meets. */
export interface Place {
  region: number;
  /** `border`: the first multiple of 4 GiB behind the region's start; `top`: 2^64. */
  anchor: "start" | "end" | "middle" | "border" | "top";
  delta: number;
}

/** One descriptor of a hostile chain or table. */
export interface Buffer {
  place: Place;
  len: number;
  write: boolean;
}

/** How a hostile chain or table ends. */
export type Ending = "end" | "loop" | "past";

/** An indirect table that somebody wrote by hand. */
export interface Table {
  place: Place;
  entries: Buffer[];
  ending: Ending;
  /** Added to the descriptor's length. */
  lenDelta: number;
  nested: boolean;
  next: boolean;
}

/** Pieces of one record: lengths in bytes, and what is wrong with it. */
export interface Chain {
  out: number[];
  into: number[];
  mistake: "none" | "past" | "overflow";
}

/** A call of a driver or a device, on a ring of either kind. */
export type WorkStep =
  | RecoverStep
  | { op: "addBufs"; chains: Chain[]; publish: boolean }
  | { op: "driverPublish" | "kickNeeded" | "enableCall" | "disableCall" | "reset" }
  | { op: "devicePublish" | "callNeeded" | "enableKick" | "disableKick" | "availLen" }
  | { op: "getBufs" | "getDescs"; max: number }
  | { op: "pass"; chain: Chain; usedBytes: number }
  | { op: "batch"; chains: number; take: number; reset: boolean }
  | {
      op: "addUsed";
      wrong: boolean;
      /** Which of those that were popped, without IN_ORDER. */
      pick: number;
      head: number;
      usedBytes: number;
      publish: boolean;
    }
  | {
      op: "addUsedN";
      count: number;
      wrongAt: number;
      /** Bit i: record i, and every eighth after it, is used completely. */
      whole: number;
      usedBytes: number;
      publish: boolean;
    };

/** One step of a program. */
export type Step =
  | WorkStep
  | { op: "restart" | "catchUp" }
  | { op: "start"; lastAvail: number }
  | { op: "writeDesc"; index: number; buffer: Buffer; flags: number; next: number }
  | { op: "offer"; head: number; stride: number; buffers: Buffer[]; ending: Ending; noise: number }
  | { op: "offerTable"; head: number; buffers: Buffer[]; table: Table }
  | { op: "flood"; loop: boolean; times: number; place: Place; len: number }
  | { op: "storm"; place: Place; entries: number; write: boolean; ending: Ending }
  | { op: "stale"; ahead: number }
  | { op: "hoard"; place: Place }
  | { op: "availIdx"; from: "self" | "last" | "seen"; delta: number }
  | { op: "availHead"; ahead: number; head: number }
  | { op: "usedIdx"; from: "self" | "last"; delta: number }
  | { op: "usedElem"; ahead: number; id: number; len: number; publish: boolean }
  | { op: "words"; availFlags: number; usedFlags: number; usedEvent: number; availEvent: number };

// ── generators ──────────────────────────────────────────────────────────────────────────────────

const TOP = 1n << 64n;

/** Where regions lie: neighbours, 4 GiB borders, odd addresses, both ends of the address space. */
const LAYOUTS: readonly { guest: bigint; more: readonly OtherRegion[] }[] = [
  { guest: 1n << 32n, more: [] },
  { guest: 0n, more: [{ bytes: 256 }, { bytes: 40 }, { bytes: 4096 }] },
  {
    guest: (7n << 32n) - 0x800n,
    more: [
      { bytes: 100, skew: 3 },
      { bytes: 333, skew: 5 },
    ],
  },
  { guest: (1n << 63n) - 4096n, more: [{ guest: TOP - 1024n, bytes: 512 }, { bytes: 512 }] },
  {
    guest: 0xffff_ffff_0000_0000n,
    more: [
      { guest: TOP - 77n, bytes: 77, skew: 1 },
      { guest: 0n, bytes: 128 },
    ],
  },
  { guest: 0x1234_5000n, more: Array.from({ length: 8 }, () => ({ bytes: 16 })) },
];

/** A ring to run a program on: its shape, and where it starts. */
export function ringArb<T>(num: fc.Arbitrary<number>, start: fc.Arbitrary<T>) {
  return fc
    .record({
      num,
      eventIdx: fc.boolean(),
      indirect: fc.oneof({ weight: 3, arbitrary: fc.constant(true) }, fc.boolean()),
      inOrder: fc.nat(2).map((dice) => dice === 0),
      indirectCapacity: fc.constantFrom(0, 1, 2, 4, 8),
      iovCapacity: fc.constantFrom(1, 2, 4, 8, 16, 64, 2048),
      burst: fc.constantFrom(1, 2, 4, 16, 64),
      layout: fc.nat(LAYOUTS.length - 1),
      dataBytes: fc.constantFrom(64, 1000, 4096),
      record: recordArb,
      start,
    })
    .map(({ layout, start, ...rest }): { shape: Partial<RingShape>; start: T } => ({
      shape: { ...rest, ...LAYOUTS[layout] },
      start,
    }));
}

/** A split ring, and the value that every index starts at. */
export const shapeArb = ringArb(
  fc.constantFrom(1, 2, 4, 8, 8, 16, 16, 256, 1024),
  fc.constantFrom(0, 0, 65530, 65535, 32767, 12345),
);

/** Anywhere: inside and outside of regions, and at their ends. */
export const placeArb: fc.Arbitrary<Place> = fc.record({
  region: fc.nat(9),
  anchor: fc.constantFrom("start", "start", "end", "end", "middle", "middle", "border", "top"),
  delta: fc.oneof(fc.constant(0), fc.integer({ min: -40, max: 40 })),
});

/** Near the start or the middle of a region. */
export const insideArb: fc.Arbitrary<Place> = fc.record({
  region: fc.nat(9),
  anchor: fc.constantFrom("start", "middle"),
  delta: fc.nat(7),
});

/** Lengths of buffers, and what a device says it wrote. */
export const lenArb = fc.oneof(
  { weight: 6, arbitrary: fc.integer({ min: 1, max: 64 }) },
  { weight: 2, arbitrary: fc.constant(0) },
  { weight: 2, arbitrary: fc.integer({ min: 1, max: 8 }).map((count) => count * 16) },
  { weight: 2, arbitrary: fc.integer({ min: 65, max: 9000 }) },
  { weight: 1, arbitrary: fc.constantFrom(0xffff_ffff, 0xffff_ffd0, 0x8000_0000, 0xffff_f000) },
);

const mildBuffer = fc.record({
  place: insideArb,
  len: fc.oneof(
    { weight: 14, arbitrary: fc.integer({ min: 0, max: 20 }) },
    { weight: 1, arbitrary: fc.constantFrom(0xffff_ffff, 0xffff_fff0) },
  ),
  write: fc.boolean(),
});
const wildBuffer = fc.record({ place: placeArb, len: lenArb, write: fc.boolean() });
/** Good buffers, and any others. */
export const bufferArb: fc.Arbitrary<Buffer> = fc.oneof(
  { weight: 3, arbitrary: mildBuffer },
  { weight: 2, arbitrary: wildBuffer },
);

/** Mostly readable before writable, as a chain should be. */
export function buffersArb(
  buffer: fc.Arbitrary<Buffer>,
  min: number,
  max = 6,
): fc.Arbitrary<Buffer[]> {
  return fc
    .tuple(fc.array(buffer, { minLength: min, maxLength: max }), fc.nat(9))
    .map(([buffers, dice]) =>
      dice === 0 ? buffers : buffers.sort((a, b) => Number(a.write) - Number(b.write)),
    );
}

function endingArb(weight: number): fc.Arbitrary<Ending> {
  return fc.oneof(
    { weight, arbitrary: fc.constant("end" as const) },
    { weight: 2, arbitrary: fc.constantFrom("loop" as const, "past" as const) },
  );
}

/** Indirect tables, good and malformed. */
export const tableArb: fc.Arbitrary<Table> = fc.record({
  place: fc.oneof(
    { weight: 4, arbitrary: insideArb },
    { weight: 5, arbitrary: placeArb },
    { weight: 1, arbitrary: fc.constant<Place>({ region: 0, anchor: "border", delta: -16 }) },
  ),
  entries: fc.oneof(buffersArb(mildBuffer, 1, 3), buffersArb(bufferArb, 1)),
  ending: endingArb(2),
  lenDelta: fc.oneof(
    { weight: 8, arbitrary: fc.constant(0) },
    { weight: 2, arbitrary: fc.constantFrom(-16, 16, 1, -8, 64) },
    { weight: 1, arbitrary: fc.constantFrom(0x10_0000, 0xf_fff0, 0xffff_ff00, -1_000_000) },
  ),
  nested: fc.nat(3).map((dice) => dice === 0),
  next: fc.nat(7).map((dice) => dice === 0),
});

const chainArb: fc.Arbitrary<Chain> = fc.record({
  out: fc.array(fc.nat(100), { maxLength: 4 }),
  into: fc.array(fc.nat(100), { maxLength: 4 }),
  mistake: fc.constantFrom("none", "none", "none", "none", "none", "none", "past", "overflow"),
});

/** Any u16, the last ones more often. */
export const u16Arb = fc.oneof(fc.nat(0xffff), fc.constantFrom(0, 1, 0xffff, 65530));
/** -1 stands for the queue size. */
export const headArb = fc.oneof(u16Arb, fc.constant(-1));
/** How many at most. */
export const maxArb = fc.oneof(fc.nat(5), fc.constantFrom(1000, 0xffff_ffff));
/** How far off, mostly by little. */
export const smallDelta = fc.oneof(
  { weight: 3, arbitrary: fc.integer({ min: -3, max: 3 }) },
  { weight: 1, arbitrary: fc.nat(0xffff) },
);
/** Steps that take nothing. */
export const noArgs = <T extends string>(...ops: T[]): fc.Arbitrary<{ op: T }> =>
  fc.record({ op: fc.constantFrom(...ops) });
/** The name of a step. */
export const op = <T extends string>(name: T): fc.Arbitrary<T> => fc.constant(name);

/** What a driver and a device at work call, on a ring of either kind. */
export const workArbs: fc.WeightedArbitrary<WorkStep>[] = [
  { weight: 2, arbitrary: recoverArb },
  {
    weight: 2,
    arbitrary: fc.record({
      op: op("batch"),
      chains: fc.integer({ min: 2, max: 5 }),
      take: fc.nat(3),
      reset: fc.nat(3).map((dice) => dice === 0),
    }),
  },
  {
    weight: 8,
    arbitrary: fc.record({
      op: op("addBufs"),
      chains: fc.array(chainArb, { minLength: 1, maxLength: 5 }),
      publish: fc.nat(3).map((dice) => dice > 0),
    }),
  },
  { weight: 3, arbitrary: noArgs("driverPublish", "kickNeeded", "enableCall", "disableCall") },
  {
    weight: 4,
    arbitrary: noArgs("devicePublish", "callNeeded", "enableKick", "disableKick", "availLen"),
  },
  { weight: 6, arbitrary: fc.record({ op: op("getBufs"), max: maxArb }) },
  { weight: 10, arbitrary: fc.record({ op: op("getDescs"), max: maxArb }) },
  {
    weight: 5,
    arbitrary: fc.record({
      op: op("addUsed"),
      wrong: fc.nat(5).map((dice) => dice === 0),
      pick: fc.nat(7),
      head: fc.oneof(fc.nat(20), u16Arb, fc.constantFrom(0x1_0000, 0x2_0003, 0xffff_ffff)),
      usedBytes: lenArb,
      publish: fc.boolean(),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      op: op("addUsedN"),
      count: fc.oneof(fc.nat(6), fc.constant(1000)),
      wrongAt: fc.nat(20),
      whole: fc.oneof(fc.constant(0xff), fc.nat(0xff)),
      usedBytes: lenArb,
      publish: fc.boolean(),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({ op: op("pass"), chain: chainArb, usedBytes: fc.nat(300) }),
  },
];

/** One random step: mostly a driver and a device at work, now and then somebody breaks things. */
export const stepArb: fc.Arbitrary<Step> = fc.oneof(
  ...workArbs,
  { weight: 1, arbitrary: noArgs("reset", "restart", "restart") },
  { weight: 2, arbitrary: noArgs("catchUp") },
  { weight: 1, arbitrary: fc.record({ op: op("start"), lastAvail: u16Arb }) },
  {
    weight: 2,
    arbitrary: fc.record({
      op: op("writeDesc"),
      index: fc.nat(1023),
      buffer: bufferArb,
      flags: fc.oneof(fc.nat(7), fc.nat(0xffff)),
      next: fc.oneof(fc.nat(20), u16Arb),
    }),
  },
  {
    weight: 8,
    arbitrary: fc.record({
      op: op("offer"),
      head: fc.nat(1023),
      stride: fc.constantFrom(1, 1, 1, 3, -1),
      buffers: buffersArb(bufferArb, 1),
      ending: endingArb(8),
      noise: fc.oneof(
        { weight: 5, arbitrary: fc.constant(0) },
        fc.nat(0xfff).map((n) => n << 3),
      ),
    }),
  },
  {
    weight: 8,
    arbitrary: fc.record({
      op: op("offerTable"),
      head: fc.nat(1023),
      buffers: fc.oneof(fc.constant<Buffer[]>([]), buffersArb(bufferArb, 0)),
      table: tableArb,
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      op: op("flood"),
      loop: fc.boolean(),
      times: fc.nat(64),
      place: insideArb,
      len: fc.nat(1),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      op: op("storm"),
      place: fc.record({ region: fc.constant(0), anchor: op("start"), delta: fc.nat(16) }),
      entries: fc.oneof(fc.nat(8), fc.constantFrom(64, 65, 66, 200)),
      write: fc.boolean(),
      ending: endingArb(4),
    }),
  },
  { weight: 1, arbitrary: fc.record({ op: op("stale"), ahead: smallDelta }) },
  { weight: 1, arbitrary: fc.record({ op: op("hoard"), place: insideArb }) },
  {
    weight: 2,
    arbitrary: fc.record({
      op: op("availIdx"),
      from: fc.constantFrom("self", "last", "last", "seen"),
      delta: smallDelta,
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ op: op("availHead"), ahead: fc.nat(2), head: headArb }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      op: op("usedIdx"),
      from: fc.constantFrom("self", "last", "last"),
      delta: smallDelta,
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      op: op("usedElem"),
      ahead: fc.nat(3),
      id: fc.oneof(fc.nat(16), headArb, fc.constantFrom(0x1_0000, 0xffff_ffff)),
      len: lenArb,
      publish: fc.boolean(),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      op: op("words"),
      availFlags: fc.oneof(fc.nat(1), u16Arb),
      usedFlags: fc.oneof(fc.nat(1), u16Arb),
      usedEvent: fc.oneof(fc.nat(10), u16Arb),
      availEvent: fc.oneof(fc.nat(10), u16Arb),
    }),
  },
);
