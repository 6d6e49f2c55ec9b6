// Random programs in which a device's half ends anywhere, between two calls or between two stores,
// and another one goes on by the in-flight area. Steps are plain data.

import fc from "fast-check";
import type { RingShape } from "./ring-fixture.js";

/** A chain: pieces of 8 bytes, readable and writable; `isBad`: not in guest memory. */
export interface CrashChain {
  out: number;
  into: number;
  isBad: boolean;
}

/** What the device's half does. */
export type DeviceStep =
  | { op: "pop"; max: number }
  /** Chains by their places among those popped; with IN_ORDER as many, from the first on. */
  | { op: "use"; picks: number[] }
  /** Likewise in one call; bit i: chain i is used completely. */
  | { op: "useN"; picks: number[]; whole: number }
  | { op: "publish" }
  | { op: "enableKick" };

/** One step. A crash ends the step in it before or after so many stores, or behind it. */
export type CrashStep =
  | DeviceStep
  | { op: "add"; chains: CrashChain[] }
  | { op: "get" }
  | { op: "crash"; step: DeviceStep; stores: number; recoveryWrites: number };

const picksArb = fc.array(fc.nat(7), { minLength: 1, maxLength: 4 });

const deviceArb: fc.Arbitrary<DeviceStep> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ op: fc.constant("pop" as const), max: fc.nat(5) }) },
  { weight: 3, arbitrary: fc.record({ op: fc.constant("use" as const), picks: picksArb }) },
  {
    weight: 2,
    arbitrary: fc.record({
      op: fc.constant("useN" as const),
      picks: picksArb,
      whole: fc.nat(15),
    }),
  },
  { weight: 3, arbitrary: fc.record({ op: fc.constant("publish" as const) }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant("enableKick" as const) }) },
);

const chainArb: fc.Arbitrary<CrashChain> = fc
  .record({ out: fc.nat(2), into: fc.nat(2), isBad: fc.nat(5).map((dice) => dice === 0) })
  .filter(({ out, into }) => out + into > 0);

const addArb = fc.record({
  op: fc.constant("add" as const),
  chains: fc.array(chainArb, { minLength: 1, maxLength: 4 }),
});

/** Programs: a driver and a device at work, and now and then the device's end. */
export const crashStepArb: fc.Arbitrary<CrashStep> = fc.oneof(
  { weight: 9, arbitrary: deviceArb },
  { weight: 4, arbitrary: addArb },
  { weight: 2, arbitrary: fc.record({ op: fc.constant("get" as const) }) },
  {
    weight: 2,
    arbitrary: fc.record({
      op: fc.constant("crash" as const),
      step: deviceArb,
      stores: fc.oneof(fc.nat(40), fc.constant(1000)),
      recoveryWrites: fc.oneof(fc.nat(20), fc.constant(1000)),
    }),
  },
);

/** A ring to end. */
export const crashShapeArb: fc.Arbitrary<Partial<RingShape>> = fc.record({
  num: fc.constantFrom(2, 4, 8),
  eventIdx: fc.boolean(),
  indirect: fc.boolean(),
  indirectCapacity: fc.constantFrom(0, 4),
  inOrder: fc.boolean(),
});
