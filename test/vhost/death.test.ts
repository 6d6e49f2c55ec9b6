// A worker that dies: its owner is told why, whoever waits is rejected, everything is given back,
// and the program, the process and its other devices live on.

import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { beforeEach, describe, expect, test } from "vitest";
import { blk, Kernel, VhostError } from "#dist/index.js";
import type { Process } from "#dist/loopback.js";
import { custom, rejected, threadCount, until } from "../helpers/devices.js";
import { pump } from "../helpers/pump.js";

let kernel: Kernel;
let process: Process;
let threads: number;
beforeEach(() => {
  kernel = new Kernel();
  process = kernel.spawn({ uid: 1000 });
  threads = threadCount();
});

/** Everything is as it was before the device was opened. */
async function nothingIsLeft(): Promise<void> {
  expect(kernel.model.ucounts.nproc(1000)).toBe(1);
  expect(kernel.model.tasks()).toHaveLength(3); // init, kthreadd, the process
  await until(() => threadCount() === threads);
}

describe.each([
  ["throws", /the device met a bug of its own/, TypeError],
  ["exits", /exit code 3/, undefined],
] as const)("a handler that %s", (how, message, cause) => {
  test("the owner is told once, with the cause; what waits or comes is rejected", async () => {
    const device = await process.open(custom(how));
    const driver = await device.driver();
    const told: VhostError[] = [];
    device.onDeath((error) => told.push(error));
    const requests = [1, 2, 3].map(() => driver.request(0, new Uint8Array(8), 8));
    for (const request of requests) {
      const error = await rejected("ENODEV", request);
      expect(error.message).toMatch(message);
      if (cause) expect((error.cause as Error).name).toBe(cause.name);
    }
    expect(told).toHaveLength(1);
    expect(told[0]).toBeInstanceOf(VhostError);
    await rejected("ENODEV", driver.request(0, new Uint8Array(8), 8));
    await rejected("ENODEV", device.dev.stop());
    device.onDeath((error) => told.push(error)); // too late to wait: at once
    expect(told).toHaveLength(2);
    await driver.close();
    await device.close();
    await device.close();
    await nothingIsLeft();
    await process.exit();
  });

  test("close alone gives everything back, memory too", async () => {
    const device = await process.open(custom(how));
    const { host, guest } = device.dev.sharedMemory;
    const before = [host.freeBytes, guest.freeBytes];
    const driver = await device.driver();
    await rejected("ENODEV", driver.request(0, new Uint8Array(8), 8));
    await device.close();
    expect([host.freeBytes, guest.freeBytes]).toEqual(before);
    await nothingIsLeft();
  });

  test("the process can exit over it", async () => {
    const device = await process.open(custom(how));
    const driver = await device.driver();
    await rejected("ENODEV", driver.request(0, new Uint8Array(8), 8));
    await process.exit();
    await device.close();
    expect(kernel.model.ucounts.nproc(1000)).toBe(0);
    expect(kernel.model.tasks()).toHaveLength(2);
  });

  test("another device of the process does not notice, and a new one can come", async () => {
    const disk = await process.open(blk({ memoryBytes: 65536 }));
    const drive = await disk.driver();
    const device = await process.open(custom(how));
    const driver = await device.driver();
    const [, bytes] = await Promise.all([
      rejected("ENODEV", driver.request(0, new Uint8Array(8), 8)),
      drive.read(0, 4096),
    ]);
    expect(bytes).toEqual(new Uint8Array(4096));
    await device.close();
    expect(await drive.read(0, 512)).toEqual(new Uint8Array(512));
    const next = await process.open(custom("echo"));
    expect(await (await next.driver()).request(0, new Uint8Array([7]), 1)).toEqual(
      Uint8Array.of(7),
    );
    await process.exit();
  });
});

