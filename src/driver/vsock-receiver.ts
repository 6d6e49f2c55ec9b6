import { VIRTIO_VSOCK_HEADER_BYTES } from "../spec/virtio-vsock.js";
import type { VsockEndpoint } from "../vsock/endpoint.js";
import { readHeader } from "../vsock/header.js";
import type { Queue } from "./queue.js";
import type { PacketBuffer, PacketHooks, VsockPackets } from "./vsock-packets.js";

/**
 * Gives the device buffers, and the endpoint what comes in them. The device may be hostile: a
 * header is copied before it is looked at, and a packet is as long as the device wrote at most.
 */
export class VsockReceiver {
  readonly #queue: Queue;
  readonly #endpoint: VsockEndpoint;
  readonly #packets: VsockPackets;
  /** Buffers that came back and wait for their turn, and the bytes in each. */
  readonly #filled: { buffer: PacketBuffer; bytes: number }[] = [];
  readonly #hooks: PacketHooks;
  readonly #header = new Uint8Array(VIRTIO_VSOCK_HEADER_BYTES);
  readonly #view = new DataView(this.#header.buffer);

  /** Gives the device all buffers. */
  constructor(queue: Queue, endpoint: VsockEndpoint, packets: VsockPackets, hooks: PacketHooks) {
    this.#queue = queue;
    this.#endpoint = endpoint;
    this.#packets = packets;
    this.#hooks = hooks;
    for (const buffer of packets.rx) this.#give(buffer);
  }

  #give(buffer: PacketBuffer): void {
    const done = (bytes: number) => {
      this.#filled.push({ buffer, bytes });
      this.#hooks.work();
    };
    this.#packets.put(this.#queue, { done, failed: this.#hooks.gone }, [], [buffer]);
  }

  /** Hands on what came, while the endpoint takes it, and gives the buffers again. */
  work(): void {
    while (this.#endpoint.canReceive) {
      const filled = this.#filled.shift();
      if (!filled) return;
      this.#receive(filled.buffer, filled.bytes);
      this.#give(filled.buffer);
    }
  }

  #receive({ bytes }: PacketBuffer, written: number): void {
    if (written < VIRTIO_VSOCK_HEADER_BYTES) return;
    this.#header.set(bytes.subarray(0, VIRTIO_VSOCK_HEADER_BYTES));
    const header = readHeader(this.#view);
    const end = VIRTIO_VSOCK_HEADER_BYTES + header.len;
    if (end > Math.min(written, bytes.length)) return;
    this.#endpoint.receive(header, bytes.subarray(VIRTIO_VSOCK_HEADER_BYTES, end));
  }
}
