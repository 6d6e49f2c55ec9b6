import { featureMask, hasFeature } from "../spec/features.js";
import { VIRTIO_ID_CONSOLE } from "../spec/virtio-config.js";
import {
  consoleRxQueue,
  VIRTIO_CONSOLE_CONFIG_BYTES,
  VIRTIO_CONSOLE_CONFIG_COLS,
  VIRTIO_CONSOLE_CONFIG_EMERG_WR,
  VIRTIO_CONSOLE_CONFIG_MAX_NR_PORTS,
  VIRTIO_CONSOLE_CONTROL_BYTES,
  VIRTIO_CONSOLE_F_EMERG_WRITE,
  VIRTIO_CONSOLE_F_MULTIPORT,
  VIRTIO_CONSOLE_F_SIZE,
  VIRTIO_CONSOLE_QUEUE_CONTROL_RX,
  VIRTIO_CONSOLE_QUEUE_CONTROL_TX,
} from "../spec/virtio-console.js";
import type { Chain } from "../vhost/chain.js";
import type { VirtioDevice } from "../vhost/device.js";
import type { Virtqueue } from "../vhost/virtqueue.js";
import { PACKED_BASE } from "../vhost/vring-settings.js";
import { ConsoleControl, type ConsolePortShape } from "./console-control.js";
import type { ConsoleLink } from "./console-link.js";
import { ConsolePort } from "./console-port.js";

/** Where a ring begins, split and packed. */
const BEGINNINGS: readonly number[] = [0, PACKED_BASE];
/** Messages that one turn takes or sends. */
const MESSAGES_A_TURN = 16;

/** A console, as its device presents it. */
export interface ConsoleShape {
  readonly ports: readonly ConsolePortShape[];
  readonly queueSizeMax: number;
}

/**
 * A console's rings: bytes of each port go to its pipe and come from it. What the driver sends that
 * it may not is counted, and stops nothing else. virtio 1.3, 5.3 Console Device.
 */
export class ConsoleDevice implements VirtioDevice {
  readonly deviceId = VIRTIO_ID_CONSOLE;
  readonly features: bigint;
  readonly queueCount: number;
  readonly queueSizeMax: number;
  readonly #link: ConsoleLink;
  readonly #control: ConsoleControl;
  readonly #ports: readonly ConsolePort[];
  readonly #queues: (Virtqueue | undefined)[] = [];
  readonly #message = new Uint8Array(VIRTIO_CONSOLE_CONTROL_BYTES);
  readonly #messageView = new DataView(this.#message.buffer);
  #isMultiport = false;
  /** As of the last look: see `poll`. */
  #seen: number;

