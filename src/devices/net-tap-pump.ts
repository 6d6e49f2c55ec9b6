import { TAP_DOWN, TAP_GONE, type TapFile } from "../linux/tap.js";
import { loadChecksum } from "../ring/checksum.js";
import { featureMask } from "../spec/features.js";
import {
  NET_PACKET_BYTES_MIN,
  VIRTIO_NET_F_CSUM,
  VIRTIO_NET_F_GUEST_USO4,
  VIRTIO_NET_F_GUEST_USO6,
  VIRTIO_NET_F_HOST_USO,
} from "../spec/virtio-net.js";
import { type ChainSide, onePiece } from "../vhost/chain.js";
import { LARGE_FEATURES, NetOffload } from "./net-offload.js";
import { NET_PACKET_BYTES_MAX } from "./net-pipe.js";
import type { NetSwitchPort } from "./net-switch-port.js";
import { TAKES_FEATURES, takesOf } from "./net-takes.js";

/** Packets that go one way before the other has its turn. */
const BURST = 64;
/** What the kernel leaves to us, and we to it, as features of a guest that does. */
const OFFLOADS = featureMask(VIRTIO_NET_F_CSUM, ...LARGE_FEATURES, ...TAKES_FEATURES);
const USO = featureMask(VIRTIO_NET_F_HOST_USO, VIRTIO_NET_F_GUEST_USO4, VIRTIO_NET_F_GUEST_USO6);
/** Pages of the memory that a packet from the interface lies in: the largest one fits. */
const MEMORY_PAGES = 2;

/** How the interface of a TAP is: it takes packets; is down; is not there any more. */
export type TapState = "up" | "down" | "gone";

/**
 * Carries packets between a TAP and a port of a switch, in the thread of the TAP. To the interface
 * they go out of the port's queue as they are; what it does not take is dropped and counted.
 */
export class NetTapPump {
  /** As far as the last packets have shown. */
  state: TapState = "up";
  readonly #port: NetSwitchPort;
  readonly #tap: Pick<TapFile, "read" | "write">;
  /** Where a packet from the interface is, for reading into and for the port. */
  readonly #bytes: Uint8Array;
  readonly #packet: ChainSide;
  readonly #offload: NetOffload;

  /** `hasUso`: of `openTap`. */
  constructor(port: NetSwitchPort, tap: Pick<TapFile, "read" | "write">, hasUso: boolean) {
    this.#port = port;
    this.#tap = tap;
    const pages = { initial: MEMORY_PAGES, maximum: MEMORY_PAGES };
    const memory = new WebAssembly.Memory({ ...pages, shared: true });
    this.#bytes = new Uint8Array(memory.buffer, 0, NET_PACKET_BYTES_MAX);
    this.#packet = onePiece(memory);
    this.#offload = new NetOffload(loadChecksum(memory));
    const features = hasUso ? OFFLOADS : OFFLOADS & ~USO;
    this.#offload.accept(features);
    port.setTakes(takesOf(features)); // the kernel makes checksums, and cuts
  }

  /** Moves a burst each way. Whether there was anything. */
  pass(): boolean {
    const isBusy = this.#takeBurst();
    return this.#giveBurst() || isBusy;
  }

  /** From the interface. */
  #takeBurst(): boolean {
    for (let taken = 0; taken < BURST; taken++) {
      const length = this.#tap.read(this.#bytes);
      if (length === TAP_GONE) this.state = "gone";
      if (length === 0 || length === TAP_GONE) {
        this.#port.flush();
        return taken > 0;
      }
      this.#take(length);
    }
    this.#port.flush();
    return true;
  }

  #take(length: number): void {
    this.#packet.set(0, 1, length);
    const isPacket = length >= NET_PACKET_BYTES_MIN && this.#offload.read(this.#packet, length);
    if (isPacket) this.#port.send(this.#packet, length, this.#offload);
    else this.#port.refuse();
  }

  /** To the interface. */
  #giveBurst(): boolean {
    for (let given = 0; given < BURST; given++) {
      const pipe = this.#port.peek();
      if (!pipe) return given > 0;
      const { bytes, at, length } = pipe;
      const result = this.#tap.write(bytes.subarray(at, at + length));
      this.#port.drop(result > 0);
      if (result > 0 && this.state === "down") this.state = "up";
      else if (result === TAP_DOWN && this.state === "up") this.state = "down";
    }
    return true;
  }
}
