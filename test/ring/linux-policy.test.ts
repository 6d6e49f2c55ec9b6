// The policy "linux" against what a real Linux 6.12 did: each recorded scenario of its data path
// that is about rings, for the WebAssembly ring and for its TypeScript twin.

import { describe, expect, test } from "vitest";
import { readDatapath, SCENARIOS, type Scenario } from "../helpers/datapath.js";
import { RING_SCENARIOS, RingLab } from "../helpers/datapath-ring-lab.js";

const scenarios: Record<string, Scenario<RingLab>> = { ...SCENARIOS, ...RING_SCENARIOS };

/** What the device sent back on its other queue. */
const isOfOtherQueue = (name: string): boolean => /(^|_)rx/.test(name);

describe.each(["wasm", "ts"] as const)("recorded scenarios, %s", (kind) => {
  const records = readDatapath().filter(({ id }) => scenarios[id]);
  test.each(records)("$id: $setup", async ({ id, observed }) => {
    const { shape = {}, run, leftOut = [] } = scenarios[id] ?? expect.fail("no such scenario");
    const lab = new RingLab(kind, shape);
    await run(lab);
    const names = Object.keys(observed).filter(
      (name) => !isOfOtherQueue(name) && !leftOut.includes(name),
    );
    const pick = (values: object) => names.map((name) => [name, values[name as never]]);
    expect(names).not.toEqual([]);
    expect(Object.fromEntries(pick(lab.seen))).toEqual(Object.fromEntries(pick(observed)));
  });
});

test("every scenario has a record", () => {
  const ids = readDatapath().map(({ id }) => id);
  expect(Object.keys(scenarios).filter((id) => !ids.includes(id))).toEqual([]);
});
