import { copyOf } from "../memory/copy.js";
import { VhostError } from "../spec/errno.js";
import { hasFeature } from "../spec/features.js";
import { checkNames } from "../spec/options.js";
import {
  ETH_ALEN,
  ETH_DATA_LEN,
  VIRTIO_NET_CONFIG_MAX_VIRTQUEUE_PAIRS,
  VIRTIO_NET_CONFIG_MTU,
  VIRTIO_NET_F_CTRL_MAC_ADDR,
  VIRTIO_NET_F_CTRL_RX,
  VIRTIO_NET_F_CTRL_RX_EXTRA,
  VIRTIO_NET_F_CTRL_VLAN,
  VIRTIO_NET_F_CTRL_VQ,
  VIRTIO_NET_F_MAC,
  VIRTIO_NET_F_MQ,
  VIRTIO_NET_F_MRG_RXBUF,
  VIRTIO_NET_F_MTU,
  VIRTIO_NET_F_STATUS,
  VIRTIO_NET_MTU_MIN,
  VIRTIO_NET_QUEUE_RX,
  VIRTIO_NET_QUEUE_TX,
  VIRTIO_NET_QUEUES,
} from "../spec/virtio-net.js";
import { NetBuffers } from "./net-buffers.js";
import { NET_RECEIVE_MODES, NetCommands, type NetReceiveMode } from "./net-control.js";
import { NetReceiver, type NetReceiverHooks } from "./net-receiver.js";
import { NetSender } from "./net-sender.js";
import { type Probed, type ProbeOptions, probe, queueAt, remove } from "./probe.js";
import type { Transport } from "./transport.js";

