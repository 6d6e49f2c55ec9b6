import type { DeviceHost, DeviceParts, DeviceSpec } from "./device.js";

/** What was prepared in the opening thread for an instance of a device. */
export class Holdings {
  #parts: DeviceParts | undefined;

  /** Prepares; gives the options for the worker. Throws what the spec throws. */
  prepare(spec: DeviceSpec, host: DeviceHost): unknown {
    this.#parts = spec.prepare?.(host);
    return this.#parts ? this.#parts.options : spec.options;
  }

  /**
   * The worker is done with the instance: resolves when nothing of it goes on, and nothing writes
   * to its memory. Idempotent.
   */
  async release(): Promise<void> {
    const parts = this.#parts;
    this.#parts = undefined;
    await parts?.close();
  }
}
