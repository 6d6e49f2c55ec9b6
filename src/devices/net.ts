import { checkMakeable } from "../linux/makeable.js";
import { checkQueueSize } from "../memory/vring.js";
import { loadChecksum } from "../ring/checksum.js";
import type { RingKind } from "../ring/load.js";
import { VhostError } from "../spec/errno.js";
import { checkNames } from "../spec/options.js";
import {
  ETH_DATA_LEN,
  ETH_HLEN,
  ETH_MAX_MTU,
  VIRTIO_NET_HDR_BYTES,
  VIRTIO_NET_MTU_MIN,
  VIRTIO_NET_QUEUES,
} from "../spec/virtio-net.js";
import { pathClaim } from "../vhost/claims.js";
import type {
  Claim,
  DeviceEnvironment,
  DeviceHost,
  DeviceParts,
  DeviceSpec,
  VirtioDevice,
} from "../vhost/device.js";
import { DOORBELL_QUEUES_MAX } from "../vhost/notify.js";
import { NetDevice, type NetDeviceOptions } from "./net-device.js";
import { NetHost } from "./net-host.js";
import { type NetLinkBuffers, NetLinkPort } from "./net-link.js";
import { formatMac, parseMac } from "./net-mac.js";
import { NetPcap, type NetPcapOptions, PcapState } from "./net-pcap.js";
import { NET_PACKET_BYTES_MAX } from "./net-pipe.js";
import { allocNetStages, freeNetStages, NetStages, type NetStagesPlace } from "./net-stage.js";
import { SwitchPort } from "./net-switch.js";
import { NetSwitchPort, type NetSwitchPortOptions } from "./net-switch-port.js";

/** A network device: its packets go to a function, or to a switch. */
export interface NetOptions {
  /** The guest's address, "52:54:00:12:34:56". Default: a random one. */
  mac?: string;
  /** The most payload of a packet that the guest should send. Default 1500. */
  mtu?: number;
  /** Largest size of a queue, a power of two. Default 256. */
  queueSize?: number;
  /** Pairs of queues, one each way, 1 to 15; the driver says how many it uses. Default 1. */
  queuePairs?: number;
  /**
   * Gets each frame that the guest sends, in the opening thread: a view that is good during the
   * call. What it does not take in time stays in the guest's ring.
   */
  onPacket?: (frame: Uint8Array) => void;
  /** In the place of `onPacket`: the port of a switch, `lan.port()`. */
  switch?: SwitchPort;
  /**
   * A file, made anew when the device is first opened, for all of its packets, both ways: Wireshark
   * reads it.
   */
  pcap?: string;
  /** Gets why the capture has ended by itself, a full disk, say: once, in the opening thread. */
  onError?: (error: VhostError) => void;
}

/** Pairs of queues, at most; there is one queue more, by which the driver commands. */
export const NET_QUEUE_PAIRS_MAX = Math.floor((DOORBELL_QUEUES_MAX - 1) / VIRTIO_NET_QUEUES);

const OPTIONS = ["mac", "mtu", "queueSize", "queuePairs", "onPacket", "switch", "pcap", "onError"];

/** What is different at each opening. */
interface NetWire {
  pcap: NetPcapOptions | undefined;
  ringKind: RingKind;
  stages: NetStagesPlace | undefined;
  link?: NetLinkBuffers;
  port?: NetSwitchPortOptions;
}

/**
 * A network device to open, and the host's end of its wire, in the thread that made it. virtio 1.3,
 * 5.1 Network Device.
 */
export class Net implements DeviceSpec<"net"> {
  readonly kind = "net";
  readonly module = import.meta.url;
  readonly options: NetDeviceOptions;
  readonly #onPacket: (frame: Uint8Array) => void;
  readonly #port: SwitchPort | undefined;
  readonly #pcapPath: string | undefined;
  readonly #pcapState = new PcapState();
  /** It was opened before: a capture goes on. */
  #isKnown = false;
  #host: NetHost | undefined;

