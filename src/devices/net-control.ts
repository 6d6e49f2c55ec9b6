import { featureMask, hasFeature } from "../spec/features.js";
import {
  ETH_ALEN,
  ETH_GROUP,
  VIRTIO_NET_CTRL_ANNOUNCE,
  VIRTIO_NET_CTRL_ANNOUNCE_ACK,
  VIRTIO_NET_CTRL_CLASS,
  VIRTIO_NET_CTRL_COMMAND,
  VIRTIO_NET_CTRL_DATA,
  VIRTIO_NET_CTRL_GUEST_OFFLOADS,
  VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET,
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
  VIRTIO_NET_F_CTRL_GUEST_OFFLOADS,
  VIRTIO_NET_F_CTRL_MAC_ADDR,
  VIRTIO_NET_F_CTRL_RX,
  VIRTIO_NET_F_CTRL_RX_EXTRA,
  VIRTIO_NET_F_CTRL_VLAN,
  VIRTIO_NET_F_GUEST_ANNOUNCE,
  VIRTIO_NET_F_MQ,
  VIRTIO_NET_OK,
  VLAN_N_VID,
} from "../spec/virtio-net.js";
import type { Chain, ChainSide } from "../vhost/chain.js";
import type { Virtqueue } from "../vhost/virtqueue.js";
import { NET_FILTER_MACS_MAX, type NetFilter } from "./net-filter.js";
import { TAKES_FEATURES } from "./net-takes.js";

/** Bytes of the number in front of a table of addresses. */
const ENTRIES_BYTES = 4;
/** Commands have as many bytes of data at most; only a table has a length of its own. */
const DATA_BYTES_MAX = 8;
const OK = Uint8Array.of(VIRTIO_NET_OK);
const ERR = Uint8Array.of(VIRTIO_NET_ERR);

/** What the driver sets by VIRTIO_NET_CTRL_RX, and the feature that gives it the command. */
const RX_COMMANDS = {
  [VIRTIO_NET_CTRL_RX_PROMISC]: ["isPromiscuous", VIRTIO_NET_F_CTRL_RX],
  [VIRTIO_NET_CTRL_RX_ALLMULTI]: ["hasAllGroups", VIRTIO_NET_F_CTRL_RX],
  [VIRTIO_NET_CTRL_RX_ALLUNI]: ["hasAllStations", VIRTIO_NET_F_CTRL_RX_EXTRA],
  [VIRTIO_NET_CTRL_RX_NOMULTI]: ["hasNoGroups", VIRTIO_NET_F_CTRL_RX_EXTRA],
  [VIRTIO_NET_CTRL_RX_NOUNI]: ["hasNoStations", VIRTIO_NET_F_CTRL_RX_EXTRA],
  [VIRTIO_NET_CTRL_RX_NOBCAST]: ["hasNoBroadcast", VIRTIO_NET_F_CTRL_RX_EXTRA],
} as const;

/** What a driver's commands do beside its filters. */
export interface NetControlHooks {
  /** The driver uses so many pairs of queues. */
  setPairs(pairs: number): void;
  /** The driver takes what these features say, a mask, of those that it has accepted. */
  setOffloads(features: bigint): void;
}

/**
 * The commands of a driver's control queue. One that is cut short, has false numbers or was not
 * negotiated changes nothing and is answered by VIRTIO_NET_ERR. virtio 1.3, 5.1.6.5 Control
 * Virtqueue.
 */
export class NetControl {
  readonly #filter: NetFilter;
  readonly #pairsMax: number;
  readonly #hooks: NetControlHooks;
  readonly #data = new Uint8Array(DATA_BYTES_MAX);
  readonly #view = new DataView(this.#data.buffer);
  #features = 0n;

  constructor(filter: NetFilter, pairsMax: number, hooks: NetControlHooks) {
    this.#filter = filter;
    this.#pairsMax = pairsMax;
    this.#hooks = hooks;
  }

  /** The driver has accepted `features`. */
  start(features: bigint): void {
    this.#features = features;
  }

  /** Does a command, and writes its `ack`; what `drain`'s handler returns. */
  handle({ readable, writable }: Chain, vq: Virtqueue): number {
    if (readable.bytes < VIRTIO_NET_CTRL_DATA || writable.bytes < 1) return vq.badRequest();
    const isDone = this.#run(readable);
    return writable.write(0, isDone ? OK : ERR);
  }

