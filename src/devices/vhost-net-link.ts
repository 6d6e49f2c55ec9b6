import { HostBell } from "./host-bell.js";
import { NetBell } from "./net-bell.js";
import { NET_PIPE_BYTES_MIN, NetPipe, netPipeBytes } from "./net-pipe.js";

// Indices of i32 words.
/** See `HostBell`. */
const SEQUENCE = 0;
/** See `NetBell`: the worker waits for room. */
const STALLED = 1;
/** Written by the kernel's thread: bytes of the header before a frame. */
const HEADER_BYTES = 2;
/** Likewise: 1: the header says how many buffers a frame takes. */
const MERGEABLE = 3;
const BYTES = 16;

/** What a device in its worker and the kernel's thread share; structured-cloneable. */
export interface VhostNetBuffers {
  words: SharedArrayBuffer;
  toWire: SharedArrayBuffer;
  toGuest: SharedArrayBuffer;
}

/** The way between /dev/vhost-net's device in its worker and the back-ends' files. */
export class VhostNetLink {
  /** Frames of the guest's, without a header: written by the worker. */
  readonly toWire: NetPipe;
  /** Frames to the guest, likewise: written by the kernel's thread. */
  readonly toGuest: NetPipe;
  /** The kernel's thread's. */
  readonly hostBell: HostBell;
  /** The worker's: frames of the guest's wait for room in `toWire`. */
  readonly stalled: NetBell;
  /** For the other thread. */
  readonly buffers: VhostNetBuffers;
  readonly #words: Int32Array<SharedArrayBuffer>;

  /** A new one, or another thread's. */
  constructor(buffers?: VhostNetBuffers) {
    const pipe = () => new SharedArrayBuffer(netPipeBytes(NET_PIPE_BYTES_MIN));
    this.buffers = buffers ?? {
      words: new SharedArrayBuffer(BYTES),
      toWire: pipe(),
      toGuest: pipe(),
    };
    this.#words = new Int32Array(this.buffers.words);
    this.hostBell = new HostBell(this.#words, SEQUENCE);
    this.stalled = new NetBell(this.#words, STALLED);
    this.toWire = new NetPipe(this.buffers.toWire, NET_PIPE_BYTES_MIN);
    this.toGuest = new NetPipe(this.buffers.toGuest, NET_PIPE_BYTES_MIN);
  }

  /** Bytes of the header before a frame in the rings. */
  get headerBytes(): number {
    return Atomics.load(this.#words, HEADER_BYTES);
  }

  /** Whether it says how many buffers the frame takes. */
  get isMergeable(): boolean {
    return Atomics.load(this.#words, MERGEABLE) !== 0;
  }

  /** Kernel's thread: says both. */
  setHeader(bytes: number, isMergeable: boolean): void {
    Atomics.store(this.#words, MERGEABLE, isMergeable ? 1 : 0);
    Atomics.store(this.#words, HEADER_BYTES, bytes);
  }
}
