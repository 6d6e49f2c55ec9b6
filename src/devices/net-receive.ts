import { VIRTIO_NET_HDR_BYTES } from "../spec/virtio-net.js";
import type { Chain } from "../vhost/chain.js";
import { VHOST_WEIGHT_REQUESTS_MAX, type Virtqueue } from "../vhost/virtqueue.js";
import type { NetArrivals } from "./net-arrivals.js";
import { NetMerge } from "./net-merge.js";
import type { NetTap } from "./net-port.js";
import { NET_BURST_MAX, type NetBurst } from "./net-stage.js";
import { bufferBytesMin, takesPacket } from "./net-takes.js";

/**
 * The receive queues of a network device: packets to the guest, put in its buffers. virtio 1.3,
 * 5.1.6.3 Setting Up Receive Buffers, 5.1.6.4 Processing of Incoming Packets.
 */
export class NetReceive {
  /** A packet may be in several buffers. */
  isMergeable = false;
  /** What the guest takes beside plain packets, TAKES_… bits. */
  takes = 0;
  readonly #arrivals: NetArrivals;
  readonly #tap: NetTap | undefined;
  /** By pair, like the queues. */
  readonly #merges: NetMerge[];
  readonly #queues: (Virtqueue | undefined)[] = [];

  constructor(arrivals: NetArrivals, pairsMax: number, tap: NetTap | undefined) {
    this.#arrivals = arrivals;
    this.#tap = tap;
    this.#merges = Array.from({ length: pairsMax }, () => new NetMerge());
  }

  /** Whether the pair's queue runs. */
  runs(pair: number): boolean {
    return this.#queues[pair] !== undefined;
  }

  #merge(pair: number): NetMerge {
    return this.#merges[pair] as NetMerge;
  }

  /**
   * What has come from elsewhere makes work for a queue that has no kick. Sorted here and nowhere
   * else: within a pass it is not known yet which queues run, at the first.
   */
  poll(): void {
    const arrivals = this.#arrivals;
    arrivals.sort();
    for (let pair = 0; pair < this.#queues.length; pair++) {
      const vq = this.#queues[pair];
      if (vq?.hasChains && arrivals.count(pair, 1) > 0) vq.revisit();
      if (vq && this.#merge(pair).isLate) this.#giveUp(vq, pair);
    }
  }

  /** A packet that waits for buffers does not do so for ever: how long, in milliseconds. */
  get waitMsMax(): number {
    return this.#merges.reduce(
      (least, merge) => Math.min(least, merge.waitMsMax),
      Number.POSITIVE_INFINITY,
    );
  }

  /** What a packet has of the queue's ring so far goes back; the queue is not looked at again. */
  settle(how: "finish" | "drop", pair: number): void {
    const vq = this.#queues[pair];
    if (vq) this.#merge(pair).settle(vq, how);
    this.#queues[pair] = undefined;
  }

  /** Packets to the guest: as many as there are, and buffers for them. */
  handleKick(vq: Virtqueue, pair: number): void {
    this.#queues[pair] = vq;
    const put = (chain: Chain) => this.#put(chain, vq, pair);
    const bulk = (first: number, count: number) => this.#putMany({ vq, first, count }, pair);
    const ways = { burstMax: NET_BURST_MAX, bulk };
    for (let left = VHOST_WEIGHT_REQUESTS_MAX; left > 0 && vq.hasChains; left -= NET_BURST_MAX) {
      // A buffer each at least, none in vain.
      const packets = this.#arrivals.count(pair, NET_BURST_MAX);
      if (packets === 0) break;
      vq.drain(put, packets, ways);
      const isStuck = this.#merge(pair).endBurst(vq);
      if (isStuck) this.#giveUp(vq, pair);
    }
    this.#tap?.flush();
  }

  /** Puts packets in a buffer each, as long as nothing is to be looked at. Returns how many. */
  #putMany(burst: NetBurst, pair: number): number {
    if (this.#tap || this.#merge(pair).isOpen) return 0;
    return this.#arrivals.put(pair, burst);
  }

  /** Puts the oldest packet, or a part of it, in a buffer. */
  #put(chain: Chain, vq: Virtqueue, pair: number): number {
    const { readable, writable } = chain;
    const arrivals = this.#arrivals;
    const merge = this.#merge(pair);
    const pipe = arrivals.peek(pair);
    const isBuffer = readable.count === 0 && writable.bytes >= VIRTIO_NET_HDR_BYTES;
    if (!pipe || !isBuffer) return vq.badRequest();
    const { bytes, at, length } = pipe;
    if (!takesPacket(this.takes, bytes, at)) {
      arrivals.drop(pair, false);
      return 0;
    }
    if (!merge.isOpen && writable.bytes >= length) {
      writable.write(0, bytes, at, length);
      this.#delivered(pair, bytes, at, length);
      return length;
    }
    if (!this.isMergeable) {
      arrivals.drop(pair, false); // it fits no better in the next
      // Who has room for all that it must take is not at fault: anybody may send longer frames.
      return writable.bytes < bufferBytesMin(this.takes) ? vq.badRequest() : 0;
    }
    const written = merge.add(chain, vq, bytes, at, length);
    if (merge.isWhole) this.#delivered(pair, bytes, at, length);
    return written;
  }

  #delivered(pair: number, bytes: Uint8Array, at: number, length: number): void {
    this.#tap?.packet(bytes, at, length);
    this.#arrivals.drop(pair, true);
  }

  /** The packet that waits for buffers does not get them: it is dropped, they go back. */
  #giveUp(vq: Virtqueue, pair: number): void {
    if (this.#arrivals.peek(pair)) this.#arrivals.drop(pair, false);
    this.#merge(pair).settle(vq, "finish");
  }
}
