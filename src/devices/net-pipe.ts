import { NET_RECORD_PREFIX_BYTES, recordBytes } from "../spec/net-record.js";
import { ETH_HLEN, ETH_MAX_MTU, VIRTIO_NET_HDR_BYTES, VLAN_HLEN } from "../spec/virtio-net.js";
import type { NetBurst, NetPackets, NetStage, NetStageUser } from "./net-stage.js";

// Indices of u32 words. One writer each: the writer's side, the reader's.
const WRITTEN = 0;
const READ = 16;
/** Where the packets begin; the two sides' words lie on cache lines of their own. */
const START = 128;
/** In the place of a packet's bytes, in front of it: go on at the start. */
const SKIP = 0xffff_ffff;

/** The largest packet, its header included. */
export const NET_PACKET_BYTES_MAX = VIRTIO_NET_HDR_BYTES + ETH_HLEN + VLAN_HLEN + ETH_MAX_MTU;
/** The least bytes of a pipe: the largest packet finds room in an empty one, wherever that is. */
export const NET_PIPE_BYTES_MIN = 1 << 18;

/** Bytes of shared memory that a pipe takes. `sizeBytes`: a power of two. */
export function netPipeBytes(sizeBytes: number): number {
  return START + sizeBytes;
}

/** So few bytes are not worth a stage. */
const STAGED_BYTES_MIN = 512;
/** With less room, a stage is emptied: a packet of the usual largest size may find none. */
const STAGED_ROOM_MIN = 2048;
/** In the place of where a record is in the stage: it is in the pipe. */
const IN_PIPE = -1;

/**
 * Packets one way between two threads, in memory that neither the owner nor a guest can reach. One
 * thread writes, one reads; neither waits, and there is no lock that one who is killed or stopped
 * could hold. A packet, `struct virtio_net_hdr` first, lies in one piece of `bytes`. Either side
 * may have a stage, by which packets that follow one another are copied together; a writer who has
 * one must call `flush`.
 */
export class NetPipe implements NetStageUser {
  /** Where the packet lies that `peek` showed or `begin` has begun. */
  bytes: Uint8Array;
  /** Reader, after `peek`: where in `bytes` the oldest packet is, and its length. */
  at = 0;
  length = 0;
  /** After `put` or `take`: bytes of the packets that were moved. */
  moved = 0;
  readonly #words: Uint32Array<SharedArrayBuffer>;
  readonly #pipe: Uint8Array<SharedArrayBuffer>;
  /** The same, for its `fill`; with a stage. */
  readonly #block: Buffer;
  readonly #prefixes: Uint32Array<SharedArrayBuffer>;
  readonly #sizeBytes: number;
  readonly #stage: NetStage | undefined;
  /** Bytes in the stage: of whole packets not yet in the pipe; of the pipe's, some read by now. */
  #stagedBytes = 0;
  /** What the stage's first byte is: writer: where in the pipe; reader: as READ counts. */
  #stagedAt = 0;
  /** Writer: where the packet that is being written is, in the stage or not, and its record. */
  #place = IN_PIPE;
  #record = 0;
  /** Writer: what WRITTEN will be with it; and with those that are in the stage. */
  #nextWritten = 0;
  #ended = 0;
  /** Writer: READ as it was last seen. */
  #seenRead: number;
  /** The stage is a reader's. Then, what READ will be, and without the packet that is shown. */
  #isReader = false;
  #read = 0;
  #nextRead = 0;

  /** `sizeBytes`: a power of two, NET_PIPE_BYTES_MIN at least. `start`: offset in `buffer`. */
  constructor(buffer: SharedArrayBuffer, sizeBytes: number, start = 0, stage?: NetStage) {
    this.#sizeBytes = sizeBytes;
    this.#stage = stage;
    this.#words = new Uint32Array(buffer, start, START / 4);
    this.#pipe = new Uint8Array(buffer, start + START, sizeBytes);
    this.#block = Buffer.from(buffer as unknown as ArrayBuffer, start + START, sizeBytes);
    this.#prefixes = new Uint32Array(buffer, start + START, sizeBytes / 4);
    this.bytes = this.#pipe;
    this.#seenRead = this.#load(READ);
  }

