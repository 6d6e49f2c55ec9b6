import { copyTo } from "../memory/copy.js";
import { VhostError } from "../spec/errno.js";
import { ETH_HLEN, VIRTIO_NET_HDR_BYTES } from "../spec/virtio-net.js";
import type { NetBuffers, NetSendBuffer } from "./net-buffers.js";
import type { Asker, Piece, Queue } from "./queue.js";

/** Frames that go together. */
interface Burst {
  /** Those that the device has not taken. */
  left: number;
  resolve(): void;
  failed(error: VhostError): void;
}

interface Slot {
  readonly buffer: NetSendBuffer;
  readonly piece: Piece;
  readonly pieces: readonly Piece[];
  readonly asker: Asker;
  /** What it is sent with. */
  burst: Burst | undefined;
}

/** Sends frames by a queue: copies them, and knows which buffers the device has. */
export class NetSender {
  readonly #queue: Queue;
  readonly #buffers: NetBuffers;
  readonly #free: Slot[];
  readonly #mtu: number;
  #sent = 0;

  /** All buffers are free. `mtu`: for what is told of a frame that is too long. */
  constructor(queue: Queue, buffers: NetBuffers, mtu: number) {
    this.#queue = queue;
    this.#buffers = buffers;
    this.#free = buffers.tx.map((buffer) => slotOf(buffer, (slot) => this.#taken(slot)));
    this.#mtu = mtu;
  }

  /** Frames that may be sent now. */
  get room(): number {
    return this.#free.length;
  }

  /** Frames that the device has taken. */
  get sent(): number {
    return this.#sent;
  }

  /**
   * Sends them all, in their order, by one kick; resolves when the device has taken them. Rejects,
   * with nothing sent, with EINVAL for what is no frame or too long, ENOBUFS without room; and with
   * the cause when the queue ends.
   */
  async send(frames: readonly Uint8Array[]): Promise<void> {
    for (const frame of frames) this.#check(frame);
    if (frames.length > this.room) {
      const what = `${frames.length} frames, and room for ${this.room}`;
      throw new VhostError("ENOBUFS", `too many frames are under way: await some (${what})`);
    }
    if (frames.length === 0) return;
    await new Promise<void>((resolve, failed) => {
      const burst = { left: frames.length, resolve, failed };
      this.#queue.together(() => {
        for (const frame of frames) this.#put(frame, burst);
      });
    });
  }

  #check(frame: Uint8Array): void {
    if (!(frame instanceof Uint8Array) || frame.length < ETH_HLEN) {
      throw new VhostError("EINVAL", `a frame is a Uint8Array of ${ETH_HLEN} bytes or more`);
    }
    const [buffer] = this.#buffers.tx;
    if (VIRTIO_NET_HDR_BYTES + frame.length > (buffer as NetSendBuffer).length) {
      throw new VhostError("EINVAL", `the frame is longer than the MTU, ${this.#mtu}, allows`);
    }
  }

  #put(frame: Uint8Array, burst: Burst): void {
    const slot = this.#free.pop() as Slot;
    const { bytes } = slot.buffer;
    bytes.fill(0, 0, VIRTIO_NET_HDR_BYTES);
    copyTo(bytes, VIRTIO_NET_HDR_BYTES, frame);
    slot.burst = burst;
    slot.piece.length = VIRTIO_NET_HDR_BYTES + frame.length;
    this.#buffers.send(this.#queue, slot.asker, slot.pieces);
  }

  #taken(slot: Slot): void {
    const { burst } = slot;
    slot.burst = undefined;
    this.#free.push(slot);
    this.#sent++;
    if (burst && --burst.left === 0) burst.resolve();
  }
}

/** A buffer, and what it is handed on with: made once. */
function slotOf(buffer: NetSendBuffer, taken: (slot: Slot) => void): Slot {
  const piece = { address: buffer.address, length: 0 };
  const done = () => taken(slot);
  const failed = (error: VhostError) => slot.burst?.failed(error);
  const slot: Slot = { buffer, piece, pieces: [piece], asker: { done, failed }, burst: undefined };
  return slot;
}
