import {
  VIRTIO_CONSOLE_CONSOLE_PORT,
  VIRTIO_CONSOLE_CONTROL_BYTES,
  VIRTIO_CONSOLE_CONTROL_EVENT,
  VIRTIO_CONSOLE_CONTROL_ID,
  VIRTIO_CONSOLE_CONTROL_VALUE,
  VIRTIO_CONSOLE_DEVICE_READY,
  VIRTIO_CONSOLE_PORT_ADD,
  VIRTIO_CONSOLE_PORT_NAME,
  VIRTIO_CONSOLE_PORT_OPEN,
  VIRTIO_CONSOLE_PORT_READY,
  VIRTIO_CONSOLE_PORT_REMOVE,
  VIRTIO_CONSOLE_RESIZE,
  VIRTIO_CONSOLE_RESIZE_BYTES,
} from "../spec/virtio-console.js";
import type { ConsoleLink, ConsolePortLink } from "./console-link.js";

/** What a port is to the guest. */
export interface ConsolePortShape {
  readonly isConsole: boolean;
  /** UTF-8; no bytes: none. */
  readonly name: Uint8Array;
}

/** What the driver was told of a port, and has said of it. */
interface PortState {
  isAdded: boolean;
  isReady: boolean;
  isConsoleTold: boolean;
  isNameTold: boolean;
  isOpenTold: boolean;
  sizeTold: number;
}

const newState = (): PortState => ({
  isAdded: false,
  isReady: false,
  isConsoleTold: false,
  isNameTold: false,
  isOpenTold: false,
  sizeTold: 0,
});

/**
 * What device and driver tell one another of the ports. What is due follows from how a port is and
 * what the driver knows of it: no message waits anywhere, so whatever a driver sends, nothing
 * grows. Worker thread. virtio 1.3, 5.3.6.2 Multiport Device Operation.
 */
export class ConsoleControl {
  readonly #link: ConsoleLink;
  readonly #shapes: readonly ConsolePortShape[];
  #states: PortState[];
  #isDriverReady = false;
  /** The driver has said whether it is ready. */
  #hasHeard = false;

  constructor(link: ConsoleLink, shapes: readonly ConsolePortShape[]) {
    this.#link = link;
    this.#shapes = shapes;
    this.#states = shapes.map(newState);
  }

