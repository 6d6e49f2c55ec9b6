// A good queue beside a bad one on the same worker: what the bad one gets does not keep the good
// one from its own. Counts of what was served, not times: the bench has these (`npm run bench --
// hostile`).

import { describe, expect, test } from "vitest";
import { blk, HOSTILE_SHAPES, type HostileShape } from "#dist/index.js";
import { rejected } from "../helpers/devices.js";
import { errorsOf, type OpenHostile, openHostile, PATIENT_MS, RINGS } from "../helpers/hostile.js";

const FLOOD_MS = 500;
/** Far below what any machine does, and far above what one that is held up would. */
const SERVED_LEAST = 10;

/**
 * Requests on queue 1, one after the other, beside `work` on queue 0: which goes on until enough
 * were served, and then as long as it wants.
 */
async function serveBeside<T>(
  { driver }: OpenHostile,
  work: (isEnough: () => boolean) => Promise<T>,
): Promise<T> {
  let served = 0;
  let isOver = false;
  const working = work(() => served > SERVED_LEAST).finally(() => {
    isOver = true;
  });
  for (; !isOver; served++) expect(await driver.request(1)).toBe(true);
  return working;
}

const open = (ring: "wasm" | "ts", packed: boolean) =>
  openHostile(
    { ring },
    { packed, queueSize: 256, timeoutMs: PATIENT_MS },
    blk({ memoryBytes: 65536, queues: 2 }),
  );

const FLOODS = HOSTILE_SHAPES.filter(({ isInEachEntry }) => isInEachEntry);

describe.each(RINGS)("$format, $ring ring", ({ format, ring, packed }) => {
  const floods = FLOODS.filter(({ formats }) => formats.includes(format));

  test.each(floods)("beside $name, again and again", async (shape) => {
    await using hostile = await open(ring, packed);
    const floods = await serveBeside(hostile, async (isEnough) => {
      let count = 0;
      for (const end = performance.now() + FLOOD_MS; performance.now() < end || !isEnough(); ) {
        expect(await hostile.driver.play(shape)).toMatchObject({ isAsExpected: true });
        count++;
      }
      return count;
    });
    expect(errorsOf(hostile.device)).toEqual({ [shape.error as string]: 256 * floods });
    expect(errorsOf(hostile.device, 1)).toEqual({});
  });

  test("beside all shapes in turn, refused queues too", async () => {
    await using hostile = await open(ring, packed);
    const playAll = async () => {
      for (const shape of HOSTILE_SHAPES) {
        if (!isQueuesOwn(shape) || !hostile.driver.applies(shape)) continue;
        const { isAsExpected, ending } = await hostile.driver.play(shape);
        expect(isAsExpected, `${shape.name}: ${ending}`).toBe(true);
      }
    };
    await serveBeside(hostile, async (isEnough) => {
      do await playAll();
      while (!isEnough());
    });
    expect(errorsOf(hostile.device, 1)).toEqual({});
    expect(Object.keys(errorsOf(hostile.device)).length).toBeGreaterThan(8);
  });

  test("while the other queue is refused and nobody repairs it", async () => {
    await using hostile = await open(ring, packed);
    const name = packed ? "list-goes-on-at-nothing" : "index-half-way-round";
    const shape = HOSTILE_SHAPES.find((one) => one.name === name) as HostileShape;
    // Said to be served, it is waited for until the driver is closed.
    const waits = hostile.driver.play({ ...shape, expect: "served" });
    const closed = rejected("ENODEV", waits);
    for (let served = 0; served < SERVED_LEAST; served++) {
      expect(await hostile.driver.request(1)).toBe(true);
    }
    expect(errorsOf(hostile.device)).toEqual({ [shape.error as string]: 1 });
    await hostile.driver.close();
    await closed;
  });
});

/** Shapes that leave the other queues alone. */
function isQueuesOwn({ restarts, layout }: HostileShape): boolean {
  return !restarts && !layout;
}
