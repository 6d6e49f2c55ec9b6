import type { Checksum } from "../ring/checksum.js";
import { featureMask, hasFeature } from "../spec/features.js";
import { VIRTIO_ID_NET } from "../spec/virtio-config.js";
import {
  ETH_HLEN,
  VIRTIO_NET_CONFIG_BYTES,
  VIRTIO_NET_CONFIG_MAC,
  VIRTIO_NET_CONFIG_MAX_VIRTQUEUE_PAIRS,
  VIRTIO_NET_CONFIG_MTU,
  VIRTIO_NET_CONFIG_STATUS,
  VIRTIO_NET_F_CSUM,
  VIRTIO_NET_F_GUEST_CSUM,
  VIRTIO_NET_F_MAC,
  VIRTIO_NET_F_MRG_RXBUF,
  VIRTIO_NET_F_MTU,
  VIRTIO_NET_F_STATUS,
  VIRTIO_NET_HDR_BYTES,
  VIRTIO_NET_HDR_FLAGS,
  VIRTIO_NET_QUEUE_RX,
  VIRTIO_NET_QUEUE_TX,
  VIRTIO_NET_QUEUES,
  VIRTIO_NET_S_LINK_UP,
} from "../spec/virtio-net.js";
import type { Chain } from "../vhost/chain.js";
import type { VirtioDevice } from "../vhost/device.js";
import { VHOST_WEIGHT_REQUESTS_MAX, type Virtqueue } from "../vhost/virtqueue.js";
import { NetMerge } from "./net-merge.js";
import { NetOffload } from "./net-offload.js";
import { NET_PACKET_BYTES_MAX } from "./net-pipe.js";
import type { NetPort, NetTap } from "./net-port.js";

/** Packets of one burst to the guest. */
const BURST = 16;
/** The least packet: its header, and a frame's. */
const PACKET_BYTES_MIN = VIRTIO_NET_HDR_BYTES + ETH_HLEN;

/** What a device is made with. */
export interface NetDeviceOptions {
  mac: Uint8Array;
  mtu: number;
  queueSize: number;
}

/**
 * A network device's rings: packets go to its port and come from it, in bursts. A frame is not
 * looked at. Packets are as the guest wrote them but for their header, which is made anew, and a
 * checksum that is left to us.
 * virtio 1.3, 5.1 Network Device. Linux: drivers/vhost/net.c.
 */
export class NetDevice implements VirtioDevice {
  readonly deviceId = VIRTIO_ID_NET;
  readonly features = featureMask(
    VIRTIO_NET_F_CSUM,
    VIRTIO_NET_F_GUEST_CSUM,
    VIRTIO_NET_F_MTU,
    VIRTIO_NET_F_MAC,
    VIRTIO_NET_F_MRG_RXBUF,
    VIRTIO_NET_F_STATUS,
  );
  readonly queueCount = VIRTIO_NET_QUEUES;
  readonly queueSizeMax: number;
  readonly #options: NetDeviceOptions;
  readonly #port: NetPort;
  readonly #tap: NetTap | undefined;
  readonly #queues: (Virtqueue | undefined)[] = [];
  readonly #merge: NetMerge;
  readonly #shown: Uint8Array;
  readonly #offload: NetOffload;
  #isMergeable = false;
  /** The guest may leave checksums to us; it takes packets that have none. */
  #leavesChecksums = false;
  #takesPartial = false;
  /** TX has packets, and the port no room for them. */
  #isStalled = false;

  /** `tap`: sees the guest's packets, both ways. */
  constructor(options: NetDeviceOptions, port: NetPort, checksum: Checksum, tap?: NetTap) {
    this.#offload = new NetOffload(checksum);
    this.#options = options;
    this.queueSizeMax = options.queueSize;
    this.#port = port;
    this.#tap = tap;
    this.#merge = new NetMerge();
    this.#shown = new Uint8Array(tap ? NET_PACKET_BYTES_MAX : 0);
  }

