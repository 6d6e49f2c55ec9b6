// What the worker of a disk loads, and no more: a thread begins the sooner.

import type { DeviceEnvironment, VirtioDevice } from "../vhost/device.js";
import type { BlkBackend } from "./blk-backend.js";
import type { BlkShared } from "./blk-base.js";
import { BlkDevice } from "./blk-device.js";
import { FileBackend } from "./blk-file.js";
import { MemoryBackend } from "./blk-memory.js";
import { NullBackend } from "./blk-null.js";

/** Where the bytes are, as the worker gets to know it. */
export type SettledSource =
  | { file: string }
  | { memory: SharedArrayBuffer }
  | { nullBytes: number };

/** A disk's options, checked. */
export interface BlkSettings {
  source: SettledSource;
  readOnly: boolean;
  id: string;
  queues: number;
  queueSize: number;
}

function makeBackend(settings: BlkSettings, environment: DeviceEnvironment): BlkBackend {
  const { memory, claims } = environment;
  const { source, readOnly } = settings;
  if ("file" in source) {
    const shared = environment.shared as BlkShared | undefined;
    return new FileBackend(source.file, readOnly, memory, claims, shared);
  }
  if ("nullBytes" in source) return new NullBackend(source.nullBytes, readOnly);
  return new MemoryBackend(source.memory, readOnly, memory);
}

/**
 * Makes the device, in the worker's thread. For `DeviceModule`. Throws what the back-end throws.
 */
export function createDevice(options: unknown, environment: DeviceEnvironment): VirtioDevice {
  const settings = options as BlkSettings;
  const backend = makeBackend(settings, environment);
  const { id, queues, queueSize } = settings;
  return new BlkDevice(backend, id, queues, queueSize, environment.shared as BlkShared | undefined);
}
