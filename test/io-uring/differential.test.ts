// One program, two rings, equal bytes: io_uring's rings in WebAssembly and their TypeScript twin
// run the same random program of an application, a kernel and whoever scribbles on what they share.
// FC_SEED=<number> npx vitest run test/io-uring/differential.test.ts replays a run;
// FC_TIMES=<number> makes a run so many times longer.

import fc from "fast-check";
import { afterAll, describe, expect, test } from "vitest";
import {
  IO_RINGS_CQ_HEAD,
  IO_RINGS_CQ_TAIL,
  IO_RINGS_SQ_HEAD,
  IO_RINGS_SQ_TAIL,
  IOU_CQ_HEAD,
  IOU_CQ_TAIL,
  IOU_CQES,
  IOU_CQES_CAPACITY,
  IOU_E_CQ_TAIL,
  IOU_SQ_DROPPED,
  IOU_SQ_HEAD,
  IOU_SQ_PUBLISHED,
  IOU_SQ_TAIL,
  IOU_TABLE_CAPACITY,
} from "#dist/spec/io-uring.js";
import { IouFixture } from "../helpers/iou-fixture.js";
import { seedOf } from "../helpers/seed.js";

const SEED = seedOf("io_uring differential");
const TIMES = Number(process.env.FC_TIMES ?? 1);

/** A step answers with a number. */
type Step = { name: string; run: (fixture: IouFixture) => number };

const COUNT = fc.nat(9);
const U32 = fc.oneof(fc.nat(9), fc.integer({ min: 0, max: 0xffff_ffff }));

/** What a program met: a generator that misses a case proves nothing about it. */
const met = { dropped: 0, full: 0, refused: 0, sqFull: 0, marked: 0 };

const sqe = fc.uint8Array({ minLength: 64, maxLength: 64 });

const steps: fc.Arbitrary<Step> = fc.oneof(
  { weight: 4, arbitrary: fc.tuple(sqe, fc.nat(63)).map(([bytes, op]) => fill(bytes, op)) },
  { weight: 2, arbitrary: fc.constant(step("submit", (f) => f.application.submit())) },
  { weight: 3, arbitrary: COUNT.map((max) => step("takeSqes", (f) => take(f, max))) },
  { weight: 3, arbitrary: fc.tuple(COUNT, U32).map(([count, word]) => post(count, word)) },
  { weight: 2, arbitrary: COUNT.map((max) => step("peekCqes", (f) => peek(f, max))) },
  {
    weight: 2,
    arbitrary: COUNT.map((count) => step("advance", (f) => void f.application.advance(count))),
  },
  { weight: 1, arbitrary: COUNT.map((n) => step("loseCqes", (f) => void f.kernel.loseCqes(n))) },
  { weight: 1, arbitrary: U32.map((n) => step("setSqFlags", (f) => void f.kernel.setSqFlags(n))) },
  { weight: 1, arbitrary: fc.tuple(fc.nat(15), U32).map(([at, word]) => scribble(at, word)) },
  {
    weight: 2,
    arbitrary: fc
      .tuple(fc.nat(3), fc.integer({ min: -12, max: 12 }))
      .map(([at, by]) => jump(at, by)),
  },
  {
    weight: 1,
    arbitrary: fc
      .tuple(COUNT, fc.oneof(fc.nat(9), U32))
      .map(([slot, index]) =>
        step("array", (f) => void f.setArray(slot % f.layout.sqEntries, index)),
      ),
  },
);

function step(name: string, run: (fixture: IouFixture) => number | undefined): Step {
  return { name, run: (fixture) => run(fixture) ?? 0 };
}

function fill(bytes: Uint8Array, opcode: number): Step {
  return step("getSqe", (fixture) => {
    const address = fixture.application.getSqe();
    if (address === 0) met.sqFull++;
    else fixture.shared.bytes.set([opcode, ...bytes.subarray(1)], address);
    return address;
  });
}

