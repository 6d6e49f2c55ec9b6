// The command that holds the rings against records of a real kernel: all records, and what it says
// of one that is wrong.

import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { gunzipSync } from "node:zlib";
import { afterAll, describe, expect, test } from "vitest";
import { readRecords } from "#dist/conformance/ring-record.js";

const path = (name: string): string => fileURLToPath(new URL(name, import.meta.url));
const MAIN = path("../dist/conformance/main.js");
const RECORDS = path("conformance/data/rings.jsonl.gz");
const lines = gunzipSync(readFileSync(RECORDS)).toString().trim().split("\n");

const folder = mkdtempSync(join(tmpdir(), "conformance-"));
afterAll(() => rmSync(folder, { recursive: true }));

/** Runs the command; `status` is how it ended. */
function conformance(...args: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [MAIN, ...args], {
    encoding: "utf8",
  });
  return { status, stdout, stderr };
}

function write(name: string, ...text: string[]): string {
  const file = join(folder, name);
  writeFileSync(file, text.join("\n"));
  return file;
}

/** The first record, changed. */
// biome-ignore lint/suspicious/noExplicitAny: records are JSON, and here they are made wrong
function changed(change: (record: any) => void): string {
  const record = JSON.parse(lines[0] as string);
  change(record);
  return JSON.stringify(record);
}

describe("npm run conformance -- rings", () => {
  test("all records agree, in both rings", () => {
    const { status, stdout } = conformance("rings", RECORDS);
    console.log(stdout.trimEnd());
    expect(stdout).toBe("wasm  rings: 469 agree, 0 differ\nts    rings: 469 agree, 0 differ\n");
    expect(status).toBe(0);
  });

  test("several files, not compressed", () => {
    const file = write("some.jsonl", ...lines.slice(0, 3));
    const { status, stdout } = conformance("rings", file, file);
    expect(stdout).toMatch(/^wasm +rings: 6 agree, 0 differ\nts +rings: 6 agree, 0 differ\n$/);
    expect(status).toBe(0);
  });

  test("a record that was tampered with is found to differ, by field", () => {
    const tampered = changed(({ observed }) => {
      observed.k1_used_idx++;
      observed.k2_err_signals += 2;
      observed.k1_nonsense = 1;
    });
    const file = write("tampered.jsonl", tampered, ...lines.slice(1, 10));
    const { status, stdout } = conformance("rings", file);
    const { id, observed } = JSON.parse(tampered);
    for (const kind of ["wasm", "ts"]) {
      expect(stdout).toMatch(new RegExp(`^${kind} +rings: 9 agree, 1 differ$`, "m"));
    }
    const { k1_used_idx: idx, k2_err_signals: errors } = observed;
    expect(stdout).toContain(`${id}  k1_used_idx: expected ${idx}, got ${idx - 1}`);
    expect(stdout).toContain(`${id}  k2_err_signals: expected ${errors}, got ${errors - 2}`);
    expect(stdout).toContain(`${id}  k1_nonsense: expected 1, got nothing`);
    expect(status).toBe(1);
  });

  test("of many differences the first few are shown", () => {
    const wrong = lines
      .slice(0, 40)
      .map((line) => line.replace(/"k2_used_flags": \d/, '"k2_used_flags": 9'));
    const { status, stdout } = conformance("rings", write("wrong.jsonl", ...wrong));
    expect(stdout).toContain("wasm  rings: 0 agree, 40 differ");
    expect(stdout).toContain("… and 30 more");
    expect(stdout.split("\n").length).toBeLessThan(30);
    expect(status).toBe(1);
  });

  test("regions at both ends of the address space, in numbers that JSON rounds", () => {
    const line = changed(({ input, observed }) => {
      Object.assign(input, { num: 1, base: 0, avail_idx: 1, avail_ring: [0], tables: [] });
      input.regions = [
        [0, 4096],
        ["18446744073709486080", 65536],
      ];
      input.desc = [["0xffffffffffff0000", 65536, 0, 0]];
      Object.assign(observed, { k1_used_idx: 1, k1_last_avail: 1, k1_err_signals: 0 });
      Object.assign(observed, { k1_call_signals: 1, k1_used_flags: 0, k1_used_ids: [0] });
      Object.assign(observed, { k2_used_idx: 1, k2_last_avail: 1, k2_err_signals: 0 });
      Object.assign(observed, { k2_call_signals: 0, k2_used_flags: 0, volatile_ns: 1.5 });
    });
    const file = write("ends.jsonl", line.replace(/"(18446744073709486080)"/, "$1"));
    const { status, stdout } = conformance("rings", file);
    expect(stdout).toContain("wasm  rings: 1 agree, 0 differ\nts    rings: 1 agree, 0 differ");
    expect(status).toBe(0);
  });

  test.each([
    { what: "no JSON", line: "{", says: "is no JSON" },
    { what: "no object", line: "[1]", says: "the line is not an object" },
    { what: "no input", line: '{"id":"x","observed":{"a":1}}', says: "input is not an object" },
    { what: "a bad size", line: changed((r) => (r.input.num = 6)), says: "num is no power of two" },
    {
      what: "a short table",
      line: changed((r) => r.input.desc.pop()),
      says: "desc has not 8 entries",
    },
    {
      what: "a bad address",
      line: changed((r) => (r.input.desc[3][0] = "0x1ffffffffffffffff")),
      says: "desc[3]'s address is past 2^64",
    },
    {
      what: "a bad flag",
      line: changed((r) => (r.input.tables[1].entries[2][2] = -1)),
      says: "tables[1].entries[2]'s flags is not a number from 0 to 65535",
    },
    {
      what: "too much memory",
      line: changed((r) => (r.input.regions[0][1] = 2 ** 40)),
      says: "regions[0]'s size is not a number from 0 to 1073741824",
    },
    {
      what: "nothing observed",
      line: changed((r) => (r.observed = {})),
      says: "observed is empty",
    },
  ])("a malformed file is refused by its line: $what", ({ line, says }) => {
    const file = write("malformed.jsonl", lines[0] as string, "", line, "{");
    expect(() => readRecords(file)).toThrow(`${file}:3: ${says}`);
  });

  test("a malformed or missing file, an empty one, wrong arguments: 2, and one line", () => {
    const malformed = write("malformed.jsonl", lines[0] as string, "{");
    expect(conformance("rings", RECORDS, malformed)).toEqual({
      status: 2,
      stdout: "",
      stderr: `conformance: ${malformed}:2: is no JSON\n`,
    });
    const missing = join(folder, "missing.jsonl");
    expect(conformance("rings", missing)).toMatchObject({
      status: 2,
      stderr: `conformance: ${missing}: there is no such file\n`,
    });
    const empty = conformance("rings", write("empty.jsonl", ""));
    expect(empty.stderr).toContain("there is no record in it");
    expect(empty.status).toBe(2);
    expect(conformance("rings").status).toBe(2);
    expect(conformance("chains", RECORDS).status).toBe(2);
    expect(conformance("rings", "--help")).toMatchObject({ status: 0, stderr: "" });
  });
});
