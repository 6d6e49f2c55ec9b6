// The reset of a queue against what else happens to the device at that time.

import { setImmediate as nextTurn } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { Kernel } from "#dist/index.js";
import { custom, rejected } from "../helpers/devices.js";
import { pump } from "../helpers/pump.js";
import { MODES } from "../helpers/raw-guest.js";

const QUEUES = 3;
const bytes = Uint8Array.from({ length: 32 }, (_, i) => i);

describe.each(MODES)("$run, $ring ring", (mode) => {
  const open = async () => {
    const process = new Kernel().spawn({ memoryBytes: 4 << 20 });
    const device = await process.open(custom("echo", { queues: QUEUES }), mode);
    return {
      device,
      run: <T>(work: Promise<T>) => (mode.run === "inline" ? pump(device, work) : work),
      [Symbol.asyncDispose]: () => process.exit(),
    };
  };

  test("of all queues at once, under load: each comes back", async () => {
    await using opened = await open();
    const { device, run } = opened;
    const driver = await device.driver({ queueSize: 8 });
    const indexes = [...Array(QUEUES).keys()];
    for (let round = 0; round < 10; round++) {
      const load = indexes.flatMap((index) =>
        Array.from({ length: 20 }, () => driver.request(index, bytes, 32)),
      );
      const ends = Promise.allSettled(load);
      if (round % 2 === 0) await nextTurn();
      await run(Promise.all(indexes.map((index) => driver.resetQueue(index))));
      for (const end of await run(ends)) {
        if (end.status === "fulfilled") expect(end.value).toEqual(bytes);
        else expect(end.reason).toMatchObject({ code: "ECANCELED" });
      }
      const after = indexes.map((index) => driver.request(index, bytes, 32));
      for (const answer of await run(Promise.all(after))) expect(answer).toEqual(bytes);
    }
    expect(device.errorCounts()).toEqual({});
  });

  test("by a driver that is closed: ENODEV, and the next one's queue is its own", async () => {
    await using opened = await open();
    const { device, run } = opened;
    const { host, guest } = device.dev.sharedMemory;
    const before = [host.freeBytes, guest.freeBytes];
    const old = await device.driver({ queueSize: 8 });
    await old.close();
    const next = await device.driver({ queueSize: 8 });
    await rejected("ENODEV", old.resetQueue(0));
    await rejected("ENODEV", old.request(0, bytes, 32));
    expect(await run(next.request(0, bytes, 32))).toEqual(bytes);
    await next.close();
    expect([host.freeBytes, guest.freeBytes]).toEqual(before);
  });
});

test("a kick that comes with another queue's reset is not forgotten", async () => {
  const words = new SharedArrayBuffer(8);
  const process = new Kernel().spawn({ memoryBytes: 4 << 20 });
  const device = await process.open(custom("waits", { words, queues: 2 }), { run: "inline" });
  const driver = await device.driver();
  const request = driver.request(0, bytes, 0);
  await nextTurn();
  while (device.runPending()) {}
  const [told, worked] = [new Int32Array(words), () => Atomics.load(new Int32Array(words), 0)];
  const before = worked(); // the device has seen the request, and left it
  Atomics.store(told, 1, 1);
  device.dev.worker.kick(0);
  await driver.resetQueue(1);
  while (device.runPending()) {}
  expect(worked()).toBeGreaterThan(before);
  expect(await request).toHaveLength(0);
  await process.exit();
});
