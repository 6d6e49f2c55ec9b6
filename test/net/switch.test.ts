// A switch between devices: where packets go, what is counted, and that nobody stops another.

import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { Kernel, type NetDriver, net, Switch, type SwitchPortOptions } from "#dist/index.js";
import type { OpenOptions } from "#dist/loopback.js";
import { rejected } from "../helpers/devices.js";
import { frameOf, random, station } from "../helpers/net-frames.js";
import { seedOf } from "../helpers/seed.js";

const ALL = "ff:ff:ff:ff:ff:ff";

/** So many guests, each in a process of its own, and what each has got: first bytes of payload. */
async function openLan(
  ports: readonly SwitchPortOptions[],
  mode: (index: number) => OpenOptions = () => ({}),
) {
  const lan = new Switch({ ports: Math.max(2, ports.length), queueBytes: 1 << 18 });
  const kernel = new Kernel();
  const guests = await Promise.all(
    ports.map(async (options, index) => {
      const port = lan.port(options);
      const process = kernel.spawn({ memoryBytes: 8 << 20 });
      const device = await process.open(net({ switch: port, mac: station(index) }), mode(index));
      const driver = await device.driver();
      const got: Buffer[] = [];
      driver.onPacket = (frame) => got.push(Buffer.from(frame));
      return { port, process, device, driver, got };
    }),
  );
  let isOpen = true;
  const pump = async () => {
    while (isOpen) {
      for (const [index, { device }] of guests.entries()) {
        if (mode(index).run === "inline") device.runPending();
      }
      await sleep(0);
    }
  };
  const pumping = guests.some((_, index) => mode(index).run === "inline") ? pump() : undefined;
  return {
    lan,
    guests,
    [Symbol.asyncDispose]: async () => {
      isOpen = false;
      await pumping;
      await Promise.all(guests.map(({ process }) => process.exit()));
      lan.close();
    },
  };
}

/** Sends, and waits while too many are under way. */
async function send(driver: NetDriver, frame: Uint8Array): Promise<void> {
  while (driver.room === 0) await sleep(0);
  await driver.send(frame);
}

/** Waits until nothing has moved for a while. */
async function quiet(guests: readonly { got: Buffer[] }[]): Promise<void> {
  const count = () => guests.reduce((sum, { got }) => sum + got.length, 0);
  for (let seen = -1; seen !== count(); await sleep(60)) seen = count();
}

const bodies = (got: readonly Buffer[], at = 14) => got.map((frame) => frame.readUInt16BE(at));

const MIXES: [string, (index: number) => OpenOptions][] = [
  ["threads", () => ({})],
  ["inline", () => ({ run: "inline" })],
  ["both, and both rings", (i) => (i % 2 ? { run: "inline" } : { ring: "ts" })],
];

