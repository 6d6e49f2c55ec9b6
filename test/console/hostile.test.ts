// Whatever a driver sends to a console: answered or counted, in bounded memory, and other ports and
// queues go on. Whatever a device sends to the driver: no crash, and what does not fit is counted.

import { once } from "node:events";
import { describe, expect, test } from "vitest";
import { ConsoleControl } from "#dist/devices/console-control.js";
import { CONSOLE_BUFFER_BYTES_MAX, ConsoleLink } from "#dist/devices/console-link.js";
import { ConsolePorts } from "#dist/driver/console-ports.js";
import { console as makeConsole } from "#dist/index.js";
import { Random } from "../fuzz/random.js";
import { take } from "../helpers/console-pair.js";
import { bit, MODES, type Mode, RawGuest, VERSION_1 } from "../helpers/raw-guest.js";
import { seedOf } from "../helpers/seed.js";

const EVENTS = {
  ...{ DEVICE_READY: 0, PORT_ADD: 1, PORT_REMOVE: 2, PORT_READY: 3 },
  ...{ CONSOLE_PORT: 4, RESIZE: 5, PORT_OPEN: 6, PORT_NAME: 7, unknown: 8, largest: 0xffff },
};
type EventName = keyof typeof EVENTS;

function message(id: number, event: EventName | number, value = 0, tail: number[] = []) {
  const bytes = new Uint8Array(8 + tail.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, id, true);
  view.setUint16(4, typeof event === "number" ? event : EVENTS[event], true);
  view.setUint16(6, value, true);
  bytes.set(tail, 8);
  return bytes;
}

const viewOf = (bytes: Uint8Array) => new DataView(bytes.buffer, bytes.byteOffset, bytes.length);

/** A message as a line. */
function text(bytes: Uint8Array): string {
  const view = viewOf(bytes);
  const event = Object.entries(EVENTS).find(([, n]) => n === view.getUint16(4, true))?.[0];
  const tail = Buffer.from(bytes.subarray(8)).toString("latin1");
  return `${view.getUint32(0, true)} ${event} ${view.getUint16(6, true)} ${tail}`.trim();
}

const SHAPES = [
  { isConsole: true, name: new Uint8Array(0) },
  { isConsole: false, name: new TextEncoder().encode("agent") },
];

/** All that is due, which counts as told. */
function told(control: ConsoleControl): string[] {
  const all: string[] = [];
  for (let bytes = control.take(); bytes; bytes = control.take()) all.push(text(bytes));
  return all;
}

/** A control in the state of that name; what was due is told. */
function controlIn(state: string) {
  const link = new ConsoleLink(SHAPES.length);
  const control = new ConsoleControl(link, SHAPES);
  const steps: Record<string, Uint8Array[]> = {
    none: [],
    added: [message(0, "DEVICE_READY", 1)],
    ready: [message(0, "DEVICE_READY", 1), message(1, "PORT_READY", 1)],
    open: [message(0, "DEVICE_READY", 1), message(1, "PORT_READY", 1), message(1, "PORT_OPEN", 1)],
    failed: [message(0, "DEVICE_READY", 1), message(0, "DEVICE_READY", 0)],
    unplugged: [message(0, "DEVICE_READY", 1)],
  };
  for (const step of steps[state] ?? []) {
    expect(control.receive(viewOf(step))).toBe(true);
    told(control);
  }
  if (state === "unplugged") {
    for (const port of link.ports) port.isPlugged = false;
    expect(told(control)).toEqual(["0 PORT_REMOVE 0", "1 PORT_REMOVE 0"]);
  }
  return { link, control };
}

