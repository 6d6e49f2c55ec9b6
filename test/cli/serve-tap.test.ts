// `serve net --tap` and the taps of a machine's file: the host's network beside the VMs'.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { describeTaps, hasInterface, ip, tapName } from "../helpers/taps.js";
import { describeVhostUser, eventually } from "../helpers/vhost-user.js";
import { Program } from "../helpers/vhost-user-child.js";

const folder = mkdtempSync(join(tmpdir(), "vhost-wasm-test-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const socket = join(folder, "net.sock");
let count = 0;

const NET = { kind: "net", socket, switch: "lan" };

function configOf(content: object): string {
  const path = join(folder, `machine-${count++}.json`);
  writeFileSync(path, JSON.stringify(content));
  return path;
}

const linesOf = ({ lines }: Program, event: string) => lines.filter((one) => one.event === event);

describeVhostUser("with interfaces", () => {
  describeTaps("serve net --tap", () => {
    test("one beside VMs, and another; what happens to it is printed; all end", async () => {
      const [first, second] = [tapName(), tapName()];
      const taps = ["--tap", first, "--tap", second];
      const options = ["--socket", socket, "--socket", `${socket}2`, ...taps];
      await using program = Program.cli("serve", "net", ...options, "--counts", "1", "--log=json");
      await eventually(() => linesOf(program, "listening").length === 2, "both listen");
      expect([first, second].map(hasInterface)).toEqual([true, true]);
      await eventually(() => linesOf(program, "tap").length === 2, "both are told of");
      ip("link", "del", first);
      const isTold = () => linesOf(program, "tap").some(({ state }) => state === "gone");
      await eventually(isTold, "it is told");
      await eventually(() => linesOf(program, "counts").length >= 4, "counts");
      expect(linesOf(program, "tap")).toMatchObject([
        { tap: first, state: "down" }, // as an interface that was just made is
        { tap: second, state: "down" },
        { tap: first, state: "gone" },
      ]);
      const ports = linesOf(program, "counts").slice(0, 4);
      expect(ports.map(({ port, tap }) => [port, tap])).toEqual([
        [0, undefined],
        [1, undefined],
        [2, first],
        [3, second],
      ]);
      program.child.kill("SIGTERM");
      expect(await program.outcome()).toMatchObject({ code: 0, stderr: "" });
      expect([first, second].map(hasInterface)).toEqual([false, false]);
    });

    test("one that can't be had: said, and none is served", async () => {
      const name = tapName();
      const taps = ["--tap", name, "--tap", "lo"];
      await using program = Program.cli("serve", "net", "--socket", socket, ...taps);
      const { code, stderr } = await program.outcome();
      expect(code).toBe(1);
      expect(stderr).toMatch(/^vhost-wasm: EINVAL: the TAP lo can't be had: .*another kind/);
      expect(hasInterface(name)).toBe(false);
    });

    test("a machine's file: an interface at a switch that a device is at", async () => {
      const name = tapName();
      const taps = [{ tap: name, switch: "lan", trunk: [5, 6] }];
      const path = configOf({ taps, devices: [{ ...NET, vlan: 5 }] });
      await using program = Program.cli("serve", "--config", path);
      const isListening = () => program.lines.some(({ line }) => /listening/.test(String(line)));
      await eventually(isListening, "it listens");
      expect(hasInterface(name)).toBe(true);
      ip("link", "del", name);
      const text = () => program.lines.map(({ line }) => line).join("\n");
      await eventually(() => /interface is gone/.test(text()), "it is told");
      expect(text()).toContain(`vhost-wasm: tap ${name}: the interface is gone, and is waited for`);
      program.child.kill("SIGTERM");
      expect(await program.outcome()).toMatchObject({ code: 0, stderr: "" });
    });
  });

  test("a name that is none ends it before anything is served", async () => {
    await using program = Program.cli("serve", "net", "--socket", socket, "--tap", "a/b");
    const { code, stdout, stderr } = await program.outcome();
    expect({ code, stdout }).toEqual({ code: 1, stdout: "" });
    expect(stderr).toMatch(/^vhost-wasm: EINVAL: a TAP is named by its interface/);
  });
});

describe("a file's taps that are wrong", () => {
  test.each([
    [{ switch: "lan" }, /taps\[0\]\.tap: it is missing/],
    [{ tap: "tap0" }, /taps\[0\]\.switch: it is missing/],
    [{ tap: "tap0", switch: "lan", vlan: 5, trunk: [5] }, /taps\[0\]: a port has vlan or trunk/],
    [{ tap: "tap0", switch: "lan", vlan: 4095 }, /taps\[0\]\.vlan: .*1 to 4094/],
    [{ tap: "tap0", switch: "lan", colour: 1 }, /taps\[0\]\.colour: there is no such field/],
    [{ tap: "a/b", switch: "lan" }, /a TAP is named by its interface/],
  ])("%j", async (tap, message) => {
    const path = configOf({ taps: [tap], devices: [NET] });
    await using program = Program.cli("serve", "--config", path);
    const { code, stderr } = await program.outcome();
    expect(code).toBe(1);
    expect(stderr).toMatch(message);
  });
});
