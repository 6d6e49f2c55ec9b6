import { VhostError } from "../spec/errno.js";
import {
  VIRTIO_VSOCK_HEADER_BYTES,
  VIRTIO_VSOCK_PAYLOAD_BYTES_MAX,
  VIRTIO_VSOCK_QUEUE_RX,
  VIRTIO_VSOCK_QUEUE_TX,
  VMADDR_CID_HOST,
} from "../spec/virtio-vsock.js";
import type { VhostHandlers, VhostState } from "../vhost/ioctl/state.js";
import type { Vq } from "../vhost/ioctl/vq.js";
import { vhostWork } from "../vhost/ioctl/workers.js";
import { readHeader, type VsockHeader, writeHeader } from "../vsock/header.js";
import { VsockSockets } from "../vsock/sockets.js";

const BUFFER_BYTES = 1 << 18;
const CONNECTIONS_MAX = 1024;
const PACKET_BYTES_MAX = VIRTIO_VSOCK_HEADER_BYTES + VIRTIO_VSOCK_PAYLOAD_BYTES_MAX;

/** A packet from the guest. */
interface Received {
  header: VsockHeader;
  payload: Uint8Array;
}

/** A packet to the guest, of which `sent` payload bytes are there. */
interface Sending extends Received {
  sent: number;
  isReply: boolean;
}

/**
 * The device behind /dev/vhost-vsock as Linux has it, with the host's sockets in the same thread:
 * what it makes of a ring, of each kick, and of what is wrong in a chain, is what vhost/vsock.c
 * does. The time is the worker's, but where a socket is used. Linux: vhost_vsock.
 */
export class VhostVsock implements VhostHandlers {
  /** The host's sockets to the guest. */
  readonly sockets: VsockSockets;
  /** Packets that went either way. */
  packets = 0;
  readonly #state: VhostState;
  readonly #sendWork = vhostWork(() => this.#send());
  readonly #header = new Uint8Array(VIRTIO_VSOCK_HEADER_BYTES);
  /** What is on its way to the guest, or found no room. */
  #sending: Sending | undefined;

  constructor(state: VhostState) {
    this.#state = state;
    this.sockets = new VsockSockets(
      {
        localCid: VMADDR_CID_HOST,
        peerCid: 0,
        bufferBytes: BUFFER_BYTES,
        connectionsMax: CONNECTIONS_MAX,
      },
      () => this.#sendSoon(),
    );
  }