describe("a driver that had a back-end before us", () => {
  const resumed = () => {
    const both = controlIn("none");
    both.control.resume();
    return both;
  };

  test("is told of all ports; a console is open, another port once the guest writes", () => {
    const { link, control } = resumed();
    expect(told(control)).toEqual(["0 PORT_ADD 0", "1 PORT_ADD 0"]);
    control.wrote(1);
    expect(link.ports[1]?.isGuestOpen).toBe(false); // not ready
    for (const id of [0, 1]) control.receive(viewOf(message(id, "PORT_READY", 1)));
    expect(link.ports.map(({ isGuestOpen }) => isGuestOpen)).toEqual([true, false]);
    expect(told(control)).toContain("1 PORT_NAME 1 agent");
    control.wrote(1);
    control.wrote(9);
    expect(link.ports.map(({ isGuestOpen }) => isGuestOpen)).toEqual([true, true]);
  });

  test("that says by itself that it is ready begins anew", () => {
    const { link, control } = resumed();
    told(control);
    control.receive(viewOf(message(0, "PORT_READY", 1)));
    control.receive(viewOf(message(0, "DEVICE_READY", 1)));
    expect(link.ports[0]?.isGuestOpen).toBe(false);
    expect(told(control)).toEqual(["0 PORT_ADD 0", "1 PORT_ADD 0"]);
    control.receive(viewOf(message(1, "PORT_READY", 1)));
    control.wrote(1);
    expect(link.ports[1]?.isGuestOpen).toBe(false); // it tells us itself
  });

  test.each(["failed", "added", "open"])("one that has spoken to us is none: %s", (state) => {
    const { control } = controlIn(state);
    control.resume();
    expect(told(control)).toEqual([]);
  });
});

describe("each message in each state", () => {
  /** Those that are taken, for port 1; all others are refused. */
  const taken: Record<string, EventName[]> = {
    none: ["DEVICE_READY"],
    failed: ["DEVICE_READY"],
    unplugged: ["DEVICE_READY"],
    added: ["DEVICE_READY", "PORT_READY"],
    ready: ["DEVICE_READY", "PORT_READY", "PORT_OPEN"],
    open: ["DEVICE_READY", "PORT_READY", "PORT_OPEN"],
  };
  const cases = Object.keys(taken).flatMap((state) =>
    (Object.keys(EVENTS) as EventName[]).map((event) => ({ state, event })),
  );

  test.each(cases)("$state: $event", ({ state, event }) => {
    for (const value of [0, 1, 0xffff]) {
      const { link, control } = controlIn(state);
      const isTaken = taken[state]?.includes(event) ?? false;
      expect(control.receive(viewOf(message(1, event, value)))).toBe(isTaken);
      const isOpen = { PORT_OPEN: isTaken && value > 0 }[event as string] ?? state === "open";
      const closes = (value === 0 && event === "PORT_READY") || event === "DEVICE_READY";
      expect(link.ports[1]?.isGuestOpen).toBe(isOpen && !closes);
      expect(told(control).length).toBeLessThanOrEqual(4);
      expect(told(control)).toEqual([]);
      for (const id of [2, 15, 0x7fffffff, 0xffffffff]) {
        const isForAll = event === "DEVICE_READY";
        expect(control.receive(viewOf(message(id, event, value)))).toBe(isForAll);
      }
    }
  });

  test("what is told of a port, in this order, and once", () => {
    const { link, control } = controlIn("none");
    for (const port of link.ports) port.isHostOpen = true;
    (link.ports[0] as { size: number }).size = 25 * 65536 + 80;
    expect(told(control)).toEqual([]);
    control.receive(viewOf(message(0, "DEVICE_READY", 1)));
    expect(told(control)).toEqual(["0 PORT_ADD 0", "1 PORT_ADD 0"]);
    for (let i = 0; i < 3; i++) control.receive(viewOf(message(0, "PORT_READY", 1)));
    control.receive(viewOf(message(1, "PORT_READY", 1)));
    expect(told(control)).toEqual([
      "0 CONSOLE_PORT 1",
      "0 RESIZE 0 P\u0000\u0019\u0000",
      "0 PORT_OPEN 1",
      "1 PORT_NAME 1 agent",
      "1 PORT_OPEN 1",
    ]);
  });

  test("any number of any messages: no more is due than a port has to tell", () => {
    const seed = seedOf("console messages");
    const random = new Random(seed);
    const { link, control } = controlIn("none");
    for (let i = 0; i < 20_000; i++) {
      const value = random.below(3);
      control.receive(viewOf(message(random.below(4), random.below(9), value)));
      const port = link.ports[random.below(2)];
      if (port && random.below(10) === 0) port.isHostOpen = !port.isHostOpen;
      if (port && random.below(50) === 0) port.isPlugged = !port.isPlugged;
      if (random.below(5) === 0) {
        expect(told(control).length, `FC_SEED=${seed}`).toBeLessThanOrEqual(8);
      }
    }
  });
});

