import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { tempFiles } from "../helpers/temp-file.js";
import { Program } from "../helpers/vhost-user-child.js";

const makeFile = tempFiles();
const folder = mkdtempSync(join(tmpdir(), "vhost-wasm-test-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const start = (...args: string[]) => Program.cli("serve", ...args);

describe("vhost-wasm serve: what it is told", () => {
  test("help", async () => {
    const all = await start("--help").outcome();
    expect(all).toMatchObject({ code: 0, stderr: "" });
    expect(all.stdout).toMatch(/blk .*A disk/);
    const blk = await start("blk", "--help").outcome();
    expect(blk.code).toBe(0);
    for (const option of [
      "socket",
      "image",
      "memory",
      "null",
      "read-only",
      "queues",
      "workers",
      "log",
    ]) {
      expect(blk.stdout).toContain(`--${option}`);
    }
    expect(blk.stdout.split("\n").every((line) => line.length <= 100)).toBe(true);
  });

  const path = join(folder, "never");
  const image = () => makeFile(1 << 20);
  test.each<[string, () => string[], RegExp]>([
    ["no socket", () => ["blk", "--null", "1M"], /required option '--socket <path>'/],
    ["no source", () => ["blk", "--socket", path], /name one of --image, --memory and --null/],
    [
      "an image and memory",
      () => ["blk", "--socket", path, "--image", image(), "--memory", "1M"],
      /conflict|cannot be used/,
    ],
    ["a size of nothing", () => ["blk", "--socket", path, "--null", "0"], /--null/],
    ["a size below zero", () => ["blk", "--socket", path, "--memory=-1M"], /--memory/],
    ["a size of half a sector", () => ["blk", "--socket", path, "--null", "100"], /512/],
    ["too much memory", () => ["blk", "--socket", path, "--memory", "8000T"], /ENOMEM|room|memory/],
    ["no queues", () => ["blk", "--socket", path, "--null", "1M", "--queues", "0"], /--queues/],
    ["33 queues", () => ["blk", "--socket", path, "--null", "1M", "--queues", "33"], /--queues/],
    [
      "more workers than queues",
      () => ["blk", "--socket", path, "--null", "1M", "--queues", "2", "--workers", "3"],
      /--workers is at most --queues/,
    ],
    [
      "a long id",
      () => ["blk", "--socket", path, "--null", "1M", "--id", "x".repeat(21)],
      /20 bytes/,
    ],
    ["another device", () => ["gpu"], /gpu/],
    [
      "an image that is not there",
      () => ["blk", "--socket", path, "--image", join(folder, "no")],
      /no.*no such file/,
    ],
    ["an image of 511 bytes", () => ["blk", "--socket", path, "--image", makeFile(511)], /512/],
    ["a folder", () => ["blk", "--socket", path, "--image", folder], /regular file/],
    [
      "a long path",
      () => ["blk", "--socket", join(folder, "x".repeat(108)), "--null", "1M"],
      /107 bytes/,
    ],
  ])("%s: said in few words, exit code 1", async (_name, args, why) => {
    const { code, stdout, stderr } = await start(...args()).outcome();
    expect(stderr).toMatch(why);
    expect(stderr).not.toMatch(/^\s+at /m);
    expect(stderr.trim().split("\n").length).toBeLessThanOrEqual(4);
    expect(stdout).toBe("");
    expect(code).toBe(1);
    expect(existsSync(path)).toBe(false);
  });
});
