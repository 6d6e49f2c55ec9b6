import { VhostError } from "../spec/errno.js";
import { VIRTIO_RNG_QUEUE_REQUEST } from "../spec/virtio-rng.js";
import { type Abortable, orAbort } from "./abort.js";
import { DmaBuffer } from "./dma.js";
import { type Probed, type ProbeOptions, probe, queueAt, remove } from "./probe.js";
import type { Transport } from "./transport.js";

/** What one request asks for at most. */
const REQUEST_BYTES_MAX = 4096;

/** The driver of an entropy source. virtio 1.3, 5.4 Entropy Device. */
export class RngDriver implements AsyncDisposable {
  readonly #probed: Probed;

  private constructor(probed: Probed) {
    this.#probed = probed;
  }

  /** Brings the device up. Rejects with what `probe` rejects with. */
  static async probe(transport: Transport, options: ProbeOptions = {}): Promise<RngDriver> {
    return new RngDriver(await probe(transport, [], options));
  }

  /** Negotiated feature bits, as a mask. */
  get features(): bigint {
    return this.#probed.features;
  }

  /**
   * So many random bytes, when all are there. Rejects with EINVAL, ENOMEM, ENODEV, and EIO when the
   * device gives nothing.
   */
  async read(bytes: number, options: Abortable = {}): Promise<Uint8Array> {
    options.signal?.throwIfAborted();
    if (!Number.isSafeInteger(bytes) || bytes < 0) {
      throw new VhostError("EINVAL", "bytes is a whole number from 0", { bytes });
    }
    return orAbort(this.#read(bytes, options.signal), options.signal);
  }

  async #read(bytes: number, signal: AbortSignal | undefined): Promise<Uint8Array> {
    const target = new Uint8Array(bytes);
    if (bytes === 0) return target;
    const { shared } = this.#probed.transport;
    const queue = queueAt(this.#probed, VIRTIO_RNG_QUEUE_REQUEST);
    using buffer = new DmaBuffer(shared, Math.min(bytes, REQUEST_BYTES_MAX));
    for (let done = 0; done < bytes && !signal?.aborted; ) {
      const length = Math.min(bytes - done, buffer.bytes.length);
      const piece = { address: buffer.address, length };
      const got = Math.min(length, await queue.submit([], [piece], buffer));
      // virtio 1.3, 5.4.6.2 Device Requirements: Device Operation: one byte or more.
      if (got === 0) throw new VhostError("EIO", "the device gave no random bytes");
      target.set(buffer.bytes.subarray(0, got), done);
      done += got;
    }
    return target;
  }

  /** Resets the device and gives the memory back; what is in flight rejects with ENODEV. */
  close(): Promise<void> {
    return remove(this.#probed);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
