import { checkQueueSize } from "../memory/vring.js";
import { VhostError } from "../spec/errno.js";
import { checkNames } from "../spec/options.js";
import type { DeviceSpec, VirtioDevice } from "../vhost/device.js";
import { RngDevice } from "./rng-device.js";

/** An entropy source. */
export interface RngOptions {
  /**
   * Bytes a second that the guest gets at most, and once as many more after a while without a
   * request. Default: no limit.
   */
  rate?: number;
  /** Largest size of the queue, a power of two. Default 256. */
  queueSize?: number;
}

const OPTIONS = ["rate", "queueSize"];
const QUEUE_SIZE_DEFAULT = 256;
const RATE_MAX = 2 ** 40;

/**
 * An entropy source to open: `process.open(rng({ rate: 1024 }))`. Its bytes are the operating
 * system's. Throws EINVAL for options that make none. virtio 1.3, 5.4 Entropy Device.
 */
export function rng(options: RngOptions = {}): DeviceSpec<"rng"> {
  checkNames("an entropy source", options, OPTIONS);
  const { rate, queueSize = QUEUE_SIZE_DEFAULT } = options;
  checkQueueSize(queueSize);
  const isRate = rate === undefined || (Number.isInteger(rate) && rate >= 1 && rate <= RATE_MAX);
  if (!isRate) {
    const message = `rate is a whole number of bytes a second, from 1 to ${RATE_MAX}`;
    throw new VhostError("EINVAL", message, { rate });
  }
  return { kind: "rng", module: import.meta.url, options: { rate, queueSize } };
}

/** Makes the device, in the worker's thread. For `DeviceModule`. */
export function createDevice(options: unknown): VirtioDevice {
  const { rate, queueSize } = options as { rate: number | undefined; queueSize: number };
  return new RngDevice({ queueSizeMax: queueSize, rate });
}
