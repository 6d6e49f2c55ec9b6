// The device's module, as a worker loads it: the product's disk over a back-end with faults.

import type { BlkBackend } from "#dist/devices/blk-backend.js";
import { BlkDevice } from "#dist/devices/blk-device.js";
import type { VirtioDevice } from "#dist/vhost/device.js";

/** Text that the disk says it is. */
export const DISK_ID = "simulated";

/** What the device is made of; handed over as the module's options. */
export interface DeviceMaker {
  backend: BlkBackend;
  queueCount: number;
  queueSizeMax: number;
  /** Whether completions may come in any order, as of now. */
  isOutOfOrder(): boolean;
}

/** For `DeviceModule`. */
export function createDevice(options: unknown): VirtioDevice {
  const { backend, queueCount, queueSizeMax } = options as DeviceMaker;
  return new BlkDevice(backend, DISK_ID, queueCount, queueSizeMax);
}