describe.each(MODES)("the rings, $run, $ring ring", (mode) => {
  async function open(how: Mode) {
    const host = makeConsole({ ports: [{}, { name: "agent" }] });
    const guest = await RawGuest.open(host, {
      ...how,
      features: VERSION_1 | bit(1),
      queues: 6,
      num: 64,
      memoryBytes: 8 << 20,
    });
    const [, tx0, rxControl, control, rx1, tx1] = guest.rings as [never, ...typeof guest.rings];
    const rings = { tx0, rxControl, control, rx1, tx1 } as Record<
      "tx0" | "rxControl" | "control" | "rx1" | "tx1",
      (typeof guest.rings)[0]
    >;
    return { host, guest, ...rings };
  }

  test("messages that are none come back, are counted, and stop nothing", async () => {
    const { host, guest, control, rxControl, tx0, tx1 } = await open(mode);
    await using _ = guest;
    const stream = host.open(1);
    const bad = [
      [message(0, "PORT_OPEN", 1).subarray(0, 7)],
      [message(0, "DEVICE_READY", 1), 8],
      [8],
      [message(0, "PORT_ADD")],
      [message(77, "PORT_READY", 1)],
      [message(0, 9)],
      [new Uint8Array(100_000).fill(0xff)],
    ];
    for (const pieces of bad) expect((await control.request(pieces)).length).toBe(0);
    expect(guest.errors(3)).toEqual({ VRING_E_REQUEST: bad.length });
    const ready = message(0, "DEVICE_READY", 1);
    await control.request([ready.subarray(0, 3), ready.subarray(3), new Uint8Array(9)]);
    const ports = [await rxControl.request([3, 100]), await rxControl.request([8])];
    expect(ports.map(({ length, written }) => text(written.subarray(0, length)))).toEqual([
      "0 PORT_ADD 0",
      "1 PORT_ADD 0",
    ]);
    await tx1.request([Buffer.from("un"), Buffer.from("stopped")]);
    expect(String(await take(stream, 9))).toBe("unstopped");
    expect((await tx0.request([Buffer.from("nobody")])).length).toBe(0);
    expect(host.lostBytes(0)).toBe(6);
    expect(guest.errors(5)).toEqual({});
  });

  test("a buffer that its message does not fit in loses that one alone", async () => {
    const { host, guest, control, rxControl } = await open(mode);
    await using _ = guest;
    host.open(1);
    await control.request([message(0, "DEVICE_READY", 1)]);
    for (const pieces of [[7], [new Uint8Array(4), 100]]) {
      expect((await rxControl.request(pieces)).length).toBe(0);
    }
    for (let i = 0; i < 2; i++) await rxControl.request([8]);
    await control.request([message(1, "PORT_READY", 1)]);
    expect((await rxControl.request([12])).length).toBe(0); // 8 and "agent" are 13
    const { length, written } = await rxControl.request([8]);
    expect([length, text(written)]).toEqual([8, "1 PORT_OPEN 1"]);
    expect(guest.errors(2)).toEqual({ VRING_E_REQUEST: 3 });
  });

  test("buffers that are none, either way; one that is too long", async () => {
    const { host, guest, control, rxControl, rx1, tx1 } = await open(mode);
    await using _ = guest;
    const stream = host.open(1);
    expect((await tx1.request([8])).length).toBe(0);
    expect((await tx1.request([Buffer.from("x"), 8])).length).toBe(0);
    expect((await tx1.request([new Uint8Array(CONSOLE_BUFFER_BYTES_MAX + 1)])).length).toBe(0);
    expect(guest.errors(5)).toEqual({ VRING_E_REQUEST: 3 });
    await control.request([message(0, "DEVICE_READY", 1)]);
    for (let i = 0; i < 2; i++) await rxControl.request([8]);
    for (const event of ["PORT_READY", "PORT_OPEN"] as const) {
      await control.request([message(1, event, 1)]);
    }
    stream.write("for you");
    expect((await rx1.request([new Uint8Array(3)])).length).toBe(0);
    expect((await rx1.request([new Uint8Array(3), 9])).length).toBe(0);
    const { length, written } = await rx1.request([2, 3, 100]);
    expect(String(Buffer.from(written.subarray(0, length)))).toBe("for you");
    expect(guest.errors(4)).toEqual({ VRING_E_REQUEST: 2 });
  });

  test("a flood of bad messages, and a port that nobody reads, beside a good one", async () => {
    const { host, guest, control, tx1 } = await open(mode);
    await using _ = guest;
    const stream = host.open(1);
    const flood = control.link([guest.describe(message(5, "PORT_NAME", 1))]);
    const good = tx1.link([guest.describe(Buffer.from("."))]);
    for (let i = 0; i < 100; i++) {
      for (let k = 0; k < 16; k++) control.send(flood);
      tx1.send(good);
      await tx1.next();
      for (let k = 0; k < 16; k++) await control.next();
    }
    expect(String(await take(stream, 100))).toBe(".".repeat(100));
    expect(guest.errors(3)).toEqual({ VRING_E_REQUEST: 1600 });
  });

  test("a reset forgets what was told, and the guest's ports are closed", async () => {
    const { host, guest, control, rxControl } = await open(mode);
    await using _ = guest;
    const stream = host.open(1);
    const opened = once(stream, "guestOpen");
    await control.request([message(0, "DEVICE_READY", 1)]);
    for (let i = 0; i < 2; i++) await rxControl.request([8]);
    for (const event of ["PORT_READY", "PORT_OPEN"] as const) {
      await control.request([message(1, event, 1)]);
    }
    await opened;
    const closed = once(stream, "guestClose");
    await guest.dev.reset();
    await closed;
    expect(stream.isGuestOpen).toBe(false);
  });
});

describe("a hostile device, at the driver", () => {
  test("any messages: ports are never more than there may be, and the bad are counted", () => {
    const seed = seedOf("hostile console device");
    const random = new Random(seed);
    const ready: number[] = [];
    const ports = new ConsolePorts(3, (id) => ready.push(id));
    let bad = 0;
    for (let i = 0; i < 20_000; i++) {
      const tail = Array.from({ length: random.below(6) }, () => random.below(256));
      const id = random.below(8) === 0 ? 0xffffffff : random.below(5);
      const bytes = message(id, random.below(10), random.below(2), tail);
      const isCut = random.below(10) === 0;
      const before = ports.badMessages;
      ports.receive(isCut ? bytes.subarray(0, random.below(8)) : bytes);
      if (isCut || id >= 3) bad++;
      if (isCut || id >= 3) expect(ports.badMessages, `FC_SEED=${seed}`).toBe(before + 1);
      expect(ports.list.length).toBeLessThanOrEqual(3);
    }
    expect(ports.badMessages).toBeGreaterThanOrEqual(bad);
    expect(new Set(ready)).toEqual(new Set([0, 1, 2]));
  });
});
