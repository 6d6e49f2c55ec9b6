import { ETH_HLEN, ETH_MAX_MTU, VIRTIO_NET_HDR_BYTES, VLAN_HLEN } from "../spec/virtio-net.js";

// Indices of u32 words. One writer each: the writer's side, the reader's.
const WRITTEN = 0;
const READ = 16;
/** Where the packets begin; the two sides' words lie on cache lines of their own. */
const START = 128;
/** In front of each packet: its bytes, or SKIP. */
const PREFIX_BYTES = 8;
/** Packets are aligned to so many bytes. */
export const RECORD_ALIGN = 8;
/** In the place of a packet's bytes: go on at the start. */
const SKIP = 0xffff_ffff;

/** The least packet: its header, and a frame's. */
export const NET_PACKET_BYTES_MIN = VIRTIO_NET_HDR_BYTES + ETH_HLEN;
/** The largest packet, its header included. */
export const NET_PACKET_BYTES_MAX = VIRTIO_NET_HDR_BYTES + ETH_HLEN + VLAN_HLEN + ETH_MAX_MTU;
/** The least bytes of a pipe: the largest packet finds room in an empty one, wherever that is. */
export const NET_PIPE_BYTES_MIN = 1 << 18;

/** Bytes of a pipe that a packet takes. */
export function recordBytes(packetBytes: number): number {
  return (PREFIX_BYTES + packetBytes + RECORD_ALIGN - 1) & ~(RECORD_ALIGN - 1);
}

/** Bytes of shared memory that a pipe takes. `sizeBytes`: a power of two. */
export function netPipeBytes(sizeBytes: number): number {
  return START + sizeBytes;
}

/**
 * Packets one way between two threads, in memory that neither the owner nor a guest can reach. One
 * thread writes, one reads; neither waits, and there is no lock that one who is killed or stopped
 * could hold. A packet, `struct virtio_net_hdr` first, lies in one piece of `bytes`.
 */
export class NetPipe {
  /** Where packets lie. */
  readonly bytes: Uint8Array<SharedArrayBuffer>;
  /** Reader, after `peek`: where in `bytes` the oldest packet is, and its length. */
  at = 0;
  length = 0;
  readonly #words: Uint32Array<SharedArrayBuffer>;
  readonly #prefixes: Uint32Array<SharedArrayBuffer>;
  readonly #sizeBytes: number;
  /** Where the packet that is being written begins, and where the next one will. */
  #writeAt = 0;
  #nextWritten = 0;

  /** `sizeBytes`: a power of two, NET_PIPE_BYTES_MIN at least. `start`: offset in `buffer`. */
  constructor(buffer: SharedArrayBuffer, sizeBytes: number, start = 0) {
    this.#sizeBytes = sizeBytes;
    this.#words = new Uint32Array(buffer, start, START / 4);
    this.bytes = new Uint8Array(buffer, start + START, sizeBytes);
    this.#prefixes = new Uint32Array(buffer, start + START, sizeBytes / 4);
  }

  #load(word: number): number {
    return Atomics.load(this.#words, word);
  }

  /** A number that each packet written changes. */
  get written(): number {
    return this.#load(WRITTEN);
  }

  /** Whether nothing was written that was not read. */
  get isEmpty(): boolean {
    return this.#load(WRITTEN) === this.#load(READ);
  }

  /** How many packets of any size there is room for, at least. */
  get room(): number {
    return this.roomFor(recordBytes(NET_PACKET_BYTES_MAX));
  }

  /** How many times there is room for records that take `bytes` together, at least. */
  roomFor(bytes: number): number {
    const used = (this.#load(WRITTEN) - this.#load(READ)) >>> 0;
    return Math.max(0, Math.floor((this.#sizeBytes - used) / bytes) - 1);
  }

  /**
   * Writer: the place in `bytes` for a packet of `length` bytes, NET_PACKET_BYTES_MAX at most; -1
   * when there is none. A packet that is not ended is not there.
   */
  begin(length: number): number {
    const written = this.#load(WRITTEN);
    const start = written & (this.#sizeBytes - 1);
    const record = recordBytes(length);
    const skipped = start + record > this.#sizeBytes ? this.#sizeBytes - start : 0;
    const used = (written - this.#load(READ)) >>> 0;
    if (used + skipped + record > this.#sizeBytes) return -1;
    if (skipped > 0) this.#prefixes[start >>> 2] = SKIP;
    this.#writeAt = skipped > 0 ? 0 : start;
    this.#prefixes[this.#writeAt >>> 2] = length;
    this.#nextWritten = (written + skipped + record) >>> 0;
    return this.#writeAt + PREFIX_BYTES;
  }

  /** Writer: the packet is in the place that `begin` gave. Publishes it. */
  end(): void {
    Atomics.store(this.#words, WRITTEN, this.#nextWritten); // last: pairs with the load in `peek`
  }

  /** Reader: shows the oldest packet by `at` and `length`, until `drop`. False: there is none. */
  peek(): boolean {
    if (this.isEmpty) return false;
    let at = this.#load(READ) & (this.#sizeBytes - 1);
    if (this.#prefixes[at >>> 2] === SKIP) at = 0;
    this.at = at + PREFIX_BYTES;
    this.length = this.#prefixes[at >>> 2] as number;
    return true;
  }

  /** Reader: how many packets there are, counted up to `max`. */
  count(max: number): number {
    const written = this.#load(WRITTEN);
    let read = this.#load(READ);
    let packets = 0;
    while (read !== written && packets < max) {
      const start = read & (this.#sizeBytes - 1);
      const prefix = this.#prefixes[start >>> 2] as number;
      if (prefix === SKIP) {
        read = (read + this.#sizeBytes - start) >>> 0;
        continue;
      }
      read = (read + recordBytes(prefix)) >>> 0;
      packets++;
    }
    return packets;
  }

  /** Reader: is done with the packet that `peek` showed. */
  drop(): void {
    const read = this.#load(READ);
    const start = read & (this.#sizeBytes - 1);
    const skipped = this.#prefixes[start >>> 2] === SKIP ? this.#sizeBytes - start : 0;
    const next = (read + skipped + recordBytes(this.length)) >>> 0;
    Atomics.store(this.#words, READ, next); // its room is the writer's
  }
}
