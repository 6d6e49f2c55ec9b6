import { VIRTIO_ID_NET } from "../spec/virtio-config.js";
import { VIRTIO_NET_HDR_BYTES, VIRTIO_NET_HDR_NUM_BUFFERS } from "../spec/virtio-net.js";
import type { Chain } from "../vhost/chain.js";
import type { VirtioDevice } from "../vhost/device.js";
import { FRAME_BYTES_MAX } from "../vhost/ioctl/net-backend.js";
import { PUT_BACK, type Virtqueue } from "../vhost/virtqueue.js";
import { type VhostNetBuffers, VhostNetLink } from "./vhost-net-link.js";

const RX = 0;
const TX = 1;

/** What it is made with, in the worker's thread. */
export interface VhostNetSettings {
  /** The largest size of a ring. */
  queueSize: number;
  link: VhostNetBuffers;
}

/**
 * The device behind /dev/vhost-net as Linux has it, between the rings and what
 * VHOST_NET_SET_BACKEND gave them. A frame for the guest goes into one buffer or nowhere, also with
 * MRG_RXBUF; offloads are none. Rings are looked at when they are kicked: by the driver, or by the
 * kernel's thread where a frame has come, or room. Worker's thread. Linux: vhost_net.
 */
export class VhostNetDevice implements VirtioDevice {
  readonly deviceId = VIRTIO_ID_NET;
  readonly features = 0n;
  readonly queueCount = 2;
  readonly queueSizeMax: number;
  readonly #link: VhostNetLink;
  readonly #header = new Uint8Array(VIRTIO_NET_HDR_BYTES);
  /** Something was wrong in the ring: the next kick goes on. */
  #isOver = false;
  /** A frame went, either way: the kernel's thread has something to look at. */
  #hasMoved = false;

  constructor({ queueSize, link }: VhostNetSettings) {
    this.queueSizeMax = queueSize;
    this.#link = new VhostNetLink(link);
  }

  /** Its configuration is the program's that offers it to a guest. */
  readConfig(): Uint8Array {
    return new Uint8Array(0);
  }

  handleKick(vq: Virtqueue): void {
    this.#isOver = false;
    this.#hasMoved = false;
    if (vq.index === TX) this.#transmit(vq);
    else if (vq.index === RX) this.#receive(vq);
    if (this.#hasMoved) this.#link.hostBell.ring();
  }

  /** Frames of the guest's that are taken now: 1 or 0. */
  get #room(): number {
    if (this.#isOver) return 0;
    const { toWire } = this.#link;
    if (toWire.room > 0) return 1;
    this.#link.stalled.expect();
    return Math.min(1, toWire.room);
  }

  /** Sends what the guest has put there. Linux: handle_tx_copy(). */
  #transmit(vq: Virtqueue): void {
    vq.drain(
      (chain) => this.#take(chain, vq),
      () => this.#room,
    );
  }

  #take(chain: Chain, vq: Virtqueue): number {
    const { readable, writable } = chain;
    const { headerBytes, toWire } = this.#link;
    const length = readable.bytes;
    if (writable.count > 0 || length === 0 || length > FRAME_BYTES_MAX + headerBytes) {
      this.#isOver = true;
      return vq.swallow(chain); // it is gone, and does not come back
    }
    const frameBytes = length - headerBytes;
    const at = frameBytes < 0 ? -1 : toWire.begin(frameBytes);
    if (at < 0) return vq.putBack(); // it is tried again
    readable.read(headerBytes, toWire.bytes, at, frameBytes);
    toWire.end();
    this.#hasMoved = true;
    return 0;
  }

  /** Puts frames in the guest's buffers. Linux: handle_rx(). */
  #receive(vq: Virtqueue): void {
    const { toGuest } = this.#link;
    const room = () => (this.#isOver ? 0 : toGuest.count(1));
    let dropped: boolean;
    do {
      dropped = false;
      vq.drain((chain) => {
        const answer = this.#put(chain, vq);
        if (answer === PUT_BACK) dropped = true;
        return answer;
      }, room);
    } while (dropped && room() > 0);
  }

  #put(chain: Chain, vq: Virtqueue): number {
    const { readable, writable } = chain;
    const { headerBytes, toGuest, isMergeable } = this.#link;
    if (readable.count > 0 || writable.count === 0 || !toGuest.peek()) {
      this.#isOver = true;
      return vq.swallow(chain); // the buffer is gone, the frame waits for the next kick
    }
    const { at, length } = toGuest;
    const bytes = headerBytes + length;
    if (writable.bytes >= bytes) {
      this.#header[VIRTIO_NET_HDR_NUM_BUFFERS] = isMergeable ? 1 : 0;
      writable.write(0, this.#header, 0, headerBytes);
      writable.write(headerBytes, toGuest.bytes, at, length);
    }
    toGuest.drop();
    this.#hasMoved = true;
    if (writable.bytes >= bytes) return bytes;
    return vq.putBack(); // the frame is gone, the buffer waits for a shorter one
  }
}

/** Makes the device. For `DeviceModule`. */
export function createDevice(options: unknown): VirtioDevice {
  return new VhostNetDevice(options as VhostNetSettings);
}
