import { OpenFile } from "../../kernel/files.js";

/** Frames for the guest that wait; further ones are dropped. Linux: a tap's tx_queue_len. */
const FRAMES_MAX = 500;
/** Bytes of the longest frame. */
export const FRAME_BYTES_MAX = 65536 + 14;

/**
 * What a ring of vhost-net can work for: a tap, or a raw packet socket. Frames are Ethernet's,
 * without a virtio header. Kernel's thread.
 */
export class NetBackendFile extends OpenFile {
  /** A frame of the guest's is on the wire. */
  readonly transmit: (frame: Uint8Array) => void;
  readonly #frames: Uint8Array[] = [];
  readonly #waiters = new Set<() => void>();

  /** `release` is called at the last close, `transmit` with each frame that the guest sends. */
  constructor(release: () => void, transmit: (frame: Uint8Array) => void = () => {}) {
    super(release);
    this.transmit = transmit;
  }

  /** A frame for the guest, which is copied. False: it is dropped, too many wait, or too long. */
  receive(frame: Uint8Array): boolean {
    if (this.#frames.length >= FRAMES_MAX || frame.length > FRAME_BYTES_MAX) return false;
    this.#frames.push(frame.slice());
    for (const waiter of [...this.#waiters]) waiter();
    return true;
  }

  /** The frame that has waited longest. */
  peek(): Uint8Array | undefined {
    return this.#frames[0];
  }

  /** These wait again, in front of all others. */
  putBack(frames: readonly Uint8Array[]): void {
    this.#frames.unshift(...frames);
  }

  /** It does not wait any more. */
  drop(): void {
    this.#frames.shift();
  }

  /** Calls `waiter` when a frame comes, in its sender's context. */
  onFrame(waiter: () => void): void {
    this.#waiters.add(waiter);
  }

  /** Not any more. */
  offFrame(waiter: () => void): void {
    this.#waiters.delete(waiter);
  }
}
