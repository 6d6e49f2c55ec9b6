import { copyTo } from "../memory/copy.js";
import { VIRTIO_NET_HDR_BYTES, VIRTIO_NET_HDR_NUM_BUFFERS } from "../spec/virtio-net.js";
import type { NetBuffer, NetBuffers } from "./net-buffers.js";
import type { Queue } from "./queue.js";

/** What a receiver tells its driver. */
export interface NetReceiverHooks {
  /** A frame: a view that is good during the call. */
  frame(frame: Uint8Array): void;
  /** What the device gave is no packet. */
  bad(): void;
  /** The queue is gone. */
  gone(error: unknown): void;
}

/**
 * Gives the device buffers and takes packets out of them; a packet may lie in several. The device
 * may be hostile: no buffer holds more than it has room for, no packet has more buffers than there
 * are. virtio 1.3, 5.1.6.4 Processing of Incoming Packets.
 */
export class NetReceiver {
  readonly #queue: Queue;
  readonly #buffers: NetBuffers;
  readonly #hooks: NetReceiverHooks;
  readonly #isMergeable: boolean;
  /** Of a packet that is not whole yet. */
  #parts: Uint8Array[] = [];
  #held: NetBuffer[] = [];
  #partsLeft = 0;

  /** Gives the device all buffers. */
  constructor(queue: Queue, buffers: NetBuffers, isMergeable: boolean, hooks: NetReceiverHooks) {
    this.#queue = queue;
    this.#buffers = buffers;
    this.#isMergeable = isMergeable;
    this.#hooks = hooks;
    for (const buffer of buffers.rx) this.#give(buffer);
  }

  #give(buffer: NetBuffer): void {
    const done = (bytes: number) => this.#take(buffer, bytes);
    this.#buffers.put(this.#queue, { done, failed: this.#hooks.gone }, [], [buffer]);
  }

  #take(buffer: NetBuffer, written: number): void {
    const { bytes } = buffer;
    this.#held.push(buffer);
    try {
      if (this.#partsLeft === 0 && !this.#begin(bytes, written)) this.#hooks.bad();
      else this.#add(bytes, written);
    } finally {
      const isWhole = this.#partsLeft === 0;
      if (isWhole) for (const held of this.#held.splice(0)) this.#give(held);
    }
  }

  #add(bytes: Uint8Array, written: number): void {
    const from = this.#parts.length === 0 ? VIRTIO_NET_HDR_BYTES : 0;
    this.#parts.push(bytes.subarray(from, written));
    if (--this.#partsLeft === 0) this.#deliver();
  }

  /** The first buffer of a packet. False: it is none. */
  #begin(bytes: Uint8Array, written: number): boolean {
    if (written < VIRTIO_NET_HDR_BYTES) return false;
    const at = VIRTIO_NET_HDR_NUM_BUFFERS;
    const count = (bytes[at] as number) | ((bytes[at + 1] as number) << 8);
    this.#partsLeft = this.#isMergeable ? count : 1;
    if (this.#partsLeft >= 1 && this.#partsLeft <= this.#buffers.rx.length) return true;
    this.#partsLeft = 0;
    return false;
  }

  #deliver(): void {
    const [first] = this.#parts;
    const frame = this.#parts.length === 1 && first ? first : joined(this.#parts);
    this.#parts = [];
    this.#hooks.frame(frame);
  }
}

function joined(parts: readonly Uint8Array[]): Buffer {
  const all = Buffer.allocUnsafe(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    copyTo(all, at, part);
    at += part.length;
  }
  return all;
}