  /** See `net`. */
  constructor(options: NetOptions) {
    const { mtu = ETH_DATA_LEN, queueSize = 256, queuePairs = 1, pcap } = options;
    const { onPacket = () => {} } = options;
    const mac = parseMac(options.mac);
    this.options = { mac, mtu, queueSize, queuePairs };
    this.#pcapPath = pcap;
    this.#onPacket = onPacket;
    this.#port = options.switch;
    if (pcap === undefined) return;
    const { onError = () => {} } = options;
    void this.#pcapState.failed().then((code) => {
      const message = `the capture ${pcap} has ended: it can't be written to`;
      onError(new VhostError(code, message, { path: pcap }));
    });
  }

  /** Packets that are not in the capture, since that has ended by itself; modulo 2^32. */
  get uncaptured(): number {
    return this.#pcapState.lost;
  }

  /** The guest's address. */
  get mac(): string {
    return formatMac(this.options.mac);
  }

  /**
   * For who opens it: it is one guest's at a time, and so is a port. Throws ENOENT, EACCES and the
   * like for a capture that can't be made.
   */
  claims(): Claim[] {
    const { mac } = this;
    const claims: Claim[] = [{ key: `net:${mac}`, label: `the station ${mac}`, mode: "exclusive" }];
    if (this.#pcapPath !== undefined) {
      checkMakeable("the capture", this.#pcapPath);
      claims.push(pathClaim(this.#pcapPath));
    }
    if (!this.#port) return claims;
    const { lan, index } = this.#port;
    const label = `port ${index} of the switch`;
    return [...claims, { key: `${lan.name}:${index}`, label, mode: "exclusive" }];
  }

  /** For who opens it. */
  prepare(deviceHost: DeviceHost): DeviceParts {
    const { ringKind } = deviceHost;
    const path = this.#pcapPath;
    const state = this.#pcapState.buffer;
    const pcap = path === undefined ? undefined : { path, appends: this.#isKnown, state };
    this.#isKnown = true;
    const wire = this.#port?.lan.connect(this.#port.index, deviceHost);
    const stages = allocNetStages(deviceHost);
    const options = { ...this.options, pcap, ringKind, stages };
    if (wire) {
      const close = async () => {
        wire.close();
        freeNetStages(deviceHost, stages);
      };
      return { options: { ...options, port: wire.options }, close };
    }
    const host = new NetHost(deviceHost, this.#onPacket);
    this.#host = host;
    const close = async () => {
      this.#host = undefined;
      host.close();
      freeNetStages(deviceHost, stages);
    };
    return { options: { ...options, link: host.buffers }, close };
  }

  /**
   * Sends a frame, of 14 bytes at least, to the guest; it is copied. False: too many wait for the
   * guest already. Throws EINVAL for what is no frame, ENODEV when the device is not open, or is
   * at a switch.
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
 * A network device, at a switch: `net({ switch: lan.port() })`; or at a function: `const nic =
 * net({ onPacket: (frame) => … })`, `await process.open(nic)`, then `nic.send(frame)`. Throws
 * EINVAL for options that make none.
 */
export function net(options: NetOptions = {}): Net {
  checkNames("a network device", options, OPTIONS);
  const { mtu = ETH_DATA_LEN, queueSize = 256, queuePairs = 1, onPacket } = options;
  if (!Number.isInteger(mtu) || mtu < VIRTIO_NET_MTU_MIN || mtu > ETH_MAX_MTU) {
    const range = `${VIRTIO_NET_MTU_MIN} to ${ETH_MAX_MTU}`;
    throw new VhostError("EINVAL", `mtu is a whole number from ${range}`, { mtu });
  }
  checkQueueSize(queueSize);
  if (!Number.isInteger(queuePairs) || queuePairs < 1 || queuePairs > NET_QUEUE_PAIRS_MAX) {
    const range = `1 to ${NET_QUEUE_PAIRS_MAX}`;
    throw new VhostError("EINVAL", `queuePairs is a whole number from ${range}`, { queuePairs });
  }
  if (onPacket !== undefined && typeof onPacket !== "function") {
    throw new VhostError("EINVAL", "onPacket is a function");
  }
  checkWire(options);
  return new Net(options);
}

function checkWire({ onPacket, pcap, onError, switch: port }: NetOptions): void {
  if (port !== undefined && !(port instanceof SwitchPort)) {
    throw new VhostError("EINVAL", "switch is the port of one: lan.port()");
  }
  if (port && onPacket) {
    throw new VhostError("EINVAL", "a device is at a switch or at onPacket, not at both");
  }
  if (onError !== undefined && typeof onError !== "function") {
    throw new VhostError("EINVAL", "onError is a function");
  }
  if (pcap !== undefined && (typeof pcap !== "string" || pcap === "")) {
    throw new VhostError("EINVAL", "pcap is the path of a file", { pcap });
  }
}

/** Makes the device, in the worker's thread. For `DeviceModule`. */
export function createDevice(options: unknown, { memory }: DeviceEnvironment): VirtioDevice {
  const { link, port, pcap, ringKind, ...more } = options as NetDeviceOptions & NetWire;
  const { stages: place, ...settings } = more;
  const tap = pcap && new NetPcap(pcap);
  const stages = place && new NetStages(memory, place);
  const wire = port
    ? new NetSwitchPort(port, false, stages)
    : new NetLinkPort(link as NetLinkBuffers, stages);
  return new NetDevice(settings, wire, loadChecksum(memory, ringKind), tap);
}
