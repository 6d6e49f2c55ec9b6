import { VhostError } from "../spec/errno.js";
import { hasFeature } from "../spec/features.js";
import {
  consoleRxQueue,
  VIRTIO_CONSOLE_CONFIG_BYTES,
  VIRTIO_CONSOLE_CONFIG_COLS,
  VIRTIO_CONSOLE_CONFIG_EMERG_WR,
  VIRTIO_CONSOLE_CONFIG_MAX_NR_PORTS,
  VIRTIO_CONSOLE_CONFIG_ROWS,
  VIRTIO_CONSOLE_CONTROL_BYTES,
  VIRTIO_CONSOLE_DEVICE_READY,
  VIRTIO_CONSOLE_F_EMERG_WRITE,
  VIRTIO_CONSOLE_F_MULTIPORT,
  VIRTIO_CONSOLE_F_SIZE,
  VIRTIO_CONSOLE_PORT_OPEN,
  VIRTIO_CONSOLE_PORT_READY,
  VIRTIO_CONSOLE_QUEUE_CONTROL_RX,
  VIRTIO_CONSOLE_QUEUE_CONTROL_TX,
} from "../spec/virtio-console.js";
import type { Abortable } from "./abort.js";
import { ConsoleInbox } from "./console-inbox.js";
import { ConsoleDriverPort } from "./console-port.js";
import { type ConsolePortState, ConsolePorts } from "./console-ports.js";
import { DmaBuffer } from "./dma.js";
import { type Probed, type ProbeOptions, probe, queueAt, remove } from "./probe.js";
import type { Transport } from "./transport.js";

const KNOWN_FEATURES = [
  VIRTIO_CONSOLE_F_SIZE,
  VIRTIO_CONSOLE_F_MULTIPORT,
  VIRTIO_CONSOLE_F_EMERG_WRITE,
];
const CONTROL_BUFFERS = { count: 8, bytes: 256 };
const PORT_BUFFERS = { count: 4, bytes: 4096 };

/** The driver of a console device. virtio 1.3, 5.3 Console Device. */
export class ConsoleDriver implements AsyncDisposable {
  readonly #probed: Probed;
  readonly #ports: ConsolePorts;
  readonly #inboxes = new Map<number, ConsoleInbox>();
  #control: ConsoleInbox | undefined;
  #gone: VhostError | undefined;

  private constructor(probed: Probed) {
    this.#probed = probed;
    const config = viewOf(probed.config);
    const count = this.#isMultiport
      ? Math.min(
          config.getUint32(VIRTIO_CONSOLE_CONFIG_MAX_NR_PORTS, true),
          (probed.queues.length >> 1) - 1,
        )
      : 1;
    this.#ports = new ConsolePorts(count, (id) => this.#tell(id, VIRTIO_CONSOLE_PORT_READY, 1));
    probed.transport.onDeath((error) => this.#end(error));
    this.#begin(config);
  }

  /** Brings the device up. Rejects with what `probe` rejects with, and ENOMEM. */
  static async probe(transport: Transport, options: ProbeOptions = {}): Promise<ConsoleDriver> {
    const probed = await probe(transport, KNOWN_FEATURES, options);
    try {
      return new ConsoleDriver(probed);
    } catch (error) {
      await remove(probed);
      throw error;
    }
  }

  #begin(config: DataView): void {
    if (!this.#isMultiport) {
      const hasSize = hasFeature(this.features, VIRTIO_CONSOLE_F_SIZE);
      const cols = hasSize ? config.getUint16(VIRTIO_CONSOLE_CONFIG_COLS, true) : 0;
      this.#ports.addOnly(cols, config.getUint16(VIRTIO_CONSOLE_CONFIG_ROWS, true));
      return;
    }
    const queue = queueAt(this.#probed, VIRTIO_CONSOLE_QUEUE_CONTROL_RX);
    const gone = (error: VhostError) => this.#end(error);
    const filled = () => this.#listen();
    const { shared } = this.#probed.transport;
    this.#control = new ConsoleInbox(shared, queue, CONTROL_BUFFERS, { filled, gone });
    this.#tell(0, VIRTIO_CONSOLE_DEVICE_READY, 1);
  }

  #listen(): void {
    for (let bytes = this.#control?.take(); bytes; bytes = this.#control?.take()) {
      this.#ports.receive(bytes);
    }
  }

