import { VhostError } from "../spec/errno.js";
import {
  VIRTIO_VSOCK_CONFIG_BYTES,
  VIRTIO_VSOCK_EVENT_BYTES,
  VIRTIO_VSOCK_EVENT_TRANSPORT_RESET,
  VIRTIO_VSOCK_F_STREAM,
  VIRTIO_VSOCK_QUEUE_EVENT,
  VIRTIO_VSOCK_QUEUE_RX,
  VIRTIO_VSOCK_QUEUE_TX,
  VMADDR_CID_HOST,
} from "../spec/virtio-vsock.js";
import { type ConnectOptions, type VsockListener, VsockSockets } from "../vsock/sockets.js";
import type { VsockStream } from "../vsock/stream.js";
import { type Probed, type ProbeOptions, probe, queueAt, remove } from "./probe.js";
import type { Transport } from "./transport.js";
import { type PacketBuffer, VsockPackets } from "./vsock-packets.js";
import { VsockReceiver } from "./vsock-receiver.js";
import { VsockSender } from "./vsock-sender.js";

const KNOWN_FEATURES = [VIRTIO_VSOCK_F_STREAM];
const BUFFER_BYTES = 1 << 18;
const CONNECTIONS_MAX = 1024;
/**
 * The driver of a virtio socket device: streams to and from the host. virtio 1.3, 5.10 Socket
 * Device.
 */
export class VsockDriver implements AsyncDisposable {
  readonly #probed: Probed;
  readonly #sockets: VsockSockets;
  readonly #packets: VsockPackets;
  readonly #receiver: VsockReceiver;
  readonly #sender: VsockSender;
  #cid: number;
  #isDue = false;
  #gone: VhostError | undefined;

  private constructor(probed: Probed, packets: VsockPackets) {
    this.#probed = probed;
    this.#packets = packets;
    this.#cid = cidOf(probed.config);
    const work = () => this.#workSoon();
    this.#sockets = new VsockSockets(
      {
        localCid: this.#cid,
        peerCid: VMADDR_CID_HOST,
        bufferBytes: BUFFER_BYTES,
        connectionsMax: CONNECTIONS_MAX,
      },
      work,
    );
    const { endpoint } = this.#sockets;
    const rx = queueAt(probed, VIRTIO_VSOCK_QUEUE_RX);
    const tx = queueAt(probed, VIRTIO_VSOCK_QUEUE_TX);
    const hooks = { work, gone: (error: VhostError) => this.#end(error) };
    this.#receiver = new VsockReceiver(rx, endpoint, packets, hooks);
    this.#sender = new VsockSender(tx, endpoint, packets, hooks);
    for (const buffer of packets.events) void this.#awaitEvents(buffer);
    probed.transport.onDeath((error) => this.#end(error));
  }

  /** Brings the device up. Rejects with what `probe` rejects with, and ENOMEM. */
  static async probe(transport: Transport, options: ProbeOptions = {}): Promise<VsockDriver> {
    const probed = await probe(transport, KNOWN_FEATURES, options);
    try {
      const num = Math.min(...probed.queues.map((queue) => queue.num));
      return new VsockDriver(probed, new VsockPackets(transport.shared, num));
    } catch (error) {
      await remove(probed);
      throw error;
    }
  }

  /** Negotiated feature bits, as a mask. */
  get features(): bigint {
    return this.#probed.features;
  }

  /** The guest's own address. */
  get cid(): number {
    return this.#cid;
  }

  /** How often each ring error happened on the driver's side, by name. */
  errorCounts(): Record<string, number>[] {
    return this.#probed.queues.map((queue) => queue.errorCounts());
  }

  /**
   * Connects to a port of `cid`, the host's: 2. Rejects with ECONNREFUSED when nobody listens
   * there, ETIMEDOUT, ENOBUFS at the limit of connections, ENODEV for another CID and when the
   * device is gone, EINVAL, and with the signal's reason.
   */
  async connect(cid: number, port: number, options?: ConnectOptions): Promise<VsockStream> {
    if (cid !== VMADDR_CID_HOST) {
      throw new VhostError("ENODEV", `only the host, CID ${VMADDR_CID_HOST}, can be reached`, {
        cid,
      });
    }
    return this.#sockets.connect(port, options);
  }

  /**
   * Takes the host's connections to a port of the guest's; `onConnection` gets a stream for each.
   * Throws EADDRINUSE, EINVAL.
   */
  listen(port: number, onConnection: (stream: VsockStream) => void): VsockListener {
    return this.#sockets.listen(port, onConnection);
  }

  /** Once a turn, as in `Queue.submit`. */
  #workSoon(): void {
    if (this.#isDue || this.#gone) return;
    this.#isDue = true;
    queueMicrotask(() => {
      this.#isDue = false;
      if (this.#gone) return;
      this.#receiver.work();
      this.#sender.work();
    });
  }

  /** Gives the device a buffer for an event, again and again. */
  async #awaitEvents(buffer: PacketBuffer): Promise<void> {
    const queue = queueAt(this.#probed, VIRTIO_VSOCK_QUEUE_EVENT);
    try {
      for (;;) {
        const written = await this.#packets.submit(queue, [], [buffer]);
        if (isReset(buffer.bytes, written)) await this.#onReset();
      }
    } catch (error) {
      this.#end(error as VhostError);
    }
  }

  /** All connections are gone, and the CID is to be read again. */
  async #onReset(): Promise<void> {
    const error = new VhostError("ECONNRESET", "the device has reset the transport");
    this.#sockets.endpoint.reset(error);
    this.#cid = cidOf(await this.#probed.transport.readConfig());
    this.#sockets.endpoint.localCid = this.#cid;
  }

  /** All streams end with `error`, and none can be made. */
  #end(error: VhostError): void {
    if (this.#gone) return;
    this.#gone = error;
    this.#sockets.close(error);
  }

  /** Resets the device, ends all streams with ENODEV, gives the memory back. Idempotent. */
  async close(): Promise<void> {
    this.#end(new VhostError("ENODEV", "the driver is closed"));
    try {
      await remove(this.#probed);
    } finally {
      this.#packets.release();
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** Whether that is the one event there is. virtio 1.3, 5.10.6.7 Device Events. */
function isReset(event: Uint8Array, written: number): boolean {
  if (written < VIRTIO_VSOCK_EVENT_BYTES) return false;
  const view = new DataView(event.buffer, event.byteOffset, VIRTIO_VSOCK_EVENT_BYTES);
  return view.getUint32(0, true) === VIRTIO_VSOCK_EVENT_TRANSPORT_RESET;
}

/** virtio 1.3, 5.10.4 Device configuration layout: the upper 32 bits are reserved, and zero. */
function cidOf(config: Uint8Array): number {
  const view = new DataView(config.buffer, config.byteOffset, config.length);
  return config.length < VIRTIO_VSOCK_CONFIG_BYTES ? 0 : view.getUint32(0, true);
}
