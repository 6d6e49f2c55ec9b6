import { VhostError } from "../spec/errno.js";
import { checkNames } from "../spec/options.js";
import { type Abortable, orAbort } from "./abort.js";
import { DmaBuffer } from "./dma.js";
import { type Probed, type ProbeOptions, probe, queueAt, remove } from "./probe.js";
import type { Queue } from "./queue.js";
import type { Transport } from "./transport.js";

/** Device-specific feature bits: all are accepted, since their meaning is the user's. */
const DEVICE_BITS = Array.from({ length: 24 }, (_, bit) => bit);

/** A plain driver for a device of the user's own: bytes to the device, bytes back. */
export class CustomDriver implements AsyncDisposable {
  readonly #probed: Probed;

  private constructor(probed: Probed) {
    this.#probed = probed;
  }

  /** Brings the device up. Rejects with what `probe` rejects with. */
  static async probe(transport: Transport, options: ProbeOptions = {}): Promise<CustomDriver> {
    return new CustomDriver(await probe(transport, DEVICE_BITS, options));
  }

  /** Negotiated feature bits, as a mask. */
  get features(): bigint {
    return this.#probed.features;
  }

  /** The configuration space as it was when the device came up. */
  get config(): Uint8Array {
    return this.#probed.config;
  }

  /**
   * One request on queue `index`: the device reads `readable` and may write up to `writableBytes`;
   * resolves with what it wrote. Rejects with ENOBUFS (no such queue), EINVAL (nothing to send),
   * ENOMEM, ENODEV.
   */
  async request(
    index: number,
    readable: Uint8Array,
    writableBytes: number,
    options: Abortable = {},
  ): Promise<Uint8Array> {
    options.signal?.throwIfAborted();
    const queue = queueAt(this.#probed, index);
    if (!(readable instanceof Uint8Array)) {
      throw new VhostError("EINVAL", "what a device is to read is a Uint8Array");
    }
    if (!Number.isSafeInteger(writableBytes) || writableBytes < 0) {
      throw new VhostError("EINVAL", "writableBytes is a whole number from 0", { writableBytes });
    }
    if (readable.length + writableBytes === 0) throw new VhostError("EINVAL", "an empty request");
    return orAbort(this.#send(queue, readable, writableBytes), options.signal);
  }

  async #send(queue: Queue, readable: Uint8Array, writableBytes: number): Promise<Uint8Array> {
    using buffer = new DmaBuffer(this.#probed.transport.shared, readable.length + writableBytes);
    buffer.bytes.set(readable);
    const out = { address: buffer.address, length: readable.length };
    const in_ = { address: buffer.address + readable.length, length: writableBytes };
    const used = await queue.submit(
      readable.length > 0 ? [out] : [],
      writableBytes > 0 ? [in_] : [],
      buffer,
    );
    return buffer.bytes.slice(readable.length, readable.length + used);
  }

  /**
   * Resets queue `index` while the others go on, and sets it up again, with `queueSize` entries if
   * that is said. What the device has of it rejects with ECANCELED. Rejects with EOPNOTSUPP where
   * the device can't, EBUSY while it is being reset, ENOBUFS, EINVAL, ENOMEM, ENODEV. virtio 1.3,
   * 2.6.1 Virtqueue Reset.
   */
  async resetQueue(index: number, options: { queueSize?: number } = {}): Promise<void> {
    checkNames("resetQueue", options, ["queueSize"]);
    await queueAt(this.#probed, index).reset(options.queueSize);
  }

  /** Resets the device and gives the memory back; what is in flight rejects with ENODEV. */
  close(): Promise<void> {
    return remove(this.#probed);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