  get #rx(): Vq {
    return this.#state.vqs[VIRTIO_VSOCK_QUEUE_RX] as Vq;
  }

  get #tx(): Vq {
    return this.#state.vqs[VIRTIO_VSOCK_QUEUE_TX] as Vq;
  }

  cidSet(cid: number): void {
    this.sockets.endpoint.peerCid = cid;
  }

  started(): void {
    this.#sendSoon();
  }

  released(): void {
    this.sockets.close(new VhostError("ENODEV", "the device is closed"));
  }

  #sendSoon(): void {
    this.#state.queue(this.#rx, this.#sendWork);
  }

  handleKick(index: number): void {
    if (index === VIRTIO_VSOCK_QUEUE_TX) this.#receive();
    else this.#send();
  }

  #mayWork(vq: Vq): boolean {
    return vq.isActive && vq.prefetch();
  }

  /** Replies that the guest does not take stop what it sends. Linux: vhost_vsock_more_replies(). */
  get #moreReplies(): boolean {
    return this.#replyCount < this.#tx.num;
  }

  get #replyCount(): number {
    return this.sockets.endpoint.replyCount + (this.#sending?.isReply ? 1 : 0);
  }

  /** Takes what the guest sends. Linux: vhost_vsock_handle_tx_kick(). */
  #receive(): void {
    const vq = this.#tx;
    if (!this.#mayWork(vq)) return;
    vq.disableNotify();
    let hasAdded = false;
    let bytes = 0;
    let count = 0;
    do {
      if (!this.#moreReplies) break; // kicks stay disabled: the replies' end is what goes on
      const head = vq.nextDesc();
      if (head < 0) break;
      const packet = this.#read(vq);
      if (!packet) {
        vq.vqErr();
        continue; // it is gone, and does not come back
      }
      this.packets++;
      bytes += VIRTIO_VSOCK_HEADER_BYTES + packet.payload.length;
      if (this.#state.cid !== undefined) this.#deliver(packet);
      vq.addUsed(0);
      hasAdded = true;
    } while (!this.#state.exceedsWeight(vq, ++count, bytes));
    if (hasAdded) vq.signal();
  }

  #deliver({ header, payload }: Received): void {
    this.sockets.endpoint.receive(header, payload);
  }

  /** The packet in the chain that was popped; what lies there is copied once. */
  #read(vq: Vq): Received | undefined {
    const chain = vq.chain;
    if (!chain) return undefined;
    const { readable, writable } = chain;
    if (writable.count > 0) {
      vq.vqErr();
      return undefined;
    }
    const { bytes } = readable;
    if (bytes < VIRTIO_VSOCK_HEADER_BYTES || bytes > PACKET_BYTES_MAX) return undefined;
    readable.read(0, this.#header);
    const header = readHeader(new DataView(this.#header.buffer));
    if (header.len > bytes - VIRTIO_VSOCK_HEADER_BYTES) return undefined;
    const payload = new Uint8Array(header.len);
    readable.read(VIRTIO_VSOCK_HEADER_BYTES, payload);
    return { header, payload };
  }

  /** The packet that is next for the guest. */
  #next(): Sending | undefined {
    if (this.#sending) return this.#sending;
    const { endpoint } = this.sockets;
    const isReply = endpoint.replyCount > 0;
    const packet = endpoint.next(VIRTIO_VSOCK_PAYLOAD_BYTES_MAX);
    if (!packet) return undefined;
    this.#sending = { header: packet.header, payload: packet.payload.slice(), sent: 0, isReply };
    return this.#sending;
  }

  /** Sends to the guest what there is. Linux: vhost_transport_do_send_pkt(). */
  #send(): void {
    const vq = this.#rx;
    if (!this.#mayWork(vq)) return;
    vq.disableNotify();
    let hasAdded = false;
    let bytes = 0;
    let count = 0;
    do {
      const packet = this.#next();
      if (!packet) {
        vq.enableNotify();
        break;
      }
      const head = vq.nextDesc();
      if (head < 0) break;
      const written = this.#write(vq, packet);
      if (written === undefined) {
        vq.vqErr();
        this.#sending = undefined; // the packet is gone, and so is the buffer
        break;
      }
      vq.addUsed(written);
      hasAdded = true;
      bytes += written - VIRTIO_VSOCK_HEADER_BYTES;
      if (packet.sent === packet.payload.length) this.#sent();
    } while (!this.#state.exceedsWeight(vq, ++count, bytes));
    if (hasAdded) vq.signal();
  }

  /** As much of the packet as there is room for; the rest goes on its own. Bytes, or no room. */
  #write(vq: Vq, packet: Sending): number | undefined {
    const chain = vq.chain;
    if (!chain || chain.readable.count > 0) return undefined;
    const room = chain.writable.bytes - VIRTIO_VSOCK_HEADER_BYTES;
    if (room < 0) return undefined;
    const end = Math.min(packet.payload.length, packet.sent + room);
    const payload = packet.payload.subarray(packet.sent, end);
    writeHeader(new DataView(this.#header.buffer), 0, { ...packet.header, len: payload.length });
    chain.writable.write(0, this.#header);
    chain.writable.write(VIRTIO_VSOCK_HEADER_BYTES, payload);
    packet.sent = end;
    return VIRTIO_VSOCK_HEADER_BYTES + payload.length;
  }

  /** The packet is there as a whole; the guest may be waited for by what it sends. */
  #sent(): void {
    const wasFull = !this.#moreReplies;
    this.#sending = undefined;
    this.packets++;
    if (wasFull && this.#moreReplies) this.#state.queue(this.#tx);
  }
}
