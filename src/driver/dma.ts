import type { SharedMemory } from "../memory/shared-memory.js";
import { VhostError } from "../spec/errno.js";

/** A run of guest memory that the device can reach; give it back with `free` or `using`. */
export class DmaBuffer implements Disposable {
  /** Its linear address. */
  readonly address: number;
  /** The memory itself, shared with the worker's thread: no copy. */
  readonly bytes: Uint8Array<ArrayBufferLike>;
  readonly #shared: SharedMemory;
  #isFree = false;
  #holders = 0;
  readonly #letGo = () => {
    this.#holders--;
    this.#giveBack();
  };

  /** Zeroed. Throws ENOMEM, EINVAL. */
  constructor(shared: SharedMemory, lengthBytes: number, align = 16) {
    this.#shared = shared;
    this.address = shared.allocGuest(lengthBytes, align);
    this.bytes = shared.bytes.subarray(this.address, this.address + lengthBytes);
  }

  /**
   * Keeps the memory until the function that it returns is called, once, `free` or not. Throws
   * EINVAL for what is no buffer of `shared`, or was freed.
   */
  static hold(buffer: DmaBuffer, shared: SharedMemory): () => void {
    const isBuffer = typeof buffer === "object" && buffer !== null && #shared in buffer;
    if (!isBuffer || buffer.#shared !== shared) {
      throw new VhostError("EINVAL", "not a buffer of this process: make one with alloc()");
    }
    if (buffer.#isFree) throw new VhostError("EINVAL", "the buffer was freed");
    buffer.#holders++;
    return buffer.#letGo;
  }

  /** Gives it back; what a request holds goes back when that has ended. Idempotent. */
  free(): void {
    if (this.#isFree) return;
    this.#isFree = true;
    this.#giveBack();
  }

  #giveBack(): void {
    if (this.#isFree && this.#holders === 0) this.#shared.guest.free(this.address);
  }

  [Symbol.dispose](): void {
    this.free();
  }
}