test("a handler that allocates without end: its thread ends, the program goes on", async () => {
  const script = new URL("../helpers/oom-child.mjs", import.meta.url).pathname;
  const run = promisify(execFile);
  const { stdout } = await run(globalThis.process.execPath, ["--max-old-space-size=48", script]);
  const { code, message, nproc, echo } = JSON.parse(stdout);
  expect(message).toMatch(/died.*memory/);
  expect({ code, nproc, echo }).toEqual({ code: "ENODEV", nproc: 1, echo: "still here" });
});

describe("a device that can't be made", () => {
  const missing = new URL("../helpers/no-such-module.mjs", import.meta.url).href;
  const noDevice = new URL("../helpers/no-device.mjs", import.meta.url).href;
  test.each([
    ["createDevice throws", custom("createThrows"), "EIO", /no such device today/],
    ["createDevice rejects", custom("createRejects"), "EIO", /not later either/],
    ["createDevice is not exported", { ...custom(""), module: noDevice }, "EINVAL", /createDevice/],
    ["the module is missing", { ...custom(""), module: missing }, "ENOENT", /no-such-module/],
    ["it is never made, and nothing goes on", custom("createNeverResolves"), "ENODEV", /died/],
    ["no queues", custom("noQueues"), "EINVAL", /queues/],
    ["more queues than a doorbell has bits", custom("tooManyQueues"), "EINVAL", /queues/],
  ] as const)(
    "%s: open rejects with the cause, nothing is left",
    async (_, spec, code, message) => {
      const error = await rejected(code, process.open(spec));
      expect(error.message).toMatch(message);
      await nothingIsLeft();
    },
  );

  test("the same without a thread", async () => {
    for (const how of ["createThrows", "createRejects"]) {
      await rejected("EIO", process.open(custom(how), { run: "inline" }));
      await nothingIsLeft();
    }
  });
});

test("devices that never come back are ended after a grace of 5 s", async () => {
  const spinning = await process.open(custom("spins"));
  const driver = await spinning.driver();
  const pending = rejected("ENODEV", driver.request(0, new Uint8Array(8), 8));
  const controller = new AbortController();
  const opening = process.open(custom("createWaits"), { signal: controller.signal });
  const aborted = expect(opening).rejects.toThrow("enough");
  controller.abort(new Error("enough"));
  await Promise.all([spinning.close(), pending, aborted]);
  await nothingIsLeft();
});

test("a handler that answers with a promise ends the worker, which says why", async () => {
  const device = await process.open(custom("promises"));
  const driver = await device.driver();
  const error = await rejected("ENODEV", driver.request(0, new Uint8Array(4), 4));
  expect(error.message).toMatch(/must return, at once, how many bytes it wrote/);
  await device.close();
  await nothingIsLeft();
});

describe("a device whose own clean-up throws", () => {
  test("close, with a thread: everything is given back", async () => {
    const device = await process.open(custom("closeThrows"));
    await device.close();
    await nothingIsLeft();
  });

  test("close, without: the caller hears of it, everything is given back", async () => {
    const device = await process.open(custom("closeThrows"), { run: "inline" });
    await expect(device.close()).rejects.toThrow("close failed");
    await nothingIsLeft();
    await expect(device.close()).rejects.toThrow("close failed"); // one close for all who ask
  });

  test.each(["thread", "inline"] as const)("reset, run: %s", async (run) => {
    const device = await process.open(custom("resetThrows"), { run });
    const { host, guest } = device.dev.sharedMemory;
    const before = [host.freeBytes, guest.freeBytes];
    const driver = await device.driver();
    await expect(driver.close()).rejects.toThrow("reset failed");
    await device.close();
    expect([host.freeBytes, guest.freeBytes]).toEqual(before);
    await nothingIsLeft();
  });
});

test("without a thread a handler's mistake comes to the one who ran it", async () => {
  const device = await process.open(custom("throws"), { run: "inline" });
  const driver = await device.driver();
  const request = rejected("ENODEV", driver.request(0, new Uint8Array(8), 8));
  await expect(pump(device, request)).rejects.toThrow("a bug of its own");
  await device.close();
  await request;
  await nothingIsLeft();
});