  /** As before the driver came: nothing told, nothing open. */
  reset(): void {
    this.#isDriverReady = false;
    this.#hasHeard = false;
    this.#states = this.#shapes.map(newState);
    for (const port of this.#link.ports) port.isGuestOpen = false;
  }

  /**
   * The rings are past their beginning: the driver has had a back-end before us, and unless it has
   * spoken to us, will not say again that it is ready. Nor which ports are open: a console is, for
   * good; another port, once the guest writes to it. It is told of all ports, and Linux answers
   * with PORT_READY for one that it knows.
   */
  resume(): void {
    if (!this.#hasHeard) this.#isDriverReady = true;
  }

  /** The guest writes to a port. */
  wrote(id: number): void {
    const port = this.#link.ports[id];
    const isResumed = this.#isDriverReady && !this.#hasHeard; // it has said so to another before us
    if (isResumed && port && this.#states[id]?.isReady) port.isGuestOpen = true;
  }

  /** Takes the first bytes of a message of the driver's. False: it is none that it may send. */
  receive(message: DataView): boolean {
    const id = message.getUint32(VIRTIO_CONSOLE_CONTROL_ID, true);
    const event = message.getUint16(VIRTIO_CONSOLE_CONTROL_EVENT, true);
    const isYes = message.getUint16(VIRTIO_CONSOLE_CONTROL_VALUE, true) !== 0;
    if (event === VIRTIO_CONSOLE_DEVICE_READY) {
      this.reset(); // who says so begins, and knows of no port
      this.#hasHeard = true;
      this.#isDriverReady = isYes;
      return true;
    }
    const state = this.#states[id];
    const port = this.#link.ports[id];
    if (!state || !port) return false;
    if (event === VIRTIO_CONSOLE_PORT_READY && state.isAdded) {
      if (!isYes) this.#forget(state, port);
      state.isAdded = true;
      state.isReady = isYes;
      if (isYes && this.#shapes[id]?.isConsole) this.wrote(id);
      return true;
    }
    if (event !== VIRTIO_CONSOLE_PORT_OPEN || !state.isReady) return false;
    port.isGuestOpen = isYes;
    return true;
  }

  #forget(state: PortState, port: ConsolePortLink): void {
    Object.assign(state, newState());
    port.isGuestOpen = false;
  }

  /** Whether there is something to tell the driver. */
  get isDue(): boolean {
    return this.#nextId() >= 0;
  }

  #nextId(): number {
    return this.#states.findIndex((_, id) => this.#dueOf(id) !== undefined);
  }

  /** The next thing to tell of a port: 5.3.6.2 has them begin with PORT_ADD. */
  #dueOf(id: number): number | undefined {
    const state = this.#states[id] as PortState;
    const shape = this.#shapes[id] as ConsolePortShape;
    const { isPlugged, isHostOpen, isGuestOpen, size, toGuest } = this.#link.ports[
      id
    ] as ConsolePortLink;
    if (!this.#isDriverReady) return undefined;
    if (state.isAdded !== isPlugged) {
      return isPlugged ? VIRTIO_CONSOLE_PORT_ADD : VIRTIO_CONSOLE_PORT_REMOVE;
    }
    if (!state.isReady) return undefined;
    if (shape.isConsole && !state.isConsoleTold) return VIRTIO_CONSOLE_CONSOLE_PORT;
    if (shape.isConsole && state.sizeTold !== size) return VIRTIO_CONSOLE_RESIZE;
    if (shape.name.length > 0 && !state.isNameTold) return VIRTIO_CONSOLE_PORT_NAME;
    if (!isHostOpen && isGuestOpen && toGuest.bytes > 0) return undefined; // that comes before
    return state.isOpenTold === isHostOpen ? undefined : VIRTIO_CONSOLE_PORT_OPEN;
  }

  /** The next message; it counts as told. `undefined`: nothing is due. */
  take(): Uint8Array | undefined {
    const id = this.#nextId();
    if (id < 0) return undefined;
    const event = this.#dueOf(id) as number;
    const state = this.#states[id] as PortState;
    const port = this.#link.ports[id] as ConsolePortLink;
    const [value, tail] = this.#tell(event, state, port, this.#shapes[id] as ConsolePortShape);
    const message = new Uint8Array(VIRTIO_CONSOLE_CONTROL_BYTES + tail.length);
    const view = new DataView(message.buffer);
    view.setUint32(VIRTIO_CONSOLE_CONTROL_ID, id, true);
    view.setUint16(VIRTIO_CONSOLE_CONTROL_EVENT, event, true);
    view.setUint16(VIRTIO_CONSOLE_CONTROL_VALUE, value, true);
    message.set(tail, VIRTIO_CONSOLE_CONTROL_BYTES);
    return message;
  }

  /** Marks it as told; its value, and what follows the message. */
  #tell(
    event: number,
    state: PortState,
    port: ConsolePortLink,
    { name }: ConsolePortShape,
  ): [value: number, tail: Uint8Array] {
    const nothing = new Uint8Array(0);
    switch (event) {
      case VIRTIO_CONSOLE_PORT_ADD:
        state.isAdded = true;
        return [0, nothing];
      case VIRTIO_CONSOLE_CONSOLE_PORT:
        state.isConsoleTold = true;
        return [1, nothing];
      case VIRTIO_CONSOLE_RESIZE: {
        state.sizeTold = port.size; // once: it may be another by now
        const tail = new Uint8Array(VIRTIO_CONSOLE_RESIZE_BYTES);
        new DataView(tail.buffer).setUint32(0, state.sizeTold, true);
        return [0, tail];
      }
      case VIRTIO_CONSOLE_PORT_NAME:
        state.isNameTold = true;
        return [1, name];
      case VIRTIO_CONSOLE_PORT_OPEN:
        state.isOpenTold = !state.isOpenTold;
        return [Number(state.isOpenTold), nothing];
      default:
        this.#forget(state, port); // PORT_REMOVE
        return [0, nothing];
    }
  }
}
