import { VhostError } from "../spec/errno.js";
import { hasFeature } from "../spec/features.js";
import {
  ETH_ALEN,
  ETH_DATA_LEN,
  ETH_HLEN,
  VIRTIO_NET_CONFIG_MTU,
  VIRTIO_NET_F_MAC,
  VIRTIO_NET_F_MRG_RXBUF,
  VIRTIO_NET_F_MTU,
  VIRTIO_NET_F_STATUS,
  VIRTIO_NET_HDR_BYTES,
  VIRTIO_NET_MTU_MIN,
  VIRTIO_NET_QUEUE_RX,
  VIRTIO_NET_QUEUE_TX,
} from "../spec/virtio-net.js";
import { type NetBuffer, NetBuffers } from "./net-buffers.js";
import { NetReceiver } from "./net-receiver.js";
import { type Probed, type ProbeOptions, probe, queueAt, remove } from "./probe.js";
import type { Transport } from "./transport.js";

const KNOWN_FEATURES = [
  VIRTIO_NET_F_MTU,
  VIRTIO_NET_F_MAC,
  VIRTIO_NET_F_MRG_RXBUF,
  VIRTIO_NET_F_STATUS,
];
/** With mergeable buffers, a packet takes as many as it needs. */
const MERGEABLE_BYTES = 1536;
/** Frames that were received and not asked for yet; more are dropped. */
const FRAMES_MAX = 256;

/** What a driver has seen. */
export interface NetDriverCounts {
  received: number;
  sent: number;
  /** Frames that nobody took in time. */
  dropped: number;
  /** What the device gave and was no packet. */
  bad: number;
}

/** The driver of a virtio network device. virtio 1.3, 5.1 Network Device. */
export class NetDriver implements AsyncDisposable {
  readonly #probed: Probed;
  readonly #buffers: NetBuffers;
  readonly #free: NetBuffer[];
  readonly #frames: Uint8Array[] = [];
  readonly #counts: NetDriverCounts = { received: 0, sent: 0, dropped: 0, bad: 0 };
  #arrived: (() => void) | undefined;
  #gone: VhostError | undefined;
  /**
   * Gets each frame that comes: a view that is good during the call. Without one, frames wait for
   * `receive`, as many as 256.
   */
  onPacket: ((frame: Uint8Array) => void) | undefined;

  private constructor(probed: Probed, buffers: NetBuffers) {
    this.#probed = probed;
    this.#buffers = buffers;
    this.#free = [...buffers.tx];
    const isMergeable = hasFeature(probed.features, VIRTIO_NET_F_MRG_RXBUF);
    const gone = (error: unknown) => this.#end(error as VhostError);
    new NetReceiver(queueAt(probed, VIRTIO_NET_QUEUE_RX), buffers, isMergeable, {
      frame: (frame) => this.#receive(frame),
      bad: () => this.#counts.bad++,
      gone,
    });
    probed.transport.onDeath(gone);
  }

  /** Brings the device up. Rejects with what `probe` rejects with, and ENOMEM. */
  static async probe(transport: Transport, options: ProbeOptions = {}): Promise<NetDriver> {
    const probed = await probe(transport, KNOWN_FEATURES, options);
    try {
      const num = Math.min(...probed.queues.map((queue) => queue.num));
      const isMergeable = hasFeature(probed.features, VIRTIO_NET_F_MRG_RXBUF);
      const rxBytes = isMergeable ? MERGEABLE_BYTES : undefined;
      return new NetDriver(probed, new NetBuffers(transport.shared, num, mtuOf(probed), rxBytes));
    } catch (error) {
      await remove(probed);
      throw error;
    }
  }

  /** Negotiated feature bits, as a mask. */
  get features(): bigint {
    return this.#probed.features;
  }

  /** The station's address, 6 bytes; `undefined` when the device gave none. */
  get mac(): Uint8Array | undefined {
    const { features, config } = this.#probed;
    return hasFeature(features, VIRTIO_NET_F_MAC) ? config.slice(0, ETH_ALEN) : undefined;
  }

