// Devices for tests, and ways to look at what is left of them.

import { setImmediate as nextTurn } from "node:timers/promises";
import { expect } from "vitest";
import type { BlkOptions } from "#dist/devices/blk.js";
import type { BlkDriver } from "#dist/driver/blk.js";
import type { ProbeOptions } from "#dist/driver/probe.js";
import { blk, Kernel, custom as ofModule } from "#dist/index.js";
import type { OpenDevice, OpenOptions, Process } from "#dist/loopback.js";
import type { Errno } from "#dist/spec/errno.js";
import { VhostError } from "#dist/spec/errno.js";
import type { DeviceSpec } from "#dist/vhost/device.js";
import { pump } from "./pump.js";

/** A device of `device-modules.mjs`. */
export function custom(how: string, options: Record<string, unknown> = {}): DeviceSpec<"custom"> {
  return ofModule(new URL("./device-modules.mjs", import.meta.url), { how, ...options });
}

/** `work` must reject with a VhostError of that code, which it gives back. */
export async function rejected(code: Errno, work: Promise<unknown>): Promise<VhostError> {
  const error = await work.then(
    () => expect.unreachable(`resolved, no ${code}`),
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(VhostError);
  expect((error as VhostError).message).toMatch(new RegExp(`^${code}: `));
  expect((error as VhostError).code).toBe(code);
  return error as VhostError;
}

/** The same, of the first that rejects: a worker that is killed ends the turn that it is in. */
export async function rejectedSoon(
  code: Errno,
  work: () => Promise<unknown>,
): Promise<VhostError | undefined> {
  for (let left = 300; left > 0; left--) {
    const error = await work().then(
      () => undefined,
      (reason: unknown) => reason,
    );
    if (error !== undefined) return rejected(code, Promise.reject(error));
  }
  return expect.unreachable(`never ${code}`);
}

let liveThreads = 0;
process.on("worker", (worker) => {
  liveThreads++;
  worker.once("exit", () => liveThreads--);
});

/** Worker threads of this program that were made and have not ended. */
export function threadCount(): number {
  return liveThreads;
}

/** Runs the event loop until `test` holds. */
export async function until(test: () => boolean): Promise<void> {
  while (!test()) await nextTurn();
}

/** A disk with its driver, in any mode; `run` waits for the driver and does the device's work. */
export interface OpenBlk extends AsyncDisposable {
  kernel: Kernel;
  process: Process;
  disk: OpenDevice<"blk">;
  drive: BlkDriver;
  run<T>(work: Promise<T>): Promise<T>;
}

export async function openBlk(
  options: BlkOptions,
  openOptions: OpenOptions = {},
  probeOptions: ProbeOptions = {},
): Promise<OpenBlk> {
  const kernel = new Kernel();
  const process = kernel.spawn({ uid: 1000, memoryBytes: 16 << 20 });
  const disk = await process.open(blk(options), openOptions);
  const drive = await disk.driver(probeOptions);
  const isInline = openOptions.run === "inline";
  return {
    kernel,
    process,
    disk,
    drive,
    run: (work) => (isInline ? pump(disk, work) : work),
    [Symbol.asyncDispose]: () => process.exit(),
  };
}
