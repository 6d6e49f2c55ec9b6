// The hostile driver itself: a device that fails is seen to fail, whatever it fails at; and what is
// asked of it wrongly is refused.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { blk, HOSTILE_SHAPES, type HostileShape, Kernel } from "#dist/index.js";
import { custom, rejected } from "../helpers/devices.js";
import { expectHeld, holdings, openHostile } from "../helpers/hostile.js";
import { ROOT } from "../helpers/source.js";

function shapeNamed(name: string): HostileShape {
  const found = HOSTILE_SHAPES.find((shape) => shape.name === name);
  if (!found) throw new RangeError(`no shape is named ${name}`);
  return found;
}

const GOOD = shapeNamed("good-request");
const BAD = shapeNamed("buffer-at-address-0");
const FORMATS = [{ packed: false }, { packed: true }];

describe.each(FORMATS)("what it sees, packed: $packed", ({ packed }) => {
  test("a device that dies of a shape", async () => {
    await using open = await openHostile({}, { packed }, custom("throws"));
    const outcome = await open.driver.play(GOOD);
    expect(outcome).toMatchObject({ ending: "died", serves: "never", isAsExpected: false });
    await rejected("ENODEV", open.driver.play(BAD)); // the device has closed its driver
  });

  test("a device that never answers", async () => {
    await using open = await openHostile({}, { packed, timeoutMs: 20 }, custom("hangs"));
    const outcome = await open.driver.play(GOOD);
    const expected = { ending: "refused-queue", serves: "never", isAsExpected: false };
    expect(outcome).toMatchObject(expected);
    expect(outcome.ms).toBeLessThan(4000);
  });

  test("a device that serves until a shape comes, and after a reset not either", async () => {
    const isAnswer = (written: Uint8Array) => written[0] === 1;
    const request = { readable: new Uint8Array(4), writableBytes: 4, isAnswer };
    await using open = await openHostile({}, { packed, request }, custom("tires", { after: 1 }));
    const expected = { ending: "served", serves: "never", isAsExpected: false };
    expect(await open.driver.play(GOOD)).toMatchObject(expected);
  });

  test("an answer that is none", async () => {
    const isAnswer = (written: Uint8Array) => written[0] === 1;
    const request = { readable: new Uint8Array(4), writableBytes: 4, isAnswer };
    await using open = await openHostile({}, { packed, request }, custom("echo"));
    expect(await open.driver.play(GOOD)).toMatchObject({ isAnswerRight: false, serves: "never" });
    expect(await open.driver.request()).toBe(false);
  });

  test("an answer that the device says it did not write", async () => {
    await using open = await openHostile({}, { packed }, custom("belies"));
    const expected = { ending: "refused-chain", isIntact: false, isAsExpected: false };
    expect(await open.driver.play(GOOD)).toMatchObject(expected);
  });

  // A queue's buffers begin 16 KiB into its part; room for an answer is behind 16 bytes to read.
  const toStart = 16384 + 16;
  test.each([
    ["before the first region", toStart + 1],
    ["in the first region, before the ring", toStart - 1],
  ])("a byte written %s", async (_, before) => {
    await using open = await openHostile({}, { packed }, custom("scribbles", { before }));
    const { memory } = open.driver;
    const outcome = await open.driver.play({
      ...GOOD,
      stage: (stage) => {
        const out = stage.readable(new Uint8Array(16));
        stage.add(out, stage.writable(16));
      },
    });
    expect(outcome).toMatchObject({ ending: "served", isIntact: false, isAsExpected: false });
    // The good request after it turned the byte back, so only the outcome tells of it.
    expect(memory.damagedAt).toBeUndefined();
  });

  test("the other ending than the one expected", async () => {
    await using open = await openHostile({}, { packed });
    const misnamed = { ...BAD, expect: "served" as const };
    const expected = { ending: "refused-chain", serves: "at-once", isAsExpected: false };
    expect(await open.driver.play(misnamed)).toMatchObject(expected);
    const setUp = { ...shapeNamed("size-0"), layout: { areas: (good: object) => good } };
    const taken = await open.driver.play(setUp as HostileShape);
    expect(taken).toMatchObject({ ending: "served", serves: "at-once", isAsExpected: false });
  });
});

