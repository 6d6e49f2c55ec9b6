// A device's half that ends anywhere, and where the next one goes on: by the in-flight area alone.
// vhost-user, section "Inflight I/O tracking". FC_SEED=<number> replays a run; FC_TIMES=<number>
// makes it so many times longer.

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { CrashRing } from "../helpers/crash.js";
import { type CrashStep, crashShapeArb, crashStepArb } from "../helpers/crash-program.js";

const SEED = Number(process.env.FC_SEED ?? Date.now() % 0x8000_0000);
const TIMES = Number(process.env.FC_TIMES ?? 1);
console.log(`recovery: FC_SEED=${SEED}`);

describe.each(["wasm", "ts"] as const)("%s", (kind) => {
  test.each([
    { name: "split", packed: false },
    { name: "packed", packed: true },
  ])(
    "$name: what was popped and is not visible as used is popped again, in that order, then the " +
      "next; nothing twice, nothing lost",
    ({ packed }) => {
      const steps = fc.array(crashStepArb, { minLength: 1, maxLength: 40, size: "max" });
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
    60_000 * TIMES,
  );
});
