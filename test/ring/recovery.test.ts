// A device's half that ends anywhere, and where the next one goes on: by the in-flight area alone.
// vhost-user, section "Inflight I/O tracking". FC_SEED=<number> replays a run; FC_TIMES=<number>
// makes it so many times longer.

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { CrashRing } from "../helpers/crash.js";
import { type CrashStep, crashShapeArb, crashStepArb } from "../helpers/crash-program.js";
import {
  checkInstalled,
  damage,
  damageArb,
  fill,
  isUnwritten,
  tryToGoOn,
} from "../helpers/hostile-region.js";
import { regionOf } from "../helpers/record-area.js";
import { seedOf } from "../helpers/seed.js";

const SEED = seedOf("recovery");
const TIMES = Number(process.env.FC_TIMES ?? 1);
const timeout = 60_000 * TIMES;

const FORMATS = [
  { name: "split", packed: false },
  { name: "packed", packed: true },
];
const steps = fc.array(crashStepArb, { minLength: 1, maxLength: 40, size: "max" });

describe.each(["wasm", "ts"] as const)("%s", (kind) => {
  test.each(FORMATS)(
    "$name: what was popped and is not visible as used is popped again, in that order, then the " +
      "next; nothing twice, nothing lost",
    ({ packed }) => {
      let resubmitted = 0;
      const property = fc.property(crashShapeArb, steps, (shape, program: CrashStep[]) => {
        const ring = new CrashRing(kind, { ...shape, packed });
        for (const step of program) ring.run(step);
        ring.finish();
        resubmitted += ring.resubmitted;
      });
      fc.assert(property, { seed: SEED, numRuns: 400 * TIMES });
      expect(resubmitted).toBeGreaterThan(100);
    },
    timeout,
  );
});

describe.each(FORMATS)("a hostile region, $name", ({ packed }) => {
  /** A ring behind a random program; then its region is spoilt, and recovered by. */
  function run(spoil: fc.Arbitrary<(ring: CrashRing) => void>, numRuns: number): number {
    let refused = 0;
    const property = fc.property(crashShapeArb, steps, spoil, (shape, program, spoilt) => {
      const ring = new CrashRing("ts", { ...shape, packed });
      for (const step of program) ring.run(step);
      spoilt(ring);
      if (isUnwritten(ring.f)) return; // such a ring begins where its front-end says
      const position = tryToGoOn(ring.f);
      if (position === undefined) {
        refused++;
        return;
      }
      checkInstalled(ring.f, position);
      const region = regionOf(ring.f);
      const mended = Buffer.from(region.buffer, region.byteOffset, region.byteLength);
      const first = Buffer.from(mended);
      expect(tryToGoOn(ring.f), "recovered from once more").toBe(position);
      expect(mended.equals(first), "mended once more").toBe(true);
      ring.workBlindly(position);
    });
    fc.assert(property, { seed: SEED, numRuns: numRuns * TIMES });
    return refused;
  }

  test("fields that are wrong: EINVAL and nothing changed, or a ring that can start", {
    timeout,
  }, () => {
    const refused = run(
      damageArb.map(
        (writes) =>
          ({ f }) =>
            damage(f, writes),
      ),
      500,
    );
    expect(refused).toBeGreaterThan(50);
    expect(refused).toBeLessThan(480 * TIMES);
  });

  test("random bytes, and the same byte everywhere: likewise", { timeout }, () => {
    const bytes = fc.oneof(
      fc.uint8Array({ minLength: 1, maxLength: 300, max: 3 }),
      fc.uint8Array({ minLength: 1, maxLength: 300 }),
    );
    const refused = run(
      bytes.map(
        (some) =>
          ({ f }) =>
            fill(f, some),
      ),
      500,
    );
    expect(refused).toBeGreaterThan(50);
  });
});
