// What the worker of a disk loads whose I/O is done by io workers.

import type { DeviceEnvironment, VirtioDevice } from "../vhost/device.js";
import type { BlkShared } from "./blk-base.js";
import type { BlkSettings } from "./blk-make.js";
import { BlkUringDevice } from "./blk-uring-device.js";
import { BlkUringIo, type BlkUringParts } from "./blk-uring-io.js";

/** A disk's options, checked; with what the opening thread made. */
export interface BlkUringSettings extends BlkSettings {
  uring: BlkUringParts;
}

/** Makes the device, in the worker's thread. For `DeviceModule`. Never throws. */
export function createDevice(options: unknown, environment: DeviceEnvironment): VirtioDevice {
  const { readOnly, id, queues, queueSize, uring } = options as BlkUringSettings;
  const shared = environment.shared as BlkShared | undefined;
  const common = { isReadOnly: readOnly, id, queueCount: queues, queueSizeMax: queueSize };
  const shape = { ...common, sizeBytes: shared?.sizeBytes ?? uring.sizeBytes };
  return new BlkUringDevice(new BlkUringIo(environment.memory, uring), shape, uring, shared);
}
