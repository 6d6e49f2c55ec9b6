import { checkQueueSize } from "../memory/vring.js";
import { VhostError } from "../spec/errno.js";
import { checkNames } from "../spec/options.js";
import {
  ETH_DATA_LEN,
  ETH_HLEN,
  ETH_MAX_MTU,
  VIRTIO_NET_HDR_BYTES,
  VIRTIO_NET_MTU_MIN,
} from "../spec/virtio-net.js";
import type { Claim, DeviceHost, DeviceParts, DeviceSpec, VirtioDevice } from "../vhost/device.js";
import { NetDevice, type NetDeviceOptions } from "./net-device.js";
import { NetHost } from "./net-host.js";
import { type NetLinkBuffers, NetLinkPort } from "./net-link.js";
import { formatMac, parseMac } from "./net-mac.js";
import { NET_PACKET_BYTES_MAX } from "./net-pipe.js";

/** A network device: its packets go to a function, or to a switch. */
export interface NetOptions {
  /** The guest's address, "52:54:00:12:34:56". Default: a random one. */
  mac?: string;
  /** The most payload of a packet that the guest should send. Default 1500. */
  mtu?: number;
  /** Largest size of a queue, a power of two. Default 256. */
  queueSize?: number;
  /**
   * Gets each frame that the guest sends, in the opening thread: a view that is good during the
   * call.
   */
  onPacket?: (frame: Uint8Array) => void;
}

const OPTIONS = ["mac", "mtu", "queueSize", "onPacket"];

interface NetSettings extends NetDeviceOptions {
  link?: NetLinkBuffers;
}

/**
 * A network device to open, and the host's end of its wire, in the thread that made it. virtio 1.3,
 * 5.1 Network Device.
 */
export class Net implements DeviceSpec<"net"> {
  readonly kind = "net";
  readonly module = import.meta.url;
  readonly options: NetSettings;
  readonly #onPacket: (frame: Uint8Array) => void;
  #host: NetHost | undefined;

  /** See `net`. */
  constructor(options: NetOptions) {
    const { mtu = ETH_DATA_LEN, queueSize = 256, onPacket = () => {} } = options;
    this.options = { mac: parseMac(options.mac), mtu, queueSize };
    this.#onPacket = onPacket;
  }

  /** The guest's address. */
  get mac(): string {
    return formatMac(this.options.mac);
  }

  /** For who opens it: it is one guest's at a time. */
  claims(): Claim[] {
    return [{ key: `net:${this.mac}`, label: `the station ${this.mac}`, mode: "exclusive" }];
  }

  /** For who opens it. */
  prepare(deviceHost: DeviceHost): DeviceParts {
    const host = new NetHost(deviceHost, this.#onPacket);
    this.#host = host;
    return {
      options: { ...this.options, link: host.buffers },
      close: async () => {
        this.#host = undefined;
        host.close();
      },
    };
  }

  /**
   * Sends a frame, of 14 bytes at least, to the guest; it is copied. False: too many wait for the
   * guest already. Throws EINVAL for what is no frame, ENODEV when the device is not open.
   */
  send(frame: Uint8Array): boolean {
    const most = NET_PACKET_BYTES_MAX - VIRTIO_NET_HDR_BYTES;
    if (!(frame instanceof Uint8Array) || frame.length < ETH_HLEN || frame.length > most) {
      throw new VhostError("EINVAL", `a frame is a Uint8Array of ${ETH_HLEN} to ${most} bytes`);
    }
    if (!this.#host) throw new VhostError("ENODEV", "no guest has the device: open it first");
    return this.#host.send(frame);
  }
}

/**
 * A network device: `const nic = net({ onPacket: (frame) => … })`, `await process.open(nic)`, then
 * `nic.send(frame)`. Throws EINVAL for options that make none.
 */
export function net(options: NetOptions = {}): Net {
  checkNames("a network device", options, OPTIONS);
  const { mtu = ETH_DATA_LEN, queueSize = 256, onPacket } = options;
  if (!Number.isInteger(mtu) || mtu < VIRTIO_NET_MTU_MIN || mtu > ETH_MAX_MTU) {
    const range = `${VIRTIO_NET_MTU_MIN} to ${ETH_MAX_MTU}`;
    throw new VhostError("EINVAL", `mtu is a whole number from ${range}`, { mtu });
  }
  checkQueueSize(queueSize);
  if (onPacket !== undefined && typeof onPacket !== "function") {
    throw new VhostError("EINVAL", "onPacket is a function");
  }
  return new Net(options);
}

/** Makes the device, in the worker's thread. For `DeviceModule`. */
export function createDevice(options: unknown): VirtioDevice {
  const { link, ...settings } = options as NetSettings & { link: NetLinkBuffers };
  return new NetDevice(settings, new NetLinkPort(link));
}
