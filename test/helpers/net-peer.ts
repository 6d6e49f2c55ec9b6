// A guest's network driver that does what it is told: any features, rings of either format, chains
// of any pieces. Its rings are sound; what it says in packets and commands need not be.

import { setImmediate as nextTurn } from "node:timers/promises";
import { DmaBuffer } from "#dist/driver/dma.js";
import { type Probed, type ProbeOptions, probe, queueAt, remove } from "#dist/driver/probe.js";
import { Kernel } from "#dist/index.js";
import type { RingKind } from "#dist/ring/load.js";
import { VIRTIO_NET_F_MRG_RXBUF } from "#dist/spec/virtio-net.js";
import { VhostDev } from "#dist/vhost/dev.js";
import type { DeviceSpec } from "#dist/vhost/device.js";
import { TestTransport } from "./test-transport.js";

/** The four rings: of each format, by each implementation. */
export const RINGS: readonly { packed: boolean; ring: RingKind }[] = [
  { packed: false, ring: "wasm" },
  { packed: true, ring: "wasm" },
  { packed: false, ring: "ts" },
  { packed: true, ring: "ts" },
];

/** Waits, a turn of the event loop at a time, until `test` holds. Throws after ten seconds. */
export async function until(test: () => boolean, what = "it does not happen"): Promise<void> {
  for (const end = performance.now() + 10_000; !test(); await nextTurn()) {
    if (performance.now() > end) throw new Error(what);
  }
}

/** How a peer is. */
export interface NetPeerOptions extends ProbeOptions {
  /** Feature bit numbers beside those of the rings. */
  features?: readonly number[];
  ring?: RingKind;
  /** What it gives to receive in: so many buffers, of so many bytes. */
  buffers?: number;
  bufferBytes?: number;
  memoryBytes?: number;
}

/** A device, and such a driver of it. */
export class NetPeer implements AsyncDisposable {
  /** What has come, virtio's header first; what was in several buffers is in one piece. */
  readonly packets: Buffer[] = [];
  /** Buffers that came back with nothing in them. */
  empty = 0;
  #parts: Buffer[] = [];
  #isClosed = false;

  private constructor(
    readonly kernel: Kernel,
    readonly dev: VhostDev,
    readonly probed: Probed,
    readonly isMergeable: boolean,
  ) {}

  static async open(spec: DeviceSpec, options: NetPeerOptions = {}): Promise<NetPeer> {
    const { features = [], ring = "wasm", buffers = 64, bufferBytes = 1526, ...rest } = options;
    const { memoryBytes = 32 << 20, ...probing } = rest;
    const kernel = new Kernel();
    const dev = new VhostDev(kernel.model, { ring });
    dev.setOwner(kernel.spawn({ memoryBytes }).task);
    await dev.setBackend(spec);
    const transport = new TestTransport(dev, ring);
    const probed = await probe(transport, features, { queueSize: 256, ...probing });
    const isMergeable = features.includes(VIRTIO_NET_F_MRG_RXBUF);
    const peer = new NetPeer(kernel, dev, probed, isMergeable);
    for (let i = 0; i < buffers; i++) peer.give(bufferBytes);
    return peer;
  }

  /** Gives the device one more buffer to receive in, again and again. */
  give(bytes: number, queue = 0): void {
    const buffer = new DmaBuffer(this.probed.transport.shared, bytes);
    const piece = { address: buffer.address, length: bytes };
    const next = () => {
      const used = queueAt(this.probed, queue).submit([], [piece], buffer);
      used.then(
        (written) => {
          this.#take(Buffer.from(buffer.bytes.subarray(0, written)));
          if (!this.#isClosed) next();
        },
        () => {},
      );
    };
    next();
  }

  #take(part: Buffer): void {
    if (part.length === 0) this.empty++;
    else this.#parts.push(part);
    const [first] = this.#parts;
    if (!first) return;
    if (this.isMergeable && this.#parts.length < first.readUInt16LE(10)) return;
    this.packets.push(Buffer.concat(this.#parts.splice(0)));
  }

  /** Frames of what has come. */
  get frames(): Buffer[] {
    return this.packets.map((packet) => packet.subarray(12));
  }

  /** Sends a chain of these pieces; resolves when the device has used it. */
  async send(pieces: readonly Uint8Array[], queue = 1): Promise<void> {
    await this.#submit(pieces, 0, queue);
  }

  /** Gives a command, its data in these pieces; the device's answer, one byte. */
  async command(pieces: readonly Uint8Array[], queue: number): Promise<number | undefined> {
    const [ack] = await this.#submit(pieces, 1, queue);
    return ack;
  }

  async #submit(pieces: readonly Uint8Array[], room: number, queue: number): Promise<Uint8Array> {
    const bytes = Buffer.concat(pieces);
    using buffer = new DmaBuffer(this.probed.transport.shared, bytes.length + room);
    buffer.bytes.set(bytes);
    let { address } = buffer;
    const out = pieces.map(({ length }) => {
      address += length;
      return { address: address - length, length };
    });
    const in_ = room > 0 ? [{ address, length: room }] : [];
    const written = await queueAt(this.probed, queue).submit(out, in_, buffer);
    return buffer.bytes.slice(bytes.length, bytes.length + written);
  }

  /** The device's counts of ring errors on one queue. */
  errors(queue: number): Record<string, number> {
    return this.dev.errorCounts()[queue] ?? {};
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosed = true;
    await remove(this.probed);
    await this.dev.close();
  }
}