describe("what it refuses", () => {
  test("queue sizes that shapes can't be made of", async () => {
    await using open = await openHostile({}, {});
    await open.driver.close();
    for (const queueSize of [0, 1, 8, 24, 512, 16.5, Number.NaN]) {
      await rejected("EINVAL", open.device.hostileDriver({ queueSize }));
    }
    await using again = await open.device.hostileDriver({ queueSize: 256 });
    expect(await again.play(GOOD)).toMatchObject({ isAsExpected: true });
  });

  test("a request that is too long", async () => {
    await using open = await openHostile({}, {});
    await open.driver.close();
    const request = { readable: new Uint8Array(4096), writableBytes: 1 };
    await rejected("EINVAL", open.device.hostileDriver({ request }));
  });

  test("a second driver, until the first is closed; then it has given all back", async () => {
    await using open = await openHostile({}, {});
    await rejected("EBUSY", open.device.driver());
    await rejected("EBUSY", open.device.hostileDriver());
    await open.driver.close();
    const before = holdings(open.device);
    await using drive = await open.device.hostileDriver({ packed: true });
    expect(await drive.play(BAD)).toMatchObject({ isAsExpected: true });
    await drive.close();
    await drive.close();
    await expectHeld(open.device, before);
    await rejected("ENODEV", drive.play(GOOD));
    await rejected("ENODEV", drive.request());
    await using tame = await open.device.driver();
    expect(await (tame as { read(at: number, bytes: number): unknown }).read(0, 512)).toBeDefined();
  });

  test.each(["reset-in-flight", "no-bytes-at-no-address", "index-one-too-far"])(
    "closed in the midst of %s: it touches nothing any more, and the next driver is served",
    { timeout: 60_000 },
    async (name) => {
      await using process = new Kernel().spawn({ memoryBytes: 4 << 20 });
      const device = await process.open(blk({ memoryBytes: 65536 }));
      for (const delayMs of [0, 1, 5, 12]) {
        const hostile = await device.hostileDriver({ timeoutMs: 40 });
        const { start, bytes } = hostile.memory.extent;
        const play = hostile.play(shapeNamed(name)).catch((error: Error) => error);
        await sleep(delayMs);
        await hostile.close();
        const { guest, bytes: memory } = device.dev.sharedMemory;
        const again = device.dev.sharedMemory.allocGuest(bytes, 4096);
        expect(again).toBe(start);
        memory.fill(0x5a, start, start + bytes);
        const drive = await device.driver();
        expect(await drive.read(0, 512)).toHaveLength(512);
        await play;
        await sleep(10);
        expect(await drive.read(0, 512)).toHaveLength(512);
        expect(memory.subarray(start, start + bytes).every((byte) => byte === 0x5a)).toBe(true);
        await drive.close();
        guest.free(again);
      }
    },
  );

  test("a queue that is not there, and a shape for the other format", async () => {
    await using open = await openHostile({}, { packed: true });
    await rejected("ENOBUFS", open.driver.play(GOOD, { queue: 1 }));
    const spare = { ...GOOD, stage: shapeNamed("index-goes-back").stage } as HostileShape;
    await rejected("EINVAL", open.driver.play(spare));
  });
});

describe("the catalogue", () => {
  test("has a name of its own for each, in kebab-case, and says what it is", () => {
    const names = HOSTILE_SHAPES.map(({ name }) => name);
    expect(new Set(names).size).toBe(names.length);
    for (const { name, description, formats } of HOSTILE_SHAPES) {
      expect(name).toMatch(/^[a-z0-9]+(-[a-z0-9]+)*$/);
      expect(description.length, name).toBeGreaterThan(10);
      expect(formats.length, name).toBeGreaterThan(0);
    }
  });

  test("has a shape for each error that a driver can cause in a ring", () => {
    const source = readFileSync(join(ROOT, "src/spec/ring-state.ts"), "utf8");
    const all = [...source.matchAll(/export const (VRING_E_\w+) = (\d+)/g)].map(([, name]) => name);
    // Of the driver's side, of policy linux, of records, and mistakes of the device's own.
    const elsewhere =
      /_(COUNT|USED_\w+|CHAIN|INDIRECT|WALK|LOG|KICK|POSITION|COMPLETION|IN_FLIGHT|MAPPING)$/;
    const played = new Set(HOSTILE_SHAPES.map(({ error }) => error));
    const missing = all.filter((name) => name && !elsewhere.test(name) && !played.has(name));
    expect(missing).toEqual([]);
    expect(all).toEqual(expect.arrayContaining([...played].filter((name) => name !== undefined)));
  });

  test.each([
    "CVE-2016-5403",
    "CVE-2018-1059",
    "CVE-2020-10723",
    "CVE-2020-10725",
    "CVE-2022-2132",
    "CVE-2023-5158",
    "CVE-2026-5747",
    "CVE-2026-16457",
    "CVE-2026-45782",
    "SPDK",
    "v86",
    "openvmm",
    "DPDK",
    "vm-virtio#236",
  ])("names %s", (mistake) => {
    const named = HOSTILE_SHAPES.filter(({ description }) => description.includes(mistake));
    expect(named.length).toBeGreaterThan(0);
  });
});
