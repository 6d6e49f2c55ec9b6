import { eventfdWaker } from "../kernel/eventfd-waker.js";
import type { Waker } from "../kernel/wait.js";
import { VIRTIO_NET_HDR_BYTES } from "../spec/virtio-net.js";
import { callUser } from "../vhost/call-user.js";
import type { DeviceHost } from "../vhost/device.js";
import { NetLink, PLAIN_HEADER } from "./net-link.js";

/** Packets that one turn of the event loop takes. */
const PACKETS_A_TURN = 256;

/** A user's end of a device's packets, in the opening thread. */
export class NetHost {
  readonly #link = new NetLink();
  readonly #waker: Waker;
  readonly #onPacket: (frame: Uint8Array) => void;
  #isDue = false;
  #isClosed = false;

  /** Begins at once. `onPacket`: gets each frame as a view that is good during the call. */
  constructor(host: DeviceHost, onPacket: (frame: Uint8Array) => void) {
    this.#waker = eventfdWaker(host.worker.words, host.wakeFd);
    this.#onPacket = onPacket;
    void this.#link.hostBell.answer(
      () => this.#take(),
      () => this.#isClosed,
    );
  }

  /** For the device. */
  get buffers() {
    return this.#link.buffers;
  }

  /** Copies a frame for the guest. False: there is no room now. */
  send(frame: Uint8Array): boolean {
    const { toGuest } = this.#link;
    const at = toGuest.begin(VIRTIO_NET_HDR_BYTES + frame.length);
    if (at < 0) return false;
    toGuest.bytes.set(PLAIN_HEADER, at);
    toGuest.bytes.set(frame, at + VIRTIO_NET_HDR_BYTES);
    toGuest.end();
    this.#wakeSoon();
    return true;
  }

  /** Once for all that one turn brings. */
  #wakeSoon(): void {
    if (this.#isDue) return;
    this.#isDue = true;
    queueMicrotask(() => {
      this.#isDue = false;
      this.#link.bell.wake(this.#waker);
    });
  }

  /** Hands on what has come. */
  #take(): boolean {
    const { toHost, bell } = this.#link;
    let taken = 0;
    for (; taken < PACKETS_A_TURN && !this.#isClosed && toHost.peek(); taken++) {
      const { bytes, at, length } = toHost;
      callUser(this.#onPacket, bytes.subarray(at + VIRTIO_NET_HDR_BYTES, at + length));
      toHost.drop();
    }
    if (taken > 0) bell.wake(this.#waker); // it may wait for room
    return taken > 0;
  }

  /** The device is gone. Idempotent. */
  close(): void {
    this.#isClosed = true;
    this.#link.hostBell.ring(); // ends the wait
  }
}
