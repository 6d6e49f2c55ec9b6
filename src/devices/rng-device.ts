import { randomFillSync } from "node:crypto";
import { VIRTIO_ID_RNG } from "../spec/virtio-config.js";
import { VIRTIO_RNG_QUEUES } from "../spec/virtio-rng.js";
import type { Chain } from "../vhost/chain.js";
import type { VirtioDevice } from "../vhost/device.js";
import type { Virtqueue } from "../vhost/virtqueue.js";
import { TokenBucket } from "./token-bucket.js";

/** The most that one request gets, however much it asks for: a bound on the work of one. */
export const RNG_REQUEST_BYTES_MAX = 65536;
/** With a rate, a request waits until so many bytes may be given: fewer make many small answers. */
const PORTION_BYTES = 64;
/** With a rate: requests that one turn answers. */
const REQUESTS_A_TURN = 16;

/** How an entropy source is made. */
export interface RngShape {
  readonly queueSizeMax: number;
  /** Bytes a second; `undefined`: as many as the guest takes. */
  readonly rate: number | undefined;
}

/**
 * An entropy source: the operating system's random bytes, put in the guest's buffers in place. With
 * a rate, what may not be answered yet stays in the ring. virtio 1.3, 5.4 Entropy Device.
 */
export class RngDevice implements VirtioDevice {
  readonly deviceId = VIRTIO_ID_RNG;
  readonly features = 0n;
  readonly queueCount = VIRTIO_RNG_QUEUES;
  readonly queueSizeMax: number;
  readonly #bucket: TokenBucket | undefined;
  /** Tokens without which no request is taken. */
  readonly #portion: number;
  /** The queue, while requests wait in it for tokens. */
  #waiting: Virtqueue | undefined;

  /** `now`: a clock, in milliseconds. */
  constructor({ queueSizeMax, rate }: RngShape, now: () => number = () => performance.now()) {
    this.queueSizeMax = queueSizeMax;
    this.#bucket = rate === undefined ? undefined : new TokenBucket(rate, now);
    this.#portion = Math.min(PORTION_BYTES, rate ?? PORTION_BYTES);
  }

  readConfig(): Uint8Array {
    return new Uint8Array(0);
  }

  handleKick(vq: Virtqueue): void {
    const bucket = this.#bucket;
    if (bucket === undefined) {
      vq.drain((chain) => fill(chain, RNG_REQUEST_BYTES_MAX, vq));
      return;
    }
    let isGood = true;
    const give = (chain: Chain) => {
      isGood = true;
      const given = fill(chain, Math.min(RNG_REQUEST_BYTES_MAX, Math.floor(bucket.tokens)), vq);
      bucket.take(given);
      return given;
    };
    // Also when no chain is seen: a queue that was refused is looked at again by this.
    for (let i = 0; i < REQUESTS_A_TURN && isGood && this.#mayGive; i++) {
      isGood = false;
      vq.drain(give, 1);
    }
    this.#waiting = vq;
  }

  get #mayGive(): boolean {
    return this.#bucket === undefined || this.#bucket.msUntil(this.#portion) === 0;
  }

  /** Requests that waited are work again, as soon as there are tokens. */
  poll(): boolean {
    if (this.#waiting && this.#mayGive) {
      this.#waiting.revisit();
      this.#waiting = undefined;
    }
    return false;
  }

  sleepMsMax(): number {
    if (!this.#bucket || !this.#waiting?.hasChains) return Number.POSITIVE_INFINITY;
    return Math.ceil(this.#bucket.msUntil(this.#portion));
  }

  /** Nothing is held; a queue that stops is not looked at any more. */
  async settle(): Promise<void> {
    this.#waiting = undefined;
  }
}

/**
 * Fills what one request has room for, `bytesMax` at most; returns how many bytes that was. virtio
 * 1.3, 5.4.6 Device Operation: it may be fewer than there is room for, never none.
 */
function fill({ readable, writable }: Chain, bytesMax: number, vq: Virtqueue): number {
  const bytes = Math.min(writable.bytes, bytesMax);
  if (readable.count > 0 || bytes === 0) return vq.badRequest();
  for (const view of writable.views(0, bytes)) randomFillSync(view);
  return bytes;
}
