// A device of the user's own, and the plain driver for it.

import { describe, expect, test } from "vitest";
import type { ProbeOptions } from "#dist/driver/probe.js";
import { Kernel, type VhostError } from "#dist/index.js";
import type { OpenOptions } from "#dist/loopback.js";
import {
  VIRTIO_F_EVENT_IDX,
  VIRTIO_F_IN_ORDER,
  VIRTIO_F_INDIRECT_DESC,
} from "#dist/spec/virtio-config.js";
import { pattern } from "../helpers/blk-raw.js";
import { custom, rejected } from "../helpers/devices.js";
import { pump } from "../helpers/pump.js";
import { MODES } from "../helpers/raw-guest.js";

async function open(
  how: string,
  options: Record<string, unknown> = {},
  openOptions: OpenOptions = {},
  probeOptions: ProbeOptions = {},
) {
  const process = new Kernel().spawn({ memoryBytes: 4 << 20 });
  const device = await process.open(custom(how, options), openOptions);
  const driver = await device.driver(probeOptions);
  const isInline = openOptions.run === "inline";
  return {
    process,
    device,
    driver,
    run: <T>(work: Promise<T>) => (isInline ? pump(device, work) : work),
    [Symbol.asyncDispose]: () => process.exit(),
  };
}

const text = (bytes: Uint8Array) => Buffer.from(bytes).toString();
const bytes = (value: string) => Buffer.from(value);

describe.each(MODES)("$run, $ring ring", (mode) => {
  test("what is sent comes back, of any length, on every queue", async () => {
    await using echo = await open("echo", { queues: 4 }, mode);
    for (let queue = 0; queue < 4; queue++) {
      for (const length of [1, 2, 511, 4096, 100_000]) {
        const sent = pattern(length, queue);
        const back = await echo.run(echo.driver.request(queue, sent, length));
        expect(Buffer.from(back).equals(sent)).toBe(true);
      }
    }
  });

  test("many at the same time, more than the ring holds, each gets its own", async () => {
    await using echo = await open("echo", { queues: 2 }, mode, { queueSize: 4 });
    const requests = Array.from({ length: 500 }, async (_, i) => {
      const back = await echo.driver.request(i % 2, bytes(`request ${i}`), 32);
      return text(back) === `request ${i}`;
    });
    expect(await echo.run(Promise.all(requests))).not.toContain(false);
    expect(echo.device.dev.sharedMemory.guest.freeBytes).toBeGreaterThan(0);
  });

  test("less room than the answer needs: it is cut", async () => {
    await using echo = await open("echo", {}, mode);
    expect(text(await echo.run(echo.driver.request(0, bytes("hello"), 2)))).toBe("he");
    expect(text(await echo.run(echo.driver.request(0, bytes("hello"), 0)))).toBe("");
  });

  test("readable alone, writable alone", async () => {
    await using echo = await open("echo", {}, mode);
    expect(await echo.run(echo.driver.request(0, new Uint8Array(0), 8))).toHaveLength(0);
    expect(await echo.run(echo.driver.request(0, bytes("x"), 0))).toHaveLength(0);
  });

  test("2.2: a device's own feature is negotiated, and the device hears of it", async () => {
    await using loud = await open("echo", { features: 1n }, mode);
    expect(loud.driver.features & 1n).toBe(1n);
    expect(text(await loud.run(loud.driver.request(0, bytes("hello"), 5)))).toBe("HELLO");
    await using quiet = await open("echo", { features: 1n }, mode, { withoutFeatures: [0] });
    expect(quiet.driver.features & 1n).toBe(0n);
    expect(text(await quiet.run(quiet.driver.request(0, bytes("hello"), 5)))).toBe("hello");
  });

  test("2.5: the configuration space is the device's", async () => {
    await using echo = await open("echo", {}, mode);
    expect([...echo.driver.config]).toEqual([0xec, 0x40]);
    await echo.device.dev.writeConfig(1, Uint8Array.of(0x41));
    expect([...(await echo.device.dev.readConfig())]).toEqual([0xec, 0x41]);
  });

  test("a handler that claims more bytes than there is room for: they are cut", async () => {
    await using boaster = await open("boasts", {}, mode);
    expect(await boaster.run(boaster.driver.request(0, bytes("x"), 16))).toHaveLength(16);
  });

  test("no indirect tables, no event index: the same", async () => {
    const withoutFeatures = [VIRTIO_F_INDIRECT_DESC, VIRTIO_F_EVENT_IDX];
    await using echo = await open("echo", {}, mode, { withoutFeatures });
    const requests = [1, 2, 3].map((i) => echo.driver.request(0, bytes(`${i}`), 1));
    expect((await echo.run(Promise.all(requests))).map(text)).toEqual(["1", "2", "3"]);
  });
});

describe("at the door", () => {
  test("no such queue: ENOBUFS", async () => {
    await using echo = await open("echo", {}, { run: "inline" });
    for (const queue of [1, -1, 0.5]) {
      await rejected("ENOBUFS", echo.driver.request(queue, bytes("x"), 1));
    }
  });

  test("nothing to read and nothing to write: EINVAL", async () => {
    await using echo = await open("echo", {}, { run: "inline" });
    await rejected("EINVAL", echo.driver.request(0, new Uint8Array(0), 0));
  });

  test("more than the guest's memory: ENOMEM, and the next request goes well", async () => {
    await using echo = await open("echo", {}, { run: "inline" });
    const { guest } = echo.device.dev.sharedMemory;
    const { freeBytes } = guest;
    await rejected("ENOMEM", echo.driver.request(0, bytes("x"), freeBytes));
    expect(text(await echo.run(echo.driver.request(0, bytes("x"), 1)))).toBe("x");
    expect(guest.freeBytes).toBe(freeBytes);
  });

  test.each([-1, 1.5, Number.NaN])("%s bytes of room: EINVAL", async (room) => {
    await using echo = await open("echo", {}, { run: "inline" });
    await rejected("EINVAL", echo.driver.request(0, bytes("xyz"), room));
  });
});