function take(fixture: IouFixture, max: number): number {
  const count = fixture.kernel.takeSqes(max);
  if (fixture.taken(count).some(({ error }) => error !== 0)) met.marked++;
  return count;
}

function post(count: number, word: number): Step {
  return step("postCqes", (fixture) => {
    const { view } = fixture.shared;
    for (let at = 0; at < 9 * 16; at += 4) {
      view.setUint32(fixture.word("kernel", IOU_CQES) + at, word + at, true);
    }
    const posted = fixture.kernel.postCqes(count);
    if (posted < Math.min(count, fixture.word("kernel", IOU_CQES_CAPACITY))) met.full++;
    return posted;
  });
}

function peek(fixture: IouFixture, max: number): number {
  const count = fixture.application.peekCqes(max);
  if (count === -IOU_E_CQ_TAIL) met.refused++;
  return count;
}

/** A word of struct io_rings becomes another. */
function scribble(at: number, word: number): Step {
  return step("scribble", (fixture) => void fixture.setRings(at * 4, word));
}

/** A head or a tail goes on, or back. */
function jump(at: number, by: number): Step {
  return step("jump", (f) => void f.setRings(at * 4, f.rings(at * 4) + by));
}

/** Begins both sides at `index`, as if so many had come and gone. */
function begin(fixture: IouFixture, index: number, capacity: number): void {
  for (const word of [IOU_SQ_TAIL, IOU_SQ_PUBLISHED, IOU_CQ_HEAD]) {
    fixture.setWord("application", word, index);
  }
  for (const word of [IOU_SQ_HEAD, IOU_CQ_TAIL]) fixture.setWord("kernel", word, index);
  for (const word of [IO_RINGS_SQ_HEAD, IO_RINGS_SQ_TAIL, IO_RINGS_CQ_HEAD, IO_RINGS_CQ_TAIL]) {
    fixture.setRings(word, index);
  }
  fixture.setWord("application", IOU_TABLE_CAPACITY, capacity);
  fixture.setWord("kernel", IOU_TABLE_CAPACITY, capacity);
  fixture.setWord("kernel", IOU_CQES_CAPACITY, capacity);
}

function sameMemory(wasm: IouFixture, ts: IouFixture): void {
  const [left, right] = [wasm, ts].map((one) => Buffer.from(one.shared.memory.buffer));
  if (left === undefined || right === undefined || left.equals(right)) return;
  const at = left.findIndex((byte, i) => byte !== right[i]);
  expect.fail(`byte ${at}: wasm ${left[at]}, ts ${right[at]}`);
}

const shapes = fc.record({
  entries: fc.constantFrom(1, 2, 4, 8),
  times: fc.constantFrom(1, 2),
  start: fc.oneof(fc.constant(0), fc.integer({ min: 0xffff_fff8, max: 0xffff_ffff }), U32),
  capacity: fc.integer({ min: 1, max: 9 }),
});

describe.each([true, false])("wasm and ts, memory shared: %s", (isShared) => {
  test(
    "give the same answers and leave the same bytes",
    () => {
      const program = fc.array(steps, { minLength: 1, maxLength: 60, size: "max" });
      fc.assert(
        fc.property(shapes, program, ({ entries, times, start, capacity }, list) => {
          const make = (kind: "wasm" | "ts") => {
            const fixture = new IouFixture(kind, entries, entries * times, isShared);
            begin(fixture, start, capacity);
            return fixture;
          };
          const [wasm, ts] = [make("wasm"), make("ts")];
          list.forEach(({ name, run }, i) => {
            expect(run(wasm), `step ${i}, ${name}: wasm, ts`).toBe(run(ts));
            sameMemory(wasm, ts);
          });
          if (wasm.word("kernel", IOU_SQ_DROPPED) > 0) met.dropped++;
        }),
        { seed: SEED, numRuns: 200 * TIMES },
      );
    },
    120_000 * TIMES,
  );
});

afterAll(() => {
  for (const [name, count] of Object.entries(met)) expect(count, name).toBeGreaterThan(0);
});
