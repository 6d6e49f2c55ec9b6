import { copyTo } from "../memory/copy.js";
import { VIRTIO_NET_HDR_BYTES, VIRTIO_NET_HDR_NUM_BUFFERS } from "../spec/virtio-net.js";
import type { NetBuffer, NetBuffers } from "./net-buffers.js";
import type { Asker, Piece, Queue } from "./queue.js";

/** What a receiver tells its driver. */
export interface NetReceiverHooks {
  /** A frame: a view that is good during the call. */
  frame(frame: Uint8Array): void;
  /** What the device gave is no packet. */
  bad(): void;
  /** The queue is gone. */
  gone(error: unknown): void;
}

/** A buffer, and what it is handed on with: made once. */
interface Slot {
  readonly buffer: NetBuffer;
  readonly pieces: readonly Piece[];
  readonly asker: Asker;
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
  readonly #held: Slot[] = [];
  #partsLeft = 0;

  /** Gives the device all buffers. */
  constructor(queue: Queue, buffers: NetBuffers, isMergeable: boolean, hooks: NetReceiverHooks) {
    this.#queue = queue;
    this.#buffers = buffers;
    this.#isMergeable = isMergeable;
    this.#hooks = hooks;
    for (const buffer of buffers.rx) this.#give(this.#slot(buffer));
  }

  #slot(buffer: NetBuffer): Slot {
    const done = (written: number) => this.#take(slot, written);
    const slot: Slot = { buffer, pieces: [buffer], asker: { done, failed: this.#hooks.gone } };
    return slot;
  }

  #give({ asker, pieces }: Slot): void {
    this.#buffers.give(this.#queue, asker, pieces);
  }

  #take(slot: Slot, written: number): void {
    if (this.#partsLeft > 0) this.#add(slot, 0, written);
    else {
      this.#partsLeft = this.#countOf(slot.buffer, written);
      if (this.#partsLeft > 1) this.#add(slot, VIRTIO_NET_HDR_BYTES, written);
      else this.#takeWhole(slot, written);
    }
  }

  /** What is a packet in one buffer, or none. */
  #takeWhole(slot: Slot, written: number): void {
    const isPacket = this.#partsLeft === 1;
    this.#partsLeft = 0;
    try {
      if (isPacket) this.#hooks.frame(slot.buffer.bytes.subarray(VIRTIO_NET_HDR_BYTES, written));
      else this.#hooks.bad();
    } finally {
      this.#give(slot);
    }
  }

  #add(slot: Slot, from: number, written: number): void {
    this.#held.push(slot);
    this.#parts.push(slot.buffer.bytes.subarray(from, written));
    if (--this.#partsLeft > 0) return;
    const frame = joined(this.#parts);
    this.#parts = [];
    for (const held of this.#held.splice(0)) this.#give(held);
    this.#hooks.frame(frame);
  }

  /** Of a packet's first buffer: how many it lies in; 0: it is none. */
  #countOf({ bytes }: NetBuffer, written: number): number {
    if (written < VIRTIO_NET_HDR_BYTES) return 0;
    if (!this.#isMergeable) return 1;
    const at = VIRTIO_NET_HDR_NUM_BUFFERS;
    const count = (bytes[at] as number) | ((bytes[at + 1] as number) << 8);
    return count <= this.#buffers.rx.length ? count : 0;
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
