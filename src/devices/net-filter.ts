import {
  ETH_ALEN,
  ETH_GROUP,
  ETH_HLEN,
  ETH_P_8021Q,
  VLAN_HLEN,
  VLAN_N_VID,
  VLAN_VID_MASK,
} from "../spec/virtio-net.js";
import { u16At } from "./net-tag.js";

/** Addresses that are told apart, of stations and of groups each; with more, all are taken. */
export const NET_FILTER_MACS_MAX = 64;
const BROADCAST = 0xffff_ffff_ffff;

/** The address at `at` as a number. */
function macAt(bytes: Uint8Array, at: number): number {
  let mac = 0;
  for (let i = 0; i < ETH_ALEN; i++) mac = mac * 256 + (bytes[at + i] as number);
  return mac;
}

/** Addresses that a driver has named: as many as there is room for, or all that there are. */
class MacList {
  #macs = new Set<number>();
  #hasAll = false;

  /** `count` addresses, one after the other; those above the limit are not looked at. */
  set(addresses: Uint8Array, count: number): void {
    this.#hasAll = count > NET_FILTER_MACS_MAX;
    this.#macs = new Set();
    for (let i = 0; i < count && !this.#hasAll; i++) this.#macs.add(macAt(addresses, i * ETH_ALEN));
  }

  has(mac: number): boolean {
    return this.#hasAll || this.#macs.has(mac);
  }
}

/**
 * Which packets a driver takes, as it has said by its control queue; all of them before. virtio
 * 1.3, 5.1.6.5.1 Packet Receive Filtering to 5.1.6.5.3 VLAN Filtering.
 */
export class NetFilter {
  /** The driver's address: packets for it are taken. */
  readonly mac = new Uint8Array(ETH_ALEN);
  /** Takes all: what is said below does not matter. */
  isPromiscuous = true;
  hasAllGroups = false;
  hasAllStations = false;
  hasNoGroups = false;
  hasNoStations = false;
  hasNoBroadcast = false;
  /** Frames with a tag are taken if their VLAN was named. */
  hasVlans = false;
  readonly #ownMac: Uint8Array;
  readonly #stations = new MacList();
  readonly #groups = new MacList();
  readonly #vlans = new Uint8Array(VLAN_N_VID);

  /** `mac`: the driver's, until it says another. */
  constructor(mac: Uint8Array) {
    this.#ownMac = mac;
    this.mac.set(mac);
  }

  /** As before any driver. */
  reset(): void {
    this.mac.set(this.#ownMac);
    this.isPromiscuous = true;
    this.hasAllGroups = this.hasAllStations = false;
    this.hasNoGroups = this.hasNoStations = this.hasNoBroadcast = false;
    this.hasVlans = false;
    this.setMacs(new Uint8Array(0), 0, new Uint8Array(0), 0);
    this.#vlans.fill(0);
  }

  /**
   * The addresses to take beside the driver's own. Where there are more than NET_FILTER_MACS_MAX of
   * a kind, all of the kind are taken, and their bytes may be missing.
   */
  setMacs(stations: Uint8Array, stationCount: number, groups: Uint8Array, groupCount: number) {
    this.#stations.set(stations, stationCount);
    this.#groups.set(groups, groupCount);
  }

  /** A VLAN, 0 to 4095, is taken or not. */
  setVlan(vlan: number, isTaken: boolean): void {
    this.#vlans[vlan] = isTaken ? 1 : 0;
  }

  /** Whether the driver takes the frame of `length` bytes, ETH_HLEN at least. */
  takes(bytes: Uint8Array, at: number, length: number): boolean {
    if (this.isPromiscuous) return true;
    if (this.hasVlans && !this.#takesVlan(bytes, at, length)) return false;
    const mac = macAt(bytes, at);
    if (mac === BROADCAST) return !this.hasNoBroadcast;
    if (((bytes[at] as number) & ETH_GROUP) !== 0) {
      return !this.hasNoGroups && (this.hasAllGroups || this.#groups.has(mac));
    }
    if (this.hasNoStations) return false;
    return this.hasAllStations || mac === macAt(this.mac, 0) || this.#stations.has(mac);
  }

  #takesVlan(bytes: Uint8Array, at: number, length: number): boolean {
    if (u16At(bytes, at + ETH_HLEN - 2) !== ETH_P_8021Q) return true;
    if (length < ETH_HLEN + VLAN_HLEN) return false;
    return this.#vlans[u16At(bytes, at + ETH_HLEN) & VLAN_VID_MASK] === 1;
  }
}
