// Random programs for one packed ring; what a split ring's programs have too is taken from there.
// Steps are plain data, so that fast-check can print and shrink them; `packed-steps.ts` runs them.

import fc from "fast-check";
import { DESC, DISABLE, ENABLE } from "./packed-fixture.js";
import {
  type Buffer,
  bufferArb,
  buffersArb,
  headArb,
  insideArb,
  lenArb,
  noArgs,
  op,
  type Place,
  placeArb,
  ringArb,
  smallDelta,
  type Table,
  tableArb,
  u16Arb,
  type WorkStep,
  workArbs,
} from "./ring-program.js";

/** A descriptor of the ring, counted from where a side goes on; with `raw`, from the first. */
export interface Spot {
  from: "avail" | "used" | "raw";
  ahead: number;
}

/** A list that somebody wrote by hand, from where the device goes on. */
export interface List {
  ahead: number;
  buffers: Buffer[];
  /** `open`: the last goes on, at whatever is there; `hole`: one is not available. */
  ending: "end" | "open" | "hole";
  /** Which one is not available, and by which bits. */
  hole: number;
  holeBits: number;
  /** Each has an id of its own: that of the last counts. */
  id: number;
  /** More bits of the flags. */
  noise: number;
}

/** How a device is started again. */
export type Again =
  /** Where it is, as one that was stopped goes on. */
  | { how: "same" }
  /** Where the driver is: all that is in flight is popped again, or none of it. */
  | { how: "driver"; pop: boolean }
  /** So many descriptors from where the device is. */
  | { how: "near"; avail: number; used: number }
  | { how: "raw"; position: number };

/** One step of a program. */
export type PackedStep =
  | WorkStep
  | { op: "restart" }
  | ({ op: "start" } & Again)
  | { op: "laps"; times: number; bytes: number; publish: boolean }
  | { op: "offer"; list: List }
  | { op: "offerTable"; list: List; table: Table; noise: number }
  | { op: "flood"; run: number; open: boolean; place: Place; len: number; indirect: number }
  | { op: "storm"; entries: number; place: Place; write: boolean }
  | { op: "writeDesc"; spot: Spot; buffer: Buffer; flags: number; id: number }
  | { op: "flip"; spot: Spot; bits: number }
  | { op: "usedDesc"; ahead: number; id: number; len: number; noise: number }
  | { op: "tired"; kicked: number; signalled: number }
  | { op: "event"; side: "driver" | "device"; word: number; ahead: number; bits: number };

// ── generators ──────────────────────────────────────────────────────────────────────────────────

/** Where a ring starts: so many descriptors from the end of the first lap, or of the second. */
export interface Start {
  fromEnd: number;
  lap: number;
  /** With IN_ORDER: the first id. */
  id: number;
}

const startArb: fc.Arbitrary<Start> = fc.record({
  fromEnd: fc.oneof(fc.constant(0), fc.integer({ min: -6, max: 2 })),
  lap: fc.constantFrom(0, 1, 2),
  id: fc.oneof(fc.constant(0), fc.nat(7)),
});

/** A packed ring, and where it starts. */
export const packedArb = ringArb(
  fc.oneof(
    { weight: 60, arbitrary: fc.constantFrom(1, 2, 3, 5, 7, 8) },
    { weight: 8, arbitrary: fc.constant(100) },
    { weight: 1, arbitrary: fc.constant(32768) },
  ),
  startArb,
);

const noiseArb = fc.oneof(
  { weight: 5, arbitrary: fc.constant(0) },
  { weight: 1, arbitrary: fc.nat(0xffff).map((bits) => bits & 0x7f78) },
  { weight: 1, arbitrary: fc.constant(4) },
);

const idArb = fc.oneof({ weight: 3, arbitrary: fc.nat(8) }, u16Arb);

function listArb(min: number, max: number): fc.Arbitrary<List> {
  return fc.record({
    ahead: fc.nat(11).map((dice) => (dice > 2 ? 0 : dice)),
    buffers: buffersArb(bufferArb, min, max),
    ending: fc.oneof(
      { weight: 10, arbitrary: fc.constant("end" as const) },
      { weight: 2, arbitrary: fc.constantFrom("open" as const, "hole" as const) },
    ),
    hole: fc.nat(5),
    holeBits: fc.constantFrom(0x80, 0x8000, 0x8080),
    id: idArb,
    noise: noiseArb,
  });
}

