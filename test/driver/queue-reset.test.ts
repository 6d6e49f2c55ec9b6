// The reset of one queue through the whole path: the driver, the worker, the device. virtio 1.3,
// 2.6.1 Virtqueue Reset.

import { setImmediate as nextTurn } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import type { CustomDriver } from "#dist/driver/custom.js";
import type { ProbeOptions } from "#dist/driver/probe.js";
import { Kernel } from "#dist/index.js";
import type { OpenDevice } from "#dist/loopback.js";
import { VIRTIO_F_RING_RESET } from "#dist/spec/virtio-config.js";
import type { DeviceSpec } from "#dist/vhost/device.js";
import { custom, rejected } from "../helpers/devices.js";
import { pump } from "../helpers/pump.js";
import { MODES, type Mode } from "../helpers/raw-guest.js";

const QUEUES = 2;
const bytes = Uint8Array.from({ length: 32 }, (_, i) => i);

interface Opened extends AsyncDisposable {
  device: OpenDevice<"custom">;
  driver: CustomDriver;
  run<T>(work: Promise<T>): Promise<T>;
}

async function open(
  mode: Mode,
  spec: DeviceSpec<"custom"> = custom("echo", { queues: QUEUES }),
  probe: ProbeOptions = {},
): Promise<Opened> {
  const process = new Kernel().spawn({ memoryBytes: 4 << 20 });
  const device = await process.open(spec, mode);
  const driver = await device.driver({ queueSize: 8, ...probe });
  return {
    device,
    driver,
    run: (work) => (mode.run === "inline" ? pump(device, work) : work),
    [Symbol.asyncDispose]: () => process.exit(),
  };
}

const FORMATS = [{}, { packed: true }, { packed: true, inOrder: true }] as const;

describe.each(MODES)("$run, $ring ring", (mode) => {
  test.each(FORMATS)(
    "again and again, between requests, in sizes that change: %o",
    async (probe) => {
      await using opened = await open(mode, undefined, { notificationData: true, ...probe });
      const { device, driver, run } = opened;
      const { host, guest } = device.dev.sharedMemory;
      const free = () => host.freeBytes + guest.freeBytes;
      const sizes = "packed" in probe ? [3, 17, 8, 64, 5] : [4, 16, 8, 64, 2];
      await run(driver.resetQueue(0, { queueSize: 8 }));
      const before = free();
      for (const queueSize of [...sizes, ...sizes, 8]) {
        const others = Array.from({ length: 20 }, () => driver.request(1, bytes, 32));
        await run(driver.resetQueue(0, { queueSize }));
        const mine = Array.from({ length: 20 }, () => driver.request(0, bytes, 32));
        for (const answer of await run(Promise.all([...others, ...mine]))) {
          expect(answer).toEqual(bytes);
        }
      }
      expect(free()).toBe(before);
      expect(device.errorCounts()).toEqual({});
    },
  );

  test("what the device has rejects with ECANCELED, what waits for room goes on", async () => {
    await using opened = await open(mode, custom("hangs", { queues: QUEUES }));
    const { driver, run } = opened;
    const had = Array.from({ length: 8 }, () => rejected("ECANCELED", driver.request(0, bytes, 0)));
    await nextTurn();
    const waits = rejected("ENODEV", driver.request(0, bytes, 0));
    await run(driver.resetQueue(0, { queueSize: 16 }));
    await Promise.all(had);
    await run(driver.close());
    await waits; // it was in the new ring
  });

  test("requests that come meanwhile are served after it", async () => {
    await using opened = await open(mode);
    const { driver, run } = opened;
    const reset = driver.resetQueue(0);
    const during = driver.request(0, bytes, 32);
    await run(reset);
    expect(await run(during)).toEqual(bytes);
  });

  test("refusals leave the queue as it was", async () => {
    await using opened = await open(mode);
    const { device, driver, run } = opened;
    const { host, guest } = device.dev.sharedMemory;
    const before = [host.freeBytes, guest.freeBytes];
    await rejected("ENOBUFS", driver.resetQueue(QUEUES));
    await rejected("EINVAL", driver.resetQueue(0, { size: 8 } as object));
    for (const queueSize of [0, 3, 128, -1, 0.5, Number.NaN]) {
      await rejected("EINVAL", driver.resetQueue(0, { queueSize }));
    }
    const first = driver.resetQueue(0, { queueSize: 4 });
    await rejected("EBUSY", driver.resetQueue(0));
    await run(first);
    await run(driver.resetQueue(0, { queueSize: 8 }));
    expect([host.freeBytes, guest.freeBytes]).toEqual(before);
    expect(await run(driver.request(0, bytes, 32))).toEqual(bytes);
  });

  test("without the feature: EOPNOTSUPP", async () => {
    const probe = { withoutFeatures: [VIRTIO_F_RING_RESET] };
    await using opened = await open(mode, undefined, probe);
    await rejected("EOPNOTSUPP", opened.driver.resetQueue(0));
    await rejected("EINVAL", opened.device.dev.resetVring(0));
    expect(await opened.run(opened.driver.request(0, bytes, 32))).toEqual(bytes);
  });

  test("a close in the midst of it: ENODEV, and all memory comes back", async () => {
    const process = new Kernel().spawn({ memoryBytes: 4 << 20 });
    const device = await process.open(custom("echo", { queues: QUEUES }), mode);
    const { host, guest } = device.dev.sharedMemory;
    const before = [host.freeBytes, guest.freeBytes];
    for (let i = 0; i < 20; i++) {
      const driver = await device.driver({ queueSize: 8 });
      const reset = rejected("ENODEV", driver.resetQueue(0));
      for (let turns = i % 4; turns > 0; turns--) await Promise.resolve();
      await driver.close();
      await reset;
      expect([host.freeBytes, guest.freeBytes]).toEqual(before);
    }
    await process.exit();
  });
});

test.each(["wasm", "ts"] as const)(
  "the worker dies in the midst of it: ENODEV, %s",
  async (ring) => {
    await using opened = await open({ run: "thread", ring }, custom("exitsInReset"));
    const { driver } = opened;
    await rejected("ENODEV", driver.resetQueue(0));
    await rejected("ENODEV", driver.request(0, bytes, 0));
  },
);
