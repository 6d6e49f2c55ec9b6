import type { SharedMemory } from "../memory/shared-memory.js";
import { VhostError } from "../spec/errno.js";
import {
  ETH_ALEN,
  VIRTIO_NET_CTRL_MAC,
  VIRTIO_NET_CTRL_MAC_ADDR_SET,
  VIRTIO_NET_CTRL_MAC_TABLE_SET,
  VIRTIO_NET_CTRL_MQ,
  VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET,
  VIRTIO_NET_CTRL_RX,
  VIRTIO_NET_CTRL_RX_ALLMULTI,
  VIRTIO_NET_CTRL_RX_ALLUNI,
  VIRTIO_NET_CTRL_RX_NOBCAST,
  VIRTIO_NET_CTRL_RX_NOMULTI,
  VIRTIO_NET_CTRL_RX_NOUNI,
  VIRTIO_NET_CTRL_RX_PROMISC,
  VIRTIO_NET_CTRL_VLAN,
  VIRTIO_NET_CTRL_VLAN_ADD,
  VIRTIO_NET_CTRL_VLAN_DEL,
  VIRTIO_NET_ERR,
  VIRTIO_NET_OK,
} from "../spec/virtio-net.js";
import { DmaBuffer } from "./dma.js";
import type { Queue } from "./queue.js";

/** Which packets the device is to give; what is not named stays as it is. */
export interface NetReceiveMode {
  /** All packets: what else is said here does not matter. */
  promiscuous?: boolean;
  /** All that are for groups. */
  allMulticast?: boolean;
  /** All that are for one station. */
  allUnicast?: boolean;
  /** None that are for groups. */
  noMulticast?: boolean;
  /** None that are for one station. */
  noUnicast?: boolean;
  /** None that are for all. */
  noBroadcast?: boolean;
}

const MODES: Record<keyof NetReceiveMode, number> = {
  allMulticast: VIRTIO_NET_CTRL_RX_ALLMULTI,
  allUnicast: VIRTIO_NET_CTRL_RX_ALLUNI,
  noMulticast: VIRTIO_NET_CTRL_RX_NOMULTI,
  noUnicast: VIRTIO_NET_CTRL_RX_NOUNI,
  noBroadcast: VIRTIO_NET_CTRL_RX_NOBCAST,
  promiscuous: VIRTIO_NET_CTRL_RX_PROMISC, // last: the others hold by then
};

/** Names of what a receive mode says. */
export const NET_RECEIVE_MODES = Object.keys(MODES);

/**
 * Commands to a network device. All reject with EOPNOTSUPP without a control queue, EIO when the
 * device refuses the command or does not say that it was done, ENOMEM, and with what ends the
 * queue. virtio 1.3, 5.1.6.5 Control Virtqueue.
 */
export class NetCommands {
  readonly #shared: SharedMemory;
  readonly #queue: Queue | undefined;

  /** `queue`: the control queue, if there is one. */
  constructor(shared: SharedMemory, queue: Queue | undefined) {
    this.#shared = shared;
    this.#queue = queue;
  }

  /** Says which packets to give. */
  async setReceiveMode(mode: NetReceiveMode): Promise<void> {
    for (const [name, command] of Object.entries(MODES)) {
      const isOn = mode[name as keyof NetReceiveMode];
      if (isOn !== undefined) {
        await this.#run(VIRTIO_NET_CTRL_RX, command, Uint8Array.of(isOn ? 1 : 0));
      }
    }
  }

  /** Says whose packets to give, beside those for the driver's own address and for all. */
  setAddresses(stations: readonly Uint8Array[], groups: readonly Uint8Array[]): Promise<void> {
    const data = Buffer.concat([tableOf(stations), tableOf(groups)]);
    return this.#run(VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, data);
  }

  /** Sets the driver's own address. */
  setMac(mac: Uint8Array): Promise<void> {
    return this.#run(VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, checkMac(mac));
  }

  /** Frames with the tag of a VLAN, 0 to 4095, are to be given or not. */
  async setVlan(vlan: number, isTaken: boolean): Promise<void> {
    if (!Number.isInteger(vlan) || vlan < 0 || vlan > 0xffff) {
      throw new VhostError("EINVAL", "a VLAN is a whole number from 0 to 4095", { vlan });
    }
    const command = isTaken ? VIRTIO_NET_CTRL_VLAN_ADD : VIRTIO_NET_CTRL_VLAN_DEL;
    return this.#run(VIRTIO_NET_CTRL_VLAN, command, u16(vlan));
  }

  /** So many pairs of queues are in use. */
  setPairs(pairs: number): Promise<void> {
    return this.#run(VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, u16(pairs));
  }

  async #run(group: number, command: number, data: Uint8Array): Promise<void> {
    if (!this.#queue) throw new VhostError("EOPNOTSUPP", "the device has no control queue");
    const length = 2 + data.length;
    using buffer = new DmaBuffer(this.#shared, length + 1);
    buffer.bytes.set([group, command]);
    buffer.bytes.set(data, 2);
    buffer.bytes[length] = VIRTIO_NET_ERR; // unless the device says otherwise
    const { address } = buffer;
    const ack = { address: address + length, length: 1 };
    await this.#queue.submit([{ address, length }], [ack], buffer);
    if (buffer.bytes[length] === VIRTIO_NET_OK) return;
    throw new VhostError("EIO", `the device refuses command ${group}.${command}`);
  }
}

const u16 = (value: number) => Uint8Array.of(value & 0xff, value >>> 8);

/** Throws EINVAL for what is no address. */
function checkMac(mac: Uint8Array): Uint8Array {
  if (mac instanceof Uint8Array && mac.length === ETH_ALEN) return mac;
  throw new VhostError("EINVAL", `an address is a Uint8Array of ${ETH_ALEN} bytes`);
}

/** `struct virtio_net_ctrl_mac`. virtio 1.3, 5.1.6.5.2 Setting MAC Address Filtering. */
function tableOf(addresses: readonly Uint8Array[]): Uint8Array {
  const count = Buffer.alloc(4);
  count.writeUInt32LE(addresses.length);
  return Buffer.concat([count, ...addresses.map(checkMac)]);
}
