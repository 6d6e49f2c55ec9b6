import type { SharedMemory } from "../memory/shared-memory.js";

/** A run of guest memory that the device can reach; give it back with `free` or `using`. */
export class DmaBuffer implements Disposable {
  /** Its linear address. */
  readonly address: number;
  /** The memory itself, shared with the worker's thread: no copy. */
  readonly bytes: Uint8Array<ArrayBufferLike>;
  readonly #shared: SharedMemory;
  #isFree = false;

  /** Zeroed. Throws ENOMEM. */
  constructor(shared: SharedMemory, lengthBytes: number, align = 16) {
    this.#shared = shared;
    this.address = shared.allocGuest(lengthBytes, align);
    this.bytes = shared.bytes.subarray(this.address, this.address + lengthBytes);
  }

  /** Gives it back. Not while a request uses it. Idempotent. */
  free(): void {
    if (this.#isFree) return;
    this.#isFree = true;
    this.#shared.guest.free(this.address);
  }

  [Symbol.dispose](): void {
    this.free();
  }
}
