// A console device with its driver, in every mode: virtio 1.3, 5.3.

import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import type { Duplex } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { CONSOLE_PORTS_MAX } from "#dist/devices/console.js";
import { CONSOLE_BUFFER_BYTES_MAX } from "#dist/devices/console-link.js";
import { type ConsoleOptions, console as makeConsole } from "#dist/index.js";
import { openConsole, take } from "../helpers/console-pair.js";
import { rejected } from "../helpers/devices.js";
import { MODES, THREADS } from "../helpers/raw-guest.js";

const digest = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");
const TWO = { ports: [{}, { name: "org.example.agent" }] };
const MULTIPORT = 1;

/** It is closed by the other side, or will be; there is no error. */
async function closed(stream: Duplex): Promise<void> {
  if (!stream.destroyed) await once(stream, "close");
  expect(stream.errored).toBe(null);
}

describe.each(MODES)("$run, $ring ring", (mode) => {
  test.each([{}, { packed: true }, { inOrder: true }])("bytes both ways, %o", async (probe) => {
    await using both = await openConsole(mode, TWO, probe);
    const host = both.host.open("org.example.agent");
    const guest = await both.guest.open("org.example.agent");
    expect(guest.id).toBe(1);
    const sent = [randomBytes(1_500_000), randomBytes(1_500_000)] as const;
    host.write(sent[0]);
    guest.write(sent[1]);
    const got = await Promise.all([take(guest, sent[0].length), take(host, sent[1].length)]);
    expect(got.map(digest)).toEqual(sent.map(digest));
    expect(both.device.errorCounts()).toEqual({});
    expect([both.guest.badMessages, both.host.lostBytes(1)]).toEqual([0, 0]);
  });

  test("ports, their names, and who is the console", async () => {
    const ports = [{ name: "a" }, { console: true }, { name: "c" }, {}];
    await using both = await openConsole(mode, { ports });
    await both.guest.open("c");
    await expect.poll(() => both.guest.ports.length).toBe(4);
    await expect.poll(() => both.guest.ports[1]?.isConsole).toBe(true);
    expect(both.guest.ports.map(({ id, name, isConsole }) => [id, name, isConsole])).toEqual([
      [0, "a", false],
      [1, undefined, true],
      [2, "c", false],
      [3, undefined, false],
    ]);
  });

  test("the size, at first and when it changes", async () => {
    await using both = await openConsole(mode, { cols: 80, rows: 25 });
    const guest = await both.guest.open();
    await expect.poll(() => [guest.columns, guest.rows]).toEqual([80, 25]);
    const resized = once(guest, "resize");
    both.host.resize(132, 43);
    await resized;
    expect([guest.columns, guest.rows]).toEqual([132, 43]);
    expect((await both.device.dev.readConfig()).subarray(0, 8)).toEqual(
      Uint8Array.of(132, 0, 43, 0, 1, 0, 0, 0),
    );
  });

  test("without MULTIPORT: one port, open at once, and its size", async () => {
    const options = { ...TWO, cols: 7, rows: 9 };
    await using both = await openConsole(mode, options, { withoutFeatures: [MULTIPORT] });
    const host = both.host.open();
    const guest = await both.guest.open();
    expect([guest.columns, guest.rows]).toEqual([7, 9]);
    guest.write("login: ");
    expect(String(await take(host, 7))).toBe("login: ");
    host.write("root\n");
    expect(String(await take(guest, 5))).toBe("root\n");
    expect(both.guest.ports).toHaveLength(1);
  });

  test("who opens and closes is told, on either side", async () => {
    await using both = await openConsole(mode, TWO);
    const host = both.host.open(1);
    const isOpen = once(host, "guestOpen");
    const guest = await both.guest.open(1);
    await isOpen;
    expect([host.isGuestOpen, both.host.isGuestOpen(0)]).toEqual([true, false]);
    await expect.poll(() => both.guest.ports[1]?.isHostOpen).toBe(true);
    guest.resume();
    host.write("bye");
    const ended = once(guest, "end");
    host.destroy();
    await ended;
    guest.destroy();
    await expect.poll(() => both.host.isGuestOpen(1)).toBe(false);
    const again = await both.guest.open(1);
    both.host.open(1).write("hello");
    expect(String(await take(again, 5))).toBe("hello");
  });

  test("what is written before the other side is there waits for it", async () => {
    await using both = await openConsole(mode, TWO);
    const guest = await both.guest.open(1);
    guest.write("early");
    const host = both.host.open(0);
    host.write("typed ahead");
    expect(String(await take(await both.guest.open(0), 11))).toBe("typed ahead");
    await sleep(20);
    expect(String(await take(both.host.open(1), 5))).toBe("early");
  });

  test("who does not read holds up no other port, and not for ever a console", async () => {
    await using both = await openConsole(mode, TWO);
    const [console, agent] = [both.host.open(0), both.host.open(1)];
    const [tty, port] = [await both.guest.open(0), await both.guest.open(1)];
    const much = randomBytes(4 << 20);
    port.write(much);
    const written = new Promise((resolve) => tty.write(much, resolve));
    await written; // nobody reads it: what does not fit is lost, and the guest goes on
    expect(both.host.lostBytes(0)).toBeGreaterThan(much.length - 4 * CONSOLE_BUFFER_BYTES_MAX);
    expect(both.host.lostBytes(1)).toBe(0);
    expect(port.writableLength).toBeGreaterThan(0);
    expect(digest(await take(agent, much.length))).toBe(digest(much));
    const kept = much.length - both.host.lostBytes(0);
    expect((await take(console, kept)).equals(much.subarray(0, kept))).toBe(true);
  });

  test("nobody has it open on the host: lost, counted, and the guest goes on", async () => {
    await using both = await openConsole(mode, TWO);
    const host = both.host.open(0);
    const guest = await both.guest.open(0);
    guest.write("here");
    await take(host, 4);
    host.destroy();
    await once(guest.resume(), "end");
    await both.guest.emergencyWrite("xyz");
    expect(both.host.lostBytes(0)).toBe(3);
  });

  test("last words need no queue", async () => {
    await using both = await openConsole(mode);
    const host = both.host.open();
    await both.guest.emergencyWrite("oops\n");
    expect(String(await take(host, 5))).toBe("oops\n");
  });

  test("a port is taken out and put in again", async () => {
    await using both = await openConsole(mode, TWO);
    const host = both.host.open(1);
    const guest = await both.guest.open(1);
    both.host.unplug(1);
    await closed(guest);
    expect(both.guest.ports.map(({ id }) => id)).toEqual([0]);
    const coming = both.guest.open("org.example.agent");
    both.host.plug(1);
    host.write("again");
    expect(String(await take(await coming, 5))).toBe("again");
  });

  test("the host's streams stay from one driver, and one opening, to the next", async () => {
    await using both = await openConsole(mode);
    const host = both.host.open();
    const first = await both.guest.open();
    first.write("one");
    expect(String(await take(host, 3))).toBe("one");
    await both.guest.close();
    await closed(first);
    await expect.poll(() => host.isGuestOpen).toBe(false);
    const again = await both.device.driver();
    const second = await again.open();
    second.write("two");
    expect(String(await take(host, 3))).toBe("two");
    await both.device.close();
    expect(host.isGuestOpen).toBe(false);
    expect(host.destroyed).toBe(false);
  });
});

