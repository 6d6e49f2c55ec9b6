import { BytePipe } from "./byte-pipe.js";
import { HostBell } from "./host-bell.js";

// Indices of i32 words, each with one writer. For all ports:
/** See `HostBell`. */
const HOST_SEQUENCE = 0;
/** Written by the opening thread: changes when the worker has something to look at. */
const DEVICE_SEQUENCE = 1;
const FIRST_PORT = 16;
// For each port:
/** Written by the opening thread: 1 when somebody there has it open. */
const HOST_OPEN = 0;
/** Written by the opening thread: columns in the lower half, rows in the upper; 0: not known. */
const SIZE = 1;
/** Written by the opening thread: 1 when it was taken out. */
const UNPLUGGED = 2;
/** Written by the worker, and by the opening thread when there is none: open in the guest. */
const GUEST_OPEN = 3;
/** Written by the worker: bytes of the guest's that were lost, modulo 2^32. */
const LOST = 4;
const PORT_WORDS = 16;

/** The longest buffer that a guest may send to a port. */
export const CONSOLE_BUFFER_BYTES_MAX = 1 << 18;
const TO_HOST_BYTES = 2 * CONSOLE_BUFFER_BYTES_MAX;
const TO_GUEST_BYTES = 1 << 16;

/** What a device in its worker and the opening thread share; structured-cloneable. */
export interface ConsoleLinkBuffers {
  words: SharedArrayBuffer;
  pipes: { toHost: SharedArrayBuffer; toGuest: SharedArrayBuffer }[];
}

/** One port, as both threads see it. */
export class ConsolePortLink {
  /** Bytes from the guest: written by the worker. */
  readonly toHost: BytePipe;
  /** Bytes to the guest: written by the opening thread. */
  readonly toGuest: BytePipe;
  readonly #words: Int32Array;

  constructor(words: SharedArrayBuffer, index: number, pipes?: ConsoleLinkBuffers["pipes"][0]) {
    this.#words = new Int32Array(words, (FIRST_PORT + index * PORT_WORDS) * 4, PORT_WORDS);
    this.toHost = new BytePipe(pipes?.toHost ?? TO_HOST_BYTES);
    this.toGuest = new BytePipe(pipes?.toGuest ?? TO_GUEST_BYTES);
  }

  /** Whether somebody in the opening thread has it open. */
  get isHostOpen(): boolean {
    return Atomics.load(this.#words, HOST_OPEN) !== 0;
  }

  set isHostOpen(isOpen: boolean) {
    Atomics.store(this.#words, HOST_OPEN, Number(isOpen));
  }

  /** Whether somebody in the guest has it open. */
  get isGuestOpen(): boolean {
    return Atomics.load(this.#words, GUEST_OPEN) !== 0;
  }

  set isGuestOpen(isOpen: boolean) {
    Atomics.store(this.#words, GUEST_OPEN, Number(isOpen));
  }

  /** Whether the guest is to have it. */
  get isPlugged(): boolean {
    return Atomics.load(this.#words, UNPLUGGED) === 0;
  }

  set isPlugged(isPlugged: boolean) {
    Atomics.store(this.#words, UNPLUGGED, Number(!isPlugged));
  }

  /** Columns and rows as one number, columns in the lower 16 bits; 0: not known. */
  get size(): number {
    return Atomics.load(this.#words, SIZE) >>> 0;
  }

  set size(size: number) {
    Atomics.store(this.#words, SIZE, size);
  }

  /** Bytes of the guest's that were lost, modulo 2^32. */
  get lostBytes(): number {
    return Atomics.load(this.#words, LOST) >>> 0;
  }

  /** Worker: so many more were. */
  lose(bytes: number): void {
    Atomics.add(this.#words, LOST, bytes);
  }
}

/** The way between a console in the worker's thread and its ports in the opening one. */
export class ConsoleLink {
  readonly ports: readonly ConsolePortLink[];
  /** The opening thread's. */
  readonly hostBell: HostBell;
  readonly #words: Int32Array<SharedArrayBuffer>;

  /** A new one with so many ports, or another thread's. */
  constructor(from: number | ConsoleLinkBuffers) {
    const pipes = typeof from === "number" ? new Array(from).fill(undefined) : from.pipes;
    const bytes = (FIRST_PORT + pipes.length * PORT_WORDS) * 4;
    const words = typeof from === "number" ? new SharedArrayBuffer(bytes) : from.words;
    this.#words = new Int32Array(words);
    this.hostBell = new HostBell(this.#words, HOST_SEQUENCE);
    this.ports = pipes.map((pair, index) => new ConsolePortLink(words, index, pair));
  }

  /** For the other thread. */
  get buffers(): ConsoleLinkBuffers {
    const pipes = this.ports.map(({ toHost, toGuest }) => ({
      toHost: toHost.buffer,
      toGuest: toGuest.buffer,
    }));
    return { words: this.#words.buffer, pipes };
  }

  /** Opening thread: there is something for the worker, which must be woken after it. */
  changeForDevice(): void {
    Atomics.add(this.#words, DEVICE_SEQUENCE, 1);
  }

  /** Worker: a number that `changeForDevice` changes; read before looking. */
  get deviceSequence(): number {
    return Atomics.load(this.#words, DEVICE_SEQUENCE);
  }
}
