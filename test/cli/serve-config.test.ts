// `serve --config`: a machine's devices in one process; what is wrong is said by line and field.

import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { FrontEnd } from "#dist/bench/front-end.js";
import { ROOT } from "../helpers/source.js";
import { describeVhostUser, eventually, useDisk } from "../helpers/vhost-user.js";
import { Program } from "../helpers/vhost-user-child.js";

const folder = mkdtempSync(join(tmpdir(), "vhost-wasm-test-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
let count = 0;

function write(content: string): string {
  const path = join(folder, `machine-${count++}.json`);
  writeFileSync(path, content);
  return path;
}

const serve = (content: string) => Program.cli("serve", "--config", write(content));

/** What it prints of a file that is wrong, without the file's path; a line each. */
async function faults(content: string): Promise<string[]> {
  await using program = serve(content);
  const { code, stdout, stderr } = await program.outcome();
  expect({ code, stdout }).toEqual({ code: 1, stdout: "" });
  expect(stderr).toMatch(/^vhost-wasm: EINVAL: /);
  return stderr
    .trim()
    .replace("vhost-wasm: EINVAL: ", "")
    .split("\n")
    .map((line) => line.replaceAll(/\S*(machine-\d+\.json)/g, "FILE"));
}

const DEVICES = ["a.sock", "b.sock", "c.sock", "d.sock", "e.sock", "f.sock"].map((name) =>
  join(folder, name),
);

const LISTENING = 6;
const MACHINE = `{
  "log": "json",
  "devices": [
    { "kind": "blk", "name": "root", "socket": "a.sock", "memory": "1M", "queues": 2 },
    { "kind": "rng", "socket": "b.sock", "rate": "4K" },
    { "kind": "vsock", "socket": "c.sock", "cid": 77, "unix": "v.sock" },
    {
      "kind": "console", "socket": "d.sock", "cols": 80, "rows": 25,
      "ports": [{ "unix": "tty.sock" }, { "name": "agent", "unix": "agent.sock" }]
    },
    { "kind": "net", "socket": "e.sock", "switch": "lan" },
    { "kind": "net", "socket": "f.sock", "switch": "lan", "vlan": 7 }
  ]
}
`;

describeVhostUser("a whole machine", () => {
  test("all are served, each by its name; a signal ends all", { timeout: 60_000 }, async () => {
    await using program = serve(MACHINE);
    await eventually(() => program.lines.length === LISTENING, "all listen");
    expect(program.lines.map(({ event, device }) => [event, device])).toEqual([
      ["listening", "root"],
      ["listening", "rng 1"],
      ["listening", "vsock 2"],
      ["listening", "console 3"],
      ["listening", "net 4"],
      ["listening", "net 5"],
    ]);
    await useDisk(DEVICES[0] as string);
    for (const path of DEVICES) {
      using front = new FrontEnd(path);
      await front.negotiate(~0n);
      await front.setMemory();
      await front.startQueue(0, 8);
    }
    const connected = () => program.lines.filter(({ event }) => event === "connected");
    await eventually(() => connected().length === 7, "all connected");
    expect(new Set(connected().map(({ device }) => device)).size).toBe(6);
    program.child.kill("SIGTERM");
    const { code, stderr } = await program.outcome();
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    const left = [...DEVICES, join(folder, "tty.sock"), join(folder, "agent.sock")];
    expect(left.filter((path) => existsSync(path))).toEqual([]);
  });

  test("the README's machine is one", async () => {
    const readme = readFileSync(join(ROOT, "README.md"), "utf8");
    const [, machine = ""] = /<!-- machine: .*-->\n```json\n([^`]*)```/.exec(readme) ?? [];
    await using program = serve(machine);
    await eventually(() => program.lines.length === 5, "5 listen");
    program.child.kill("SIGTERM");
    expect((await program.outcome()).code).toBe(0);
  });

  test("one that can't be served: said, and none is", async () => {
    const socket = join(folder, "a.sock");
    const both = `{ "devices": [
      { "kind": "rng", "socket": "a.sock" }, { "kind": "rng", "socket": "a.sock" } ] }`;
    await using program = serve(both);
    const { code, stderr } = await program.outcome();
    expect(code).toBe(1);
    expect(stderr).toMatch(/^vhost-wasm: EBUSY: .*a\.sock is wanted by rng 0 and by rng 1\n$/);
    expect(existsSync(socket)).toBe(false);
  });

  test.each([[["SIGTERM", "SIGTERM"]], [["SIGINT", "SIGTERM"]], [["SIGHUP"]]] as const)(
    "signals that come together end it as one does: %j",
    async (signals) => {
      const socket = join(folder, "signals.sock");
      for (let round = 0; round < 3; round++) {
        await using program = Program.cli("serve", "rng", "--socket", socket, "--log", "json");
        await program.next("listening");
        for (const signal of signals) program.child.kill(signal);
        const { code, stderr } = await program.outcome();
        expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
        expect(existsSync(socket)).toBe(false);
      }
    },
    60_000,
  );

  test("a console's socket has one at a time", async () => {
    await using program = serve(MACHINE);
    await eventually(() => program.lines.length === LISTENING, "all listen");
    const first = connect(join(folder, "agent.sock"));
    const second = connect(join(folder, "agent.sock"));
    await new Promise((resolve) => second.once("close", resolve));
    expect(first.destroyed).toBe(false);
    first.destroy();
    const closes = () => {
      const third = connect(join(folder, "agent.sock"));
      return new Promise<boolean>((resolve) => {
        third.once("close", () => resolve(true));
        setTimeout(() => resolve(third.destroy() === undefined), 200);
      });
    };
    await expect.poll(closes).toBe(false);
  });
});

describe("what is wrong", () => {
  test("fields: missing, unknown, of a wrong kind or value, each with its line", async () => {
    expect(
      await faults(`{
  "devices": [
    {
      "kind": "blk",
      "imgae": "x.img",
      "queues": 99
    },
    { "kind": "rng", "socket": 7,
      "rate": "fast" },
    { "kind": "vsock", "socket": "s",
      "cid": 2, "unix": "" },
    { "kind": "tape" }
  ],
  "lgo": "text"
}`),
    ).toEqual([
      "FILE:3: devices[0].socket: it is missing",
      "FILE:6: devices[0].queues: it is a whole number from 1 to 32",
      "FILE:5: devices[0].imgae: there is no such field",
      "FILE:8: devices[1].socket: Invalid type: Expected string but received 7",
      "FILE:9: devices[1].rate: A size is a number of bytes, or with K, M, G or T: 64M; a " +
        "multiple of 1 bytes.",
      "FILE:11: devices[2].cid: it is a whole number from 3 to 4294967294",
      "FILE:11: devices[2].unix: it is empty",
      "FILE:12: devices[3].kind: Invalid type: " +
        'Expected ("blk" | "console" | "net" | "rng" | "vsock") but received "tape"',
      "FILE:14: lgo: there is no such field",
    ]);
  });

  test.each([
    ['{ "devices": [] }', "FILE:1: devices: name a device"],
    ["{}", "FILE:1: devices: it is missing"],
    ["[]", "FILE:1: devices: it is missing"],
    ["7", "FILE:1: the whole: Invalid type: Expected Object but received 7"],
    ["", "FILE:1: no JSON: value expected"],
    ['{\n\n"devices" }', "FILE:3: no JSON: colon expected"],
    ['{ // all\n"devices": [] }', "FILE:1: no JSON: invalid comment token"],
    [
      '{ "devices": [{ "kind": "blk", "socket": "s" }] }',
      "FILE:1: devices[0]: name one of image, memory and null",
    ],
    [
      '{ "devices": [{ "kind": "blk", "socket": "s", "memory": 512, "asOwner": true }] }',
      "FILE:1: devices[0]: asOwner is about the file of image",
    ],
    [
      `{ "devices": [
        { "kind": "console", "socket": "s", "ports": [{ "unix": "u", "name": "a/b" }] }] }`,
      'FILE: devices[0]: a port\'s name has up to 128 bytes, no "/" and no controls',
    ],
  ])("%s", async (content, line) => {
    expect(await faults(content)).toEqual([line]);
  });

  const vsock = (socket: string, more: object) =>
    JSON.stringify({ kind: "vsock", socket, cid: 5, unix: "v.sock", ...more });
  const lan = (socket: string, more: object) =>
    JSON.stringify({ kind: "net", socket, switch: "lan", ...more });
  const mac = "02:00:00:00:00:01";
  test.each([
    [vsock("a", { unix: "a" }), "", /\/a is wanted by vsock 0 twice/],
    [vsock("a", {}), vsock("b", { unix: "w.sock" }), /CID 5 is wanted by vsock 0 and by vsock 1/],
    [vsock("a", {}), vsock("b", { cid: 6 }), /v\.sock is wanted by vsock 0 and by vsock 1/],
    [lan("a", { mac }), lan("b", { mac }), /station 02:00:00:00:00:01 is wanted by net 0 and/],
    [lan("a", { pcap: "x.pcap" }), lan("b", { pcap: "x.pcap" }), /x\.pcap is wanted by net 0 and/],
  ])("what two would have for themselves: %s, %s", async (one, other, message) => {
    await using program = serve(`{ "devices": [ ${one} ${other && `, ${other}`} ] }`);
    const { code, stdout, stderr } = await program.outcome();
    expect({ code, stdout }).toEqual({ code: 1, stdout: "" });
    expect(stderr).toMatch(/^vhost-wasm: EBUSY: [^\n]*\n$/);
    expect(stderr).toMatch(message);
  });

  const net = '{ "kind": "net", "socket": "e.sock", "switch": "lan" }';
  test.each([
    [net, '; they are at "lan"'],
    [
      `${net}, { "kind": "net", "socket": "f.sock", "switch": "dmz" }`,
      '; they are at "lan", "dmz"',
    ],
    ['{ "kind": "rng", "socket": "b.sock" }', ""],
  ])("a TAP at a switch that no device names: %s", async (devices, others) => {
    const taps = `[
      { "tap": "vwnetnone0", "switch": "lan" },
      { "tap": "vwnetnone1",
        "switch": "lna" } ]`;
    const lines = await faults(`{ "devices": [ ${devices} ],\n"taps": ${taps} }`);
    const what = "switch: no device is at a switch of that name";
    expect(lines.at(-1)).toBe(`FILE:5: taps[1].${what}${others}`);
    expect(lines.slice(0, -1)).toEqual(others ? [] : [`FILE:3: taps[0].${what}`]);
  });

  test.each([
    ['{ "kind": "net", "socket": "s", "switch": "lan", "pcap": "none/x.pcap" }', "the capture"],
    ['{ "kind": "vsock", "socket": "s", "cid": 9, "unix": "none/v.sock" }', "no socket can be"],
    ['{ "kind": "console", "socket": "s", "ports": [{ "unix": "none/c.sock" }] }', "no socket"],
  ])("a path where nothing can be made: %s", async (device, what) => {
    await using program = serve(
      `{ "devices": [{ "kind": "rng", "socket": "a.sock" }, ${device}] }`,
    );
    const { code, stdout, stderr } = await program.outcome();
    expect({ code, stdout }).toEqual({ code: 1, stdout: "" });
    const [line, ...others] = stderr.trim().split("\n");
    expect(others).toEqual([]);
    expect(line).toMatch(/^vhost-wasm: ENOENT: .*machine-\d+\.json: devices\[1\]: /);
    expect(line).toContain(what);
    expect(line).toContain(`/none`);
  });

  test.each([
    [
      ["net", "--pcap", "/none/at/all.pcap"],
      /ENOENT: the capture .* there is no folder \/none\/at$/,
    ],
    [["net", "--pcap", "/tmp"], /EINVAL: the capture \/tmp can't be made: it is a folder$/],
    [["vsock", "--cid", "9", "--unix", "/none/v.sock"], /ENOENT: no socket .* no folder \/none$/],
    [["vsock", "--cid", "9", "--unix", "/dev/null"], /EADDRINUSE: \/dev\/null is there already/],
    [["console", "--unix", "/none/c.sock"], /ENOENT: no socket can be made at \/none\/c.sock/],
  ])("%j: said at the start", async (args, message) => {
    await using program = Program.cli("serve", ...args, "--socket", join(folder, "start.sock"));
    const { code, stdout, stderr } = await program.outcome();
    expect({ code, stdout }).toEqual({ code: 1, stdout: "" });
    expect(stderr.trim()).toMatch(message);
    expect(stderr.trim().split("\n")).toHaveLength(1);
  });

  test.each([
    ["--config", "m.json", "net", "--socket", "s"],
    ["net", "--config", "m.json", "--socket", "s"],
    ["net", "--config", "m.json"],
  ])("%s %s %s: one or the other", async (...args) => {
    await using program = Program.cli("serve", ...args);
    const { code, stdout, stderr } = await program.outcome();
    expect({ code, stdout }).toEqual({ code: 1, stdout: "" });
    expect(stderr).toMatch(/^error: .*leave net and its options away, or --config/);
  });

  test("no file; no command", async () => {
    await using program = Program.cli("serve", "--config", join(folder, "none.json"));
    const { code, stderr } = await program.outcome();
    expect([code, stderr]).toEqual([
      1,
      expect.stringMatching(/ENOENT: .*none\.json can't be read/),
    ]);
    await using bare = Program.cli("serve");
    const outcome = await bare.outcome();
    expect(outcome.code).toBe(1);
    expect(outcome.stderr).toMatch(/--config <file>/);
  });
});
