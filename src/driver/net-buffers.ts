import { bufferOf } from "../memory/copy.js";
import type { SharedMemory } from "../memory/shared-memory.js";
import {
  ETH_HLEN,
  VIRTIO_NET_BUFFER_BYTES,
  VIRTIO_NET_HDR_BYTES,
  VLAN_HLEN,
} from "../spec/virtio-net.js";
import { DmaBuffer } from "./dma.js";
import { type Asker, NO_PIECES, type Piece, type Queue } from "./queue.js";

/** Packets under way in each direction, at most. */
const BUFFERS_MAX = 256;
const ALIGN = 64;
/** So few of them, whatever memory is free. */
const BUFFERS_MIN = 4;
/** All of them take no more than this part of it, unless they are few already. */
const MEMORY_PART = 1 / 2;

/** A buffer of a packet: its bytes, and where they are. */
export interface NetBuffer extends Piece {
  bytes: Uint8Array;
}

/** One for a packet to the device. */
export interface NetSendBuffer extends NetBuffer {
  bytes: Buffer;
}

/** The memory of all packets that a driver and its device pass to one another. */
export class NetBuffers {
  /** For packets from the device. */
  readonly rx: readonly NetBuffer[];
  /** For packets to the device. */
  readonly tx: readonly NetSendBuffer[];
  readonly #memory: DmaBuffer;

  /**
   * `num`: entries of the smaller queue. `mtu`: of the largest packet to send. `rxBytes`: of a
   * buffer to receive, unless it is for `mtu`. Throws ENOMEM.
   */
  constructor(shared: SharedMemory, num: number, mtu: number, rxBytes?: number) {
    const forMtu = VIRTIO_NET_HDR_BYTES + ETH_HLEN + VLAN_HLEN + mtu;
    const whole = Math.max(VIRTIO_NET_BUFFER_BYTES, forMtu);
    const rxLength = rxBytes ?? whole;
    const rxStride = Math.ceil(rxLength / ALIGN) * ALIGN;
    const txStride = Math.ceil(whole / ALIGN) * ALIGN;
    const most = (shared.guest.freeBytes * MEMORY_PART) / (rxStride + txStride);
    let count = Math.min(BUFFERS_MAX, num);
    while (count > BUFFERS_MIN && count > most) count = Math.ceil(count / 2);
    this.#memory = new DmaBuffer(shared, count * (rxStride + txStride), ALIGN);
    const numbers = Array.from({ length: count }, (_, i) => i);
    this.rx = numbers.map((i) => this.#cut(i * rxStride, rxLength));
    this.tx = numbers.map((i) => {
      const buffer = this.#cut(count * rxStride + i * txStride, whole);
      return { ...buffer, bytes: bufferOf(buffer.bytes) };
    });
  }

  #cut(offset: number, length: number): NetBuffer {
    const { address, bytes } = this.#memory;
    return { address: address + offset, length, bytes: bytes.subarray(offset, offset + length) };
  }

  /** Hands the device one of `rx` to write; see `Queue.put`. */
  give(queue: Queue, asker: Asker, pieces: readonly Piece[]): void {
    queue.put(asker, NO_PIECES, pieces, this.#memory);
  }

  /** Hands the device one of `tx` to read; see `Queue.put`. */
  send(queue: Queue, asker: Asker, pieces: readonly Piece[]): void {
    queue.put(asker, pieces, NO_PIECES, this.#memory);
  }

  /** Gives the memory back; as long as the device has some of it, when that is over. */
  release(): void {
    this.#memory.free();
  }
}