describe("a driver that can't come up keeps nothing", () => {
  test.each([3, 0, 128, 0.5])("queue size %s: EINVAL", async (queueSize) => {
    const process = new Kernel().spawn({ memoryBytes: 1 << 20 });
    await using device = await process.open(custom("echo", { queues: 2 }), { run: "inline" });
    const { host, guest } = device.dev.sharedMemory;
    const before = [host.freeBytes, guest.freeBytes];
    await rejected("EINVAL", device.driver({ queueSize }));
    expect([host.freeBytes, guest.freeBytes]).toEqual(before);
    await device.driver();
  });

  test("ENOMEM, wherever the memory ends", async () => {
    const process = new Kernel().spawn({ memoryBytes: 1 << 20 });
    await using device = await process.open(custom("echo", { queues: 2 }), { run: "inline" });
    const { host, guest } = device.dev.sharedMemory;
    const before = [host.freeBytes, guest.freeBytes];
    for (const arena of [host, guest]) {
      for (let left = 64, isUp = false; !isUp; left += Math.ceil(left / 8)) {
        const hog = arena.alloc(Math.max(arena.freeBytes - left, 1), 1);
        const driver = await device.driver().catch((error) => {
          expect(error).toMatchObject({ code: "ENOMEM" });
        });
        isUp = driver !== undefined;
        await driver?.close();
        arena.free(hog);
        expect([host.freeBytes, guest.freeBytes]).toEqual(before);
      }
    }
  });
});

describe.each(MODES)("a device that answers later, $run, $ring ring", (mode) => {
  test("in another order: each request gets its own answer", async () => {
    await using late = await open("later", { queues: 2 }, mode, { queueSize: 16 });
    const order: number[] = [];
    const requests = Array.from({ length: 100 }, async (_, i) => {
      const back = text(await late.driver.request(i % 2, bytes(`request ${i}`), 32));
      order.push(i);
      return back;
    });
    const wanted = requests.map((_, i) => `request ${i}`);
    expect(await late.run(Promise.all(requests))).toEqual(wanted);
    expect(order).not.toEqual(order.toSorted((a, b) => a - b));
  });

  test("IN_ORDER is not on offer", async () => {
    await using late = await open("later", {}, mode);
    expect(late.device.dev.offeredFeatures & (1n << BigInt(VIRTIO_F_IN_ORDER))).toBe(0n);
  });

  test("what it holds when its queue is reset is dropped, the other queue goes on", async () => {
    await using late = await open("later", { queues: 2, ms: 60_000, many: 3 }, mode);
    const dropped = rejected("ECANCELED", late.driver.request(0, bytes("a"), 8));
    const kept = late.driver.request(1, bytes("b"), 8);
    await late.run(new Promise(setImmediate)); // both are in the rings now
    await late.run(late.driver.resetQueue(0));
    await dropped;
    const others = [late.driver.request(1, bytes("c"), 8), late.driver.request(0, bytes("d"), 8)];
    const answers = await late.run(Promise.all([kept, ...others]));
    expect(answers.map(text)).toEqual(["b", "c", "d"]);
  });

  test("what it holds when the device is closed is dropped", async () => {
    await using late = await open("later", { ms: 60_000 }, mode);
    const dropped = rejected("ENODEV", late.driver.request(0, bytes("a"), 8));
    await late.run(new Promise((resolve) => setTimeout(resolve, 20)));
    await late.device.close();
    await dropped;
  });
});

test.each([
  ["HELD without hold", /hold\(\) and HELD/],
  ["hold without HELD", /hold\(\) and HELD/],
  ["no number", /a whole number/],
  ["answered twice", /answered once/],
  ["flush in drain", /flush\(\)/],
])(
  "a device that holds chains wrongly ends its worker, which says why: %s",
  async (mistake, why) => {
    await using device = await open("misholds", { mistake });
    const death = new Promise<VhostError>((resolve) => device.device.onDeath(resolve));
    await rejected("ENODEV", device.driver.request(0, bytes("a"), 8));
    expect((await death).message).toMatch(why);
  },
);

describe("what createDevice returns is looked at when the device is opened", () => {
  const odd: [string, Record<string, unknown>, RegExp][] = [
    ["nothing", { isNone: true }, /no object/],
    ["no handleKick", { fields: { handleKick: undefined } }, /no method handleKick/],
    ["no readConfig", { fields: { readConfig: 1 } }, /no method readConfig/],
    ["a reset that is none", { fields: { reset: 1 } }, /reset is no function/],
    ["features as a number", { fields: { features: 1 } }, /features .* bigint/],
    ["a device id of 0", { fields: { deviceId: 0 } }, /deviceId/],
    ["no device id", { fields: { deviceId: undefined } }, /deviceId/],
    ["a queue size of 7.5", { fields: { queueSizeMax: 7.5 } }, /power of two/],
    ["no queues", { fields: { queueCount: 0 } }, /queue/],
  ];
  test.each(odd)("%s", async (_, options, message) => {
    await using process = new Kernel().spawn({ memoryBytes: 1 << 20 });
    for (const run of ["thread", "inline"] as const) {
      const opening = process.open(custom("odd", options), { run });
      await expect(opening).rejects.toMatchObject({ code: "EINVAL" });
      await expect(opening).rejects.toThrow(message);
    }
  });
});
