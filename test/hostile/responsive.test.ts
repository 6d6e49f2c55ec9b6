// A good queue beside a bad one on the same worker: what the bad one gets does not keep the good
// one from its own. Counts of what was served, not times: the bench has these (`npm run bench --
// hostile`).

import { describe, expect, test } from "vitest";
import { blk, HOSTILE_SHAPES, type HostileShape } from "#dist/index.js";
import { errorsOf, type OpenHostile, openHostile, RINGS } from "../helpers/hostile.js";

const FLOOD_MS = 500;
/** Far below what any machine does, and far above what one that is held up would. */
const SERVED_LEAST = 10;

/** Requests on queue 1, one after the other, until `work` on queue 0 has ended. */
async function servedMeanwhile({ driver }: OpenHostile, work: Promise<unknown>): Promise<number> {
  let isOver = false;
  const over = work.finally(() => {
    isOver = true;
  });
  let served = 0;
  while (!isOver) {
    expect(await driver.request(1)).toBe(true);
    served++;
  }
  await over;
  return served;
}

const open = (ring: "wasm" | "ts", packed: boolean) =>
  openHostile(
    { ring },
    { packed, queueSize: 256, timeoutMs: 700 },
    blk({ memoryBytes: 65536, queues: 2 }),
  );

const FLOODS = HOSTILE_SHAPES.filter(({ isInEachEntry }) => isInEachEntry);

describe.each(RINGS)("$format, $ring ring", ({ format, ring, packed }) => {
  const floods = FLOODS.filter(({ formats }) => formats.includes(format));

  test.each(floods)("beside $name, again and again", async (shape) => {
    await using hostile = await open(ring, packed);
    const flood = async () => {
      let count = 0;
      for (const end = performance.now() + FLOOD_MS; performance.now() < end; count++) {
        expect(await hostile.driver.play(shape)).toMatchObject({ isAsExpected: true });
      }
      return count;
    };
    const flooding = flood();
    expect(await servedMeanwhile(hostile, flooding)).toBeGreaterThan(SERVED_LEAST);
    const floods = await flooding;
    expect(floods).toBeGreaterThan(0);
    expect(errorsOf(hostile.device)).toEqual({ [shape.error as string]: 256 * floods });
    expect(errorsOf(hostile.device, 1)).toEqual({});
  });

  test("beside all shapes in turn, refused queues too", async () => {
    await using hostile = await open(ring, packed);
    const play = async () => {
      for (const shape of HOSTILE_SHAPES) {
        if (!isQueuesOwn(shape) || !hostile.driver.applies(shape)) continue;
        const { isAsExpected, ending } = await hostile.driver.play(shape);
        expect(isAsExpected, `${shape.name}: ${ending}`).toBe(true);
      }
    };
    expect(await servedMeanwhile(hostile, play())).toBeGreaterThan(SERVED_LEAST);
    expect(errorsOf(hostile.device, 1)).toEqual({});
    expect(Object.keys(errorsOf(hostile.device)).length).toBeGreaterThan(8);
  });

  test("while the other queue is refused and nobody repairs it", async () => {
    await using hostile = await open(ring, packed);
    const name = packed ? "list-goes-on-at-nothing" : "index-half-way-round";
    const shape = HOSTILE_SHAPES.find((one) => one.name === name) as HostileShape;
    // Said to be served, it is waited for until the time is over.
    const waits = hostile.driver.play({ ...shape, expect: "served" });
    expect(await servedMeanwhile(hostile, waits)).toBeGreaterThan(SERVED_LEAST);
    expect(await waits).toMatchObject({ ending: "refused-queue", serves: "after-repair" });
    expect(errorsOf(hostile.device)).toEqual({ [shape.error as string]: 1 });
  });
});

/** Shapes that leave the other queues alone. */
function isQueuesOwn({ restarts, layout }: HostileShape): boolean {
  return !restarts && !layout;
}
