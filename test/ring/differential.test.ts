// One program, two rings, equal bytes: the WebAssembly virtqueues and their TypeScript twins run
// the same random program, each over its own memory. After each step answers and memory agree.
// FC_SEED=<number> npx vitest run test/ring/differential.test.ts replays a run; FC_TIMES=<number>
// makes a run so many times longer.

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { loadRings } from "#dist/ring/load.js";
import {
  VQ_AVAIL_NEXT,
  VQ_AVAIL_PUBLISHED,
  VQ_KICKED,
  VQ_LAST_USED,
  VRING_E_CHAIN,
  VRING_E_COUNT,
  VRING_E_IN_FLIGHT,
  VRING_E_INDIRECT,
  VRING_E_INDIRECT_INDEX,
  VRING_E_INDIRECT_NEXT,
  VRING_E_INDIRECT_UNNEGOTIATED,
  VRING_E_LOG,
  VRING_E_WALK,
} from "#dist/spec/ring-state.js";
import { forget, recordedBy } from "../helpers/record-area.js";
import { makeMemory, RingFixture, type RingShape } from "../helpers/ring-fixture.js";
import { type Step, shapeArb, stepArb } from "../helpers/ring-program.js";
import { applyStep, type Subject } from "../helpers/ring-steps.js";
import { sameMemory } from "../helpers/same-memory.js";
import { seedOf } from "../helpers/seed.js";

const SEED = seedOf("differential");
const TIMES = Number(process.env.FC_TIMES ?? 1);
const timeout = 120_000 * TIMES;

const STEPS_MAX = 60;
/** Rounds of further programs, for what was missed by chance. */
const ROUNDS_MAX = 20;

function makeSubject(memory: WebAssembly.Memory, kind: "wasm" | "ts", shape: Partial<RingShape>) {
  const fixture = new RingFixture(memory, shape);
  const rings = loadRings(memory, kind);
  const driver = rings.driver(fixture.driver.vq);
  const device = rings.device(fixture.device.vq);
  return { fixture, driver, device, popped: [], got: 0 } satisfies Subject;
}

/** Begins both sides at index `start`, as if so many chains had come and gone. */
function begin({ fixture, driver, device }: Subject, start: number): void {
  driver.reset();
  for (const word of [VQ_AVAIL_NEXT, VQ_AVAIL_PUBLISHED, VQ_KICKED, VQ_LAST_USED]) {
    fixture.setWord("driver", word, start);
  }
  fixture.availIdx = fixture.usedIdx = start;
  forget(fixture, start);
  device.start(start);
}

/** Errors up to here are met by both policies, but for those of one alone. */
const SHARED_MAX = VRING_E_CHAIN;
const STRICT_ONLY = [
  VRING_E_IN_FLIGHT,
  VRING_E_INDIRECT_UNNEGOTIATED,
  VRING_E_INDIRECT_NEXT,
  VRING_E_INDIRECT_INDEX,
];
const LINUX_ONLY = [VRING_E_INDIRECT, VRING_E_WALK];

/** Programs that met each error, by policy. */
const met = { strict: new Map<number, number>(), linux: new Map<number, number>() };

/** Programs at whose end something was resubmitted, pages were marked, chains were in flight. */
const recorded = { resubmitted: 0, marked: 0, inFlight: 0 };

function tally({ fixture }: Subject): void {
  for (const key of recordedBy(fixture)) recorded[key]++;
  const counts = met[fixture.shape.linux ? "linux" : "strict"];
  for (let code = 1; code < VRING_E_COUNT; code++) {
    const isMet = fixture.errors("driver", code) + fixture.errors("device", code) > 0;
    counts.set(code, (counts.get(code) ?? 0) + (isMet ? 1 : 0));
  }
}

function run(wasm: Subject, ts: Subject, start: number, steps: Step[]): void {
  begin(wasm, start);
  begin(ts, start);
  sameMemory(wasm, ts);
  steps.forEach((step, i) => {
    const answers = [applyStep(wasm, step), applyStep(ts, step)];
    expect(answers[0], `step ${i}, ${step.op}: wasm, ts`).toBe(answers[1]);
    try {
      sameMemory(wasm, ts);
    } catch (error) {
      throw new Error(`step ${i}, ${step.op}: ${(error as Error).message}`);
    }
  });
}

interface Place {
  name: string;
  linux?: boolean;
  shared: boolean;
  pages: number;
  base: number;
  numRuns: number;
}

const SHARED: Place = { name: "shared memory", shared: true, pages: 16, base: 4096, numRuns: 400 };
const LINUX: Place = { ...SHARED, name: "policy linux", linux: true, numRuns: 700 };
const TOP = { shared: true, pages: 65536, base: 0xfff0_0000, numRuns: 100 };
const PLACES: Place[] = [
  SHARED,
  { ...SHARED, name: "unshared memory", shared: false },
  { ...TOP, name: "the top of 4 GiB" },
  LINUX,
  { ...TOP, name: "policy linux, the top of 4 GiB", linux: true },
];

function runPrograms({ shared, pages, base, linux = false, numRuns }: Place, seed: number): void {
  const [left, right] = [makeMemory(shared, pages), makeMemory(shared, pages)];
  const steps = fc.array(stepArb, { minLength: 1, maxLength: STEPS_MAX, size: "max" });
  fc.assert(
    fc.property(shapeArb, steps, ({ shape, start }, program) => {
      const wasm = makeSubject(left, "wasm", { ...shape, base, linux });
      const ts = makeSubject(right, "ts", { ...shape, base, linux });
      run(wasm, ts, start, program);
      tally(wasm);
    }),
    { seed, numRuns },
  );
}

describe.each(PLACES)("wasm and ts, $name", (place) => {
  test(
    "give the same answers and leave the same bytes",
    () => runPrograms({ ...place, numRuns: place.numRuns * TIMES }, SEED),
    timeout,
  );
});

// A generator that misses a check proves nothing about it. What is rare, the programs above may
// have missed by chance: more of them run then, until it is met.
describe("the programs", () => {
  const shared = [...Array.from({ length: SHARED_MAX }, (_, i) => i + 1), VRING_E_LOG];
  const errors = {
    strict: shared,
    linux: [...shared.filter((code) => !STRICT_ONLY.includes(code)), ...LINUX_ONLY],
  };

  test.each([
    ["strict", SHARED],
    ["linux", LINUX],
  ] as const)("meet every error, policy %s", { timeout }, (policy, place) => {
    const missed = () => errors[policy].filter((code) => !met[policy].get(code));
    goOn(() => missed().length > 0, place);
    expect(missed()).toEqual([]);
  });

  test("record all that there is to record", { timeout }, () => {
    const least = () => Math.min(...Object.values(recorded));
    goOn(() => least() <= 10, SHARED);
    expect(least()).toBeGreaterThan(10);
  });
});

/** Runs more programs while `isMissing`, so many at most. */
function goOn(isMissing: () => boolean, place: Place): void {
  for (let round = 1; round <= ROUNDS_MAX && isMissing(); round++) {
    runPrograms({ ...place, numRuns: 200 }, SEED + round);
  }
}
