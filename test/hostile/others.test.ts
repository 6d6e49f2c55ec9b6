// The catalogue of shapes, on devices that leave chains in the ring until there is something for
// them: nothing is written but what they were given, and they serve on.

import { describe, expect, test } from "vitest";
import {
  HOSTILE_SHAPES,
  type HostileRequest,
  Kernel,
  console as makeConsole,
  rng,
} from "#dist/index.js";
import type { DeviceSpec } from "#dist/vhost/device.js";

/** What a chain may take, in milliseconds: others may have the cores. */
const TIMEOUT_MS = 5000;

/** READY for the device, a good message. */
const DEVICE_READY = Uint8Array.of(0, 0, 0, 0, 0, 0, 1, 0);

interface Case {
  name: string;
  make(): DeviceSpec<"rng" | "console">;
  queue: number;
  request: HostileRequest;
}

const CASES: Case[] = [
  {
    ...{ name: "random bytes", make: () => rng(), queue: 0 },
    request: {
      readable: new Uint8Array(0),
      writableBytes: 32,
      isAnswer: (written) => written.length === 32,
    },
  },
  {
    ...{ name: "random bytes at a rate", make: () => rng({ rate: 1 << 20 }), queue: 0 },
    request: { readable: new Uint8Array(0), writableBytes: 32 },
  },
  {
    ...{ name: "a console's bytes", make: () => makeConsole({ ports: [{}, {}] }), queue: 1 },
    request: { readable: new Uint8Array(16).fill(65), writableBytes: 0 },
  },
  {
    ...{ name: "a console's messages", make: () => makeConsole({ ports: [{}, {}] }), queue: 3 },
    request: { readable: DEVICE_READY, writableBytes: 0 },
  },
];
const FORMATS = ["split", "packed"] as const;
const ALL = CASES.flatMap((one) => FORMATS.map((format) => ({ ...one, format })));

describe.each(ALL)("$name, $format", ({ make, queue, request, format }) => {
  test("every shape", { timeout: 120_000 }, async () => {
    await using owner = new Kernel().spawn({ memoryBytes: 16 << 20 });
    await using device = await owner.open(make());
    const driver = await device.hostileDriver({
      packed: format === "packed",
      request,
      timeoutMs: TIMEOUT_MS,
    });
    const shapes = HOSTILE_SHAPES.filter(({ formats }) => !formats || formats.includes(format));
    expect(shapes.length).toBeGreaterThan(50);
    for (const shape of shapes) {
      const { serves, isIntact, isAnswerRight, ms } = await driver.play(shape, { queue });
      expect([shape.name, isIntact, isAnswerRight]).toEqual([shape.name, true, true]);
      // Random bytes over the ring itself may be anything: also what only a reset mends.
      const isOverRing = request.writableBytes > 0 && /-a-buffer$/.test(shape.name);
      const how = ["at-once", "after-repair", ...(isOverRing ? ["after-reset"] : [])];
      expect(how, shape.name).toContain(serves);
      expect(ms, shape.name).toBeLessThan(4 * TIMEOUT_MS); // what a reset mends is waited out
    }
    expect(device.dev.worker.death).toBeUndefined();
  });
});
