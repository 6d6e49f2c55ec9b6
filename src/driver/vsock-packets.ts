import { bufferOf } from "../memory/copy.js";
import type { SharedMemory } from "../memory/shared-memory.js";
import type { VhostError } from "../spec/errno.js";
import {
  VIRTIO_VSOCK_EVENT_BYTES,
  VIRTIO_VSOCK_HEADER_BYTES,
  VIRTIO_VSOCK_PAYLOAD_BYTES_MAX,
} from "../spec/virtio-vsock.js";
import { DmaBuffer } from "./dma.js";
import type { Asker, Piece, Queue } from "./queue.js";

/** Packets under way in each direction, at most. */
const PACKETS_MAX = 64;
/** What they carry at most: a power of two between these, by the memory that is free. */
const PAYLOAD_BYTES_MIN = 4096;
const PAYLOAD_BYTES_MAX = VIRTIO_VSOCK_PAYLOAD_BYTES_MAX;
/** All of them take no more than this part of it, unless they are the smallest already. */
const MEMORY_PART = 1 / 4;
/** Events that can come before we have seen the first. */
const EVENTS = 4;
/** Headers and events lie on cache lines of their own. */
const ALIGN = 64;

/** A buffer of a packet or an event: its bytes, and where they are. */
export interface PacketBuffer extends Piece {
  bytes: Buffer;
}

/** What receiver and sender need of the driver. */
export interface PacketHooks {
  /** There is something to do: `work` of both is to be called, now or later. */
  work(): void;
  /** The queue is gone. */
  gone(error: VhostError): void;
}

/** The memory of all packets and events that a driver and its device pass to one another. */
export class VsockPackets {
  /** For packets from the device. */
  readonly rx: readonly PacketBuffer[];
  /** For packets to the device. */
  readonly tx: readonly PacketBuffer[];
  /** For events. */
  readonly events: readonly PacketBuffer[];
  readonly #memory: DmaBuffer;

  /** `num`: entries of the smaller queue. Throws ENOMEM. */
  constructor(shared: SharedMemory, num: number) {
    const count = Math.min(PACKETS_MAX, num);
    const most = (shared.guest.freeBytes * MEMORY_PART) / (2 * count);
    let payloadBytes = PAYLOAD_BYTES_MAX;
    while (payloadBytes > PAYLOAD_BYTES_MIN && payloadBytes > most) payloadBytes /= 2;
    const strideBytes = payloadBytes + ALIGN;
    const packetBytes = payloadBytes + VIRTIO_VSOCK_HEADER_BYTES;
    const packetsBytes = 2 * count * strideBytes;
    this.#memory = new DmaBuffer(shared, packetsBytes + EVENTS * ALIGN, ALIGN);
    const packets = Array.from({ length: 2 * count }, (_, i) =>
      this.#cut(i * strideBytes, packetBytes),
    );
    this.rx = packets.slice(0, count);
    this.tx = packets.slice(count);
    this.events = Array.from({ length: EVENTS }, (_, i) =>
      this.#cut(packetsBytes + i * ALIGN, VIRTIO_VSOCK_EVENT_BYTES),
    );
  }

  #cut(offset: number, length: number): PacketBuffer {
    const { address, bytes } = this.#memory;
    const part = bufferOf(bytes.subarray(offset, offset + length));
    return { address: address + offset, length, bytes: part };
  }

  /** Hands the device one of them to read or to write; see `Queue.submit`. */
  submit(queue: Queue, out: readonly Piece[], in_: readonly Piece[]): Promise<number> {
    return queue.submit(out, in_, this.#memory);
  }

  /** As `submit`, without a promise; see `Queue.put`. */
  put(queue: Queue, asker: Asker, out: readonly Piece[], in_: readonly Piece[]): void {
    queue.put(asker, out, in_, this.#memory);
  }

  /** Gives the memory back; as long as the device has some of it, when that is over. */
  release(): void {
    this.#memory.free();
  }
}
