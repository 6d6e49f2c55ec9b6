// A network device that takes what its guest sends, or sends without end: what testpmd's rxonly
// and txonly do behind its own back-end. Each packet is copied, as there.
import { NetDevice } from "#dist/devices/net-device.js";
import { NetPipe, netPipeBytes } from "#dist/devices/net-pipe.js";
import type { NetPort } from "#dist/devices/net-port.js";
import { loadChecksum } from "#dist/ring/checksum.js";
import { VIRTIO_NET_HDR_BYTES } from "#dist/spec/virtio-net.js";
import type { ChainSide } from "#dist/vhost/chain.js";
import type { DeviceEnvironment, VirtioDevice } from "#dist/vhost/device.js";

/** Packets lie in so many places in turn: more than a cache's first level holds. */
const SLOTS = 256;
const SLOT_BYTES = 2048;
const QUEUE_SIZE = 1024;
const MTU = 1500;

/** What the device does. */
export interface EndOptions {
  /** Bytes of the frames that it sends; 0: it takes those of the guest. */
  frameBytes: number;
}

/** The end of the wire. */
class End implements NetPort {
  readonly room = Number.POSITIVE_INFINITY;
  readonly #pipe: NetPipe;
  readonly #frameBytes: number;
  #slot = 0;

  constructor(frameBytes: number) {
    this.#frameBytes = frameBytes;
    const bytes = SLOTS * SLOT_BYTES;
    this.#pipe = new NetPipe(new SharedArrayBuffer(netPipeBytes(bytes)), bytes);
    this.#pipe.length = VIRTIO_NET_HDR_BYTES + frameBytes;
  }

  #next(): number {
    this.#slot = (this.#slot + 1) % SLOTS;
    return this.#slot * SLOT_BYTES;
  }

  send(packet: ChainSide, length: number): void {
    const at = this.#next();
    packet.read(VIRTIO_NET_HDR_BYTES, this.#pipe.bytes, at, length - VIRTIO_NET_HDR_BYTES);
  }

  count(max: number): number {
    return this.#frameBytes > 0 ? max : 0;
  }

  peek(): NetPipe | undefined {
    if (this.#frameBytes === 0) return undefined;
    this.#pipe.at = this.#slot * SLOT_BYTES;
    return this.#pipe;
  }

  drop(): void {
    this.#next();
  }

  expect(): boolean {
    return this.#frameBytes > 0; // more is there at once
  }

  setTakes(): void {}
  flush(): void {}
  poll(): void {}
  reset(): void {}
  close(): void {}
}

/** For `custom`. */
export function createDevice(options: unknown, { memory }: DeviceEnvironment): VirtioDevice {
  const { frameBytes } = options as EndOptions;
  const mac = Uint8Array.of(2, 0, 0, 0, 0, 1);
  const settings = { mac, mtu: MTU, queueSize: QUEUE_SIZE, queuePairs: 1 };
  return new NetDevice(settings, new End(frameBytes), loadChecksum(memory, "wasm"));
}
