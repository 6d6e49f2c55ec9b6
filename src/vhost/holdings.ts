import { takeClaims } from "./claims.js";
import type { DeviceHost, DeviceParts, DeviceSpec } from "./device.js";

/** What a device has in the opening thread: its claims, and what was prepared for it. */
export class Holdings {
  #giveBack = () => {};
  #parts: DeviceParts | undefined;

  /**
   * Takes the claims and prepares; gives what the worker is told. Throws EBUSY for what is taken,
   * and what the spec throws; `release` then.
   */
  take(spec: DeviceSpec, host: Omit<DeviceHost, "claims">): { options: unknown; claims: string[] } {
    const wanted = spec.claims?.() ?? [];
    this.#giveBack = takeClaims(wanted);
    const claims = wanted.map(({ key }) => key);
    this.#parts = spec.prepare?.({ ...host, claims });
    return { options: this.#parts ? this.#parts.options : spec.options, claims };
  }

  /**
   * The worker is done with the device: resolves when nothing of it goes on, and nothing writes to
   * its memory. Idempotent.
   */
  async release(): Promise<void> {
    const parts = this.#parts;
    this.#parts = undefined;
    try {
      await parts?.close();
    } finally {
      this.#giveBack();
      this.#giveBack = () => {};
    }
  }
}