  #run(command: ChainSide): boolean {
    command.read(0, this.#data, 0, VIRTIO_NET_CTRL_DATA);
    const number = this.#data[VIRTIO_NET_CTRL_COMMAND] as number;
    switch (this.#data[VIRTIO_NET_CTRL_CLASS]) {
      case VIRTIO_NET_CTRL_RX:
        return this.#setMode(number, command);
      case VIRTIO_NET_CTRL_MAC:
        if (number === VIRTIO_NET_CTRL_MAC_TABLE_SET) return this.#setMacs(command);
        return number === VIRTIO_NET_CTRL_MAC_ADDR_SET && this.#setMac(command);
      case VIRTIO_NET_CTRL_VLAN:
        return this.#setVlan(number, command);
      case VIRTIO_NET_CTRL_ANNOUNCE: // nothing waits for it
        if (number !== VIRTIO_NET_CTRL_ANNOUNCE_ACK) return false;
        return this.#hasData(command, 0, VIRTIO_NET_F_GUEST_ANNOUNCE);
      case VIRTIO_NET_CTRL_MQ:
        return number === VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET && this.#setQueues(command);
      case VIRTIO_NET_CTRL_GUEST_OFFLOADS:
        return number === VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET && this.#setOffloads(command);
      default:
        return false;
    }
  }

  /** Whether the command is the driver's to give, and has `bytes` of data: they are in `#data`. */
  #hasData(command: ChainSide, bytes: number, feature: number): boolean {
    if (!hasFeature(this.#features, feature)) return false;
    if (command.bytes !== VIRTIO_NET_CTRL_DATA + bytes) return false;
    command.read(VIRTIO_NET_CTRL_DATA, this.#data, 0, bytes);
    return true;
  }

  #setMode(number: number, command: ChainSide): boolean {
    const known = RX_COMMANDS[number as keyof typeof RX_COMMANDS];
    if (!known) return false;
    const [name, feature] = known;
    if (!this.#hasData(command, 1, feature)) return false;
    const isOn = this.#data[0] as number;
    if (isOn > 1) return false;
    this.#filter[name] = isOn === 1;
    return true;
  }

  #setMac(command: ChainSide): boolean {
    if (!this.#hasData(command, ETH_ALEN, VIRTIO_NET_F_CTRL_MAC_ADDR)) return false;
    if (((this.#data[0] as number) & ETH_GROUP) !== 0) return false;
    this.#filter.mac.set(this.#data.subarray(0, ETH_ALEN));
    return true;
  }

  #setVlan(number: number, command: ChainSide): boolean {
    if (number !== VIRTIO_NET_CTRL_VLAN_ADD && number !== VIRTIO_NET_CTRL_VLAN_DEL) return false;
    if (!this.#hasData(command, 2, VIRTIO_NET_F_CTRL_VLAN)) return false;
    const vlan = this.#view.getUint16(0, true);
    if (vlan >= VLAN_N_VID) return false;
    this.#filter.setVlan(vlan, number === VIRTIO_NET_CTRL_VLAN_ADD);
    return true;
  }

  #setQueues(command: ChainSide): boolean {
    if (!this.#hasData(command, 2, VIRTIO_NET_F_MQ)) return false;
    const pairs = this.#view.getUint16(0, true);
    if (pairs < 1 || pairs > this.#pairsMax) return false;
    this.#hooks.setPairs(pairs);
    return true;
  }

  #setOffloads(command: ChainSide): boolean {
    if (!this.#hasData(command, 8, VIRTIO_NET_F_CTRL_GUEST_OFFLOADS)) return false;
    const offloads = this.#view.getBigUint64(0, true);
    const accepted = this.#features & featureMask(...TAKES_FEATURES);
    if ((offloads & ~accepted) !== 0n) return false;
    this.#hooks.setOffloads(offloads);
    return true;
  }

  /** Two tables, one behind the other, and nothing behind them. */
  #setMacs(command: ChainSide): boolean {
    if (!hasFeature(this.#features, VIRTIO_NET_F_CTRL_RX)) return false;
    const stations = this.#table(command, VIRTIO_NET_CTRL_DATA);
    const groups = stations && this.#table(command, stations.end);
    if (!stations || groups?.end !== command.bytes) return false;
    this.#filter.setMacs(stations.macs, stations.count, groups.macs, groups.count);
    return true;
  }

  /** The table that begins at `start`; `undefined`: it does not lie in the command. */
  #table(command: ChainSide, start: number) {
    if (start + ENTRIES_BYTES > command.bytes) return undefined;
    command.read(start, this.#data, 0, ENTRIES_BYTES);
    const count = this.#view.getUint32(0, true);
    const end = start + ENTRIES_BYTES + count * ETH_ALEN;
    if (end > command.bytes) return undefined;
    const macs = new Uint8Array(count > NET_FILTER_MACS_MAX ? 0 : count * ETH_ALEN);
    command.read(start + ENTRIES_BYTES, macs);
    return { macs, count, end };
  }
}