describe.each(THREADS)("a worker with a $ring ring", (mode) => {
  test("killed: the guest's streams end, the host's go on with the next device", async () => {
    await using both = await openConsole(mode);
    const host = both.host.open();
    const guest = await both.guest.open();
    await expect.poll(() => host.isGuestOpen).toBe(true);
    await both.owner.exit();
    await closed(guest);
    await expect.poll(() => host.isGuestOpen).toBe(false);
  });
});

describe("what is refused", () => {
  test.each([
    { ports: [] },
    { ports: new Array(CONSOLE_PORTS_MAX + 1).fill({}) },
    { ports: [{ name: "a/b" }] },
    { ports: [{ name: "a" }, { name: "a" }] },
    { ports: [{ name: "a".repeat(129) }] },
    { ports: [{ nam: "a" }] },
    { ports: [{ console: 1 }] },
    { cols: 80 },
    { cols: 80, rows: 65536 },
    { queueSize: 3 },
    { columns: 80 },
  ] as unknown as ConsoleOptions[])("%o", (options) => {
    expect(() => makeConsole(options)).toThrow(/^EINVAL: /);
  });

  test("ports that are not there, or open; given up", async () => {
    await using both = await openConsole({}, TWO);
    both.host.open(1);
    expect(() => both.host.open("org.example.agent")).toThrow(/^EBUSY: /);
    expect(() => both.host.listen("agent.sock", "org.example.agent")).toThrow(/^EBUSY: /);
    expect(() => both.host.open(2)).toThrow(/^EINVAL: /);
    expect(() => both.host.open("nobody")).toThrow(/^EINVAL: /);
    expect(() => both.host.resize(0, 1)).toThrow(/^EINVAL: /);
    await both.guest.open(1);
    await rejected("EBUSY", both.guest.open(1));
    const stop = new AbortController();
    const never = both.guest.open("nobody", { signal: stop.signal });
    stop.abort(new Error("enough"));
    await expect(never).rejects.toThrow("enough");
    const late = rejected("ENODEV", both.guest.open("nobody"));
    await both.guest.close();
    await late;
    await rejected("EBUSY", both.owner.open(both.host));
  });

  test("the most ports that there may be", async () => {
    const ports = Array.from({ length: CONSOLE_PORTS_MAX }, (_, i) => ({ name: `port-${i}` }));
    await using both = await openConsole({}, { ports, queueSize: 32 });
    const names = ports.map(({ name }) => name);
    const streams = names.map((name) => both.host.open(name));
    const opened = await Promise.all(names.map((name) => both.guest.open(name)));
    for (const [i, port] of opened.entries()) port.write(String(i).padStart(2, "0"));
    const got = await Promise.all(streams.map((stream) => take(stream, 2)));
    expect(got.map(String)).toEqual(names.map((_, i) => String(i).padStart(2, "0")));
  });
});
