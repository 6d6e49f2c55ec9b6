// One program, two packed rings, equal bytes: as `differential.test.ts` does for split ones.
// FC_SEED=<number> npx vitest run test/ring/packed-differential.test.ts replays a run;
// FC_TIMES=<number> makes a run so many times longer.

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { loadRings } from "#dist/ring/load.js";
import * as e from "#dist/spec/ring-state.js";
import { PackedFixture, positionAt } from "../helpers/packed-fixture.js";
import {
  type PackedStep,
  packedArb,
  packedStepArb,
  type Start,
} from "../helpers/packed-program.js";
import { applyPackedStep, indexAt, type PackedSubject, usedAt } from "../helpers/packed-steps.js";
import { forget, recordedBy } from "../helpers/record-area.js";
import { makeMemory, type RingShape } from "../helpers/ring-fixture.js";
import { sameMemory } from "../helpers/same-memory.js";
import { seedOf } from "../helpers/seed.js";

const SEED = seedOf("packed differential");
const TIMES = Number(process.env.FC_TIMES ?? 1);
const timeout = 120_000 * TIMES;

const STEPS_MAX = 60;
/** Rounds of further programs, for what was missed by chance. */
const ROUNDS_MAX = 20;

function makeSubject(memory: WebAssembly.Memory, kind: "wasm" | "ts", shape: Partial<RingShape>) {
  const fixture = new PackedFixture(memory, shape);
  const rings = loadRings(memory, kind);
  const driver = rings.driver(fixture.driver.vq);
  const device = rings.device(fixture.device.vq);
  return { fixture, driver, device, popped: [], got: 0 } satisfies PackedSubject;
}

/** Begins both sides at one position, as if so many descriptors had come and gone. */
function begin({ fixture, driver, device }: PackedSubject, { fromEnd, lap, id }: Start): void {
  const { num } = fixture;
  driver.reset();
  const steps = Math.max(0, lap * num + fromEnd) % (2 * num);
  const position = positionAt(steps, num);
  if (steps > 0) {
    const before = usedAt(position ^ 0x8000);
    for (let i = 0; i < num; i++) {
      fixture.setFlags(i, i < indexAt(position) ? usedAt(position) : before);
    }
  }
  for (const word of [e.VQ_AVAIL_NEXT, e.VQ_AVAIL_PUBLISHED, e.VQ_LAST_USED]) {
    fixture.setWord("driver", word, position);
  }
  if (fixture.shape.inOrder) {
    for (const word of [e.VQ_FREE_HEAD, e.VQ_OLDEST]) fixture.setWord("driver", word, id % num);
  }
  const both = (position | (position << 16)) >>> 0;
  forget(fixture, both);
  expect(device.start(both)).toBe(0);
}

/** Every error that the rings of a packed virtqueue can give. */
const DEVICE_ERRORS = [
  e.VRING_E_LOOP,
  e.VRING_E_INDIRECT_UNNEGOTIATED,
  e.VRING_E_INDIRECT_NEXT,
  e.VRING_E_INDIRECT_LENGTH,
  e.VRING_E_INDIRECT_ADDRESS,
  e.VRING_E_ADDRESS,
  e.VRING_E_ADDRESS_WRAP,
  e.VRING_E_ORDER,
  e.VRING_E_LENGTH,
  e.VRING_E_IOV,
  e.VRING_E_COMPLETION,
  e.VRING_E_UNAVAILABLE,
  e.VRING_E_POSITION,
  e.VRING_E_LOG,
];
const DRIVER_ERRORS = [e.VRING_E_USED_ID, e.VRING_E_USED_LENGTH, e.VRING_E_CHAIN];

/** Programs that met each error, by side. */
const met = { device: new Map<number, number>(), driver: new Map<number, number>() };

/** Programs at whose end something was resubmitted, pages were marked, lists were in flight. */
const recorded = { resubmitted: 0, marked: 0, inFlight: 0 };

function tally({ fixture }: PackedSubject): void {
  for (const key of recordedBy(fixture)) recorded[key]++;
  for (const side of ["device", "driver"] as const) {
    for (let code = 1; code < e.VRING_E_COUNT; code++) {
      if (fixture.errors(side, code) > 0) met[side].set(code, (met[side].get(code) ?? 0) + 1);
    }
  }
}

function run(wasm: PackedSubject, ts: PackedSubject, start: Start, steps: PackedStep[]): void {
  begin(wasm, start);
  begin(ts, start);
  sameMemory(wasm, ts);
  steps.forEach((step, i) => {
    const answers = [applyPackedStep(wasm, step), applyPackedStep(ts, step)];
    expect(answers[0], `step ${i}, ${step.op}: wasm, ts`).toBe(answers[1]);
    try {
      sameMemory(wasm, ts);
    } catch (error) {
      throw new Error(`step ${i}, ${step.op}: ${(error as Error).message}`);
    }
  });
}

/** Makes a shape fit into the memory there is; only the largest rings change. */
function sized(shape: Partial<RingShape>, isSmall: boolean): Partial<RingShape> {
  const { num = 8, indirectCapacity = 0 } = shape;
  if (num <= 100) return shape;
  return isSmall ? { ...shape, num: 100 } : { ...shape, indirectCapacity: indirectCapacity & 2 };
}

interface Place {
  name: string;
  shared: boolean;
  pages: number;
  base: number;
  numRuns: number;
}

const SHARED: Place = { name: "shared memory", shared: true, pages: 96, base: 4096, numRuns: 1000 };
const PLACES: Place[] = [
  SHARED,
  { ...SHARED, name: "unshared memory", shared: false, numRuns: 500 },
  { name: "the top of 4 GiB", shared: true, pages: 65536, base: 0xfff0_0000, numRuns: 200 },
];

function runPrograms({ shared, pages, base, numRuns }: Place, seed: number): void {
  const [left, right] = [makeMemory(shared, pages), makeMemory(shared, pages)];
  const steps = fc.array(packedStepArb, { minLength: 1, maxLength: STEPS_MAX, size: "max" });
  fc.assert(
    fc.property(packedArb, steps, ({ shape, start }, program) => {
      const fitting = { ...sized(shape, pages === 65536), base };
      const wasm = makeSubject(left, "wasm", fitting);
      const ts = makeSubject(right, "ts", fitting);
      run(wasm, ts, start, program);
      tally(wasm);
    }),
    { seed, numRuns },
  );
}

describe.each(PLACES)("wasm and ts, packed, $name", (place) => {
  test(
    "give the same answers and leave the same bytes",
    () => runPrograms({ ...place, numRuns: place.numRuns * TIMES }, SEED),
    timeout,
  );
});

// A generator that misses a check proves nothing about it. What is rare, the programs above may
// have missed by chance: more of them run then, until it is met.
describe("the programs of packed rings", () => {
  test.each([
    ["device", DEVICE_ERRORS],
    ["driver", DRIVER_ERRORS],
  ] as const)("meet every error of the %s's side, and no other", { timeout }, (side, errors) => {
    const codes = () => [...met[side].keys()].sort((a, b) => a - b);
    goOn(() => codes().length < errors.length);
    expect(codes()).toEqual(errors);
  });

  test("record all that there is to record", { timeout }, () => {
    const least = () => Math.min(...Object.values(recorded));
    goOn(() => least() <= 10);
    expect(least()).toBeGreaterThan(10);
  });
});

/** Runs more programs while `isMissing`, so many at most. */
function goOn(isMissing: () => boolean): void {
  for (let round = 1; round <= ROUNDS_MAX && isMissing(); round++) {
    runPrograms({ ...SHARED, numRuns: 200 }, SEED + round);
  }
}