  /** `now`: a clock, in milliseconds. */
  constructor(shape: ConsoleShape, link: ConsoleLink, now: () => number = () => performance.now()) {
    const { ports, queueSizeMax } = shape;
    this.#link = link;
    this.#seen = link.deviceSequence;
    this.#control = new ConsoleControl(link, ports);
    this.#ports = ports.map(
      ({ isConsole }, i) => new ConsolePort(link, link.ports[i] as never, isConsole, now),
    );
    this.features = featureMask(
      VIRTIO_CONSOLE_F_MULTIPORT,
      VIRTIO_CONSOLE_F_EMERG_WRITE,
      ...(link.ports[0]?.size ? [VIRTIO_CONSOLE_F_SIZE] : []),
    );
    this.queueCount = consoleRxQueue(ports.length);
    this.queueSizeMax = queueSizeMax;
  }

  readConfig(): Uint8Array {
    const bytes = new Uint8Array(VIRTIO_CONSOLE_CONFIG_BYTES);
    const view = new DataView(bytes.buffer);
    view.setUint32(VIRTIO_CONSOLE_CONFIG_COLS, this.#link.ports[0]?.size ?? 0, true);
    view.setUint32(VIRTIO_CONSOLE_CONFIG_MAX_NR_PORTS, this.#ports.length, true);
    return bytes;
  }

  /** A character for port 0, from a driver that has no queues yet: 5.3.4. */
  writeConfig(offset: number, bytes: Uint8Array): void {
    const character = bytes[VIRTIO_CONSOLE_CONFIG_EMERG_WR - offset];
    if (character !== undefined) this.#ports[0]?.takeBytes(Uint8Array.of(character));
  }

  /** Without MULTIPORT there is one port, always open. */
  start(features: bigint): void {
    const [port] = this.#link.ports;
    this.#isMultiport = hasFeature(features, VIRTIO_CONSOLE_F_MULTIPORT);
    if (!this.#isMultiport && port) port.isGuestOpen = true;
    this.#link.hostBell.ring();
  }

  reset(): void {
    this.#control.reset();
    this.#link.hostBell.ring();
  }

  /** What was told of the ports is to be told again. */
  renew(): void {
    this.reset();
  }

  /** Nothing is held; a queue that stops is not looked at any more. */
  async settle(_how: "finish" | "drop", index?: number): Promise<void> {
    for (const i of index === undefined ? this.#queues.keys() : [index]) {
      const queue = this.#queues[i];
      this.#queues[i] = undefined;
      if (queue) for (const port of this.#ports) port.forget(queue);
    }
  }

  handleKick(vq: Virtqueue): void {
    const { index } = vq;
    this.#queues[index] = vq;
    if (index >= VIRTIO_CONSOLE_QUEUE_CONTROL_RX && !this.#isMultiport) return;
    if (index === VIRTIO_CONSOLE_QUEUE_CONTROL_RX) {
      if (!BEGINNINGS.includes(vq.position)) this.#control.resume();
      this.#tell(vq);
    } else if (index === VIRTIO_CONSOLE_QUEUE_CONTROL_TX) this.#listen(vq);
    else {
      const id = this.#portOf(index);
      const port = this.#ports[id];
      if (index % 2 === 0) port?.receive(vq);
      else {
        if (vq.hasChains) this.#control.wrote(id);
        port?.transmit(vq);
      }
      this.#revisitControl();
    }
  }

  /** Whose queue that is. */
  #portOf(index: number): number {
    return index < VIRTIO_CONSOLE_QUEUE_CONTROL_RX ? 0 : (index >> 1) - 1;
  }

  #revisitControl(): void {
    if (this.#control.isDue) this.#queues[VIRTIO_CONSOLE_QUEUE_CONTROL_RX]?.revisit();
  }

  /** What the opening thread has done makes work for queues that have no kick; so does time. */
  poll(): boolean {
    const { deviceSequence } = this.#link;
    const isNew = deviceSequence !== this.#seen;
    this.#seen = deviceSequence;
    for (const [i, port] of this.#ports.entries()) {
      if (port.canTransmitAgain) this.#queues[consoleRxQueue(i) + 1]?.revisit();
      if (isNew) this.#revisitReceive(i);
    }
    if (isNew) this.#revisitControl();
    return false;
  }

  #revisitReceive(port: number): void {
    if (this.#ports[port]?.canReceive) this.#queues[consoleRxQueue(port)]?.revisit();
  }

  /** No sleep when the opening thread has done something since `poll`. */
  sleepMsMax(): number {
    if (this.#link.deviceSequence !== this.#seen) return 0;
    return Math.min(...this.#ports.map((port) => port.sleepMsMax));
  }

  /** Messages to the driver, as many as are due and there are buffers for. */
  #tell(vq: Virtqueue): void {
    let isGood = true;
    const send = ({ readable, writable }: Chain) => {
      if (readable.count > 0 || writable.bytes < VIRTIO_CONSOLE_CONTROL_BYTES) {
        return vq.badRequest();
      }
      const message = this.#control.take();
      // One that does not fit is lost: what comes after it must not wait for it.
      if (!message || message.length > writable.bytes) return vq.badRequest();
      isGood = true;
      return writable.write(0, message);
    };
    for (let i = 0; i < MESSAGES_A_TURN && this.#control.isDue && isGood; i++) {
      isGood = false;
      vq.drain(send, 1);
    }
  }

  /** Messages of the driver's. */
  #listen(vq: Virtqueue): void {
    vq.drain(({ readable, writable }) => {
      const isMessage = readable.bytes >= VIRTIO_CONSOLE_CONTROL_BYTES && writable.count === 0;
      if (!isMessage) return vq.badRequest();
      readable.read(0, this.#message); // once: what is checked is what goes on
      return this.#control.receive(this.#messageView) ? 0 : vq.badRequest();
    }, MESSAGES_A_TURN);
    this.#revisitControl();
    for (const i of this.#ports.keys()) this.#revisitReceive(i);
    this.#link.hostBell.ring();
  }
}
