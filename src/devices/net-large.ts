import {
  ETH_P_IP,
  ETH_P_IPV6,
  IPPROTO_DSTOPTS,
  IPPROTO_HOPOPTS,
  IPPROTO_TCP,
  IPPROTO_UDP,
  IPV4_FRAGMENT,
  IPV4_FRAGMENT_MASK,
  IPV4_HDR_BYTES_MIN,
  IPV4_PROTOCOL,
  IPV6_HDR_BYTES,
  IPV6_NEXT_HEADER,
  TCP_CHECKSUM,
  TCP_DATA_OFFSET,
  TCP_HDR_BYTES_MIN,
  UDP_CHECKSUM,
  UDP_HDR_BYTES,
} from "../spec/inet.js";
import {
  ETH_HLEN,
  ETH_MAX_MTU,
  ETH_P_8021Q,
  VIRTIO_NET_HDR_BYTES,
  VIRTIO_NET_HDR_GSO_TCPV4,
  VIRTIO_NET_HDR_GSO_TCPV6,
  VIRTIO_NET_HDR_GSO_UDP_L4,
  VLAN_HLEN,
} from "../spec/virtio-net.js";
import type { ChainSide } from "../vhost/chain.js";

/** Headers, from the frame's on, take so much at most. */
export const NET_HEAD_BYTES_MAX = 256;

/**
 * One packet is cut in so many at most. The least that TCP sends, less all its options, and
 * datagrams of any size by the dozen stay well below; a packet of single bytes does not.
 */
export const NET_SEGMENTS_MAX = 2048;
/** Linux takes no more datagrams at once. Linux: UDP_MAX_SEGMENTS. */
const UDP_SEGMENTS_MAX = 128;

/** What a packet's header says of the segments that it is to be cut in. */
export interface NetGso {
  /** VIRTIO_NET_HDR_GSO_…, without VIRTIO_NET_HDR_GSO_ECN. */
  type: number;
  /** Payload of each but the last. */
  sizeBytes: number;
  /** Where TCP's or UDP's header begins, in bytes of the frame, and where its checksum is. */
  start: number;
  checksumAt: number;
}

/**
 * A large packet as it was read: its headers, in memory of ours, and where its payload is. What
 * does not fit together is refused: a guest writes anything. Its lengths are not looked at, since
 * each segment gets its own.
 */
export class NetLarge {
  /** The headers, from the frame's on. */
  readonly head = new Uint8Array(NET_HEAD_BYTES_MAX);
  readonly view = new DataView(this.head.buffer);
  /** How many bytes they are. */
  headBytes = 0;
  /** Where IP's header begins, and TCP's or UDP's. */
  ip = 0;
  start = 0;
  isIpv6 = false;
  isUdp = false;
  /** Payload of the whole, of each segment but the last. */
  payloadBytes = 0;
  sizeBytes = 0;

  /** How many segments there are; Infinity for those of nothing. */
  get count(): number {
    return Math.ceil(this.payloadBytes / this.sizeBytes);
  }

  /** Whether who takes such packets can take it whole. */
  get mayBeWhole(): boolean {
    return !this.isUdp || this.count <= UDP_SEGMENTS_MAX;
  }

  /** Reads a frame of `frameBytes`, in `packet` behind virtio's header. False: it is refused. */
  read(packet: ChainSide, frameBytes: number, gso: NetGso): boolean {
    const there = Math.min(NET_HEAD_BYTES_MAX, frameBytes);
    packet.read(VIRTIO_NET_HDR_BYTES, this.head, 0, there); // once
    this.start = gso.start;
    this.isUdp = gso.type === VIRTIO_NET_HDR_GSO_UDP_L4;
    const isSound = this.#readType(gso.type) && this.#readIp(there) && this.#readStart(there, gso);
    if (!isSound) return false;
    this.payloadBytes = frameBytes - this.headBytes;
    this.sizeBytes = gso.sizeBytes;
    if (this.payloadBytes <= 0 || gso.sizeBytes > frameBytes) return false;
    const segmentBytes = Math.min(gso.sizeBytes, this.payloadBytes) + this.headBytes - this.ip;
    return this.count <= NET_SEGMENTS_MAX && segmentBytes <= ETH_MAX_MTU;
  }

  /** The frame's type, behind a tag or none. */
  #readType(type: number): boolean {
    this.ip = ETH_HLEN;
    if (this.view.getUint16(ETH_HLEN - 2) === ETH_P_8021Q) this.ip += VLAN_HLEN;
    const etherType = this.view.getUint16(this.ip - 2);
    this.isIpv6 = etherType === ETH_P_IPV6;
    if (!this.isIpv6 && etherType !== ETH_P_IP) return false;
    const known = this.isIpv6 ? VIRTIO_NET_HDR_GSO_TCPV6 : VIRTIO_NET_HDR_GSO_TCPV4;
    return this.isUdp || type === known;
  }

  /** IP's header leads to TCP's or UDP's, where virtio's says that it begins. */
  #readIp(there: number): boolean {
    const { view, ip, start } = this;
    const least = this.isIpv6 ? IPV6_HDR_BYTES : IPV4_HDR_BYTES_MIN;
    if (start < ip + least || start + UDP_HDR_BYTES > there) return false;
    const version = view.getUint8(ip) >>> 4;
    if (this.isIpv6) return version === 6 && this.#readExtensions();
    if (version !== 4 || ip + (view.getUint8(ip) & 0xf) * 4 !== start) return false;
    const isFragment = (view.getUint16(ip + IPV4_FRAGMENT) & IPV4_FRAGMENT_MASK) !== 0;
    return !isFragment && view.getUint8(ip + IPV4_PROTOCOL) === this.protocol;
  }

  /** Extension headers that each segment may have as it is. */
  #readExtensions(): boolean {
    const { view, start } = this;
    let next = view.getUint8(this.ip + IPV6_NEXT_HEADER);
    let at = this.ip + IPV6_HDR_BYTES;
    while (at < start) {
      if (next !== IPPROTO_HOPOPTS && next !== IPPROTO_DSTOPTS) return false;
      next = view.getUint8(at);
      at += (view.getUint8(at + 1) + 1) * 8;
    }
    return at === start && next === this.protocol;
  }

  /** IPPROTO_UDP or IPPROTO_TCP. */
  get protocol(): number {
    return this.isUdp ? IPPROTO_UDP : IPPROTO_TCP;
  }

  #readStart(there: number, { checksumAt }: NetGso): boolean {
    const { start } = this;
    if (this.isUdp) {
      this.headBytes = start + UDP_HDR_BYTES;
      return checksumAt === start + UDP_CHECKSUM;
    }
    if (start + TCP_HDR_BYTES_MIN > there) return false;
    const words = this.view.getUint8(start + TCP_DATA_OFFSET) >>> 4;
    this.headBytes = start + words * 4;
    const isHeader = words * 4 >= TCP_HDR_BYTES_MIN && this.headBytes <= there;
    return isHeader && checksumAt === start + TCP_CHECKSUM;
  }
}
