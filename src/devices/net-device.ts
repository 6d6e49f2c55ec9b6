import type { Checksum } from "../ring/checksum.js";
import { featureMask, hasFeature } from "../spec/features.js";
import { VIRTIO_ID_NET } from "../spec/virtio-config.js";
import {
  NET_PACKET_BYTES_MIN,
  VIRTIO_NET_CONFIG_BYTES,
  VIRTIO_NET_CONFIG_MAC,
  VIRTIO_NET_CONFIG_MAX_VIRTQUEUE_PAIRS,
  VIRTIO_NET_CONFIG_MTU,
  VIRTIO_NET_CONFIG_STATUS,
  VIRTIO_NET_F_CSUM,
  VIRTIO_NET_F_CTRL_GUEST_OFFLOADS,
  VIRTIO_NET_F_CTRL_MAC_ADDR,
  VIRTIO_NET_F_CTRL_RX,
  VIRTIO_NET_F_CTRL_RX_EXTRA,
  VIRTIO_NET_F_CTRL_VLAN,
  VIRTIO_NET_F_CTRL_VQ,
  VIRTIO_NET_F_GUEST_ANNOUNCE,
  VIRTIO_NET_F_GUEST_CSUM,
  VIRTIO_NET_F_MAC,
  VIRTIO_NET_F_MQ,
  VIRTIO_NET_F_MRG_RXBUF,
  VIRTIO_NET_F_MTU,
  VIRTIO_NET_F_STATUS,
  VIRTIO_NET_HDR_BYTES,
  VIRTIO_NET_QUEUE_TX,
  VIRTIO_NET_QUEUES,
  VIRTIO_NET_S_LINK_UP,
} from "../spec/virtio-net.js";
import type { Chain, ChainSide } from "../vhost/chain.js";
import type { VirtioDevice } from "../vhost/device.js";
import type { Virtqueue } from "../vhost/virtqueue.js";
import { rarpPacket } from "./net-announce.js";
import { NetArrivals } from "./net-arrivals.js";
import { NetControl } from "./net-control.js";
import { NetFilter } from "./net-filter.js";
import { FLOW_HEAD_BYTES, NetFlows } from "./net-flows.js";
import { LARGE_FEATURES, NetOffload } from "./net-offload.js";
import { NET_PACKET_BYTES_MAX } from "./net-pipe.js";
import type { NetPort, NetTap } from "./net-port.js";
import { NetReceive } from "./net-receive.js";
import { NET_BURST_MAX, type NetBurst, type NetPackets } from "./net-stage.js";
import { TAKES_FEATURES, takesOf } from "./net-takes.js";

/** There is no control queue. */
const NONE = -1;

/** What a device is made with. */
export interface NetDeviceOptions {
  mac: Uint8Array;
  mtu: number;
  queueSize: number;
  queuePairs: number;
}

/** The number of a pair's transmit queue. */
const txOf = (pair: number) => pair * VIRTIO_NET_QUEUES + VIRTIO_NET_QUEUE_TX;

/**
 * A network device's rings: packets go to its port and come from it, in bursts. Of a frame, no more
 * is looked at than the driver has asked for. Packets are as the guest wrote them but for their
 * header, which is made anew, a checksum that is left to us, and large ones that are cut. One
 * worker serves all pairs.
 * virtio 1.3, 5.1 Network Device. Linux: drivers/vhost/net.c.
 */
export class NetDevice implements VirtioDevice {
  readonly deviceId = VIRTIO_ID_NET;
  readonly features: bigint;
  readonly queueCount: number;
  readonly queueSizeMax: number;
  readonly #options: NetDeviceOptions;
  readonly #port: NetPort;
  readonly #tap: NetTap | undefined;
  readonly #shown: Uint8Array;
  readonly #offload: NetOffload;
  readonly #filter: NetFilter;
  readonly #flows = new NetFlows();
  readonly #arrivals: NetArrivals;
  readonly #receive: NetReceive;
  readonly #control: NetControl;
  /** By pair: those that run. */
  readonly #txQueues: (Virtqueue | undefined)[] = [];
  /** Number of the control queue. */
  #controlIndex = NONE;
  /** By pair: it has packets, and the port no room for them. */
  readonly #isStalled: boolean[] = [];
  readonly #head = new Uint8Array(FLOW_HEAD_BYTES);

