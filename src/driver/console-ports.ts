import type { VhostError } from "../spec/errno.js";
import {
  VIRTIO_CONSOLE_CONSOLE_PORT,
  VIRTIO_CONSOLE_CONTROL_BYTES,
  VIRTIO_CONSOLE_CONTROL_EVENT,
  VIRTIO_CONSOLE_CONTROL_ID,
  VIRTIO_CONSOLE_CONTROL_VALUE,
  VIRTIO_CONSOLE_PORT_ADD,
  VIRTIO_CONSOLE_PORT_NAME,
  VIRTIO_CONSOLE_PORT_OPEN,
  VIRTIO_CONSOLE_PORT_REMOVE,
  VIRTIO_CONSOLE_RESIZE,
  VIRTIO_CONSOLE_RESIZE_BYTES,
} from "../spec/virtio-console.js";
import type { ConsoleDriverPort } from "./console-port.js";

/** What a driver knows of a port. */
export interface ConsolePortState {
  readonly id: number;
  name: string | undefined;
  isConsole: boolean;
  isHostOpen: boolean;
  /** Columns and rows; 0: not known. */
  size: [cols: number, rows: number];
  /** Our end, while it is open. */
  stream: ConsoleDriverPort | undefined;
}

interface Waiting {
  port: number | string;
  resolve(state: ConsolePortState): void;
  reject(error: VhostError): void;
}

/**
 * The ports that a device has, by what it says. It may be hostile: what does not fit is counted,
 * and there are never more than `count`. One thread.
 */
export class ConsolePorts {
  /** Messages that were none. */
  badMessages = 0;
  readonly #count: number;
  readonly #ready: (id: number) => void;
  readonly #states = new Map<number, ConsolePortState>();
  readonly #waiting = new Set<Waiting>();

  /** `ready`: the device is to be told that a port can be used. */
  constructor(count: number, ready: (id: number) => void) {
    this.#count = count;
    this.#ready = ready;
  }

  /** All of them, by number. */
  get list(): ConsolePortState[] {
    return [...this.#states.values()].sort((a, b) => a.id - b.id);
  }

  /** The only port of a device without MULTIPORT; `cols` 0: its size is not known. */
  addOnly(cols: number, rows: number): void {
    const size: [number, number] = [cols, rows];
    this.#add({ id: 0, name: undefined, isConsole: true, isHostOpen: true, size });
  }

  #add(state: Omit<ConsolePortState, "stream">): void {
    this.#states.set(state.id, { ...state, stream: undefined });
    this.#look();
  }

  /**
   * Resolves with the port when it is there. Rejects with ENODEV at the end, and with the signal's
   * reason.
   */
  async find(port: number | string, signal?: AbortSignal): Promise<ConsolePortState> {
    let giveUp = () => {};
    const found = new Promise<ConsolePortState>((resolve, reject) => {
      const waiting = { port, resolve, reject };
      giveUp = () => {
        this.#waiting.delete(waiting);
        reject(signal?.reason);
      };
      this.#waiting.add(waiting);
      this.#look();
    });
    signal?.addEventListener("abort", giveUp);
    return found.finally(() => signal?.removeEventListener("abort", giveUp));
  }

  #look(): void {
    for (const waiting of this.#waiting) {
      const { port, resolve } = waiting;
      const state = this.list.find(({ id, name }) => port === id || port === name);
      if (!state) continue;
      this.#waiting.delete(waiting);
      resolve(state);
    }
  }

  /** A port is open here: what is known of it is said to the stream. */
  opened(state: ConsolePortState, stream: ConsoleDriverPort): void {
    state.stream = stream;
    if (state.size[0] > 0) stream.setSize(...state.size);
    if (state.isHostOpen) stream.setHostOpen(true);
  }

  /** Our end was closed; whether the device has the port still, and is to be told. */
  forget(state: ConsolePortState): boolean {
    state.stream = undefined;
    return this.#states.get(state.id) === state;
  }

  /** Something came for a port. */
  deliver(id: number): void {
    this.#states.get(id)?.stream?.deliver();
  }

  /** Takes a message of the device's. */
  receive(message: Uint8Array): void {
    if (message.length < VIRTIO_CONSOLE_CONTROL_BYTES || !this.#isTaken(message)) {
      this.badMessages++;
    }
  }

  #isTaken(message: Uint8Array): boolean {
    const view = new DataView(message.buffer, message.byteOffset, message.length);
    const id = view.getUint32(VIRTIO_CONSOLE_CONTROL_ID, true);
    const event = view.getUint16(VIRTIO_CONSOLE_CONTROL_EVENT, true);
    const value = view.getUint16(VIRTIO_CONSOLE_CONTROL_VALUE, true);
    const tail = message.subarray(VIRTIO_CONSOLE_CONTROL_BYTES);
    const state = this.#states.get(id);
    if (event === VIRTIO_CONSOLE_PORT_ADD) {
      if (state || id >= this.#count) return false;
      this.#add({ id, name: undefined, isConsole: false, isHostOpen: false, size: [0, 0] });
      this.#ready(id);
      return true;
    }
    return state !== undefined && this.#isTold(state, event, value, tail);
  }

  /** What is said of a port that there is. */
  #isTold(state: ConsolePortState, event: number, value: number, tail: Uint8Array): boolean {
    switch (event) {
      case VIRTIO_CONSOLE_PORT_REMOVE:
        this.#states.delete(state.id);
        state.stream?.destroy();
        return true;
      case VIRTIO_CONSOLE_CONSOLE_PORT:
        state.isConsole = value !== 0;
        return true;
      case VIRTIO_CONSOLE_RESIZE: {
        if (tail.length < VIRTIO_CONSOLE_RESIZE_BYTES) return false;
        const view = new DataView(tail.buffer, tail.byteOffset);
        state.size = [view.getUint16(0, true), view.getUint16(2, true)];
        state.stream?.setSize(...state.size);
        return true;
      }
      case VIRTIO_CONSOLE_PORT_NAME:
        state.name = new TextDecoder().decode(tail);
        this.#look();
        return true;
      case VIRTIO_CONSOLE_PORT_OPEN:
        state.isHostOpen = value !== 0;
        state.stream?.setHostOpen(state.isHostOpen);
        return true;
      default:
        return false;
    }
  }

  /** All are closed, and who waits for one gets `error`. */
  close(error: VhostError): void {
    for (const { reject } of this.#waiting) reject(error);
    this.#waiting.clear();
    for (const { stream } of this.#states.values()) stream?.destroy();
  }
}
