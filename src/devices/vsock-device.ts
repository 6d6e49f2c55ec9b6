import { featureMask } from "../spec/features.js";
import { VIRTIO_ID_VSOCK } from "../spec/virtio-config.js";
import {
  VIRTIO_VSOCK_CONFIG_BYTES,
  VIRTIO_VSOCK_EVENT_BYTES,
  VIRTIO_VSOCK_EVENT_TRANSPORT_RESET,
  VIRTIO_VSOCK_F_STREAM,
  VIRTIO_VSOCK_HDR_DST_CID,
  VIRTIO_VSOCK_HDR_LEN,
  VIRTIO_VSOCK_HDR_SRC_CID,
  VIRTIO_VSOCK_HEADER_BYTES,
  VIRTIO_VSOCK_QUEUE_EVENT,
  VIRTIO_VSOCK_QUEUE_RX,
  VIRTIO_VSOCK_QUEUE_TX,
  VIRTIO_VSOCK_QUEUES,
  VMADDR_CID_HOST,
} from "../spec/virtio-vsock.js";
import type { Chain } from "../vhost/chain.js";
import type { VirtioDevice } from "../vhost/device.js";
import { HELD, type Virtqueue } from "../vhost/virtqueue.js";
import type { VsockLink } from "./vsock-link.js";
import { VSOCK_PACKET_BYTES_MAX } from "./vsock-pipe.js";

const EVENT = new Uint8Array(VIRTIO_VSOCK_EVENT_BYTES).fill(VIRTIO_VSOCK_EVENT_TRANSPORT_RESET);

/**
 * The device's rings: packets go to the host's sockets and come from them, in the opening thread.
 * It looks at no more of a packet than its CIDs and its length. When the opening thread falls
 * behind, packets stay in the rings. virtio 1.3, 5.10 Socket Device. Linux: vhost_vsock.
 */
export class VsockDevice implements VirtioDevice {
  readonly deviceId = VIRTIO_ID_VSOCK;
  readonly features = featureMask(VIRTIO_VSOCK_F_STREAM);
  readonly queueCount = VIRTIO_VSOCK_QUEUES;
  readonly queueSizeMax: number;
  readonly #link: VsockLink;
  readonly #queues: (Virtqueue | undefined)[] = [];
  readonly #header = new Uint8Array(VIRTIO_VSOCK_HEADER_BYTES);
  readonly #headerView = new DataView(this.#header.buffer);
  /** TX waits for room. */
  #isStalled = false;
  /** As of the last look: see `poll`. */
  #seenWritten = 0;
  /** Payload bytes of the oldest packet to the guest that it has got. */
  #delivered = 0;

  constructor(queueSizeMax: number, link: VsockLink) {
    this.queueSizeMax = queueSizeMax;
    this.#link = link;
  }