  /** `tap`: sees the guest's packets, both ways. */
  constructor(options: NetDeviceOptions, port: NetPort, checksum: Checksum, tap?: NetTap) {
    const { mac, queueSize, queuePairs } = options;
    this.features = featuresOf(queuePairs, port.cutsLarge === true);
    this.queueCount = queuePairs * VIRTIO_NET_QUEUES + 1;
    this.queueSizeMax = queueSize;
    this.#options = options;
    this.#port = port;
    this.#tap = tap;
    this.#shown = new Uint8Array(tap ? NET_PACKET_BYTES_MAX : 0);
    this.#offload = new NetOffload(checksum);
    this.#filter = new NetFilter(mac);
    const runs = (pair: number) => this.#receive.runs(pair);
    this.#arrivals = new NetArrivals(port, this.#filter, this.#flows, runs);
    this.#receive = new NetReceive(this.#arrivals, queuePairs, tap);
    this.#control = new NetControl(this.#filter, queuePairs, {
      setPairs: (pairs) => this.#arrivals.setPairs(pairs),
      setOffloads: (offloads) => this.#setTakes(takesOf(offloads)),
    });
  }

  readConfig(): Uint8Array {
    const { mtu, queuePairs } = this.#options;
    const bytes = new Uint8Array(VIRTIO_NET_CONFIG_BYTES);
    const view = new DataView(bytes.buffer);
    bytes.set(this.#filter.mac, VIRTIO_NET_CONFIG_MAC);
    view.setUint16(VIRTIO_NET_CONFIG_STATUS, VIRTIO_NET_S_LINK_UP, true);
    view.setUint16(VIRTIO_NET_CONFIG_MAX_VIRTQUEUE_PAIRS, queuePairs, true);
    view.setUint16(VIRTIO_NET_CONFIG_MTU, mtu, true);
    return bytes;
  }

  start(features: bigint): void {
    const hasControl = hasFeature(features, VIRTIO_NET_F_CTRL_VQ);
    const pairs = hasFeature(features, VIRTIO_NET_F_MQ) ? this.#options.queuePairs : 1;
    this.#controlIndex = hasControl ? pairs * VIRTIO_NET_QUEUES : NONE;
    this.#control.start(features);
    this.#filter.hasVlans = hasControl && hasFeature(features, VIRTIO_NET_F_CTRL_VLAN);
    // A front-end that has the control queue to itself says by SET_VRING_ENABLE which pairs run.
    if (!hasControl) this.#arrivals.setPairs(pairs);
    this.#offload.accept(features);
    this.#receive.isMergeable = hasFeature(features, VIRTIO_NET_F_MRG_RXBUF);
    this.#setTakes(takesOf(features));
  }

  #setTakes(takes: number): void {
    this.#receive.takes = takes;
    this.#port.setTakes(takes, this.#offload.isLargeAllowed);
  }

  reset(): void {
    this.#isStalled.length = 0;
    this.#offload.accept(0n);
    this.#setTakes(0);
    this.#arrivals.reset();
    this.#filter.reset();
    this.#flows.reset();
  }

  /** What the driver has asked for is void. */
  renew(): void {
    this.reset();
  }

  /** As if the guest had sent it; where packets can't go now, it is left out. */
  announce(mac: Uint8Array): void {
    const packet = rarpPacket(mac);
    this.#port.poll(); // it may have slept long: what is learnt is of now
    if (this.#port.room === 0 || !this.#offload.read(packet, packet.bytes)) return;
    if (this.#tap) this.#show(packet);
    this.#tap?.flush();
    this.#port.send(packet, packet.bytes, this.#offload);
    this.#port.flush();
  }

  /** A queue that stops is not looked at again. */
  async settle(how: "finish" | "drop", index?: number): Promise<void> {
    for (let pair = 0; pair < this.#options.queuePairs; pair++) {
      const rx = pair * VIRTIO_NET_QUEUES;
      if (index === undefined || index === rx) this.#receive.settle(how, pair);
      if (index !== undefined && index !== txOf(pair)) continue;
      this.#txQueues[pair] = undefined;
      this.#isStalled[pair] = false;
    }
  }

  close(): void {
    this.#arrivals.empty();
    this.#port.close();
    this.#tap?.close();
  }

  handleKick(vq: Virtqueue): void {
    const { index } = vq;
    const pair = Math.floor(index / VIRTIO_NET_QUEUES);
    if (index === this.#controlIndex) vq.drain((chain) => this.#control.handle(chain, vq));
    else if (pair >= this.#options.queuePairs)
      return; // a control queue that was not negotiated
    else if (index === txOf(pair)) this.#transmit(vq, pair);
    else this.#receive.handleKick(vq, pair);
    this.#port.flush();
  }

  poll(): boolean {
    const port = this.#port;
    port.poll();
    this.#receive.poll();
    for (let pair = 0; pair < this.#isStalled.length; pair++) {
      if (this.#isStalled[pair] && port.room > 0) this.#txQueues[pair]?.revisit();
    }
    return false;
  }

  sleepMsMax(): number {
    const isStalled = this.#isStalled.includes(true);
    return this.#port.expect(isStalled) ? 0 : this.#receive.waitMsMax;
  }

  /** Packets of the guest's, as many as there is room for. */
  #transmit(vq: Virtqueue, pair: number): void {
    this.#txQueues[pair] = vq;
    const room = () => this.#port.room;
    const bulk = (first: number, count: number) => this.#takeMany({ vq, first, count }, pair);
    const ways = { burstMax: NET_BURST_MAX, bulk };
    if (room() > 0) vq.drain((chain) => this.#take(chain, vq, pair), room, ways);
    this.#isStalled[pair] = vq.hasChains; // there may be room again by now: `poll` looks
    this.#tap?.flush();
  }

  /** Takes plain packets, and looks at our copy of them. Returns how many. */
  #takeMany(burst: NetBurst, pair: number): number {
    const tap = this.#tap;
    const learns = this.#arrivals.pairs > 1;
    const look: NetPackets = (bytes, at, length) => {
      tap?.packet(bytes, at, length);
      const frameBytes = Math.min(FLOW_HEAD_BYTES, length - VIRTIO_NET_HDR_BYTES);
      if (learns) this.#flows.learn(bytes, at + VIRTIO_NET_HDR_BYTES, frameBytes, pair);
    };
    return this.#port.take?.(burst, tap || learns ? look : undefined) ?? 0;
  }

  /** Takes one packet. virtio 1.3, 5.1.6.2 Packet Transmission. */
  #take(chain: Chain, vq: Virtqueue, pair: number): number {
    const { readable, writable } = chain;
    const { bytes } = readable;
    const isPacket = bytes >= NET_PACKET_BYTES_MIN && bytes <= NET_PACKET_BYTES_MAX;
    if (!isPacket || writable.count > 0) return vq.badRequest();
    const offload = this.#offload;
    if (!offload.read(readable, bytes)) return vq.badRequest();
    if (this.#tap) this.#show(readable);
    if (this.#arrivals.pairs > 1) this.#learn(chain, pair);
    this.#port.send(readable, bytes, offload);
    return 0;
  }

  /** The flow's packets to the guest go where it sends: a guest that lies about it fools itself. */
  #learn({ readable }: Chain, pair: number): void {
    const frameBytes = Math.min(FLOW_HEAD_BYTES, readable.bytes - VIRTIO_NET_HDR_BYTES);
    readable.read(VIRTIO_NET_HDR_BYTES, this.#head, 0, frameBytes);
    this.#flows.learn(this.#head, 0, frameBytes, pair);
  }

  /** What the tap sees is read by itself: a guest that changes it meanwhile fools the tap alone. */
  #show(packet: ChainSide): void {
    const length = packet.read(0, this.#shown, 0, packet.bytes);
    this.#tap?.packet(this.#shown, 0, length);
  }
}

/**
 * What is on offer with so many pairs of queues. VIRTIO_NET_F_GUEST_ANNOUNCE is for a front-end
 * that migrates: it has the configuration to itself, and asks the guest only if that is on offer.
 */
function featuresOf(queuePairs: number, cutsLarge: boolean): bigint {
  return featureMask(
    ...(queuePairs > 1 ? [VIRTIO_NET_F_MQ] : []),
    ...(cutsLarge ? [...LARGE_FEATURES, ...TAKES_FEATURES] : []),
    VIRTIO_NET_F_CSUM,
    VIRTIO_NET_F_GUEST_ANNOUNCE,
    VIRTIO_NET_F_GUEST_CSUM,
    VIRTIO_NET_F_MTU,
    VIRTIO_NET_F_MAC,
    VIRTIO_NET_F_MRG_RXBUF,
    VIRTIO_NET_F_STATUS,
    VIRTIO_NET_F_CTRL_VQ,
    VIRTIO_NET_F_CTRL_RX,
    VIRTIO_NET_F_CTRL_RX_EXTRA,
    VIRTIO_NET_F_CTRL_VLAN,
    VIRTIO_NET_F_CTRL_MAC_ADDR,
    VIRTIO_NET_F_CTRL_GUEST_OFFLOADS,
  );
}