  #load(word: number): number {
    return Atomics.load(this.#words, word);
  }

  /** Reader: a number that each packet written changes. */
  get written(): number {
    return this.#load(WRITTEN);
  }

  /** Reader: whether nothing was written that was not read. */
  get isEmpty(): boolean {
    return this.#load(WRITTEN) === this.#begin;
  }

  /** Reader: from where packets are not read. */
  get #begin(): number {
    return this.#stagedBytes > 0 ? this.#read : this.#load(READ);
  }

  /** Writer: up to where packets are ended. */
  get #end(): number {
    return this.#stagedBytes > 0 ? this.#ended : this.#load(WRITTEN);
  }

  /** Writer: how many packets of any size there is room for, at least. */
  get room(): number {
    return this.roomFor(recordBytes(NET_PACKET_BYTES_MAX));
  }

  /** Writer: how many times there is room for records that take `bytes` together, at least. */
  roomFor(bytes: number): number {
    const used = (this.#end - this.#load(READ)) >>> 0;
    return Math.max(0, Math.floor((this.#sizeBytes - used) / bytes) - 1);
  }

  /**
   * Writer: the place in `bytes` for a packet of `length` bytes, NET_PACKET_BYTES_MAX at most; -1
   * when there is none. A packet that is not ended is not there.
   */
  begin(length: number): number {
    const record = recordBytes(length);
    const start = this.#startOf(this.#end, record);
    if (start < 0) return -1;
    this.#nextWritten = (start + record) >>> 0;
    this.#record = record;
    return this.#put(start & (this.#sizeBytes - 1), length);
  }

  /**
   * Where a record goes behind `end`, both as WRITTEN counts: at once, or at the pipe's start, and
   * what is left before is marked. -1: there is no room.
   */
  #startOf(end: number, record: number): number {
    const at = end & (this.#sizeBytes - 1);
    const rest = this.#sizeBytes - at;
    if (record <= rest) return this.#hasRoom(end, record) ? end : -1;
    if (!this.#hasRoom(end, rest + record)) return -1;
    this.flush();
    this.#prefixes[at >>> 2] = SKIP;
    return (end + rest) >>> 0;
  }

  #hasRoom(end: number, bytes: number): boolean {
    if (((end - this.#seenRead) >>> 0) + bytes <= this.#sizeBytes) return true;
    this.#seenRead = this.#load(READ);
    return ((end - this.#seenRead) >>> 0) + bytes <= this.#sizeBytes;
  }

  /** Writes the packet's length before it. */
  #put(at: number, length: number): number {
    const stage = this.#stage;
    this.#place = stage ? this.#placeIn(stage, at, this.#record) : IN_PIPE;
    if (stage && this.#place !== IN_PIPE) {
      this.bytes = stage.bytes;
      stage.words[this.#place >>> 2] = length;
      return this.#place + NET_RECORD_PREFIX_BYTES;
    }
    this.bytes = this.#pipe;
    this.#prefixes[at >>> 2] = length;
    return at + NET_RECORD_PREFIX_BYTES;
  }

  /** Where in the stage a record goes whose place in the pipe is `at`, or IN_PIPE. */
  #placeIn(stage: NetStage, at: number, record: number): number {
    if (stage.user !== this) stage.user?.flush();
    stage.user = this;
    const isRound = at === 0 && this.#stagedBytes > 0; // what is staged ends where the pipe does
    if (isRound || this.#stagedBytes + record > stage.bytes.length) this.flush();
    if (record > stage.bytes.length) return IN_PIPE;
    if (this.#stagedBytes === 0) this.#stagedAt = at;
    return this.#stagedBytes;
  }

  /** Writer: the packet is in the place that `begin` gave. Publishes it, unless it is staged. */
  end(): void {
    if (this.#place === IN_PIPE) {
      Atomics.store(this.#words, WRITTEN, this.#nextWritten); // last: pairs with the load in `peek`
      return;
    }
    this.#stagedBytes += this.#record;
    this.#ended = this.#nextWritten;
  }

  /** With a stage: publishes what was written there, or that it was read. */
  flush(): void {
    if (this.#stagedBytes === 0) return;
    if (this.#isReader) Atomics.store(this.#words, READ, this.#read);
    else this.#copyOut(this.#stage as NetStage);
  }

  #copyOut(stage: NetStage): void {
    const at = this.#stagedAt;
    const bytes = this.#stagedBytes;
    this.#block.fill(stage.bytes.subarray(0, bytes), at, at + bytes); // of as many: one memcpy()
    this.#stagedBytes = 0;
    Atomics.store(this.#words, WRITTEN, this.#ended); // last, as in `end`
  }

  /** Reader: shows the oldest packet by `at` and `length`, until `drop`. False: there is none. */
  peek(): boolean {
    const stage = this.#stage;
    if (stage && this.#stagedBytes > 0) {
      if (this.#peekStaged(stage)) return true;
      this.leave();
    }
    return this.#peekPipe(this.#load(READ));
  }

  /** False: the next is not in the stage as a whole. */
  #peekStaged(stage: NetStage): boolean {
    const offset = (this.#read - this.#stagedAt) >>> 0;
    const length = stage.words[offset >>> 2] as number;
    const record = recordBytes(length);
    if (length === SKIP || offset + record > this.#stagedBytes) return false;
    this.bytes = stage.bytes;
    this.at = offset + NET_RECORD_PREFIX_BYTES;
    this.length = length;
    this.#nextRead = (this.#read + record) >>> 0;
    return true;
  }

  #peekPipe(read: number): boolean {
    const written = this.#load(WRITTEN);
    if (written === read) return false;
    let from = read;
    let at = read & (this.#sizeBytes - 1);
    if (this.#prefixes[at >>> 2] === SKIP) {
      from = (read + this.#sizeBytes - at) >>> 0;
      at = 0;
    }
    const stage = this.#stage;
    if (stage && this.#enter(stage, from, at, (written - from) >>> 0)) {
      if (this.#peekStaged(stage)) return true;
      this.leave(); // it is larger than a stage
    }
    this.bytes = this.#pipe;
    this.at = at + NET_RECORD_PREFIX_BYTES;
    this.length = this.#prefixes[at >>> 2] as number;
    this.#nextRead = (from + recordBytes(this.length)) >>> 0;
    return true;
  }

  /**
   * Copies what is written from `from` on, which is at `at`, to the stage. False: it is not worth
   * it, or another pipe has the stage.
   */
  #enter(stage: NetStage, from: number, at: number, written: number): boolean {
    if (written < STAGED_BYTES_MIN || stage.user !== undefined) return false;
    const bytes = Math.min(written, this.#sizeBytes - at, stage.bytes.length);
    stage.block.fill(this.#pipe.subarray(at, at + bytes), 0, bytes); // of as many: one memcpy()
    stage.user = this;
    this.#isReader = true;
    this.#stagedAt = this.#read = from;
    this.#stagedBytes = bytes;
    return true;
  }

  /** Gives the stage to others; what was not read of it is read from the pipe again. */
  leave(): void {
    if (!this.#stage || this.#stagedBytes === 0) return;
    this.flush();
    this.#stagedBytes = 0;
    this.#stage.user = undefined;
  }

  /** Reader: how many packets there are, counted up to `max`. */
  count(max: number): number {
    const written = this.#load(WRITTEN);
    let read = this.#begin;
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
    const stage = this.#stage;
    if (!stage || this.#stagedBytes === 0) {
      Atomics.store(this.#words, READ, this.#nextRead); // its room is the writer's
      return;
    }
    this.#read = this.#nextRead;
    if ((this.#read - this.#stagedAt) >>> 0 >= this.#stagedBytes) this.leave();
  }

  /** Reader: drops what is there by now, not what comes meanwhile. `each`: gets its length. */
  dropAll(each: (length: number) => void = () => {}): void {
    for (let left = this.count(Number.POSITIVE_INFINITY); left > 0 && this.peek(); left--) {
      each(this.length);
      this.drop();
    }
  }

  /**
   * Reader: puts the oldest packets in the chains of a burst, as far as `MovePackets` does and by
   * the stage alone, and is done with them. Returns how many; their bytes are in `moved`.
   */
  put(burst: NetBurst): number {
    const stage = this.#stage;
    const { count } = burst;
    this.moved = 0;
    while (stage && burst.count > 0 && this.peek() && this.#stagedBytes > 0) {
      const at = (this.#read - this.#stagedAt) >>> 0;
      const packets = stage.move(burst, at, this.#stagedBytes, false);
      if (packets === 0) break;
      this.#nextRead = (this.#read + this.#passed(stage, at, packets)) >>> 0;
      this.drop();
      burst.first += packets;
      burst.count -= packets;
    }
    return count - burst.count;
  }

  /**
   * Writer: takes the packets in the chains of a burst, as far as `MovePackets` does and there is
   * room in the stage: a part of them, perhaps. Returns how many; their bytes are in `moved`.
   * `each` gets them, in the stage.
   */
  take(burst: NetBurst, each?: NetPackets): number {
    const stage = this.#stage;
    const { count } = burst;
    this.moved = 0;
    while (stage && burst.count > 0) {
      const end = this.#end;
      const at = end & (this.#sizeBytes - 1);
      const place = this.#placeIn(stage, at, 0);
      const room = Math.min(this.#roomAt(end, at), stage.bytes.length - place);
      const packets = stage.move(burst, place, place + room, true);
      if (packets > 0) {
        const bytes = this.#passed(stage, place, packets, each);
        this.#stagedBytes += bytes;
        this.#ended = (end + bytes) >>> 0;
        burst.first += packets;
        burst.count -= packets;
      } else if (this.#stagedBytes > 0 && room < STAGED_ROOM_MIN) this.flush();
      else break;
    }
    return count - burst.count;
  }

  /**
   * Writer: adds `packets` records that lie one behind another in a stage which no pipe has, from
   * `from` on, and publishes them, but for those that find no room. Returns how many did.
   */
  append(stage: NetStage, from: number, packets: number): number {
    this.flush(); // they come after what is staged
    const { words, bytes } = stage;
    let end = this.#load(WRITTEN);
    let next = from;
    let lost = 0;
    for (let left = packets; left > 0; ) {
      const record = recordBytes(words[next >>> 2] as number);
      const start = this.#startOf(end, record);
      if (start < 0) {
        next += record;
        left--;
        lost++;
        continue;
      }
      const at = start & (this.#sizeBytes - 1);
      const [until, fits] = stage.fitting(next, left, this.#roomAt(start, at));
      this.#block.fill(bytes.subarray(next, until), at, at + until - next);
      end = (start + until - next) >>> 0;
      Atomics.store(this.#words, WRITTEN, end); // last, as in `end`
      next = until;
      left -= fits;
    }
    return packets - lost;
  }

  /** Writer: bytes that may be written from `at` on, which counts as `end`. */
  #roomAt(end: number, at: number): number {
    const most = this.#sizeBytes - at;
    if (!this.#hasRoom(end, most)) return this.#sizeBytes - ((end - this.#seenRead) >>> 0);
    return most;
  }

  /** Bytes of `packets` records from `at` on in the stage; what is in them is added to `moved`. */
  #passed(stage: NetStage, at: number, packets: number, each?: NetPackets): number {
    return stage.forEach(at, packets, (bytes, from, length) => {
      this.moved += length;
      each?.(bytes, from, length);
    });
  }
}
