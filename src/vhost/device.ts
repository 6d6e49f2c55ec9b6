import type { Kernel } from "../kernel/kernel.js";
import type { Task } from "../kernel/task.js";
import type { SharedMemory } from "../memory/shared-memory.js";
import { checkQueueSize } from "../memory/vring.js";
import type { RingKind } from "../ring/load.js";
import { VhostError } from "../spec/errno.js";
import type { Virtqueue } from "./virtqueue.js";

/**
 * What a device is to the vhost core. It lives in the worker's thread (or in the caller's, with no
 * thread at all), is called by one thread, and answers without waiting for anything but its own
 * I/O. What a guest writes must never make it throw: that ends the worker.
 */
export interface VirtioDevice {
  /** virtio 1.3, 5 Device Types. */
  readonly deviceId: number;
  /** Device-specific feature bits offered, as a mask (bits 0 to 23 and 50 to 127). */
  readonly features: bigint;
  /** How many queues. */
  readonly queueCount: number;
  /** The largest size of any queue: a power of two. */
  readonly queueSizeMax: number;
  /** The configuration space as it now is. virtio 1.3, 2.5 Device Configuration Space. */
  readConfig(): Uint8Array;
  /** The driver writes to it; fields it may not write are left alone. */
  writeConfig?(offset: number, bytes: Uint8Array): void;
  /** The driver has accepted `features` (its whole mask), and the queues start. */
  start?(features: bigint): void;
  /** Entries may be available: `vq.drain(…)` handles them. Linux: handle_kick. */
  handleKick(vq: Virtqueue): void;
  /**
   * It holds chains and answers them later, in any order: then IN_ORDER is not on offer, and the
   * functions from here to `settle` are called.
   */
  readonly answersLater?: boolean;
  /**
   * Its queues may be spread over several workers, each with an instance of its own: what this one
   * has made for all of them, structured-cloneable; the others get it as
   * `DeviceEnvironment.shared`. Whatever a driver can tell of (the disk, the configuration, a mode)
   * has to be in memory that they share. Without it (`undefined`) the device has one worker.
   */
  readonly shared?: unknown;
  /** Looks what is done, and answers it; in every pass. Whether there was anything. */
  poll?(): boolean;
  /**
   * How long, in milliseconds, the worker may sleep at most before the next `poll`; 0: something is
   * done. Whoever does it wakes the worker's task, after it can be seen here.
   */
  sleepMsMax?(): number;
  /**
   * Queue `index` (all: undefined) is to stop: resolves when it holds no chain of it any more, and
   * nothing of theirs goes on; `undefined`: that is so when it returns. "finish": all are answered.
   * "drop": none, and what has not begun is not done. May block.
   */
  settle?(how: "finish" | "drop", index?: number): Promise<void> | undefined;
  /** Queue `index` was reset, and may start again. virtio 1.3, 2.6.1 Virtqueue Reset. */
  resetQueue?(index: number): void;
  /** Back to where it was before the driver touched it. virtio 1.3, 2.4 Device Reset. */
  reset?(): void;
  /**
   * A driver begins anew: what it told and was told is void, the configuration stays. Over
   * vhost-user nobody says so; it is seen by where the rings begin.
   */
  renew?(): void;
  /**
   * Its guest has moved here and can't say so itself: the network is told where station `mac`, 6
   * bytes, is.
   */
  announce?(mac: Uint8Array): void;
  /** Gives back files and the like. Called once, last. */
  close?(): void;
}

/** Methods that a device must have, and those that it may. */
const METHODS = ["readConfig", "handleKick"] as const;
const OPTIONAL_METHODS = [
  "writeConfig",
  "start",
  "poll",
  "sleepMsMax",
  "settle",
  "resetQueue",
  "reset",
  "renew",
  "announce",
  "close",
] as const;

/**
 * Throws EINVAL, and says what is wrong, for something that is no `VirtioDevice`. JavaScript's
 * writers have no compiler to tell them, and a device without `handleKick` would else be noticed at
 * its first request.
 */
export function checkDevice(device: VirtioDevice): void {
  const wrong = faultOf(device);
  if (wrong) throw new VhostError("EINVAL", `createDevice must return a device: ${wrong}`);
  checkQueueSize(device.queueSizeMax);
}

