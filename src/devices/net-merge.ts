import { VIRTIO_NET_HDR_NUM_BUFFERS } from "../spec/virtio-net.js";
import type { Chain, HeldChain } from "../vhost/chain.js";
import { HELD, type Virtqueue } from "../vhost/virtqueue.js";

/** How long a packet waits for the rest of its buffers, in milliseconds. */
const WAIT_MS_MAX = 1000;

/**
 * A packet to the guest that is in several buffers. They are held until there is room for all of
 * it, and are used together. virtio 1.3, 5.1.6.4 Processing of Incoming Packets.
 */
export class NetMerge {
  /** The buffers so far, and what they hold. */
  readonly #parts: HeldChain[] = [];
  #room = 0;
  #since = 0;
  /** Buffers were answered and not given back: what comes after them waits for them. */
  #isOwed = false;
  /** Buffers were added in this burst. */
  #hasGrown = false;
  readonly #count = new Uint8Array(2);

  /** Whether the next buffer goes here: a packet is incomplete, or one is before it in order. */
  get isOpen(): boolean {
    return this.#parts.length > 0 || this.#isOwed;
  }

  /** Whether the packet of the last `add` got its last buffer. */
  get isWhole(): boolean {
    return this.#parts.length === 0;
  }

  /** Whether a packet has waited for too long. */
  get isLate(): boolean {
    return this.#parts.length > 0 && performance.now() - this.#since >= WAIT_MS_MAX;
  }

  /** How long the packet may wait yet, in milliseconds; Infinity: there is none. */
  get waitMsMax(): number {
    if (this.#parts.length === 0) return Number.POSITIVE_INFINITY;
    return Math.max(0, this.#since + WAIT_MS_MAX - performance.now());
  }

  /** One more buffer for the packet at `bytes`; what `drain`'s handler returns. */
  add(chain: Chain, vq: Virtqueue, bytes: Uint8Array, at: number, length: number): number {
    if (this.#parts.length === 0) this.#since = performance.now();
    this.#parts.push(vq.hold(chain));
    this.#hasGrown = true;
    this.#room += chain.writable.bytes;
    if (this.#room >= length) this.#fill(vq, bytes, at, length);
    return HELD;
  }

  #fill(vq: Virtqueue, bytes: Uint8Array, at: number, length: number): void {
    const [first] = this.#parts;
    let done = 0;
    for (const part of this.#parts) {
      const take = Math.min(part.inBytes, length - done);
      part.writable.write(0, bytes, at + done, take);
      vq.answer(part, take);
      done += take;
    }
    new DataView(this.#count.buffer).setUint16(0, this.#parts.length, true);
    first?.writable.write(VIRTIO_NET_HDR_NUM_BUFFERS, this.#count);
    this.#forget();
    this.#isOwed = true;
  }

  #forget(): void {
    this.#parts.length = 0;
    this.#room = 0;
  }

  /**
   * After a burst: gives back what was answered. True: the packet waits for buffers that never
   * come: it has as many as the ring, or that is at a chain which has to wait for these. See
   * `DeviceRing.getDescs`.
   */
  endBurst(vq: Virtqueue): boolean {
    if (this.#isOwed) vq.flush();
    this.#isOwed = false;
    const hasAll = this.#parts.length >= vq.size;
    const isStuck = this.#parts.length > 0 && !this.#hasGrown && vq.hasChains;
    this.#hasGrown = false;
    return hasAll || isStuck;
  }

  /** Ends the packet. "finish": its buffers go back empty; "drop": they are not given back. */
  settle(vq: Virtqueue, how: "finish" | "drop"): void {
    if (how === "finish") {
      for (const part of this.#parts) vq.answer(part, 0);
      vq.flush();
    }
    this.#forget();
    this.#isOwed = false;
  }
}
