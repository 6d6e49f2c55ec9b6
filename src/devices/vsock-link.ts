import { HostBell } from "./host-bell.js";
import { NetBell } from "./net-bell.js";
import { VsockPipe } from "./vsock-pipe.js";

// Indices of i32 words.
/** Written by the worker: changes with each reset of the device. */
const GENERATION = 0;
/** See `HostBell`. */
const SEQUENCE = 1;
/** Set by the opening thread, taken by the worker: an event is to be sent. */
const RESET_EVENT = 2;
/** See `NetBell`: the worker waits for room. */
const STALLED = 3;
/** Written by the opening thread: the guest's CID, a u32; 0: it has none yet. */
const CID = 4;
/** Written by the opening thread: answers of the host's that the guest has not got. */
const REPLIES = 5;
const BYTES = 24;

/** What a device in its worker and the opening thread share; structured-cloneable. */
export interface VsockLinkBuffers {
  words: SharedArrayBuffer;
  toHost: SharedArrayBuffer;
  toGuest: SharedArrayBuffer;
}

/** The way between the device in the worker's thread and the host's sockets in the opening one. */
export class VsockLink {
  /** Packets from the guest: written by the worker. */
  readonly toHost: VsockPipe;
  /** Packets to the guest: written by the opening thread. */
  readonly toGuest: VsockPipe;
  /** The opening thread's. */
  readonly hostBell: HostBell;
  /** The worker's: packets of the guest wait for room in `toHost`. */
  readonly stalled: NetBell;
  readonly #words: Int32Array<SharedArrayBuffer>;
  /** Where both are in one thread: the opening thread's work, for the device to call. */
  work: (() => void) | undefined;

  /** A new one, or another thread's. */
  constructor(buffers?: VsockLinkBuffers) {
    this.#words = new Int32Array(buffers?.words ?? new SharedArrayBuffer(BYTES));
    this.hostBell = new HostBell(this.#words, SEQUENCE);
    this.stalled = new NetBell(this.#words, STALLED);
    this.toHost = new VsockPipe(buffers?.toHost);
    this.toGuest = new VsockPipe(buffers?.toGuest);
  }

  /** For the other thread. */
  get buffers(): VsockLinkBuffers {
    const { toHost, toGuest } = this;
    return { words: this.#words.buffer, toHost: toHost.buffer, toGuest: toGuest.buffer };
  }

  /** Which packets are still good: those of this generation. */
  get generation(): number {
    return Atomics.load(this.#words, GENERATION) >>> 0;
  }

  /** Worker: all packets until now are void. */
  nextGeneration(): void {
    Atomics.add(this.#words, GENERATION, 1);
    this.hostBell.ring();
  }

  /** The guest's CID; 0: it has none. */
  get cid(): number {
    return Atomics.load(this.#words, CID) >>> 0;
  }

  /** Opening thread: says it. */
  set cid(cid: number) {
    Atomics.store(this.#words, CID, cid);
  }

  /** Answers of the host's, which belong to no connection, that the guest has not got. */
  get replies(): number {
    return Atomics.load(this.#words, REPLIES);
  }

  /** Opening thread: says it. */
  set replies(count: number) {
    Atomics.store(this.#words, REPLIES, count);
  }

  /** Opening thread: the guest is to be told that all connections are gone. */
  askResetEvent(): void {
    Atomics.store(this.#words, RESET_EVENT, 1);
  }

  /** Worker: whether it is. */
  get isResetEventDue(): boolean {
    return Atomics.load(this.#words, RESET_EVENT) !== 0;
  }

  /** Worker: it is being told. */
  takeResetEvent(): void {
    Atomics.store(this.#words, RESET_EVENT, 0);
  }
}