  readConfig(): Uint8Array {
    const bytes = new Uint8Array(VIRTIO_NET_CONFIG_BYTES);
    const view = new DataView(bytes.buffer);
    bytes.set(this.#options.mac, VIRTIO_NET_CONFIG_MAC);
    view.setUint16(VIRTIO_NET_CONFIG_STATUS, VIRTIO_NET_S_LINK_UP, true);
    view.setUint16(VIRTIO_NET_CONFIG_MAX_VIRTQUEUE_PAIRS, 1, true);
    view.setUint16(VIRTIO_NET_CONFIG_MTU, this.#options.mtu, true);
    return bytes;
  }

  start(features: bigint): void {
    this.#isMergeable = hasFeature(features, VIRTIO_NET_F_MRG_RXBUF);
    this.#leavesChecksums = hasFeature(features, VIRTIO_NET_F_CSUM);
    this.#takesPartial = hasFeature(features, VIRTIO_NET_F_GUEST_CSUM);
    this.#port.setPartial(this.#takesPartial);
  }

  reset(): void {
    this.#isStalled = false;
    this.#takesPartial = false;
    this.#port.setPartial(false);
    this.#port.reset();
  }

  /** What a packet has of the ring so far goes back; a queue that stops is not looked at again. */
  async settle(how: "finish" | "drop", index?: number): Promise<void> {
    const rx = this.#queues[VIRTIO_NET_QUEUE_RX];
    const isRx = index === undefined || index === VIRTIO_NET_QUEUE_RX;
    if (isRx && rx) this.#merge.settle(rx, how);
    if (index === undefined) this.#queues.length = 0;
    else this.#queues[index] = undefined;
    if (!this.#queues[VIRTIO_NET_QUEUE_TX]) this.#isStalled = false;
  }

  close(): void {
    this.#port.close();
    this.#tap?.close();
  }

  handleKick(vq: Virtqueue): void {
    this.#queues[vq.index] = vq;
    if (vq.index === VIRTIO_NET_QUEUE_TX) this.#transmit(vq);
    else this.#receive(vq);
  }

  /** What has come from elsewhere makes work for a queue that has no kick. */
  poll(): boolean {
    const port = this.#port;
    port.poll();
    const rx = this.#queues[VIRTIO_NET_QUEUE_RX];
    if (rx?.hasChains && port.count(1) > 0) rx.revisit();
    if (rx && this.#merge.isLate) this.#giveUp(rx);
    if (this.#isStalled && port.room > 0) this.#queues[VIRTIO_NET_QUEUE_TX]?.revisit();
    return false;
  }

  /** A packet that waits for buffers does not do so for ever. */
  sleepMsMax(): number {
    return this.#port.expect(this.#isStalled) ? 0 : this.#merge.waitMsMax;
  }

  /** Packets of the guest's, as many as there is room for. */
  #transmit(vq: Virtqueue): void {
    const port = this.#port;
    const room = () => port.room;
    if (room() > 0) vq.drain((chain) => this.#take(chain, vq), room);
    this.#isStalled = vq.hasChains; // there may be room again by now: `poll` looks
    port.flush();
    this.#tap?.flush();
  }

  /** Takes one packet. virtio 1.3, 5.1.6.2 Packet Transmission. */
  #take(chain: Chain, vq: Virtqueue): number {
    const { readable, writable } = chain;
    const { bytes } = readable;
    const isPacket = bytes >= PACKET_BYTES_MIN && bytes <= NET_PACKET_BYTES_MAX;
    if (!isPacket || writable.count > 0) return vq.badRequest();
    const offload = this.#offload;
    if (!this.#leavesChecksums) offload.clear();
    else if (!offload.read(readable, bytes)) return vq.badRequest();
    if (this.#tap) this.#show(chain);
    this.#port.send(readable, bytes, offload);
    return 0;
  }

  /** What the tap sees is read by itself: a guest that changes it meanwhile fools the tap alone. */
  #show({ readable }: Chain): void {
    const length = readable.read(0, this.#shown, 0, readable.bytes);
    this.#tap?.packet(this.#shown, 0, length);
  }

  /** Packets to the guest: as many as there are, and buffers for them. */
  #receive(vq: Virtqueue): void {
    const port = this.#port;
    for (let left = VHOST_WEIGHT_REQUESTS_MAX; left > 0 && vq.hasChains; left -= BURST) {
      const packets = port.count(BURST); // each takes a buffer at least: none is popped in vain
      if (packets === 0) break;
      vq.drain((chain) => this.#put(chain, vq), packets);
      const isStuck = this.#merge.endBurst(vq);
      if (isStuck) this.#giveUp(vq);
    }
    port.flush();
    this.#tap?.flush();
  }

  /** Puts the oldest packet, or a part of it, in a buffer. virtio 1.3, 5.1.6.4. */
  #put(chain: Chain, vq: Virtqueue): number {
    const { readable, writable } = chain;
    const pipe = this.#port.peek();
    const isBuffer = readable.count === 0 && writable.bytes >= VIRTIO_NET_HDR_BYTES;
    if (!pipe || !isBuffer) return vq.badRequest();
    const { bytes, at, length } = pipe;
    if (bytes[at + VIRTIO_NET_HDR_FLAGS] !== 0 && !this.#takesPartial) {
      this.#port.drop(false); // sent before its sender saw that another driver has come
      return 0;
    }
    if (!this.#merge.isOpen && writable.bytes >= length) {
      writable.write(0, bytes, at, length);
      this.#delivered(bytes, at, length);
      return length;
    }
    if (!this.#isMergeable) {
      this.#port.drop(false); // it fits no better in the next
      return vq.badRequest();
    }
    const written = this.#merge.add(chain, vq, bytes, at, length);
    if (this.#merge.isWhole) this.#delivered(bytes, at, length);
    return written;
  }

  #delivered(bytes: Uint8Array, at: number, length: number): void {
    this.#tap?.packet(bytes, at, length);
    this.#port.drop(true);
  }

  /** The packet that waits for buffers does not get them: it is dropped, they go back. */
  #giveUp(vq: Virtqueue): void {
    if (this.#port.peek()) this.#port.drop(false);
    this.#merge.settle(vq, "finish");
  }
}
