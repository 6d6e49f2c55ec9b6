// A network device that takes what its guest sends, or sends without end: what testpmd's rxonly
// and txonly do behind its own back-end. Each packet is copied to a pipe, or from one, as at a
// switch; the pipe's other end costs nothing here, since it is another thread's there.

import { NetDevice } from "#dist/devices/net-device.js";
import { PLAIN_HEADER } from "#dist/devices/net-link.js";
import { NetPipe, netPipeBytes } from "#dist/devices/net-pipe.js";
import type { NetPort } from "#dist/devices/net-port.js";
import {
  allocNetStages,
  freeNetStages,
  type NetBurst,
  NetStages,
  type NetStagesPlace,
} from "#dist/devices/net-stage.js";
import { loadChecksum } from "#dist/ring/checksum.js";
import { VIRTIO_NET_HDR_BYTES } from "#dist/spec/virtio-net.js";
import type { ChainSide } from "#dist/vhost/chain.js";
import type {
  DeviceEnvironment,
  DeviceHost,
  DeviceParts,
  VirtioDevice,
} from "#dist/vhost/device.js";

const PIPE_BYTES = 1 << 20;
const QUEUE_SIZE = 1024;
const MTU = 1500;

/** What the device does. */
export interface EndOptions {
  /** Bytes of the frames that it sends; 0: it takes those of the guest. */
  frameBytes: number;
}

/** Indices of a pipe's words: up to where it was written, and read. */
const WRITTEN = 0;
const READ = 16;

/** The end of the wire. */
class End implements NetPort {
  readonly room = Number.POSITIVE_INFINITY;
  readonly #out: NetPipe;
  readonly #outWords: Uint32Array;
  readonly #in: NetPipe;
  readonly #inWords: Uint32Array;
  readonly #sends: boolean;
  readonly #stages: NetStages | undefined;

  constructor(frameBytes: number, stages: NetStages | undefined) {
    const out = new SharedArrayBuffer(netPipeBytes(PIPE_BYTES));
    const into = new SharedArrayBuffer(netPipeBytes(PIPE_BYTES));
    this.#sends = frameBytes > 0;
    this.#stages = stages;
    this.#outWords = new Uint32Array(out);
    this.#inWords = new Uint32Array(into);
    this.#out = new NetPipe(out, PIPE_BYTES, 0, stages?.from);
    if (this.#sends) fill(into, VIRTIO_NET_HDR_BYTES + frameBytes);
    this.#in = new NetPipe(into, PIPE_BYTES, 0, stages?.to);
  }

  send(packet: ChainSide, length: number): void {
    const at = this.#out.begin(length);
    if (at < 0) return;
    const done = VIRTIO_NET_HDR_BYTES;
    packet.read(done, this.#out.bytes, at + done, length - done);
    this.#out.end();
  }

  /** All that is in the pipe is taken. */
  flush(): void {
    this.#stages?.flush();
    Atomics.store(this.#outWords, READ, Atomics.load(this.#outWords, WRITTEN));
  }

  /** The pipe is full: at each place there is the packet of before. */
  poll(): void {
    if (!this.#sends) return;
    Atomics.store(this.#inWords, WRITTEN, Atomics.load(this.#inWords, READ) + PIPE_BYTES);
  }

  count(max: number): number {
    return this.#in.count(max);
  }

  peek(): NetPipe | undefined {
    return this.#in.peek() ? this.#in : undefined;
  }

  drop(): void {
    this.#in.drop();
  }

  put(burst: NetBurst): number {
    return this.#in.put(burst);
  }

  take(burst: NetBurst): number {
    return this.#out.take(burst);
  }

  expect(): boolean {
    return this.#sends; // more is there at once
  }

  setTakes(): void {}
  reset(): void {}
  close(): void {}
}

/** Writes packets all over a pipe, so that it is full wherever it is read from. */
function fill(buffer: SharedArrayBuffer, packetBytes: number): void {
  const [writer, reader] = [0, 1].map(() => new NetPipe(buffer, PIPE_BYTES)) as [NetPipe, NetPipe];
  const write = () => {
    const at = writer.begin(packetBytes);
    if (at < 0) return false;
    writer.bytes.fill(0, at, at + packetBytes);
    writer.bytes.set(PLAIN_HEADER, at);
    writer.end();
    return true;
  };
  while (write()) {}
  if (reader.peek()) reader.drop();
  write(); // at the start again: what is left at the end is skipped
}

/** For a device's `prepare`. */
export function prepare(options: EndOptions, host: DeviceHost): DeviceParts {
  const place = allocNetStages(host);
  return { options: { ...options, place }, close: async () => freeNetStages(host, place) };
}

/** For `custom`. */
export function createDevice(options: unknown, { memory }: DeviceEnvironment): VirtioDevice {
  const { frameBytes, place } = options as EndOptions & { place?: NetStagesPlace };
  const mac = Uint8Array.of(2, 0, 0, 0, 0, 1);
  const settings = { mac, mtu: MTU, queueSize: QUEUE_SIZE, queuePairs: 1 };
  const stages = place && new NetStages(memory, place);
  return new NetDevice(settings, new End(frameBytes, stages), loadChecksum(memory, "wasm"));
}
