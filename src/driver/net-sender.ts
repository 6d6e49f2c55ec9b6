import { copyTo } from "../memory/copy.js";
import { VhostError } from "../spec/errno.js";
import { ETH_HLEN, VIRTIO_NET_HDR_BYTES } from "../spec/virtio-net.js";
import type { NetBuffers, NetSendBuffer } from "./net-buffers.js";
import type { Queue } from "./queue.js";

/** Sends frames by a queue: copies them, and knows which buffers the device has. */
export class NetSender {
  readonly #queue: Queue;
  readonly #buffers: NetBuffers;
  readonly #free: NetSendBuffer[];
  readonly #mtu: number;
  #sent = 0;

  /** All buffers are free. `mtu`: for what is told of a frame that is too long. */
  constructor(queue: Queue, buffers: NetBuffers, mtu: number) {
    this.#queue = queue;
    this.#buffers = buffers;
    this.#free = [...buffers.tx];
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
    await new Promise<void>((resolve, failed) => {
      let left = frames.length;
      const taken = () => {
        if (--left === 0) resolve();
      };
      this.#queue.together(() => {
        for (const frame of frames) this.#put(frame, taken, failed);
      });
      if (left === 0) resolve(); // there were none
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

  #put(frame: Uint8Array, taken: () => void, failed: (error: VhostError) => void): void {
    const buffer = this.#free.pop() as NetSendBuffer;
    const { bytes, address } = buffer;
    bytes.fill(0, 0, VIRTIO_NET_HDR_BYTES);
    copyTo(bytes, VIRTIO_NET_HDR_BYTES, frame);
    const done = () => {
      this.#free.push(buffer);
      this.#sent++;
      taken();
    };
    const length = VIRTIO_NET_HDR_BYTES + frame.length;
    this.#buffers.put(this.#queue, { done, failed }, [{ address, length }], []);
  }
}