describe.each(MIXES)("%s", (_, mode) => {
  test("unknown: to all; then learned: to one; back to its own port: to nobody", async () => {
    await using lan = await openLan([{}, {}, {}, {}], mode);
    const [a, b, c, d] = lan.guests;
    if (!a || !b || !c || !d) throw new Error("four guests");
    await send(a.driver, frameOf(station(1), station(0), 1));
    await expect.poll(() => [b, c, d].map(({ got }) => bodies(got))).toEqual([[1], [1], [1]]);
    await send(b.driver, frameOf(station(0), station(1), 2));
    await expect.poll(() => bodies(a.got)).toEqual([2]);
    await send(a.driver, frameOf(station(1), station(0), 3));
    await expect.poll(() => bodies(b.got)).toEqual([1, 3]);
    await send(a.driver, frameOf(ALL, station(0), 4));
    await send(a.driver, frameOf(station(0), station(0), 5));
    await send(a.driver, frameOf(station(1), "01:00:00:00:00:07", 6));
    await expect
      .poll(() => [b, c, d].map(({ got }) => bodies(got)))
      .toEqual([
        [1, 3, 4],
        [1, 4],
        [1, 4],
      ]);
    await quiet(lan.guests);
    expect(a.port.counts()).toMatchObject({ received: 5, flooded: 2, filtered: 2, forwarded: 7 });
    expect(bodies(a.got)).toEqual([2]);
  });

  test("a station that moves is found where it speaks last", async () => {
    await using three = await openLan([{}, {}, {}], mode);
    const [a, b, c] = three.guests;
    if (!a || !b || !c) throw new Error("three guests");
    await send(b.driver, frameOf(ALL, station(9), 1));
    await expect.poll(() => a.got.length).toBe(1);
    await send(c.driver, frameOf(ALL, station(9), 2));
    await expect.poll(() => a.got.length).toBe(2);
    await send(a.driver, frameOf(station(9), station(0), 3));
    await expect.poll(() => bodies(c.got)).toEqual([1, 3]);
    await expect.poll(() => bodies(b.got)).toEqual([2]);
    const { port } = three.lan.addresses().find(({ mac }) => mac === station(9)) ?? {};
    expect(port).toBe(2);
  });

  test("VLANs: each to its own; a trunk has tags", async () => {
    const ports = [{ vlan: 10 }, { vlan: 10 }, { vlan: 20 }, { trunk: [10, 20] }, {}];
    await using lan = await openLan(ports, mode);
    const [a, b, c, t, plain] = lan.guests;
    if (!a || !b || !c || !t || !plain) throw new Error("five guests");
    await send(a.driver, frameOf(ALL, station(0), 1));
    await expect.poll(() => [bodies(b.got), bodies(t.got, 18)]).toEqual([[1], [1]]);
    expect(t.got[0]?.readUInt32BE(12)).toBe(0x8100_000a);
    expect(t.got[0]?.subarray(18)).toEqual(b.got[0]?.subarray(14));
    await send(t.driver, frameOf(ALL, station(3), 2, 20));
    await expect.poll(() => bodies(c.got)).toEqual([2]);
    await send(t.driver, frameOf(station(0), station(3), 3, 10));
    await expect.poll(() => bodies(a.got)).toEqual([3]);
    await send(t.driver, frameOf(ALL, station(3), 4, 30)); // not one of its own
    await send(t.driver, frameOf(ALL, station(3), 5)); // no tag
    await send(a.driver, frameOf(ALL, station(0), 6, 20)); // a tag where there is none
    await send(plain.driver, frameOf(ALL, station(4), 7)); // alone in its kind
    await quiet(lan.guests);
    expect([a, b, c, t, plain].map(({ got }) => got.length)).toEqual([1, 1, 1, 1, 0]);
    expect(t.port.counts().filtered).toBe(2);
    expect(a.port.counts().filtered).toBe(1);
  });
});

test("a port that never reads stops nobody: its queue fills, and is counted", async () => {
  await using lan = await openLan([{}, {}, {}]);
  const [a, b, deaf] = lan.guests;
  if (!a || !b || !deaf) throw new Error("three guests");
  for (const { driver } of [b, deaf]) await send(driver, frameOf(ALL, "02:00:00:00:00:99", 0));
  await send(b.driver, frameOf(ALL, station(1), 0));
  await send(deaf.driver, frameOf(ALL, station(2), 0));
  await expect.poll(() => a.got.length).toBe(4);
  await expect.poll(() => b.got.length).toBe(2);
  await deaf.driver.close(); // no buffers any more
  b.got.length = 0;
  const frames = 1000;
  const long = Buffer.alloc(1000);
  for (let i = 0; i < frames; i++) {
    await send(a.driver, Buffer.concat([frameOf(station(2), station(0), i), long]));
    await send(a.driver, frameOf(station(1), station(0), i));
  }
  await expect.poll(() => b.got.length).toBe(frames);
  expect(bodies(b.got)).toEqual(Array.from({ length: frames }, (_, i) => i));
  const { missed } = deaf.port.counts();
  expect(missed).toBeGreaterThan(500);
  expect(a.port.counts().dropped).toBe(missed);
  expect(b.port.counts()).toMatchObject({ missed: 0 });
});

test("a worker that is killed leaves the others, and its port, as they were", async () => {
  await using lan = await openLan([{}, {}, {}]);
  const [a, b, c] = lan.guests;
  if (!a || !b || !c) throw new Error("three guests");
  await send(c.driver, frameOf(ALL, station(2), 1));
  await expect.poll(() => a.got.length).toBe(1);
  await c.process.exit();
  expect(lan.lan.addresses().filter(({ port }) => port === 2)).toEqual([]);
  await send(a.driver, frameOf(station(2), station(0), 2));
  await expect.poll(() => bodies(b.got)).toEqual([1, 2]);
  const process = new Kernel().spawn({ memoryBytes: 8 << 20 });
  const device = await process.open(net({ switch: c.port, mac: station(7) }));
  const driver = await device.driver();
  await send(a.driver, frameOf(station(7), station(0), 3));
  expect(bodies([Buffer.from(await driver.receive())])).toEqual([3]);
  await process.exit();
});

