import { bufferOf, copyOf } from "../memory/copy.js";
import type { SharedMemory } from "../memory/shared-memory.js";
import type { VhostError } from "../spec/errno.js";
import { DmaBuffer } from "./dma.js";
import type { Piece, Queue } from "./queue.js";

/** What a queue from the device tells its reader. */
export interface InboxHooks {
  /** There is something to take. */
  filled(): void;
  /** The queue is gone. */
  gone(error: VhostError): void;
}

/**
 * Buffers that the device fills, in the order in which they came back. Those that were not taken
 * are not given again, so that a device sends no more than is read.
 */
export class ConsoleInbox {
  readonly #queue: Queue;
  readonly #memory: DmaBuffer;
  readonly #hooks: InboxHooks;
  readonly #filled: { piece: Piece; bytes: number }[] = [];

  /** Gives the device `count` buffers of `bytes` each. Throws ENOMEM. */
  constructor(
    shared: SharedMemory,
    queue: Queue,
    { count, bytes }: { count: number; bytes: number },
    hooks: InboxHooks,
  ) {
    this.#queue = queue;
    this.#hooks = hooks;
    this.#memory = new DmaBuffer(shared, count * bytes);
    for (let i = 0; i < count; i++) {
      this.#give({ address: this.#memory.address + i * bytes, length: bytes });
    }
  }

  #give(piece: Piece): void {
    const done = (bytes: number) => {
      this.#filled.push({ piece, bytes: Math.min(bytes, piece.length) });
      this.#hooks.filled();
    };
    this.#queue.put({ done, failed: this.#hooks.gone }, [], [piece], this.#memory);
  }

  /** Whether there is something to take. */
  get hasBytes(): boolean {
    return this.#filled.length > 0;
  }

  /** A copy of what came first; its buffer is given again. */
  take(): Buffer | undefined {
    const first = this.#filled.shift();
    if (!first) return undefined;
    const start = first.piece.address - this.#memory.address;
    const copy = copyOf(this.#memory.bytes.subarray(start, start + first.bytes));
    this.#give(first.piece);
    return bufferOf(copy);
  }

  /** Gives the memory back; as long as the device has some of it, when that is over. */
  release(): void {
    this.#memory.free();
  }
}
