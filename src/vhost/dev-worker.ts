import type { WorkerControl } from "./control.js";
import type { DeviceHost, DeviceInfo, DeviceSpec } from "./device.js";
import { Holdings } from "./holdings.js";
import type { WorkerHandle } from "./worker-handle.js";

/** What the instances of a device are made of. */
export interface Backing {
  readonly spec: DeviceSpec;
  /** Keys of what the device claims. */
  readonly claims: string[];
  /** What the first instance has made for all; `undefined`: there is none yet. */
  readonly shared?: unknown;
}

/** One worker of a device, and its instance of the device once it has one. Owner's thread. */
export class DevWorker {
  readonly handle: WorkerHandle;
  /** The one that was made with the device, whose death is the device's. */
  readonly isFirst: boolean;
  /** It is being ended because nobody wants it any more: no death to tell of. */
  isFreed = false;
  #holdings = new Holdings();
  #info: DeviceInfo | undefined;
  #stop: Promise<void> | undefined;

  constructor(handle: WorkerHandle, isFirst: boolean) {
    this.handle = handle;
    this.isFirst = isFirst;
  }

  /** What can be asked of it. */
  get control(): WorkerControl {
    return this.handle.control;
  }

  /** Whether it can be asked: it lives, and has the device. */
  get isReady(): boolean {
    return this.#info !== undefined && !this.handle.death;
  }

  /**
   * Makes its instance of the device, unless it has one. Rejects with what the spec throws, or the
   * device's module: nothing is kept then.
   */
  async attach(
    { spec, claims, shared }: Backing,
    host: Omit<DeviceHost, "claims" | "worker" | "wakeFd" | "isInline" | "isFurther">,
  ): Promise<DeviceInfo> {
    if (this.#info) return this.#info;
    const { task, inline, wakeFd } = this.handle;
    const place = { worker: task.task, wakeFd, isInline: inline !== undefined };
    const holdings = new Holdings();
    try {
      const isFurther = shared !== undefined;
      const options = holdings.prepare(spec, { ...host, ...place, claims, isFurther });
      this.#info = await this.control.attach(spec.module, options, claims, shared);
      this.#holdings = holdings;
      return this.#info;
    } catch (error) {
      await holdings.release();
      throw error;
    }
  }

  /**
   * Ends it, and gives back what was prepared for its instance: nothing of that goes on then.
   * Rejects with what the device's close threw, without a thread; it is ended all the same.
   * Idempotent.
   */
  stop(): Promise<void> {
    this.#stop ??= this.#end();
    return this.#stop;
  }

  async #end(): Promise<void> {
    try {
      await this.handle.stop();
    } finally {
      await this.#holdings.release(); // what goes on still writes to the memory
    }
  }
}
