// The command that holds the process model against recorded scenarios: all records of the project,
// and what it says of records and scripts that are wrong.

import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, test } from "vitest";
import { readScenarios, runScenarios } from "#dist/conformance/scenarios.js";

const path = (name: string): string => fileURLToPath(new URL(name, import.meta.url));
const MAIN = path("../dist/conformance/main.js");
const SCRIPTS = path("../dist/conformance");
const RECORDS = path("conformance/data/scenarios.jsonl");
/** Rings byte by byte, kicks, calls and errors: a device's whole path. */
const DATAPATH = path("conformance/data/datapath.jsonl");
/** In the same form, but from what is known of the kernel: nobody has run these. */
const FACTS = path("conformance/data/facts.jsonl");

const folder = mkdtempSync(join(tmpdir(), "scenarios-"));
afterAll(() => rmSync(folder, { recursive: true }));

function scenarios(...args: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [MAIN, "scenarios", ...args], {
    encoding: "utf8",
  });
  return { status, stdout, stderr };
}

function write(name: string, text: string): string {
  const file = join(folder, name);
  writeFileSync(file, text);
  return file;
}

const line = '{"id":"x","area":"a","observed":{}}';
const twice = write("f.jsonl", `${line}\n${line}`);

/** Areas of which every value is held; grows with the model. */
const WHOLE = ["identity", "rlimit", "cgroup", "signal", "io_uring", "worker-ioctl"];

describe.each([
  ["recorded kernel", RECORDS],
  ["rules of the kernel", FACTS],
])("the model of processes agrees with the %s", (_, file) => {
  test.each(WHOLE)("%s", async (area) => {
    const records = readScenarios(file).filter((record) => record.area === area);
    const [score] = await runScenarios(records, SCRIPTS);
    expect(score?.differences).toEqual([]);
    expect(score?.reasons).toEqual([]);
    expect(score?.agree).toBe(records.length);
  });
});

test("devices agree with the recorded kernel: every ioctl", async () => {
  const records = readScenarios(RECORDS).filter((record) => record.area === "ioctl");
  const [score] = await runScenarios(records, SCRIPTS);
  expect(score?.differences).toEqual([]);
  expect(score?.agree).toBe(19);
});

test("devices agree with the recorded kernel: rings in memory, kicks, calls, errors", async () => {
  const [score] = await runScenarios(readScenarios(DATAPATH), SCRIPTS);
  expect(score?.differences).toEqual([]);
  expect(score?.agree).toBe(59);
});