  get #isMultiport(): boolean {
    return hasFeature(this.features, VIRTIO_CONSOLE_F_MULTIPORT);
  }

  /** Negotiated feature bits, as a mask. */
  get features(): bigint {
    return this.#probed.features;
  }

  /** The ports that there are now, by number. */
  get ports(): ConsolePortState[] {
    return this.#ports.list;
  }

  /** Messages of the device's that were none. */
  get badMessages(): number {
    return this.#ports.badMessages;
  }

  /** Sends the device a message. */
  #tell(id: number, event: number, value: number): void {
    if (!this.#isMultiport || this.#gone) return;
    const bytes = new Uint8Array(VIRTIO_CONSOLE_CONTROL_BYTES);
    const view = new DataView(bytes.buffer);
    view.setUint32(0, id, true);
    view.setUint32(4, value * 0x10000 + event, true);
    this.#send(VIRTIO_CONSOLE_QUEUE_CONTROL_TX, bytes).catch((error) => this.#end(error));
  }

  async #send(queue: number, bytes: Uint8Array): Promise<void> {
    using buffer = new DmaBuffer(this.#probed.transport.shared, bytes.length);
    buffer.bytes.set(bytes);
    const out = { address: buffer.address, length: bytes.length };
    await queueAt(this.#probed, queue).submit([out], [], buffer);
  }

  /**
   * Opens a port, by its number or name, when the device has it: that may be later. Rejects with
   * EBUSY when it is open, ENOMEM, ENODEV, and with the signal's reason.
   */
  async open(port: number | string = 0, options: Abortable = {}): Promise<ConsoleDriverPort> {
    options.signal?.throwIfAborted();
    if (this.#gone) throw this.#gone;
    const state = await this.#ports.find(port, options.signal);
    if (state.stream) throw new VhostError("EBUSY", `port ${port} is open`, { port });
    const stream = new ConsoleDriverPort(state.id, this.#inbox(state.id), {
      send: (bytes) => this.#send(consoleRxQueue(state.id) + 1, bytes),
      closed: () => {
        if (this.#ports.forget(state)) this.#tell(state.id, VIRTIO_CONSOLE_PORT_OPEN, 0);
      },
    });
    this.#ports.opened(state, stream);
    this.#tell(state.id, VIRTIO_CONSOLE_PORT_OPEN, 1);
    return stream;
  }

  #inbox(id: number): ConsoleInbox {
    const known = this.#inboxes.get(id);
    if (known) return known;
    const queue = queueAt(this.#probed, consoleRxQueue(id));
    const inbox = new ConsoleInbox(this.#probed.transport.shared, queue, PORT_BUFFERS, {
      filled: () => this.#ports.deliver(id),
      gone: (error) => this.#end(error),
    });
    this.#inboxes.set(id, inbox);
    return inbox;
  }

  /**
   * Writes to port 0 without a queue, a byte at a time: for last words. Rejects with EOPNOTSUPP
   * when EMERG_WRITE was not negotiated. virtio 1.3, 5.3.4 Device configuration layout.
   */
  async emergencyWrite(text: string): Promise<void> {
    if (!hasFeature(this.features, VIRTIO_CONSOLE_F_EMERG_WRITE)) {
      throw new VhostError("EOPNOTSUPP", "VIRTIO_CONSOLE_F_EMERG_WRITE was not negotiated");
    }
    const { transport } = this.#probed;
    for (const byte of Buffer.from(text)) {
      await transport.writeConfig(VIRTIO_CONSOLE_CONFIG_EMERG_WR, Uint8Array.of(byte, 0, 0, 0));
    }
  }

  /** All streams are closed, and none can be opened: that gives `error`. */
  #end(error: VhostError): void {
    if (this.#gone) return;
    this.#gone = error;
    this.#ports.close(error);
  }

  /** Resets the device, closes all streams, gives the memory back. Idempotent. */
  async close(): Promise<void> {
    this.#end(new VhostError("ENODEV", "the driver is closed"));
    try {
      await remove(this.#probed);
    } finally {
      this.#control?.release();
      for (const inbox of this.#inboxes.values()) inbox.release();
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** Of the whole configuration space, whatever the device has of it. */
function viewOf(config: Uint8Array): DataView {
  const whole = new Uint8Array(VIRTIO_CONSOLE_CONFIG_BYTES);
  whole.set(config.subarray(0, whole.length));
  return new DataView(whole.buffer);
}
