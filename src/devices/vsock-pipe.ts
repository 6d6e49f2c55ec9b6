import { bufferOf } from "../memory/copy.js";
import { VIRTIO_VSOCK_HEADER_BYTES, VIRTIO_VSOCK_PAYLOAD_BYTES_MAX } from "../spec/virtio-vsock.js";

// Indices of u32 words. One writer each: the writer's side, the reader's.
const WRITTEN_BYTES = 0;
const WRITTEN_PACKETS = 1;
const READ_BYTES = 16;
const READ_PACKETS = 17;
/** Where the packets begin; the two sides' words lie on cache lines of their own. */
const START = 128;
/** A power of two, so that counts may wrap at 2^32. */
const SIZE_BYTES = 1 << 20;
/** Packets in it, at most, however small they are. */
export const VSOCK_PIPE_PACKETS_MAX = 1024;
/** In front of each packet: its generation, and its bytes; 0 bytes: go on at the start. */
const PREFIX_BYTES = 8;

/** The largest packet. */
export const VSOCK_PACKET_BYTES_MAX = VIRTIO_VSOCK_HEADER_BYTES + VIRTIO_VSOCK_PAYLOAD_BYTES_MAX;
const RECORD_BYTES_MAX = recordBytes(VSOCK_PACKET_BYTES_MAX);

/** Aligned to 8, so that a prefix always fits before the end. */
function recordBytes(packetBytes: number): number {
  return (PREFIX_BYTES + packetBytes + 7) & ~7;
}

/**
 * Packets one way between two threads, in memory that neither the owner nor a guest can reach. One
 * thread writes, one reads; neither waits. A packet lies in one piece. Each has the number of the
 * generation that it belongs to: what was written before a reset is known by it.
 */
export class VsockPipe {
  /** Send this to the other thread and make a `VsockPipe` of it there. */
  readonly buffer: SharedArrayBuffer;
  readonly #words: Uint32Array;
  readonly #bytes: Buffer;
  readonly #view: DataView;
  /** Where the packet that is being written begins. */
  #at = 0;
  /** Bytes that it takes, with what was skipped before it. */
  #skipped = 0;

  constructor(buffer = new SharedArrayBuffer(START + SIZE_BYTES)) {
    this.buffer = buffer;
    this.#words = new Uint32Array(buffer, 0, START / 4);
    this.#bytes = bufferOf(new Uint8Array(buffer, START));
    this.#view = new DataView(buffer, START);
  }

  /** How many packets of any size there is room for, at least. */
  get room(): number {
    const used = (this.#load(WRITTEN_BYTES) - this.#load(READ_BYTES)) >>> 0;
    const byBytes = Math.floor((SIZE_BYTES - used) / RECORD_BYTES_MAX) - 1;
    return Math.max(0, Math.min(byBytes, VSOCK_PIPE_PACKETS_MAX - this.packets));
  }

  /** Packets that were written and not read. */
  get packets(): number {
    return (this.#load(WRITTEN_PACKETS) - this.#load(READ_PACKETS)) >>> 0;
  }

  /** A number that each packet written changes. */
  get writtenPackets(): number {
    return this.#load(WRITTEN_PACKETS);
  }

  /** A number that each packet read changes. */
  get readPackets(): number {
    return this.#load(READ_PACKETS);
  }

  #load(word: number): number {
    return Atomics.load(this.#words, word);
  }

  /** Writer: the place for a packet of any size, there being `room` for one. */
  begin(): Buffer {
    const start = this.#load(WRITTEN_BYTES) % SIZE_BYTES;
    const isTooLong = start + RECORD_BYTES_MAX > SIZE_BYTES;
    if (isTooLong) this.#view.setUint32(start + 4, 0, true);
    this.#skipped = isTooLong ? SIZE_BYTES - start : 0;
    this.#at = isTooLong ? 0 : start;
    const from = this.#at + PREFIX_BYTES;
    return this.#bytes.subarray(from, from + VSOCK_PACKET_BYTES_MAX);
  }

  /** Writer: the packet, in the place that `begin` gave, has so many bytes. Publishes it. */
  end(generation: number, bytes: number): void {
    this.#view.setUint32(this.#at, generation, true);
    this.#view.setUint32(this.#at + 4, bytes, true);
    Atomics.add(this.#words, WRITTEN_BYTES, this.#skipped + recordBytes(bytes));
    Atomics.add(this.#words, WRITTEN_PACKETS, 1); // last: pairs with the load of `packets`
  }

  /** Reader: the oldest packet and its generation; its bytes are the reader's until `drop`. */
  peek(): { generation: number; bytes: Buffer } | undefined {
    if (this.packets === 0) return undefined;
    let at = this.#load(READ_BYTES) % SIZE_BYTES;
    if (this.#view.getUint32(at + 4, true) === 0) at = 0;
    const length = this.#view.getUint32(at + 4, true);
    const from = at + PREFIX_BYTES;
    const bytes = this.#bytes.subarray(from, from + length);
    return { generation: this.#view.getUint32(at, true), bytes };
  }

  /** Reader: is done with the oldest packet. */
  drop(): void {
    const start = this.#load(READ_BYTES) % SIZE_BYTES;
    const isSkip = this.#view.getUint32(start + 4, true) === 0;
    const length = this.#view.getUint32((isSkip ? 0 : start) + 4, true);
    Atomics.add(this.#words, READ_PACKETS, 1);
    const skipped = isSkip ? SIZE_BYTES - start : 0;
    Atomics.add(this.#words, READ_BYTES, skipped + recordBytes(length)); // its room is the writer's
  }
}
