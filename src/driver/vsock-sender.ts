import { copyTo } from "../memory/copy.js";
import { VIRTIO_VSOCK_HEADER_BYTES } from "../spec/virtio-vsock.js";
import type { VsockEndpoint } from "../vsock/endpoint.js";
import { writeHeader } from "../vsock/header.js";
import type { Queue } from "./queue.js";
import type { PacketBuffer, PacketHooks, VsockPackets } from "./vsock-packets.js";

/** Sends what the endpoint has to send, as fast as the device takes it. */
export class VsockSender {
  readonly #queue: Queue;
  readonly #endpoint: VsockEndpoint;
  readonly #packets: VsockPackets;
  readonly #free: PacketBuffer[];
  readonly #hooks: PacketHooks;

  /** All buffers are free. */
  constructor(queue: Queue, endpoint: VsockEndpoint, packets: VsockPackets, hooks: PacketHooks) {
    this.#queue = queue;
    this.#endpoint = endpoint;
    this.#packets = packets;
    this.#free = [...packets.tx];
    this.#hooks = hooks;
  }

  /** Sends while there are packets, and buffers for them. */
  work(): void {
    for (let buffer = this.#free.pop(); buffer; buffer = this.#free.pop()) {
      const packet = this.#endpoint.next(buffer.length - VIRTIO_VSOCK_HEADER_BYTES);
      if (!packet) {
        this.#free.push(buffer);
        return;
      }
      const { bytes } = buffer;
      writeHeader(new DataView(bytes.buffer, bytes.byteOffset), 0, packet.header);
      copyTo(bytes, VIRTIO_VSOCK_HEADER_BYTES, packet.payload);
      this.#submit(buffer, VIRTIO_VSOCK_HEADER_BYTES + packet.payload.length);
    }
  }

  #submit(buffer: PacketBuffer, length: number): void {
    const done = () => {
      this.#free.push(buffer);
      this.#hooks.work();
    };
    const out = [{ address: buffer.address, length }];
    this.#packets.put(this.#queue, { done, failed: this.#hooks.gone }, out, []);
  }
}