const KNOWN_FEATURES = [
  VIRTIO_NET_F_MTU,
  VIRTIO_NET_F_MAC,
  VIRTIO_NET_F_MRG_RXBUF,
  VIRTIO_NET_F_STATUS,
  VIRTIO_NET_F_CTRL_VQ,
];
/** Those that need VIRTIO_NET_F_CTRL_VQ. virtio 1.3, 5.1.3.1 Feature bit requirements. */
const CONTROL_FEATURES = [
  VIRTIO_NET_F_CTRL_RX,
  VIRTIO_NET_F_CTRL_RX_EXTRA,
  VIRTIO_NET_F_CTRL_VLAN,
  VIRTIO_NET_F_CTRL_MAC_ADDR,
  VIRTIO_NET_F_MQ,
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

/** A pair of queues, and the memory of its packets. */
interface Pair {
  buffers: NetBuffers;
  sender: NetSender;
}

/** The driver of a virtio network device. virtio 1.3, 5.1 Network Device. */
export class NetDriver implements AsyncDisposable {
  readonly #probed: Probed;
  readonly #commands: NetCommands;
  /** Those that were in use. */
  readonly #pairs: Pair[] = [];
  readonly #frames: Uint8Array[] = [];
  readonly #counts = { received: 0, dropped: 0, bad: 0 };
  #mac: Uint8Array | undefined;
  #arrived: (() => void) | undefined;
  #gone: VhostError | undefined;
  /**
   * Gets each frame that comes: a view that is good during the call. Without one, frames wait for
   * `receive`, as many as 256.
   */
  onPacket: ((frame: Uint8Array) => void) | undefined;

  private constructor(probed: Probed) {
    this.#probed = probed;
    const { features, config, transport } = probed;
    if (hasFeature(features, VIRTIO_NET_F_MAC)) this.#mac = config.slice(0, ETH_ALEN);
    const hasControl = hasFeature(features, VIRTIO_NET_F_CTRL_VQ);
    const control = hasControl
      ? queueAt(probed, pairsOf(features, config) * VIRTIO_NET_QUEUES)
      : undefined;
    this.#commands = new NetCommands(transport.shared, control);
    this.#addPair();
    transport.onDeath((error) => this.#end(error));
  }

  /** Brings the device up. Rejects with what `probe` rejects with, and ENOMEM. */
  static async probe(transport: Transport, options: ProbeOptions = {}): Promise<NetDriver> {
    const hasControl =
      hasFeature(transport.deviceFeatures, VIRTIO_NET_F_CTRL_VQ) &&
      !options.withoutFeatures?.includes(VIRTIO_NET_F_CTRL_VQ);
    const known = hasControl ? [...KNOWN_FEATURES, ...CONTROL_FEATURES] : KNOWN_FEATURES;
    const probed = await probe(transport, known, options, queueCountOf);
    try {
      return new NetDriver(probed);
    } catch (error) {
      await remove(probed);
      throw error;
    }
  }

  /** The next pair's buffers, which the device gets at once. Throws ENOMEM. */
  #addPair(): void {
    const { transport, features } = this.#probed;
    const first = this.#pairs.length * VIRTIO_NET_QUEUES;
    const rx = queueAt(this.#probed, first + VIRTIO_NET_QUEUE_RX);
    const tx = queueAt(this.#probed, first + VIRTIO_NET_QUEUE_TX);
    const isMergeable = hasFeature(features, VIRTIO_NET_F_MRG_RXBUF);
    const rxBytes = isMergeable ? MERGEABLE_BYTES : undefined;
    const num = Math.min(rx.num, tx.num);
    const buffers = new NetBuffers(transport.shared, num, this.mtu, rxBytes);
    this.#pairs.push({ buffers, sender: new NetSender(tx, buffers, this.mtu) });
    new NetReceiver(rx, buffers, isMergeable, this.#hooks);
  }

  get #hooks(): NetReceiverHooks {
    return {
      frame: (frame) => this.#receive(frame),
      bad: () => this.#counts.bad++,
      gone: (error) => this.#end(error as VhostError),
    };
  }

  /** Negotiated feature bits, as a mask. */
  get features(): bigint {
    return this.#probed.features;
  }

  /** The station's address, 6 bytes; `undefined` when the device gave none. */
  get mac(): Uint8Array | undefined {
    return this.#mac?.slice();
  }

  /** Sets the station's address. Rejects as `setReceiveMode`, and with EINVAL for what is none. */
  async setMac(mac: Uint8Array): Promise<void> {
    const set = mac.slice();
    await this.#commands.setMac(set);
    this.#mac = set;
  }

  /**
   * Says which packets the device is to give; at first it gives all. Rejects with EOPNOTSUPP when
   * the device has no control queue, EIO when it refuses. virtio 1.3, 5.1.6.5.1.
   */
  async setReceiveMode(mode: NetReceiveMode): Promise<void> {
    checkNames("a receive mode", mode, NET_RECEIVE_MODES);
    await this.#commands.setReceiveMode(mode);
  }

  /**
   * Says whose packets are to be given beside its own, in the place of those that were named
   * before; of more than the device has room for, it may give all. Rejects as `setMac`.
   */
  async setAddresses(
    stations: readonly Uint8Array[],
    groups: readonly Uint8Array[] = [],
  ): Promise<void> {
    await this.#commands.setAddresses(stations, groups);
  }

  /** Says that frames of a VLAN, by their tag, are to be given or not: at first none are. */
  async setVlan(vlan: number, isTaken = true): Promise<void> {
    await this.#commands.setVlan(vlan, isTaken);
  }

  /** Pairs of queues that the device has. */
  get pairsMax(): number {
    return pairsOf(this.#probed.features, this.#probed.config);
  }

  /**
   * Uses so many pairs of queues; at first it is one. Rejects as `setReceiveMode`, and with EINVAL
   * for more than there are, ENOMEM. virtio 1.3, 5.1.6.5.5.
   */
  async setPairs(pairs: number): Promise<void> {
    if (!Number.isInteger(pairs) || pairs < 1 || pairs > this.pairsMax) {
      throw new VhostError("EINVAL", `pairs is a whole number from 1 to ${this.pairsMax}`);
    }
    while (this.#pairs.length < pairs) this.#addPair();
    await this.#commands.setPairs(pairs);
  }

  /** The most payload of a packet. */
  get mtu(): number {
    return mtuOf(this.#probed);
  }

  /** What it has seen so far. */
  get counts(): NetDriverCounts {
    const sent = this.#pairs.reduce((sum, { sender }) => sum + sender.sent, 0);
    return { ...this.#counts, sent };
  }

  /** How often each ring error happened on the driver's side, by name. */
  errorCounts(): Record<string, number>[] {
    return this.#probed.queues.map((queue) => queue.errorCounts());
  }

  /**
   * Sends a frame, by the pair of queues of that number, which was in use; it is copied, and
   * resolves when the device has taken it. Rejects with ENOBUFS when too many are under way, EINVAL
   * for what is no frame or above the MTU and for no such pair, ENODEV.
   */
  async send(frame: Uint8Array, pair = 0): Promise<void> {
    await this.sendBurst([frame], pair);
  }

  /**
   * Sends frames in their order, as `send`, by one kick: all of them, or none. Resolves when the
   * device has taken the last. Rejects as `send`; ENOBUFS when they are more than `room`.
   */
  async sendBurst(frames: readonly Uint8Array[], pair = 0): Promise<void> {
    if (this.#gone) throw this.#gone;
    await this.#pair(pair).sender.send(frames);
  }

  #pair(index: number): Pair {
    const pair = this.#pairs[index];
    if (pair) return pair;
    throw new VhostError("EINVAL", `no pair of queues ${index} is in use: setPairs`, { index });
  }

  /** Frames that may be sent now, by the first pair, without waiting for one to be taken. */
  get room(): number {
    return this.#pair(0).sender.room;
  }

  #receive(frame: Uint8Array): void {
    this.#counts.received++;
    if (this.onPacket) this.onPacket(frame);
    else if (this.#frames.length < FRAMES_MAX) {
      this.#frames.push(copyOf(frame));
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
      for (const { buffers } of this.#pairs) buffers.release();
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

/** virtio 1.3, 5.1.4.2 Driver Requirements: Device configuration layout. */
function pairsOf(features: bigint, config: Uint8Array): number {
  if (!hasFeature(features, VIRTIO_NET_F_MQ)) return 1;
  const view = new DataView(config.buffer, config.byteOffset, config.length);
  return Math.max(1, view.getUint16(VIRTIO_NET_CONFIG_MAX_VIRTQUEUE_PAIRS, true));
}

/** virtio 1.3, 5.1.2 Virtqueues. */
function queueCountOf(features: bigint, config: Uint8Array): number {
  const control = hasFeature(features, VIRTIO_NET_F_CTRL_VQ) ? 1 : 0;
  return pairsOf(features, config) * VIRTIO_NET_QUEUES + control;
}