const spotArb: fc.Arbitrary<Spot> = fc.record({
  from: fc.constantFrom("avail", "used", "raw"),
  ahead: fc.oneof({ weight: 5, arbitrary: fc.integer({ min: -1, max: 4 }) }, fc.nat(32767)),
});

const againArb: fc.Arbitrary<Again> = fc.oneof(
  fc.record({ how: fc.constant("same" as const) }),
  { weight: 4, arbitrary: fc.record({ how: fc.constant("driver"), pop: fc.boolean() }) },
  fc.record({ how: fc.constant("near" as const), avail: smallDelta, used: smallDelta }),
  fc.record({
    how: fc.constant("raw" as const),
    position: fc.oneof(
      fc.tuple(fc.nat(9), fc.nat(9), fc.nat(3)).map(([avail, used, wraps]) => {
        return (avail | (used << 16) | ((wraps & 1) << 15) | ((wraps & 2) << 30)) >>> 0;
      }),
      fc.nat(0xffff_ffff),
      fc.constantFrom(0, 0x8000_8000, 0xffff_ffff),
    ),
  }),
);

const hostileArbs: fc.WeightedArbitrary<PackedStep>[] = [
  { weight: 9, arbitrary: fc.record({ op: op("offer"), list: listArb(1, 6) }) },
  {
    weight: 9,
    arbitrary: fc.record({
      op: op("offerTable"),
      list: fc.oneof({ weight: 6, arbitrary: listArb(0, 0) }, listArb(1, 2)),
      table: tableArb,
      noise: noiseArb,
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      op: op("flood"),
      run: fc.oneof(fc.integer({ min: 1, max: 4 }), fc.constant(5000)),
      open: fc.boolean(),
      place: fc.oneof({ weight: 3, arbitrary: insideArb }, placeArb),
      len: fc.oneof({ weight: 3, arbitrary: fc.nat(1) }, lenArb),
      indirect: fc.nat(20),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      op: op("storm"),
      entries: fc.oneof(fc.integer({ min: 1, max: 8 }), fc.constantFrom(64, 65, 66, 200)),
      place: fc.record({ region: fc.constant(0), anchor: op("start"), delta: fc.nat(16) }),
      write: fc.boolean(),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      op: op("writeDesc"),
      spot: spotArb,
      buffer: bufferArb,
      flags: fc.nat(0xffff),
      id: idArb,
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      op: op("flip"),
      spot: spotArb,
      bits: fc.constantFrom(0x8080, 0x80, 0x8000, 1, 2, 4, 0x7f78),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      op: op("usedDesc"),
      ahead: fc.nat(5).map((dice) => (dice > 2 ? 0 : dice)),
      id: fc.oneof({ weight: 4, arbitrary: fc.nat(8) }, headArb),
      len: lenArb,
      noise: fc.oneof(
        fc.constant(2),
        fc.nat(0xffff).map((bits) => bits & 0x7f7f),
      ),
    }),
  },
];

/** One random step: mostly a driver and a device at work, now and then somebody breaks things. */
export const packedStepArb: fc.Arbitrary<PackedStep> = fc.oneof(
  ...workArbs,
  ...hostileArbs,
  { weight: 3, arbitrary: noArgs("restart") },
  { weight: 5, arbitrary: againArb.map((again) => ({ op: "start" as const, ...again })) },
  {
    weight: 2,
    arbitrary: fc.record({
      op: op("laps"),
      times: fc.integer({ min: 1, max: 20 }),
      bytes: fc.nat(40),
      publish: fc.boolean(),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      op: op("tired"),
      kicked: fc.oneof(fc.nat(9), u16Arb),
      signalled: fc.oneof(fc.nat(9), u16Arb),
    }),
  },
  {
    weight: 6,
    arbitrary: fc.record({
      op: op("event"),
      side: fc.constantFrom("driver", "device"),
      word: fc.constantFrom(ENABLE, DISABLE, DESC, DESC, DESC, 0x3_0000),
      ahead: fc.integer({ min: -5, max: 3 }),
      bits: fc.oneof(
        { weight: 4, arbitrary: fc.constant(0) },
        { weight: 1, arbitrary: fc.constant(0x8000) },
        fc.nat(0xffff),
        fc.nat(0x3fff).map((bits) => (bits << 18) >>> 0),
      ),
    }),
  },
);
