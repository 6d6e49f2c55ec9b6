// The whole data path against what a real Linux 6.12 did: a vsock device of the product's with the
// policy "linux", its worker a real thread, its kicks, calls and errors real eventfds.

import { describe, expect, test } from "vitest";
import { readDatapath, SCENARIOS, type Scenario } from "../helpers/datapath.js";
import { DeviceLab } from "../helpers/datapath-device-lab.js";
import { DEVICE_SCENARIOS } from "../helpers/datapath-device-scenarios.js";

const scenarios: Record<string, Scenario<DeviceLab>> = { ...SCENARIOS, ...DEVICE_SCENARIOS };

describe.each(["wasm", "ts"] as const)("recorded scenarios, %s", (kind) => {
  const records = readDatapath().filter(({ id }) => scenarios[id]);
  test.each(records)("$id: $setup", async ({ id, observed }) => {
    const { shape, run, leftOut = [] } = scenarios[id] ?? expect.fail("no such scenario");
    await using lab = await DeviceLab.open(kind, shape);
    await run(lab);
    const names = Object.keys(observed).filter((name) => !leftOut.includes(name));
    const pick = (values: object) => names.map((name) => [name, values[name as never]]);
    expect(names).not.toEqual([]);
    expect(Object.fromEntries(pick(lab.seen))).toEqual(Object.fromEntries(pick(observed)));
  });
});

test("every scenario has a record", () => {
  const ids = readDatapath().map(({ id }) => id);
  expect(Object.keys(scenarios).filter((id) => !ids.includes(id))).toEqual([]);
});