  /** The most payload of a packet. */
  get mtu(): number {
    return mtuOf(this.#probed);
  }

  /** What it has seen so far. */
  get counts(): NetDriverCounts {
    return { ...this.#counts };
  }

  /** How often each ring error happened on the driver's side, by name. */
  errorCounts(): Record<string, number>[] {
    return this.#probed.queues.map((queue) => queue.errorCounts());
  }

  /**
   * Sends a frame; it is copied, and resolves when the device has taken it. Rejects with ENOBUFS
   * when too many are under way, EINVAL for what is no frame or above the MTU,
   * ENODEV.
   */
  async send(frame: Uint8Array): Promise<void> {
    if (this.#gone) throw this.#gone;
    if (!(frame instanceof Uint8Array) || frame.length < ETH_HLEN) {
      throw new VhostError("EINVAL", `a frame is a Uint8Array of ${ETH_HLEN} bytes or more`);
    }
    const buffer = this.#free.pop();
    if (!buffer) throw new VhostError("ENOBUFS", "too many frames are under way: await some");
    const length = VIRTIO_NET_HDR_BYTES + frame.length;
    if (length > buffer.length) {
      this.#free.push(buffer);
      throw new VhostError("EINVAL", `the frame is longer than the MTU, ${this.mtu}, allows`);
    }
    const { bytes, address } = buffer;
    bytes.fill(0, 0, VIRTIO_NET_HDR_BYTES);
    bytes.set(frame, VIRTIO_NET_HDR_BYTES);
    const queue = queueAt(this.#probed, VIRTIO_NET_QUEUE_TX);
    await this.#buffers.submit(queue, [{ address, length }], []);
    this.#free.push(buffer);
    this.#counts.sent++;
  }

  /** Frames that may be sent now without waiting for one to be taken. */
  get room(): number {
    return this.#free.length;
  }

  #receive(frame: Uint8Array): void {
    this.#counts.received++;
    if (this.onPacket) this.onPacket(frame);
    else if (this.#frames.length < FRAMES_MAX) {
      this.#frames.push(frame.slice());
      this.#arrived?.();
    } else this.#counts.dropped++;
  }

  /**
   * The oldest frame that nobody has taken; waits for one. Rejects with ENODEV when the device is
   * gone, and with the signal's reason. One caller at a time.
   */
  async receive(options: { signal?: AbortSignal } = {}): Promise<Uint8Array> {
    const { signal } = options;
    for (;;) {
      signal?.throwIfAborted();
      const frame = this.#frames.shift();
      if (frame) return frame;
      if (this.#gone) throw this.#gone;
      await new Promise<void>((resolve) => {
        this.#arrived = resolve;
        signal?.addEventListener("abort", () => resolve(), { once: true });
      });
    }
  }

  /** Frames as they come, to the end of the device. */
  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array> {
    while (!this.#gone || this.#frames.length > 0) {
      try {
        yield await this.receive();
      } catch {
        return; // it is gone
      }
    }
  }

  #end(error: VhostError): void {
    this.#gone ??= error;
    this.#arrived?.();
  }

  /** Resets the device and gives the memory back; what is under way rejects. Idempotent. */
  async close(): Promise<void> {
    this.#end(new VhostError("ENODEV", "the driver is closed"));
    try {
      await remove(this.#probed);
    } finally {
      this.#buffers.release();
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** virtio 1.3, 5.1.4.2 Driver Requirements: Device configuration layout. */
function mtuOf({ features, config }: Probed): number {
  if (!hasFeature(features, VIRTIO_NET_F_MTU)) return ETH_DATA_LEN;
  const view = new DataView(config.buffer, config.byteOffset, config.length);
  return Math.max(VIRTIO_NET_MTU_MIN, view.getUint16(VIRTIO_NET_CONFIG_MTU, true));
}
