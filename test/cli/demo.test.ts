import { spawn } from "node:child_process";
import { once } from "node:events";
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { ROOT } from "../helpers/source.js";

const folder = mkdtempSync(join(tmpdir(), "vhost-wasm-test-"));
afterAll(() => rmSync(folder, { recursive: true }));
const temporary = join(folder, "tmp");
mkdirSync(temporary);

interface Outcome {
  code: number | null;
  stdout: string;
  stderr: string;
}

/** Runs the command line; `onOutput` sees what it has printed so far. */
async function cli(args: string[], onOutput?: (text: string, kill: () => void) => void) {
  const child = spawn(process.execPath, [join(ROOT, "dist/cli/main.js"), ...args], {
    env: { ...process.env, TMPDIR: temporary },
  });
  const outcome: Outcome = { code: null, stdout: "", stderr: "" };
  child.stdout.on("data", (data) => {
    outcome.stdout += data;
    onOutput?.(outcome.stdout, () => child.kill("SIGINT"));
  });
  child.stderr.on("data", (data) => {
    outcome.stderr += data;
  });
  [outcome.code] = await once(child, "close");
  return outcome;
}

/** A file of `sizeBytes` bytes, no two sectors the same way. */
function file(name: string, sizeBytes: number): string {
  const path = join(folder, name);
  writeFileSync(
    path,
    Uint8Array.from({ length: sizeBytes }, (_, i) => (i * 7 + (i >> 8)) & 0xff),
  );
  return path;
}

describe("vhost-wasm demo", () => {
  test.each([1, 511, 512, 32768 * 3 + 1])("agrees on a file of %i bytes", async (sizeBytes) => {
    const path = file(`${sizeBytes}`, sizeBytes);
    const before = readFileSync(path);
    const { code, stdout, stderr } = await cli(["demo", path, "--depth", "4"]);
    expect(stderr).toBe("");
    expect(stdout).toMatch(/vhost-\d+ .*PF_FORKNOEXEC .*1000 .*\/tenants\/demo/);
    expect(stdout).toContain("PF_USER_WORKER");
    expect(stdout).toContain("The file, both rings and the copy agree.");
    expect(code).toBe(0);
    expect(readFileSync(path)).toEqual(before);
    expect(readdirSync(temporary)).toEqual([]);
  });

  test("removes its copy when it is interrupted", async () => {
    const path = join(folder, "endless");
    writeFileSync(path, "");
    truncateSync(path, 2 ** 36); // minutes to read
    const { code, stdout } = await cli(["demo", path], (text, kill) => {
      if (text.includes("vhost-")) kill();
    });
    expect(stdout).not.toContain("agree");
    expect(code).toBe(130);
    expect(readdirSync(temporary)).toEqual([]);
  });

  test.each([
    ["a missing file", ["demo", "/nonexistent"], /^vhost-wasm: ENOENT: [^\n]*\n$/],
    ["a folder", ["demo", "/"], /^vhost-wasm: EINVAL: [^\n]* not a regular file\n$/],
    ["an empty file", ["demo", "/dev/null"], /^vhost-wasm: EINVAL: [^\n]*\n$/],
    [
      "a depth of 0",
      ["demo", "--depth", "0"],
      /^error: [^\n]* 1 to 256\.\nRun with --help[^\n]*\n$/,
    ],
    ["an unknown command", ["wat"], /^error: unknown command 'wat'\nRun with --help[^\n]*\n$/],
  ])("says in a line what is wrong with %s", async (_what, args, line) => {
    const { code, stderr } = await cli(args);
    expect(stderr).toMatch(line);
    expect(code).toBe(1);
  });

  test("ends quietly when nobody reads on", async () => {
    const path = file("unread", 512);
    const main = join(ROOT, "dist/cli/main.js");
    const command = `"${process.execPath}" "${main}" demo "${path}" | head -1`;
    const child = spawn("sh", ["-c", command], { env: { ...process.env, TMPDIR: temporary } });
    let stderr = "";
    child.stderr.on("data", (data) => {
      stderr += data;
    });
    await once(child, "close");
    expect(stderr).toBe("");
    expect(readdirSync(temporary)).toEqual([]);
  });

  test("has help that names its options", async () => {
    const { code, stdout } = await cli(["demo", "--help"]);
    expect(stdout).toMatch(/--depth <n>/);
    expect(stdout).toMatch(/exit status/);
    expect(code).toBe(0);
  });
});