function faultOf(device: VirtioDevice): string | undefined {
  if (typeof device !== "object" || device === null) return "it returned no object";
  const { deviceId, features } = device;
  if (!Number.isInteger(deviceId) || deviceId < 1) return "deviceId is a whole number from 1";
  if (typeof features !== "bigint" || features < 0n) return "features is a mask, a bigint";
  const missing = METHODS.find((name) => typeof device[name] !== "function");
  if (missing) return `it has no method ${missing}`;
  const odd = OPTIONAL_METHODS.find((name) => !/function|undefined/.test(typeof device[name]));
  return odd && `${odd} is no function`;
}

/** What the opening thread has of a device to be: see `DeviceSpec.prepare`. */
export interface DeviceHost {
  readonly kernel: Kernel;
  /** The process that opens it, and its memory. */
  readonly owner: Task;
  readonly shared: SharedMemory;
  /** The worker's task; waking it ends its sleep, together with a write to `wakeFd`. */
  readonly worker: Task;
  /** An eventfd that must be written to as well; `undefined`: none. */
  readonly wakeFd: number | undefined;
  /** The device lives in this thread. */
  readonly isInline: boolean;
  /** The device has an instance in another worker already. */
  readonly isFurther: boolean;
  /** Which implementation its rings have. */
  readonly ringKind: RingKind;
  /** Keys of what the device claims. */
  readonly claims: readonly string[];
}

/** What was prepared for a device in the opening thread. */
export interface DeviceParts {
  /** Takes the place of the spec's options. */
  readonly options: unknown;
  /** Gives it back, after the device's end: resolves when nothing of it goes on. */
  close(): Promise<void>;
}

/** What a device gets to know about where it lives. */
export interface DeviceEnvironment {
  /** The owner's memory, in which the buffers lie. */
  readonly memory: WebAssembly.Memory;
  /** Keys of what the device was opened with: a file that is another by now must be refused. */
  readonly claims: readonly string[];
  /** What the first instance has made for all, in a further worker; see `VirtioDevice.shared`. */
  readonly shared?: unknown;
}

/**
 * What a device module exports, because functions do not cross threads: a device is named by the
 * URL of such a module and made where it runs. May throw; the one who opens the device gets it.
 */
export interface DeviceModule {
  createDevice(
    options: unknown,
    environment: DeviceEnvironment,
  ): VirtioDevice | Promise<VirtioDevice>;
}

/** Something that two devices must not hold at once, such as a file that is written to. */
export interface Claim {
  /** Equal keys mean the same thing. */
  key: string;
  /** What a person calls it. */
  label: string;
  /** Held together with other shared claims, or alone. */
  mode: "shared" | "exclusive";
  /** What two who want it can do, beside closing one. */
  remedy?: string;
}

/** A device to be: enough to make it in another thread. `Kind` picks the driver for it. */
export interface DeviceSpec<Kind extends string = string> {
  kind: Kind;
  /** File URL of a `DeviceModule`. */
  module: string;
  /** For `createDevice`; must be structured-cloneable. */
  options: unknown;
  /** Looked up and checked in the opening thread, before the device is made. May throw. */
  claims?(): Claim[];
  /**
   * Makes, in the opening thread, what the worker's can't: threads, say; for each worker that has
   * an instance. May throw.
   */
  prepare?(host: DeviceHost): DeviceParts;
}

/** What the opening thread knows of a device in the worker's. */
export interface DeviceInfo {
  deviceId: number;
  features: bigint;
  queueCount: number;
  queueSizeMax: number;
  /** It answers in any order. */
  answersLater: boolean;
  /** It has `announce`. */
  canAnnounce: boolean;
  /** See `VirtioDevice.shared`. */
  shared?: unknown;
}

/**
 * A device of the user's own, to open: `process.open(custom(new URL("./mine.js",
 * import.meta.url)))`. `options` reach `createDevice` in the worker's thread, so they must be
 * structured-cloneable.
 * Throws EINVAL for what is no absolute URL.
 */
export function custom(module: URL | string, options?: unknown): DeviceSpec<"custom"> {
  if (!URL.canParse(String(module))) {
    const how = 'new URL("./mine.js", import.meta.url)';
    throw new VhostError("EINVAL", `a device's module is named by an absolute URL: ${how}`, {
      module,
    });
  }
  return { kind: "custom", module: String(module), options };
}
