import { closeSync, openSync, writeSync } from "node:fs";
import { type Errno, errno, errnoName, errnoOf, VhostError } from "../spec/errno.js";
import { VIRTIO_NET_HDR_BYTES } from "../spec/virtio-net.js";
import { NET_PACKET_BYTES_MAX } from "./net-pipe.js";
import type { NetTap } from "./net-port.js";

/** What a capture is made with; structured-cloneable. */
export interface NetPcapOptions {
  path: string;
  /** It is there, and goes on. */
  appends: boolean;
  /** See `PcapState`. */
  state: SharedArrayBuffer;
}

// Indices of i32 words.
const FAILURE = 0;
const LOST = 1;

/** What has become of a capture: written by the device's worker, read by the opening thread. */
export class PcapState {
  /** For the other thread. */
  readonly buffer: SharedArrayBuffer;
  readonly #words: Int32Array<SharedArrayBuffer>;

  constructor(buffer = new SharedArrayBuffer(8)) {
    this.buffer = buffer;
    this.#words = new Int32Array(buffer);
  }

  /** Worker: it ends, for a reason of the system's, an error number. */
  fail(number: number): void {
    Atomics.store(this.#words, FAILURE, number);
    Atomics.notify(this.#words, FAILURE);
  }

  /** Worker: so many packets more are not in it. */
  lose(packets: number): void {
    Atomics.add(this.#words, LOST, packets);
  }

  /** Packets that are not in it, modulo 2^32. */
  get lost(): number {
    return Atomics.load(this.#words, LOST) >>> 0;
  }

  /** Resolves with the reason when it has ended by itself. */
  async failed(): Promise<Errno> {
    const wait = Atomics.waitAsync(this.#words, FAILURE, 0);
    if (wait.async) await wait.value;
    return errnoName(Atomics.load(this.#words, FAILURE)) ?? "EIO";
  }
}

// The file's format: draft-ietf-opsawg-pcap, little-endian, microseconds.
const MAGIC = 0xa1b2c3d4;
const FILE_HEADER_BYTES = 24;
const VERSION_MAJOR = 2;
const VERSION_MINOR = 4;
const LINKTYPE_ETHERNET = 1;
const RECORD_HEADER_BYTES = 16;
/** What is written at once; the largest packet fits in it. */
const BUFFER_BYTES = 1 << 18;

/**
 * A capture of a port's packets in a file, as tcpdump makes them. It is written after each burst,
 * by the device's worker; one that can't be written to ends, which is told, and the device goes on.
 */
export class NetPcap implements NetTap {
  readonly #buffer = Buffer.alloc(BUFFER_BYTES);
  readonly #state: PcapState;
  #fd: number | undefined;
  #used = 0;
  /** Packets that are not written yet. */
  #pending = 0;

  /** Makes the file, or goes on with it. Throws ENOENT, EACCES and the like. */
  constructor({ path, appends, state }: NetPcapOptions) {
    this.#state = new PcapState(state);
    try {
      this.#fd = openSync(path, appends ? "a" : "w", 0o600);
    } catch (error) {
      throw new VhostError(errnoOf(error), `the capture ${path} can't be made`, { path }, error);
    }
    if (!appends) this.#begin();
  }

  #begin(): void {
    const buffer = this.#buffer;
    buffer.writeUInt32LE(MAGIC, 0);
    buffer.writeUInt16LE(VERSION_MAJOR, 4);
    buffer.writeUInt16LE(VERSION_MINOR, 6);
    buffer.writeUInt32LE(NET_PACKET_BYTES_MAX, 16);
    buffer.writeUInt32LE(LINKTYPE_ETHERNET, 20);
    this.#used = FILE_HEADER_BYTES;
    this.flush();
  }

  packet(bytes: Uint8Array, at: number, length: number): void {
    if (this.#fd === undefined) {
      this.#state.lose(1);
      return;
    }
    const frameBytes = length - VIRTIO_NET_HDR_BYTES;
    if (this.#used + RECORD_HEADER_BYTES + frameBytes > BUFFER_BYTES) this.flush();
    const buffer = this.#buffer;
    const milliseconds = performance.timeOrigin + performance.now();
    const seconds = Math.floor(milliseconds / 1000);
    buffer.writeUInt32LE(seconds, this.#used);
    buffer.writeUInt32LE(Math.floor((milliseconds - seconds * 1000) * 1000), this.#used + 4);
    buffer.writeUInt32LE(frameBytes, this.#used + 8);
    buffer.writeUInt32LE(frameBytes, this.#used + 12);
    const from = at + VIRTIO_NET_HDR_BYTES;
    buffer.set(bytes.subarray(from, at + length), this.#used + RECORD_HEADER_BYTES);
    this.#used += RECORD_HEADER_BYTES + frameBytes;
    this.#pending++;
  }

  flush(): void {
    const used = this.#used;
    const pending = this.#pending;
    this.#used = 0;
    this.#pending = 0;
    if (this.#fd === undefined || used === 0) return;
    try {
      for (let done = 0; done < used; ) {
        done += writeSync(this.#fd, this.#buffer, done, used - done);
      }
    } catch (error) {
      this.close(); // the disk is full, say: half a record at the end, which readers know
      this.#state.lose(pending); // of some the file may have all
      this.#state.fail(errno[errnoOf(error)]);
    }
  }

  close(): void {
    const fd = this.#fd;
    this.#fd = undefined;
    if (fd !== undefined) closeSync(fd);
  }
}
