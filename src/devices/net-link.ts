import { VIRTIO_NET_HDR_BYTES, VIRTIO_NET_HDR_NUM_BUFFERS } from "../spec/virtio-net.js";
import type { ChainSide } from "../vhost/chain.js";
import { HostBell } from "./host-bell.js";
import { NetBell } from "./net-bell.js";
import type { NetOffload } from "./net-offload.js";
import { NetPipe, netPipeBytes } from "./net-pipe.js";
import type { NetPort } from "./net-port.js";
import { NET_SEGMENTS_BYTES_MAX } from "./net-segments.js";
import type { NetBurst, NetPackets, NetStages } from "./net-stage.js";
import { putU16 } from "./net-sum.js";
import { SAME_TAG } from "./net-tag.js";

/** Bytes of packets that may wait for the guest. */
const TO_GUEST_BYTES = 1 << 20;
/** Bytes of packets that may wait for the opening thread: a large one is many. */
const TO_HOST_BYTES = 1 << 21;

// Indices of i32 words.
/** Set by the worker when it may sleep: see `NetBell`. */
const BELL = 0;
/** See `HostBell`. */
const SEQUENCE = 1;
const BYTES = 8;

/** What a device in its worker and the opening thread share; structured-cloneable. */
export interface NetLinkBuffers {
  words: SharedArrayBuffer;
  toHost: SharedArrayBuffer;
  toGuest: SharedArrayBuffer;
}

/** A header that asks for nothing: no checksum, no segmentation, one buffer. */
export const PLAIN_HEADER = new Uint8Array(VIRTIO_NET_HDR_BYTES);
PLAIN_HEADER[VIRTIO_NET_HDR_NUM_BUFFERS] = 1;

/** Packets between a device in its worker and its user in the opening thread. */
export class NetLink {
  /** Written by the worker. */
  readonly toHost: NetPipe;
  /** Written by the opening thread. */
  readonly toGuest: NetPipe;
  /** The worker's sleep. */
  readonly bell: NetBell;
  /** The opening thread's. */
  readonly hostBell: HostBell;
  /** For the other thread. */
  readonly buffers: NetLinkBuffers;

  /** A new one, or another thread's: the worker's, which may have stages. */
  constructor(buffers?: NetLinkBuffers, stages?: NetStages) {
    this.buffers = buffers ?? {
      words: new SharedArrayBuffer(BYTES),
      toHost: new SharedArrayBuffer(netPipeBytes(TO_HOST_BYTES)),
      toGuest: new SharedArrayBuffer(netPipeBytes(TO_GUEST_BYTES)),
    };
    const words = new Int32Array(this.buffers.words);
    this.bell = new NetBell(words, BELL);
    this.hostBell = new HostBell(words, SEQUENCE);
    this.toHost = new NetPipe(this.buffers.toHost, TO_HOST_BYTES, 0, stages?.from);
    this.toGuest = new NetPipe(this.buffers.toGuest, TO_GUEST_BYTES, 0, stages?.to);
  }
}

/**
 * A device's packets to and from its user. When that one falls behind, packets stay in the guest's
 * ring. Worker's thread.
 */
export class NetLinkPort implements NetPort {
  readonly #link: NetLink;
  readonly #stages: NetStages | undefined;
  readonly cutsLarge = true;
  #seen = 0;
  #isDue = false;
  #sendsLarge = false;

  constructor(buffers: NetLinkBuffers, stages?: NetStages) {
    this.#link = new NetLink(buffers, stages);
    this.#stages = stages;
  }

  get room(): number {
    const { toHost } = this.#link;
    return this.#sendsLarge ? toHost.roomFor(NET_SEGMENTS_BYTES_MAX) : toHost.room;
  }

  /** Its user gets whole frames. */
  setTakes(_takes: number, sendsLarge: boolean): void {
    this.#sendsLarge = sendsLarge;
  }

  send(packet: ChainSide, length: number, offload: NetOffload): void {
    const { toHost } = this.#link;
    if (offload.gso !== 0) {
      this.#cut(packet, offload);
      return;
    }
    const at = toHost.begin(length);
    if (at < 0) return; // there was room
    toHost.bytes.set(PLAIN_HEADER, at);
    const done = VIRTIO_NET_HDR_BYTES;
    packet.read(done, toHost.bytes, at + done, length - done);
    if (offload.start >= 0) {
      putU16(toHost.bytes, at + done + offload.at, offload.checksum(packet, length));
    }
    toHost.end();
    this.#isDue = true;
  }

  #cut(packet: ChainSide, { large, segments }: NetOffload): void {
    const { toHost } = this.#link;
    for (let index = 0; index < large.count; index++) {
      const frameBytes = segments.bytesOf(large, index, SAME_TAG);
      const at = toHost.begin(VIRTIO_NET_HDR_BYTES + frameBytes);
      if (at < 0) return; // there was room
      const { bytes } = toHost;
      bytes.set(PLAIN_HEADER, at);
      const target = { bytes, at: at + VIRTIO_NET_HDR_BYTES, isPartial: false };
      segments.write(packet, large, index, SAME_TAG, target);
      toHost.end();
    }
    this.#isDue = true;
  }

  count(max: number): number {
    return this.#link.toGuest.count(max);
  }

  peek(): NetPipe | undefined {
    const { toGuest } = this.#link;
    return toGuest.peek() ? toGuest : undefined;
  }

  drop(): void {
    this.#link.toGuest.drop();
    this.#isDue = true; // there may be somebody who waits for room
  }

  put(burst: NetBurst): number {
    const packets = this.#link.toGuest.put(burst);
    if (packets > 0) this.#isDue = true;
    return packets;
  }

  take(burst: NetBurst, each?: NetPackets): number {
    const packets = this.#link.toHost.take(burst, each);
    if (packets > 0) this.#isDue = true;
    return packets;
  }

  flush(): void {
    if (!this.#isDue) return;
    this.#isDue = false;
    this.#stages?.flush();
    this.#link.hostBell.ring();
  }

  poll(): void {
    this.#link.bell.ignore();
    this.#seen = this.#link.toGuest.written;
  }

  expect(isStalled: boolean): boolean {
    const { bell, toGuest } = this.#link;
    bell.expect();
    return toGuest.written !== this.#seen || (isStalled && this.room > 0);
  }

  /** What is there by now. */
  reset(): void {
    this.#link.toGuest.dropAll();
  }

  close(): void {}
}