describe("npm run conformance -- scenarios", () => {
  test("prints a score, and fails when a value differs", () => {
    const records = readFileSync(RECORDS, "utf8").replace(
      '"set_owner_same_fd_after_raising_to_2": "OK", "threads": 2',
      '"set_owner_same_fd_after_raising_to_2": "OK", "threads": 3',
    );
    const { status, stdout } = scenarios(
      "--records",
      write("a.jsonl", records),
      "--area",
      "rlimit",
    );
    expect(status).toBe(1);
    expect(stdout).toContain("rlimit    scenarios: 9 agree, 1 differ, 0 not expressible");
    expect(stdout).toContain("rl-01-at-limit  threads: expected 3, got 2");
  });

  test("takes scripts from elsewhere; says what has none, throws, or cannot be said", () => {
    mkdirSync(join(folder, "own"));
    const scripts = {
      says: "({ main }) => ({ a: main.tasks().length })",
      throws: "({ main }) => ({ a: main.wait(1e6) })",
      differs: '() => ({ a: "no" })',
    };
    for (const [id, run] of Object.entries(scripts)) {
      write(`own/${id}.mjs`, `export const run = ${run};`);
    }
    const observed = { a: 1, volatile_b: 2 };
    const lines = ["says", "throws", "differs", "none"].map((id) =>
      JSON.stringify({ id, area: "own", observed }),
    );
    const records = write("own.jsonl", lines.join("\n"));
    const { status, stdout } = scenarios("--records", records, "--scripts", folder);
    expect(status).toBe(1);
    expect(stdout.split("\n").slice(0, 4)).toEqual([
      "own       scenarios: 1 agree, 2 differ, 1 not expressible; values: 1 of 4",
      "  throws  the script failed: it threw ECHILD: 1000000 is no such child",
      '  differs  a: expected 1, got "no"',
      "  none  not expressible: there is no script",
    ]);
  });

  test("scripts that never end, end the program, or are none: each differs, all others run", () => {
    mkdirSync(join(folder, "bad"));
    // Those that never end, be the time as short as it is; and others, with more than they need.
    const endless = ["loops", "waits", "stays"];
    const scripts = {
      loops: "export const run = () => { for (;;); };",
      waits: "export const run = () => new Promise(() => {});",
      stays: "await new Promise(() => {}); export const run = () => ({ a: 1 });",
      exits: "export const run = () => process.exit(0);",
      breaks: "export const run = () => {",
      lacks: "export const walk = () => ({ a: 1 });",
      nulls: "export const run = () => null;",
      later: "export const run = async () => ({ a: 1 });",
      odd: "export const run = () => ({ a: 1n, toString: 1 });",
      fine: "export const run = () => ({ a: 1 });",
    };
    for (const [id, text] of Object.entries(scripts)) write(`bad/${id}.mjs`, text);
    const run = (timeout: string, ids: readonly string[]) => {
      const lines = ids.map((id) =>
        JSON.stringify({ id, area: "bad", observed: { a: 1 }, more: "of no interest" }),
      );
      const records = write("bad.jsonl", lines.join("\n"));
      const { status, stdout } = scenarios(
        ...["--records", records, "--scripts", folder, "--timeout", timeout],
      );
      expect(status).toBe(1);
      return stdout.trim().replaceAll("the script failed: ", "").split("\n");
    };
    expect(run("0.5", endless)).toEqual([
      "bad       scenarios: 0 agree, 3 differ, 0 not expressible; values: 0 of 3",
      "  loops  it did not end within 0.5 s",
      "  waits  it did not end within 0.5 s",
      "  stays  it did not end within 0.5 s",
    ]);
    const others = Object.keys(scripts).filter((id) => !endless.includes(id));
    expect(run("8", ["loops", ...others])).toEqual([
      "bad       scenarios: 2 agree, 6 differ, 0 not expressible; values: 2 of 8",
      "  loops  it did not end within 8 s",
      "  exits  it ended its thread",
      "  breaks  it cannot be loaded: Unexpected end of input",
      "  lacks  it exports no function run",
      "  nulls  it returned no object",
      '  odd  a: expected 1, got "1"',
    ]);
  });

  test.each([
    ["no file", ["--records", join(folder, "missing")], "no such file"],
    ["no JSON", ["--records", write("b.jsonl", "{")], "b.jsonl:1: is no JSON"],
    [
      "a name that leads elsewhere",
      ["--records", write("c.jsonl", '{"id":"../x","area":"a","observed":{}}')],
      "c.jsonl:1: id is not a name",
    ],
    ["a folder", ["--records", folder], "illegal operation on a directory"],
    ["nothing in it", ["--records", write("d.jsonl", "\n")], "d.jsonl: there is no record in it"],
    [
      "no values",
      ["--records", write("e.jsonl", '{"id":"x","area":"a","observed":[]}')],
      "e.jsonl:1: observed is not an object",
    ],
    ["the same scenario twice", ["--records", twice], "f.jsonl:2: a/x is there twice"],
    ["a time that is none", ["--timeout", "0"], "It is a number of seconds"],
    ["no such area", ["--area", "none"], "there is no area none"],
  ])("%s: 2", (_, args, message) => {
    const { status, stderr } = scenarios(...args);
    expect(status).toBe(2);
    expect(stderr).toContain(message);
  });
});
