import { hasFeature } from "../spec/features.js";
import { VIRTIO_F_VERSION_1 } from "../spec/virtio-config.js";
import { VIRTIO_NET_F_MRG_RXBUF, VIRTIO_NET_HDR_BYTES } from "../spec/virtio-net.js";
import { VIRTQ_SIZE_MAX } from "../spec/virtio-ring.js";
import { callUser } from "../vhost/call-user.js";
import type { BackingEnd, VhostBacking } from "../vhost/ioctl/backing.js";
import type { NetBackendFile } from "../vhost/ioctl/net-backend.js";
import type { VhostState } from "../vhost/ioctl/state.js";
import type { Vq } from "../vhost/ioctl/vq.js";
import { createDevice, type VhostNetSettings } from "./vhost-net-device.js";
import { VhostNetLink } from "./vhost-net-link.js";

const RX = 0;
const TX = 1;
/** Frames of the guest's that one turn of the event loop carries. */
const FRAMES_A_TURN = 256;
/** Bytes of the header before a frame without `num_buffers`. virtio 1.3, 5.1.6. */
const LEGACY_HEADER_BYTES = 10;

/**
 * What is behind /dev/vhost-net in the kernel's thread: carries frames between the back-ends' files
 * and the device in its owner's worker. Kernel's thread. Linux: vhost_net.
 */
export class VhostNet implements VhostBacking {
  readonly module = new URL("./vhost-net-device.js", import.meta.url).href;
  readonly createDevice = createDevice;
  readonly #state: VhostState;
  #link: VhostNetLink | undefined;
  /** What each ring works for, once all that was for another is done. */
  readonly #files: (NetBackendFile | undefined)[] = [];

  constructor(state: VhostState) {
    this.#state = state;
  }

  open(): BackingEnd {
    const link = new VhostNetLink();
    this.#link = link;
    this.featuresSet(this.#state.features);
    let isClosed = false;
    void link.hostBell.answer(
      () => this.#work(link),
      () => isClosed,
    );
    return {
      options: { queueSize: VIRTQ_SIZE_MAX, link: link.buffers } satisfies VhostNetSettings,
      work: () => this.#work(link),
      close: () => {
        isClosed = true;
        this.#link = undefined;
        link.hostBell.ring(); // ends the wait
      },
    };
  }

  featuresSet(features: bigint): void {
    const isMergeable = hasFeature(features, VIRTIO_NET_F_MRG_RXBUF);
    const isNew = hasFeature(features, VIRTIO_F_VERSION_1) || isMergeable;
    this.#link?.setHeader(isNew ? VIRTIO_NET_HDR_BYTES : LEGACY_HEADER_BYTES, isMergeable);
  }

  backendSet(index: number, old: NetBackendFile | null, now: NetBackendFile | null): void {
    const link = this.#link;
    const change = () => {
      if (old && link) this.#leave(index, link, old);
      if (index === RX) now?.onFrame(this.#onFrame);
      this.#files[index] = now ?? undefined;
      old?.put();
      if (link) this.#feed(link);
    };
    if (old) this.#vq(index).pause(change);
    else change();
  }

  /** All that the ring has had to do with `old` is done; the worker is not at it. */
  #leave(index: number, link: VhostNetLink, old: NetBackendFile): void {
    if (index === RX) {
      old.offFrame(this.#onFrame);
      unfeed(link, old);
    } else while (this.#send(link, old)) {}
  }

  readonly #onFrame = () => {
    if (this.#link) this.#feed(this.#link);
  };

  #vq(index: number): Vq {
    return this.#state.vqs[index] as Vq;
  }

  /** What is on its way, either way. */
  #work(link: VhostNetLink): boolean {
    const hasSent = this.#send(link, this.#files[TX]);
    return this.#feed(link) || hasSent;
  }

  /** Frames of the guest's go out. */
  #send(link: VhostNetLink, backend: NetBackendFile | undefined): boolean {
    const { toWire } = link;
    const transmit = (frame: Uint8Array) => backend?.transmit(frame);
    let sent = 0;
    for (; backend && sent < FRAMES_A_TURN && toWire.peek(); sent++) {
      const frame = toWire.bytes.slice(toWire.at, toWire.at + toWire.length);
      toWire.drop(); // first: what it brings about may come back here
      callUser(transmit, frame);
    }
    if (sent > 0 && link.stalled.ring()) this.#state.queue(this.#vq(TX));
    return sent > 0;
  }

  /** Frames that wait at the back-end go to where the device finds them, as there is room. */
  #feed({ toGuest }: VhostNetLink): boolean {
    const backend = this.#files[RX];
    let isFed = false;
    for (let frame = backend?.peek(); frame; frame = backend?.peek()) {
      const at = toGuest.begin(frame.length);
      if (at < 0) break;
      toGuest.bytes.set(frame, at);
      toGuest.end();
      backend?.drop();
      isFed = true;
    }
    if (isFed) this.#state.queue(this.#vq(RX));
    return isFed;
  }
}

/** What the guest has not got waits at the back-end again. The worker is not at the ring. */
function unfeed({ toGuest }: VhostNetLink, backend: NetBackendFile): void {
  const frames: Uint8Array[] = [];
  for (; toGuest.peek(); toGuest.drop()) {
    frames.push(toGuest.bytes.slice(toGuest.at, toGuest.at + toGuest.length));
  }
  backend.putBack(frames);
}