  readConfig(): Uint8Array {
    const bytes = new Uint8Array(VIRTIO_VSOCK_CONFIG_BYTES);
    new DataView(bytes.buffer).setBigUint64(0, BigInt(this.#link.cid), true);
    return bytes;
  }

  reset(): void {
    this.#isStalled = false;
    this.#delivered = 0;
    this.#link.takeResetEvent();
    this.#link.nextGeneration();
  }

  /** Connections of before are over. */
  renew(): void {
    this.reset();
  }

  /** Nothing is held; a queue that stops is not looked at any more. */
  settle(_how: "finish" | "drop", index?: number): undefined {
    if (index === undefined) this.#queues.length = 0;
    else this.#queues[index] = undefined;
    if (!this.#queues[VIRTIO_VSOCK_QUEUE_TX]) this.#isStalled = false;
  }

  handleKick(vq: Virtqueue): void {
    this.#queues[vq.index] = vq;
    if (vq.index === VIRTIO_VSOCK_QUEUE_TX) this.#transmit(vq);
    else if (vq.index === VIRTIO_VSOCK_QUEUE_RX) this.#receive(vq);
    else if (vq.index === VIRTIO_VSOCK_QUEUE_EVENT) this.#sendEvent(vq);
  }

  /** What the opening thread has done makes work for a queue that has no kick. */
  poll(): boolean {
    const { toGuest } = this.#link;
    const { writtenPackets } = toGuest; // once: what comes after it is new at the next look
    const isNew = writtenPackets !== this.#seenWritten;
    this.#seenWritten = writtenPackets;
    if (isNew) this.#queues[VIRTIO_VSOCK_QUEUE_RX]?.revisit();
    if (this.#isStalled && this.#room > 0) this.#queues[VIRTIO_VSOCK_QUEUE_TX]?.revisit();
    if (this.#link.isResetEventDue) this.#queues[VIRTIO_VSOCK_QUEUE_EVENT]?.revisit();
    return false;
  }

  /** No sleep when the opening thread has done something since `poll`. */
  sleepMsMax(): number {
    const { toGuest, isResetEventDue } = this.#link;
    const isNew = toGuest.writtenPackets !== this.#seenWritten;
    const isRoom = this.#isStalled && this.#room > 0;
    const events = this.#queues[VIRTIO_VSOCK_QUEUE_EVENT];
    const isEvent = isResetEventDue && events?.hasChains === true;
    return isNew || isRoom || isEvent ? 0 : Number.POSITIVE_INFINITY;
  }

  /**
   * Packets of the guest's that are taken now: a guest that does not take the answers to what it
   * has sent is stopped. Linux: vhost_vsock_more_replies().
   */
  get #room(): number {
    const { toHost, replies } = this.#link;
    const size = this.#queues[VIRTIO_VSOCK_QUEUE_TX]?.size ?? 0;
    return Math.min(toHost.room, Math.max(0, size - replies));
  }

  /** Packets of the guest's, as many as there is room for. */
  #transmit(vq: Virtqueue): void {
    const { toHost } = this.#link;
    const before = toHost.writtenPackets;
    const room = () => {
      this.#link.work?.();
      return this.#room;
    };
    vq.drain((chain) => this.#take(chain, vq), room);
    this.#isStalled = vq.hasChains || this.#room === 0; // there may be room by now: `poll` looks
    if (this.#isStalled) this.#link.stalled.expect();
    if (toHost.writtenPackets !== before) this.#link.hostBell.ring();
  }

  /** Takes one packet. What is from or for another CID goes nowhere. */
  #take(chain: Chain, vq: Virtqueue): number {
    const { readable, writable } = chain;
    const { bytes } = readable;
    if (writable.count > 0) return vq.swallow(chain, 2); // Linux complains of it twice
    const isPacket = bytes >= VIRTIO_VSOCK_HEADER_BYTES && bytes <= VSOCK_PACKET_BYTES_MAX;
    if (!isPacket) return vq.swallow(chain);
    const header = this.#header;
    readable.read(0, header); // once: what is checked is what goes on
    const length = this.#headerView.getUint32(VIRTIO_VSOCK_HDR_LEN, true);
    if (length > bytes - VIRTIO_VSOCK_HEADER_BYTES) return vq.swallow(chain);
    const { cid } = this.#link;
    const isOurs = cid !== 0 && this.#isCid(VIRTIO_VSOCK_HDR_SRC_CID, cid);
    if (!isOurs || !this.#isCid(VIRTIO_VSOCK_HDR_DST_CID, VMADDR_CID_HOST)) return 0;
    const { toHost, generation } = this.#link;
    const place = toHost.begin();
    place.set(header);
    const end = VIRTIO_VSOCK_HEADER_BYTES + length;
    readable.read(VIRTIO_VSOCK_HEADER_BYTES, place.subarray(VIRTIO_VSOCK_HEADER_BYTES, end));
    toHost.end(generation, end);
    return 0;
  }

  #isCid(at: number, cid: number): boolean {
    const view = this.#headerView;
    return view.getUint32(at, true) === cid && view.getUint32(at + 4, true) === 0;
  }

  /** Packets to the guest: as many as there are, and buffers for them. */
  #receive(vq: Virtqueue): void {
    const { toGuest, generation } = this.#link;
    const before = toGuest.readPackets;
    for (let packet = toGuest.peek(); packet; packet = toGuest.peek()) {
      if (packet.generation === generation) break;
      toGuest.drop(); // of before a reset
    }
    const packets = () => toGuest.packets;
    if (packets() > 0) vq.drain((chain) => this.#put(chain, vq), packets);
    if (toGuest.readPackets !== before) this.#link.hostBell.ring();
  }

  /**
   * Puts the oldest packet in a buffer, or as much of its payload as fits: the rest goes in the
   * next, as a packet of its own.
   */
  #put(chain: Chain, vq: Virtqueue): number {
    const { readable, writable } = chain;
    const { toGuest } = this.#link;
    const bytes = toGuest.peek()?.bytes;
    if (!bytes) return 0; // a kick of another generation
    const from = VIRTIO_VSOCK_HEADER_BYTES + this.#delivered;
    const left = bytes.length - from;
    const room = writable.bytes - VIRTIO_VSOCK_HEADER_BYTES;
    if (readable.count > 0 || room < 0 || (room === 0 && left > 0)) {
      const answer = vq.swallow(chain);
      if (answer === HELD) this.#dropPacket(); // as Linux: the packet goes, too
      return answer;
    }
    const length = Math.min(left, room);
    this.#header.set(bytes.subarray(0, VIRTIO_VSOCK_HEADER_BYTES));
    this.#headerView.setUint32(VIRTIO_VSOCK_HDR_LEN, length, true);
    writable.write(0, this.#header);
    writable.write(VIRTIO_VSOCK_HEADER_BYTES, bytes.subarray(from, from + length));
    this.#delivered += length;
    if (length === left) this.#dropPacket();
    return VIRTIO_VSOCK_HEADER_BYTES + length;
  }

  /** The oldest packet to the guest is done with. */
  #dropPacket(): void {
    this.#delivered = 0;
    this.#link.toGuest.drop();
  }

  #sendEvent(vq: Virtqueue): void {
    const due = () => (this.#link.isResetEventDue ? 1 : 0);
    if (due() === 0) return;
    vq.drain(({ writable }) => {
      if (writable.bytes < VIRTIO_VSOCK_EVENT_BYTES) return vq.badRequest();
      this.#link.takeResetEvent();
      return writable.write(0, EVENT);
    }, due);
  }
}
