import { copyOf } from "../memory/copy.js";

/** Payloads from this length on get memory of their own; shorter ones share a block. */
const BLOCK_BYTES = 4096;

/**
 * What a connection has received and its stream has not taken. Its memory is at most about twice
 * the bytes it holds plus a block, however small the packets are that they came in.
 */
export class ReceiveBuffer {
  readonly #chunks: Uint8Array<ArrayBuffer>[] = [];
  /** What is left of the block that short payloads are put in. */
  #block = new Uint8Array(0);
  /** The last chunk lies right before the rest of the block. */
  #isOpen = false;
  #bytes = 0;

  /** Bytes that it holds. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Adds a copy of `payload`. */
  put(payload: Uint8Array): void {
    this.#bytes += payload.length;
    if (payload.length >= BLOCK_BYTES) {
      this.#chunks.push(copyOf(payload));
      this.#isOpen = false;
      return;
    }
    if (payload.length > this.#block.length) {
      this.#block = new Uint8Array(BLOCK_BYTES);
      this.#isOpen = false;
    }
    this.#block.set(payload);
    this.#append(this.#block.subarray(0, payload.length));
    this.#block = this.#block.subarray(payload.length);
  }

  #append(part: Uint8Array<ArrayBuffer>): void {
    const last = this.#isOpen ? this.#chunks.pop() : undefined;
    const start = last?.byteOffset ?? part.byteOffset;
    const length = (last?.length ?? 0) + part.length;
    this.#chunks.push(new Uint8Array(part.buffer, start, length));
    this.#isOpen = true;
  }

  /** Takes the oldest bytes, as many as lie together: memory of their own. */
  take(): Uint8Array<ArrayBuffer> | undefined {
    const chunk = this.#chunks.shift();
    if (this.#chunks.length === 0) this.#isOpen = false;
    this.#bytes -= chunk?.length ?? 0;
    return chunk;
  }

  /** Drops all that it holds. */
  clear(): void {
    this.#chunks.length = 0;
    this.#isOpen = false;
    this.#bytes = 0;
  }
}
