// The policy "linux" against what a real Linux 6.12 did: each recorded scenario of its data path
// that is about rings, for the WebAssembly ring and for its TypeScript twin.

import { describe, expect, test } from "vitest";
import { Lab, readDatapath, SCENARIOS } from "../helpers/datapath.js";

/** What the device sent back on its other queue. */
const isOfOtherQueue = (name: string): boolean => /(^|_)rx/.test(name);

describe.each(["wasm", "ts"] as const)("recorded scenarios, %s", (kind) => {
  test.each(readDatapath())("$id: $setup", ({ id, observed }) => {
    const { shape = {}, run, leftOut = [] } = SCENARIOS[id] ?? expect.fail("no such scenario");
    const lab = new Lab(kind, shape);
    run(lab);
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
  expect(Object.keys(SCENARIOS).sort()).toEqual(ids.sort());
});
