import type { SharedMemory } from "../memory/shared-memory.js";

/** A run of a process's memory that SQEs may name; give it back with `free` or `using`. */
export class UserBuffer implements Disposable {
  /** What an SQE names it by. */
  readonly address: number;
  /** The memory itself: no copy. */
  readonly bytes: Uint8Array<ArrayBufferLike>;
  readonly #shared: SharedMemory;
  #isFree = false;

  /** Zeroed, in the guest part. Throws ENOMEM, EINVAL. */
  constructor(shared: SharedMemory, lengthBytes: number) {
    this.#shared = shared;
    this.address = shared.allocGuest(lengthBytes);
    this.bytes = shared.bytes.subarray(this.address, this.address + lengthBytes);
  }

  /** Gives it back, when no request names it any more. Idempotent. */
  free(): void {
    if (this.#isFree) return;
    this.#isFree = true;
    this.#shared.guest.free(this.address);
  }

  /** See free. */
  [Symbol.dispose](): void {
    this.free();
  }
}
