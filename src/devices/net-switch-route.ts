import { ETH_GROUP, ETH_HLEN, ETH_P_8021Q, VLAN_HLEN, VLAN_VID_MASK } from "../spec/virtio-net.js";
import { type NetSwitchState, PORT_TRUNK } from "./net-switch-state.js";
import { NET_TAG_AT, type NetTag, SAME_TAG } from "./net-tag.js";

/** What is looked at of a frame: addresses, a tag, a type. */
export const NET_HEAD_BYTES = ETH_HLEN + VLAN_HLEN;
/** Where a checksum may begin: its place is a u16, also behind a tag that is put in. */
const CSUM_START_MAX = 0xffff - VLAN_HLEN;

/** A way that leads nowhere. */
export const NO_WAY = -1;
/** In the place of a port: all that have frames of the VLAN. */
export const ALL_PORTS = -1;

// A way is one number: whether the frame has a tag, its VLAN, the port and 1.
const WAY_TAG = 1;
const WAY_VLAN_SHIFT = 1;
const WAY_PORT_SHIFT = 13;

/** The port that a way leads to, or ALL_PORTS. */
export const wayPort = (way: number) => (way >>> WAY_PORT_SHIFT) - 1;
/** Whether frames that go this way have a tag. */
const hasWayTag = (way: number) => (way & WAY_TAG) !== 0;
/** Bytes of their Ethernet headers. */
export const ethBytesOf = (way: number) => (hasWayTag(way) ? NET_HEAD_BYTES : ETH_HLEN);
/** The VLAN that they belong to. */
export const wayVlan = (way: number) => (way >>> WAY_VLAN_SHIFT) & VLAN_VID_MASK;

/** Where the frames of a port's guest go. */
export class NetRoute {
  readonly #state: NetSwitchState;
  readonly #port: number;
  /** In seconds. */
  #now = 0;
  constructor(state: NetSwitchState, port: number) {
    this.#state = state;
    this.#port = port;
  }

  /** Looks at the clock. */
  tick(): void {
    this.#now = Math.floor(Date.now() / 1000) | 0;
  }

  /**
   * The way of a frame of `frameBytes` bytes, the first NET_HEAD_BYTES of which, if it has them,
   * are at `at`. Learns whom it is from. NO_WAY: this port has no such frames, or it is for nobody.
   * `start`: of the checksum, or -1: it is not in the tag, and can be told when a tag has moved it.
   */
  find(view: DataView<ArrayBufferLike>, at: number, frameBytes: number, start: number): number {
    const hasTag = view.getUint16(at + NET_TAG_AT) === ETH_P_8021Q;
    if (hasTag && frameBytes < NET_HEAD_BYTES) return NO_WAY;
    if (start >= 0 && hasTag && start < NET_HEAD_BYTES) return NO_WAY;
    if (start > CSUM_START_MAX) return NO_WAY;
    const vlan = this.#vlanOf(hasTag, hasTag ? view.getUint16(at + ETH_HLEN) : 0);
    if (vlan < 0) return NO_WAY;
    const to = this.#portOf(view, at, vlan);
    if (to === this.#port) return NO_WAY;
    return ((to + 1) << WAY_PORT_SHIFT) | (vlan << WAY_VLAN_SHIFT) | (hasTag ? WAY_TAG : 0);
  }

  /** The VLAN of a frame, which has a tag or not; -1: this port has no such frames. */
  #vlanOf(hasTag: boolean, tag: number): number {
    const state = this.#state;
    if (state.mode(this.#port) === PORT_TRUNK) {
      const vlan = tag & VLAN_VID_MASK;
      return hasTag && state.hasVlan(this.#port, vlan) ? vlan : -1;
    }
    const vlan = state.vlan(this.#port);
    return vlan === 0 || !hasTag ? vlan : -1;
  }

  /** Learns whom it is from, and finds whom it is for: a port, or ALL_PORTS; its own: nobody. */
  #portOf(view: DataView<ArrayBufferLike>, at: number, vlan: number): number {
    const { table, settings } = this.#state;
    const oldest = this.#now - settings.ageSeconds;
    const above = vlan << 16;
    if ((view.getUint8(at + 6) & ETH_GROUP) !== 0) return this.#port; // from a group
    const [low, high] = [view.getUint32(at + 8), view.getUint16(at + 6) | above];
    table.learn(low, high, this.#port, this.#now, oldest);
    if ((view.getUint8(at) & ETH_GROUP) !== 0) return ALL_PORTS;
    const to = table.lookup(view.getUint32(at + 2), view.getUint16(at) | above, oldest);
    return to >= 0 && to < settings.ports && this.#state.hasFramesOf(to, vlan) ? to : ALL_PORTS;
  }

  /** What the receiver has of the tag of a frame that goes this way, and what it has not. */
  tagFor(way: number, to: number): NetTag {
    const isTrunk = this.#state.mode(to) === PORT_TRUNK;
    const [hasTag, vlan] = [hasWayTag(way), wayVlan(way)];
    const cut = hasTag && !isTrunk && vlan !== 0 ? VLAN_HLEN : 0;
    const added = isTrunk && !hasTag ? VLAN_HLEN : 0;
    return cut + added === 0 ? SAME_TAG : { cut, added, vlan };
  }
}
