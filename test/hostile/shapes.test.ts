// Every shape of the catalogue, through the whole path: a real worker, a real disk, both formats,
// both rings. Each ends as it says, in a bounded time, is counted under its name, and the queue
// serves a good request after it; nothing is written but what the device was given.

import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { HOSTILE_SHAPES, type HostileShape } from "#dist/index.js";
import { custom } from "../helpers/devices.js";
import {
  errorsOf,
  expectHeld,
  FEATURED_RINGS,
  holdings,
  type OpenHostile,
  openHostile,
  PATIENT_MS,
  playSeen,
  RINGS,
  since,
} from "../helpers/hostile.js";

/** What a shape must be counted as. */
function isCounted(shape: HostileShape, num: number, added: Record<string, number>): void {
  const { error, isRacy, isInEachEntry } = shape;
  if (isRacy && Object.keys(added).length === 0) return;
  expect(added).toEqual(error ? { [error]: isInEachEntry ? num : 1 } : {});
}

/** Plays it, and looks at everything. */
async function playAndCheck(open: OpenHostile, shape: HostileShape): Promise<void> {
  const before = errorsOf(open.device);
  const { ms, ...outcome } = await playSeen(open, shape);
  expect(outcome).toEqual({
    shape: shape.name,
    ending: shape.expect,
    serves: shape.expect === "refused-queue" ? "after-repair" : "at-once",
    isAnswerRight: true,
    isIntact: true,
    isAsExpected: true,
  });
  expect(ms).toBeLessThan(PATIENT_MS); // nothing was waited for in vain
  isCounted(shape, open.driver.ring().num, since(before, errorsOf(open.device)));
}

describe.each(FEATURED_RINGS)("$format, $ring ring, $features", (options) => {
  const { format, ring, packed, withoutFeatures } = options;
  let open: OpenHostile;
  let held: ReturnType<typeof holdings>;
  beforeAll(async () => {
    open = await openHostile({ ring }, { packed, withoutFeatures, timeoutMs: PATIENT_MS });
  });
  afterAll(() => open[Symbol.asyncDispose]());
  beforeEach(() => {
    held = holdings(open.device);
  });
  afterEach(async () => {
    await expectHeld(open.device, held);
    expect(open.driver.memory.damagedAt).toBeUndefined();
    expect(open.device.dev.worker.death).toBeUndefined();
  });

  const shapes = HOSTILE_SHAPES.filter(({ formats, needs = {} }) => {
    const isOn = withoutFeatures.length === 0;
    const suits = (need: boolean | undefined) => need === undefined || need === isOn;
    return formats.includes(format) && suits(needs.indirect) && suits(needs.eventIdx);
  });

  test.each(shapes)("$name", (shape) => playAndCheck(open, shape));

  test("all others are skipped", async () => {
    for (const shape of HOSTILE_SHAPES) {
      if (shapes.includes(shape)) continue;
      expect(await open.driver.play(shape)).toMatchObject({
        ending: "skipped",
        isAsExpected: true,
      });
    }
  });

  test("200 more of them, and nothing grows", async () => {
    const quick = shapes.filter(({ expect: ending }) => ending !== "refused-queue");
    for (let i = 0; i < 200; i++) {
      const shape = quick[i % quick.length] as HostileShape;
      expect(await open.driver.play(shape)).toMatchObject({
        shape: shape.name,
        isAsExpected: true,
      });
    }
    await expectHeld(open.device, held);
  });
});

describe.each(RINGS)("a device of one's own, $format, $ring ring", ({ ring, packed }) => {
  test("all that are not about disks", async () => {
    await using open = await openHostile(
      { ring },
      { packed, timeoutMs: PATIENT_MS },
      custom("echo"),
    );
    let played = 0;
    for (const shape of HOSTILE_SHAPES) {
      if (!open.driver.applies(shape)) continue;
      await playAndCheck(open, shape);
      played++;
    }
    expect(played).toBeGreaterThan(70);
  });
});

describe.each(["wasm", "ts"] as const)("policy linux, %s ring", (ring) => {
  test.each([{ withoutFeatures: [] }, { withoutFeatures: [28, 29] }])(
    "all end in a bounded time and do no damage, without $withoutFeatures",
    async ({ withoutFeatures }) => {
      const policy = "linux";
      await using open = await openHostile({ ring, policy }, { withoutFeatures, timeoutMs: 50 });
      const held = holdings(open.device);
      for (const shape of HOSTILE_SHAPES) {
        const { ending, serves, isIntact, isAnswerRight, ms } = await open.driver.play(shape);
        const seen = `${shape.name}: ${ending}, serves ${serves}`;
        expect({ isIntact, isAnswerRight }, seen).toEqual({ isIntact: true, isAnswerRight: true });
        expect([ending, serves], seen).not.toContain("died");
        expect(ms, seen).toBeLessThan(PATIENT_MS);
        const servesNow = async () => {
          await open.driver.reset();
          return open.driver.request();
        };
        if (serves === "never") await expect.poll(servesNow, { message: seen }).toBe(true); // slow
      }
      await expectHeld(open.device, held);
    },
  );
});
