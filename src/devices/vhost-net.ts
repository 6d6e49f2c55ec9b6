import { hasFeature } from "../spec/features.js";
import { VIRTIO_F_VERSION_1 } from "../spec/virtio-config.js";
import { NetBackendFile } from "../vhost/ioctl/net-backend.js";
import type { VhostHandlers, VhostState } from "../vhost/ioctl/state.js";
import type { Vq } from "../vhost/ioctl/vq.js";

const RX = 0;
const TX = 1;
/** Feature bit number: a frame may take several buffers, and its header says how many. */
const VIRTIO_NET_F_MRG_RXBUF = 15;
/** Bytes of the header before a frame, with and without `num_buffers`. virtio 1.3, 5.1.6. */
const HEADER_BYTES = 12;
const LEGACY_HEADER_BYTES = 10;
/** Offset of num_buffers. */
const NUM_BUFFERS = 10;
/** Frames after which their buffers go back together. Linux: VHOST_NET_BATCH. */
const BATCH = 64;
/** The longest frame that is sent. */
const FRAME_BYTES_MAX = 65536 + 14;

/**
 * The device behind /dev/vhost-net as Linux has it, between the rings and what
 * VHOST_NET_SET_BACKEND gave them. A frame for the guest goes into one buffer or nowhere, also with
 * MRG_RXBUF; offloads are none. The time is the worker's. Linux: vhost_net.
 */
export class VhostNet implements VhostHandlers {
  /** Frames that went either way. */
  packets = 0;
  readonly #state: VhostState;

  constructor(state: VhostState) {
    this.#state = state;
  }

  handleKick(index: number): void {
    const vq = this.#state.vqs[index];
    if (!(vq?.backend instanceof NetBackendFile) || !vq.prefetch()) return;
    if (index === TX) this.#transmit(vq, vq.backend);
    else if (index === RX) this.#receive(vq, vq.backend);
  }

  get #headerBytes(): number {
    const { features } = this.#state;
    const isNew = hasFeature(features, VIRTIO_F_VERSION_1);
    return isNew || this.#isMergeable ? HEADER_BYTES : LEGACY_HEADER_BYTES;
  }

  get #isMergeable(): boolean {
    return hasFeature(this.#state.features, VIRTIO_NET_F_MRG_RXBUF);
  }

  /** Sends what the guest has put there. Linux: handle_tx_copy(). */
  #transmit(vq: Vq, backend: NetBackendFile): void {
    vq.disableNotify();
    let bytes = 0;
    let count = 0;
    let added = 0;
    do {
      const head = vq.nextDesc();
      if (head < 0) break;
      const length = this.#lengthOf(vq);
      if (length === undefined) {
        vq.vqErr(); // it is gone, and does not come back; the next kick goes on
        break;
      }
      if (length < this.#headerBytes) {
        vq.discardDesc(); // it stays, and is tried again
        break;
      }
      bytes += length;
      this.#send(vq, length, backend);
      vq.addUsed(0);
      if (++added % BATCH === 0) vq.signal();
    } while (!this.#state.exceedsWeight(vq, ++count, bytes));
    if (added > 0) vq.signal();
  }

  /** Bytes of the chain that was popped, header included; `undefined`: it can't be a frame. */
  #lengthOf({ chain }: Vq): number | undefined {
    if (!chain || chain.writable.count > 0) return undefined;
    const { bytes } = chain.readable;
    return bytes > 0 && bytes <= FRAME_BYTES_MAX + HEADER_BYTES ? bytes : undefined;
  }

  #send({ chain }: Vq, length: number, backend: NetBackendFile): void {
    const frame = new Uint8Array(length - this.#headerBytes);
    chain?.readable.read(this.#headerBytes, frame);
    this.packets++;
    backend.transmit(frame);
  }

  /** Puts frames in the guest's buffers. Linux: handle_rx(). */
  #receive(vq: Vq, backend: NetBackendFile): void {
    vq.disableNotify();
    let bytes = 0;
    let count = 0;
    let hasAdded = false;
    for (let frame = backend.peek(); frame; frame = backend.peek()) {
      const head = vq.nextDesc();
      if (head < 0) break;
      const { chain } = vq;
      if (!chain || chain.readable.count > 0 || chain.writable.count === 0) {
        vq.vqErr(); // the buffer is gone, the frame waits for the next kick
        break;
      }
      backend.drop();
      const length = this.#headerBytes + frame.length;
      if (chain.writable.bytes < length) {
        vq.discardDesc(); // the frame is gone, the buffer waits for a shorter one
        continue;
      }
      this.#write(vq, frame);
      hasAdded = true;
      bytes += length;
      if (this.#state.exceedsWeight(vq, ++count, bytes)) break;
    }
    if (hasAdded) vq.signal();
  }

  #write(vq: Vq, frame: Uint8Array): void {
    const header = new Uint8Array(this.#headerBytes);
    if (this.#isMergeable) header[NUM_BUFFERS] = 1;
    vq.chain?.writable.write(0, header);
    vq.chain?.writable.write(header.length, frame);
    this.packets++;
    vq.addUsed(header.length + frame.length);
  }
}
