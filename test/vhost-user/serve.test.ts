import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { FrontEnd, u32s, u64s } from "#dist/bench/front-end.js";
import { libc } from "#dist/linux/libc.js";
import { pattern } from "../helpers/blk-raw.js";
import { ROOT } from "../helpers/source.js";
import { tempFiles } from "../helpers/temp-file.js";
import { describeVhostUser, eventually } from "../helpers/vhost-user.js";
import { Program } from "../helpers/vhost-user-child.js";
import { FrontDisk } from "../helpers/vhost-user-disk.js";

const makeFile = tempFiles();
const folder = mkdtempSync(join(tmpdir(), "vhost-wasm-test-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
let count = 0;
const newPath = () => join(folder, `socket-${count++}`);

const start = (...args: string[]) =>
  new Program(process.execPath, [join(ROOT, "dist/cli/main.js"), "serve", ...args]);
const startBlk = (path: string, ...args: string[]) => start("blk", "--socket", path, ...args);

/** What it printed, when it has ended. */
async function outcome(program: Program) {
  const code = await program.end();
  await sleep(20); // the last of its output
  const stdout = program.lines.map((line) => line.line ?? JSON.stringify(line)).join("\n");
  return { code, stdout, stderr: program.stderr };
}

async function useDisk(path: string): Promise<void> {
  using front = new FrontEnd(path);
  await front.negotiate(~0n);
  await front.setMemory();
  const drive = new FrontDisk(front, await front.startQueue(0, 8));
  await drive.write(0, pattern(512));
  expect(await drive.read(0, 512)).toEqual(pattern(512));
}

describe("vhost-wasm serve: what it is told", () => {
  test("help", async () => {
    const all = await outcome(start("--help"));
    expect(all).toMatchObject({ code: 0, stderr: "" });
    expect(all.stdout).toMatch(/blk .*A disk/);
    const blk = await outcome(start("blk", "--help"));
    expect(blk.code).toBe(0);
    for (const option of ["socket", "image", "memory", "null", "read-only", "queues", "log"]) {
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
      "a long id",
      () => ["blk", "--socket", path, "--null", "1M", "--id", "x".repeat(21)],
      /20 bytes/,
    ],
    ["another device", () => ["net"], /net/],
    [
      "an image that is not there",
      () => ["blk", "--socket", path, "--image", join(folder, "no")],
      /no.*no such file/,
    ],
    ["an image of 511 bytes", () => ["blk", "--socket", path, "--image", makeFile(511)], /512/],
    ["a folder", () => ["blk", "--socket", path, "--image", folder], /regular file/],
    [
      "no folder for the socket",
      () => ["blk", "--socket", join(folder, "no/socket"), "--null", "1M"],
      /ENOENT/,
    ],
    [
      "a long path",
      () => ["blk", "--socket", join(folder, "x".repeat(108)), "--null", "1M"],
      /107 bytes/,
    ],
  ])("%s: said in few words, exit code 1", async (_name, args, why) => {
    const { code, stdout, stderr } = await outcome(start(...args()));
    expect(stderr).toMatch(why);
    expect(stderr).not.toMatch(/^\s+at /m);
    expect(stderr.trim().split("\n").length).toBeLessThanOrEqual(4);
    expect(stdout).toBe("");
    expect(code).toBe(1);
    expect(existsSync(path)).toBe(false);
  });
});

describeVhostUser("vhost-wasm serve", () => {
  test.each(["SIGINT", "SIGTERM"] as const)(
    "ends by %s: exit code 0, no socket left",
    async (signal) => {
      const path = newPath();
      await using program = startBlk(path, "--memory", "1M");
      await program.next("text");
      expect(program.lines.at(-1)?.line).toBe(`vhost-wasm: listening at ${path}`);
      await useDisk(path);
      using front = new FrontEnd(path);
      await front.negotiate(~0n);
      await front.setMemory();
      await front.startQueue(0, 8);
      program.child.kill(signal);
      const { code, stdout, stderr } = await outcome(program);
      expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
      expect(existsSync(path)).toBe(false);
      expect(stdout.split("\n")).toHaveLength(5);
      expect(stdout).toMatch(/connected: node \(pid \d+, uid \d+, gid \d+\), worker vhost-\d+/);
      expect(stdout).toMatch(/disconnected after 2 requests, 1.1 k?B/);
    },
  );

  test("with --log json each line is an event", async () => {
    const path = newPath();
    await using program = startBlk(path, "--null", "1G", "--log", "json", "--queues", "2");
    await program.next("listening");
    {
      using front = new FrontEnd(path);
      await front.negotiate(~0n);
      await front.tell("SET_VRING_NUM", u32s(0, 3));
      await front.tell("SET_MEM_TABLE", u32s(1, 0, ...new Array(8).fill(0xffffffff)), [
        front.memfd,
      ]);
      await front.tell("SET_VRING_KICK", u64s((1n << 64n) - 1n), [front.memfd]);
      await front.setMemory();
      await front.must(
        "SET_VRING_ADDR",
        new Uint8Array([
          ...u32s(1, 0),
          ...u64s(
            front.toUser(front.shared.guestStart) + 8n,
            0x7fff_1000_0000n,
            0x7fff_1000_0000n,
            0,
          ),
        ]),
      );
      await front.must("SET_VRING_KICK", u64s(0x101));
      await front.must("SET_VRING_ENABLE", u32s(1, 1));
    }
    await program.next("disconnected");
    program.child.kill("SIGTERM");
    expect(await program.end()).toBe(0);
    const names = program.lines.map(({ event }) => event);
    expect(names).toEqual([
      "listening",
      "connected",
      "refused",
      "refused",
      "refused",
      "ring-unusable",
      "disconnected",
    ]);
    for (const line of program.lines)
      expect(new Date(line.time as string).getTime()).toBeGreaterThan(0);
    expect(program.lines[1]).toMatchObject({ pid: process.pid, comm: expect.any(String) });
    expect(program.lines[2]?.error).toMatch(/^EINVAL: /);
  });

  test("a socket that somebody listens at: one line, exit code 1; that one goes on", async () => {
    const path = newPath();
    await using first = startBlk(path, "--null", "1M");
    await first.next("text");
    const { code, stdout, stderr } = await outcome(startBlk(path, "--null", "1M"));
    expect(code).toBe(1);
    expect(stdout).toBe("");
    expect(stderr.trim().split("\n")).toHaveLength(1);
    expect(stderr).toMatch(/EADDRINUSE.*socket-/);
    first.child.kill("SIGINT");
    expect(await first.end()).toBe(0);
  });

  test("a name that holds line feeds and escapes is one line all the same", async () => {
    const path = newPath();
    await using program = startBlk(path, "--null", "1M");
    await program.next("text");
    const PR_SET_NAME = 15;
    const comm = process.title;
    libc().prctl(PR_SET_NAME, "x\nvhost-\u001b[31my");
    try {
      using front = new FrontEnd(path);
      await front.negotiate(0n);
    } finally {
      libc().prctl(PR_SET_NAME, comm.slice(0, 15));
    }
    await eventually(
      () => program.lines.some(({ line }) => /disconnected/.test(String(line))),
      "gone",
    );
    expect(program.lines).toHaveLength(3);
    // biome-ignore lint/suspicious/noControlCharactersInRegex: that is what is looked for
    expect(program.lines.some(({ line }) => /[\u0000-\u001f]/.test(String(line)))).toBe(false);
  });

  // a log that nobody reads any more must not take a disk from a running machine
  test("who reads the log may go: front-ends are served on, and it ends by signal", async () => {
    const path = newPath();
    await using program = startBlk(path, "--memory", "1M");
    await program.next("text");
    program.child.stdout?.destroy();
    for (let i = 0; i < 3; i++) await useDisk(path);
    program.child.kill("SIGTERM");
    await program.end();
    expect(existsSync(path)).toBe(false);
  });
});

describe("without the package koffi", () => {
  const home = join(folder, "home");
  beforeAll(() => {
    mkdirSync(join(home, "node_modules"), { recursive: true });
    for (const name of ["dist", "package.json"]) {
      cpSync(join(ROOT, name), join(home, name), { recursive: true });
    }
    const modules = join(ROOT, "node_modules");
    for (const name of readdirSync(modules)) {
      if (!/koffi|^\./.test(name))
        symlinkSync(join(modules, name), join(home, "node_modules", name));
    }
    chmodSync(home, 0o755);
  });
  const run = (...args: string[]) => outcome(new Program(process.execPath, args, { cwd: home }));
  const main = join(home, "dist/cli/main.js");

  test("it is really missing", () => {
    expect(() => createRequire(join(home, "dist/x.js"))("koffi")).toThrow("Cannot find module");
  });

  test("serve says what is missing in one line, exit code 1", async () => {
    const path = join(home, "socket");
    const { code, stdout, stderr } = await run(
      main,
      "serve",
      "blk",
      "--socket",
      path,
      "--null",
      "1M",
    );
    expect(stderr).toMatch(/^vhost-wasm: ENOSYS: .*koffi; install it with: npm install koffi\n$/);
    expect(stdout).toBe("");
    expect(code).toBe(1);
    expect(existsSync(path)).toBe(false);
  });

  test("the demo and the help of serve work", async () => {
    const file = join(home, "file");
    writeFileSync(file, pattern(100_000));
    const demo = await run(main, "demo", file);
    expect(demo.stderr).toBe("");
    expect(demo).toMatchObject({ code: 0 });
    expect(await run(main, "serve", "blk", "--help")).toMatchObject({ code: 0 });
  });

  test("the library works; serveVhostUser alone rejects", async () => {
    const program = `
      const { blk, Kernel, serveVhostUser } = await import("vhost-wasm");
      const disk = await new Kernel().spawn({}).open(blk({ memoryBytes: 512 }));
      const drive = await disk.driver();
      console.log((await drive.read(0, 512)).length);
      await disk.close();
      const device = blk({ nullBytes: 512 });
      await serveVhostUser({ socketPath: "socket", device }).catch(({ code }) => console.log(code));`;
    const { code, stdout, stderr } = await run("--input-type=module", "--eval", program);
    expect({ code, stdout, stderr }).toEqual({ code: 0, stdout: "512\nENOSYS", stderr: "" });
  });
});
