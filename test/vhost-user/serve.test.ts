import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { FrontEnd, u32s, u64s } from "#dist/bench/front-end.js";
import { libc } from "#dist/linux/libc.js";
import { describeVhostUser, eventually, useDisk } from "../helpers/vhost-user.js";
import { Program } from "../helpers/vhost-user-child.js";

const folder = mkdtempSync(join(tmpdir(), "vhost-wasm-test-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
let count = 0;
const newPath = () => join(folder, `socket-${count++}`);

const start = (...args: string[]) => Program.cli("serve", ...args);
const startBlk = (path: string, ...args: string[]) => start("blk", "--socket", path, ...args);

describeVhostUser("vhost-wasm serve", () => {
  test.each(["SIGINT", "SIGTERM"] as const)(
    "ends by %s: exit code 0, no socket left",
    async (signal) => {
      const path = newPath();
      await using program = startBlk(path, "--memory", "1M");
      await program.next("text");
      const serves = "serves 1048576 bytes of memory";
      expect(program.lines.at(-1)?.line).toBe(`vhost-wasm: listening at ${path}, ${serves}`);
      await useDisk(path);
      const isGone = () => program.lines.some(({ line }) => /disconnected/.test(String(line)));
      await eventually(isGone, "gone"); // or the next may wait for so long that it is told
      using front = new FrontEnd(path);
      await front.negotiate(~0n);
      await front.setMemory();
      await front.startQueue(0, 8);
      program.child.kill(signal);
      const { code, stdout, stderr } = await program.outcome();
      expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
      expect(existsSync(path)).toBe(false);
      expect(stdout.split("\n")).toHaveLength(5);
      expect(stdout).toMatch(/connected: \S+ \(pid \d+, uid \d+, gid \d+\), worker vhost-\d+/);
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
    const { code, stdout, stderr } = await startBlk(path, "--null", "1M").outcome();
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
