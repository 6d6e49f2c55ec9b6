// Closing: whoever waits is told, everything comes back, nothing hangs, however often it is asked.

import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { beforeEach, describe, expect, test } from "vitest";
import { blk, Kernel } from "#dist/index.js";
import { custom, rejected, threadCount, until } from "../helpers/devices.js";

let kernel: Kernel;
let threads: number;
beforeEach(() => {
  kernel = new Kernel();
  threads = threadCount();
});

const spawn = () => kernel.spawn({ uid: 1000, memoryBytes: 4 << 20 });

async function nothingIsLeft(tasks: number): Promise<void> {
  expect(kernel.model.ucounts.nproc(1000)).toBe(tasks);
  await until(() => threadCount() === threads);
}

describe.each(["thread", "inline"] as const)("run: %s", (run) => {
  test.each(["driver", "device", "dev", "process"] as const)(
    "the %s closes with requests in flight: they reject with ENODEV",
    async (who) => {
      const process = spawn();
      const device = await process.open(custom("hangs"), { run });
      const { host, guest } = device.dev.sharedMemory;
      const before = [host.freeBytes, guest.freeBytes];
      const driver = await device.driver({ queueSize: 4 });
      const requests = Array.from(
        { length: 100 },
        (
          _,
          i, // more than the rings hold
        ) => rejected("ENODEV", driver.request(i % 2, new Uint8Array(64), 64)),
      );
      if (who === "driver") await driver.close();
      if (who === "device") await device.close();
      if (who === "dev") await device.dev.close();
      if (who === "process") await process.exit();
      await Promise.all(requests);
      await rejected("ENODEV", driver.request(0, new Uint8Array(64), 64));
      await device.close();
      expect([host.freeBytes, guest.freeBytes]).toEqual(before);
      await nothingIsLeft(who === "process" ? 0 : 1);
    },
  );

  test("close twice, at the same time and again", async () => {
    const process = spawn();
    const device = await process.open(blk({ memoryBytes: 65536 }), { run });
    await device.driver();
    await Promise.all([device.close(), device.close(), device.dev.close(), process.exit()]);
    await device.close();
    await process.exit();
    await nothingIsLeft(0);
  });

  test("close while the driver comes up: it rejects with ENODEV, or is closed", async () => {
    const process = spawn();
    const device = await process.open(blk({ memoryBytes: 65536 }), { run });
    const { host, guest } = device.dev.sharedMemory;
    const before = [host.freeBytes, guest.freeBytes];
    const probing = device.driver().then(
      async (drive) => void (await rejected("ENODEV", drive.read(0, 512))),
      (error) => expect(error).toMatchObject({ code: "ENODEV" }),
    );
    await device.close();
    await probing;
    expect([host.freeBytes, guest.freeBytes]).toEqual(before);
    await nothingIsLeft(1);
  });

  test("after close: a driver, a listener, a look at it", async () => {
    const process = spawn();
    const device = await process.open(blk({ memoryBytes: 65536 }), { run });
    const { workerTask } = device;
    await device.close();
    await rejected("ENODEV", device.driver());
    const told = await new Promise((resolve) => device.onDeath(resolve));
    expect(told).toMatchObject({ code: "ENODEV" });
    expect(device.workerTask).toBe(workerTask);
    expect(device.errorCounts()).toEqual({});
    await rejected("ENODEV", device.dev.setBackend(custom("echo")));
    await rejected("ENODEV", device.dev.readConfig());
  });

  test("a plain close tells the listeners that the device is closed", async () => {
    const device = await spawn().open(blk({ memoryBytes: 65536 }), { run });
    const told = new Promise<Error>((resolve) => device.onDeath(resolve));
    await device.close();
    expect((await told).message).toBe("ENODEV: the device is closed");
  });
});

describe("await using", () => {
  test("closes driver, device and process, in this order, on the way out", async () => {
    const order: string[] = [];
    {
      await using process = spawn();
      await using device = await process.open(blk({ memoryBytes: 65536 }));
      device.onDeath(() => order.push("device"));
      await using drive = await device.driver();
      const close = drive.close.bind(drive);
      drive.close = async () => {
        await close();
        order.push("driver");
      };
      await drive.write(0, new Uint8Array(512));
    }
    expect(order).toEqual(["driver", "device"]);
    await nothingIsLeft(0);
  });

  test("of the process alone closes everything", async () => {
    {
      await using process = spawn();
      for (let i = 0; i < 3; i++) {
        const device = await process.open(blk({ memoryBytes: 65536 }));
        await (await device.driver()).read(0, 512);
      }
      expect(kernel.model.ucounts.nproc(1000)).toBe(4);
    }
    await nothingIsLeft(0);
  });

  test("when the block is left by an error", async () => {
    const work = async () => {
      await using process = spawn();
      await using device = await process.open(blk({ memoryBytes: 65536 }));
      await using drive = await device.driver();
      await drive.write(1n, new Uint8Array(512));
    };
    await rejected("EINVAL", work());
    await nothingIsLeft(0);
  });
});

test("a program that has closed everything ends by itself", async () => {
  const script = new URL("../helpers/ending-child.mjs", import.meta.url).pathname;
  const { stdout } = await promisify(execFile)(globalThis.process.execPath, [script], {
    timeout: 20_000,
  });
  expect(JSON.parse(stdout)).toEqual({ resources: [] });
});
