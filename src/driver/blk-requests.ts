import type { SharedMemory } from "../memory/shared-memory.js";
import { VhostError } from "../spec/errno.js";
import {
  VIRTIO_BLK_HEADER_BYTES,
  VIRTIO_BLK_S_IOERR,
  VIRTIO_BLK_S_OK,
  VIRTIO_BLK_S_UNSUPP,
} from "../spec/virtio-blk.js";
import { DmaBuffer } from "./dma.js";
import type { Piece, Queue } from "./queue.js";

/** Requests at a time on one queue; more wait. */
const SLOTS = 256;
/** Header and status of one request, apart from one another's cache line neighbours. */
const SLOT_BYTES = 64;
const STATUS_OFFSET = 32;
/** What the status byte holds before the device writes it: no status of the specification. */
const STATUS_NONE = 0xff;

/** Block requests on one queue: header and status round the data. One thread. */
export class BlkRequests {
  readonly #queue: Queue;
  readonly #shared: SharedMemory;
  readonly #memory: DmaBuffer;
  readonly #free: number[] = [];
  readonly #waiting: { resolve(slot: number): void; reject(error: VhostError): void }[] = [];

  /** Throws ENOMEM. */
  constructor(shared: SharedMemory, queue: Queue) {
    this.#shared = shared;
    this.#queue = queue;
    this.#memory = new DmaBuffer(shared, SLOTS * SLOT_BYTES, SLOT_BYTES);
    for (let i = SLOTS - 1; i >= 0; i--) this.#free.push(this.#memory.address + i * SLOT_BYTES);
  }

  /**
   * One request: `out` is what the device reads after the header, `in` what it writes before the
   * status. Rejects by status: EIO, EOPNOTSUPP; and as `Queue.submit` does. virtio 1.3, 5.2.6
   * Device Operation.
   */
  async send(
    type: number,
    sector: number,
    out: readonly Piece[],
    in_: readonly Piece[],
    buffer?: DmaBuffer,
  ): Promise<void> {
    const slot = this.#free.pop() ?? (await this.#wait());
    try {
      const { view } = this.#shared;
      view.setUint32(slot, type, true);
      view.setUint32(slot + 4, 0, true);
      view.setBigUint64(slot + 8, BigInt(sector), true);
      view.setUint8(slot + STATUS_OFFSET, STATUS_NONE);
      const header = { address: slot, length: VIRTIO_BLK_HEADER_BYTES };
      const status = { address: slot + STATUS_OFFSET, length: 1 };
      const used = await this.#queue.submit([header, ...out], [...in_, status], buffer);
      const expected = in_.reduce((sum, piece) => sum + piece.length, 1);
      check(used < expected ? STATUS_NONE : view.getUint8(status.address), type, sector);
    } finally {
      this.#put(slot);
    }
  }

  #wait(): Promise<number> {
    return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
  }

  #put(slot: number): void {
    const next = this.#waiting.shift();
    if (next) next.resolve(slot);
    else this.#free.push(slot);
  }

  /** Whether its queue takes no more requests. */
  get isFailed(): boolean {
    return this.#queue.isFailed;
  }

  /** Rejects what waits for a slot with `error`; what has one is the queue's to reject. */
  fail(error: VhostError): void {
    for (const waiting of this.#waiting.splice(0)) waiting.reject(error);
  }

  /** Gives its memory back. Only when nothing is in flight, and nothing comes any more. */
  release(): void {
    this.#memory.free();
  }
}

/** Throws what a status byte means. */
function check(status: number, type: number, sector: number): void {
  const facts = { status, type, sector };
  if (status === VIRTIO_BLK_S_OK) return;
  if (status === VIRTIO_BLK_S_UNSUPP) {
    throw new VhostError("EOPNOTSUPP", `the disk does not do request type ${type}`, facts);
  }
  const why = status === VIRTIO_BLK_S_IOERR ? "failed at" : "gave no valid status for";
  throw new VhostError("EIO", `the disk ${why} sector ${sector}`, facts);
}
