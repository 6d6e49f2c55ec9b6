// Hostile drivers on real workers, and what is left of them.

import { readdirSync } from "node:fs";
import { expect } from "vitest";
import {
  blk,
  type DeviceSpec,
  type HostileDriver,
  type HostileOptions,
  type HostileOutcome,
  type HostileShape,
  Kernel,
  type OpenDevice,
  type OpenOptions,
  type Process,
} from "#dist/index.js";
import { VIRTIO_F_EVENT_IDX, VIRTIO_F_INDIRECT_DESC } from "#dist/spec/virtio-config.js";

/** What a chain may take where each must come back, in milliseconds: others may have the cores. */
export const PATIENT_MS = 15_000;

/** A ring's format and make. */
export const RINGS = (["split", "packed"] as const).flatMap((format) =>
  (["wasm", "ts"] as const).map((ring) => ({ format, ring, packed: format === "packed" })),
);

/** The rings, with all features and with none of the optional ones. */
export const FEATURED_RINGS = RINGS.flatMap((one) => [
  { ...one, features: "all features", withoutFeatures: [] },
  {
    ...one,
    features: "no INDIRECT_DESC, no EVENT_IDX",
    withoutFeatures: [VIRTIO_F_INDIRECT_DESC, VIRTIO_F_EVENT_IDX],
  },
]);

type Kind = "blk" | "custom";

/** A device with a hostile driver. */
export interface OpenHostile extends AsyncDisposable {
  process: Process;
  device: OpenDevice<Kind>;
  driver: HostileDriver;
}

/** Opens a device (default: a read-only disk) with a worker of its own. */
export async function openHostile(
  openOptions: OpenOptions,
  options: HostileOptions,
  spec: DeviceSpec<Kind> = blk({ memoryBytes: 65536, readOnly: true }),
): Promise<OpenHostile> {
  const process = new Kernel().spawn({ uid: 1000, memoryBytes: 4 << 20 });
  const device = await process.open(spec, openOptions);
  const driver = await device.hostileDriver(options);
  return { process, device, driver, [Symbol.asyncDispose]: () => process.exit() };
}

/** What must not grow: file descriptors of this program, and memory handed out. */
export function holdings({ dev }: OpenDevice<Kind>) {
  const { guest, host } = dev.sharedMemory;
  return {
    fds: readdirSync("/proc/self/fd").length,
    guestFreeBytes: guest.freeBytes,
    hostFreeBytes: host.freeBytes,
  };
}

/** Waits until no more is held than that. */
export async function expectHeld(device: OpenDevice<Kind>, before: ReturnType<typeof holdings>) {
  await expect.poll(() => holdings(device)).toEqual(before);
}

/**
 * Plays a shape, whose outcome is that nothing comes back, after the device has had a look at it:
 * the driver waits for a moment only, in which the worker may have had no core.
 */
export function playSeen(
  { device, driver }: OpenHostile,
  shape: HostileShape,
): Promise<HostileOutcome> {
  const playing = driver.play(shape); // it is published, and waits for its first turn
  if (shape.expect !== "refused-queue") return playing;
  const isSeen = device.dev.worker.flush();
  const never = new Int32Array(new SharedArrayBuffer(4));
  while (!isSeen()) Atomics.wait(never, 0, 0, 1);
  return playing;
}

/** The device's ring errors of a queue, by name. */
export function errorsOf({ dev }: OpenDevice<Kind>, queue = 0): Record<string, number> {
  return dev.errorCounts()[queue] ?? {};
}

/** What was counted since `before`. */
export function since(
  before: Record<string, number>,
  now: Record<string, number>,
): Record<string, number> {
  const added = Object.entries(now).map(([name, count]) => [name, count - (before[name] ?? 0)]);
  return Object.fromEntries(added.filter(([, count]) => count !== 0));
}