test("any traffic: who is known gets it alone, floods reach all, counts add up", async () => {
  const seed = seedOf("switch traffic");
  const next = random(seed);
  const count = 5;
  await using lan = await openLan(Array.from({ length: count }, () => ({})));
  const { guests } = lan;
  /** Which port has a station, as a switch must believe; and what each port must get. */
  const at = new Map<number, number>();
  const expected = guests.map(() => [] as number[]);
  let flooded = 0;
  let filtered = 0;
  for (let i = 0; i < 1500; i++) {
    const from = next(count);
    const source = 100 + from * 20 + next(20);
    const destination = next(10) === 0 ? -1 : 100 + next(count * 20);
    const known = at.get(destination);
    at.set(source, from);
    const mac = destination < 0 ? ALL : station(destination);
    const to = destination === source ? from : known;
    if (to === from) filtered++;
    else if (to === undefined) flooded++;
    for (const [port, list] of expected.entries()) {
      if (to === undefined ? port !== from : port === to && to !== from) list.push(i);
    }
    await send((guests[from] as (typeof guests)[0]).driver, frameOf(mac, station(source), i));
  }
  const total = expected.reduce((sum, list) => sum + list.length, 0);
  await expect.poll(() => guests.reduce((sum, { got }) => sum + got.length, 0)).toBe(total);
  const sorted = (list: number[]) => [...list].sort((x, y) => x - y);
  for (const [port, { got }] of guests.entries()) {
    expect(sorted(bodies(got)), `FC_SEED=${seed}, port ${port}`).toEqual(expected[port]);
  }
  const counts = guests.map(({ port }) => port.counts());
  const sum = (name: keyof (typeof counts)[0]) => counts.reduce((all, one) => all + one[name], 0);
  const [dropped, discarded] = [sum("dropped"), sum("discarded")];
  expect({ flooded: sum("flooded"), filtered: sum("filtered") }).toEqual({ flooded, filtered });
  expect([sum("received"), sum("forwarded"), sum("sent")]).toEqual([1500, total, total]);
  expect([dropped, discarded, sum("missed")]).toEqual([0, 0, 0]);
});

describe("misuse is refused by name", () => {
  test.each([
    [{ ports: 1 }, /ports/],
    [{ ports: 33 }, /ports/],
    [{ queueBytes: 300_000 }, /power of two/],
    [{ queueBytes: 4096 }, /queueBytes/],
    [{ ageSeconds: 0 }, /ageSeconds/],
    [{ colour: 1 } as never, /colour/],
  ])("a switch of %o", (options, message) => {
    expect(() => new Switch(options)).toThrow(message);
  });

  test.each([
    [{ vlan: 0 }, /vlan/],
    [{ vlan: 4095 }, /vlan/],
    [{ trunk: [] }, /trunk/],
    [{ trunk: [1], vlan: 2 }, /trunk/],
  ])("a port of %o", (options, message) => {
    expect(() => new Switch().port(options)).toThrow(message);
  });

  test("more ports than there are; a port that is taken; a switch that is closed", async () => {
    const lan = new Switch({ ports: 2 });
    const port = lan.port();
    lan.port();
    expect(() => lan.port()).toThrow(/ENOBUFS/);
    await using process = new Kernel().spawn();
    const device = await process.open(net({ switch: port }));
    await rejected("EBUSY", process.open(net({ switch: port })));
    expect(() => lan.close()).toThrow(/EBUSY/);
    await device.close();
    lan.close();
    await rejected("ENODEV", process.open(net({ switch: port })));
    expect(() => lan.port()).toThrow(/^ENODEV: /);
    expect(() => net({ switch: port, onPacket: () => {} })).toThrow(/not at both/);
    expect(() => net({ switch: {} as never })).toThrow(/lan.port/);
  });
});
