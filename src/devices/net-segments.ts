import type { Checksum } from "../ring/checksum.js";
import {
  IPV4_ADDRESSES,
  IPV4_CHECKSUM,
  IPV4_ID,
  IPV4_LENGTH,
  IPV6_ADDRESSES,
  IPV6_HDR_BYTES,
  IPV6_LENGTH,
  TCP_CHECKSUM,
  TCP_CWR,
  TCP_FIN,
  TCP_FLAGS,
  TCP_PSH,
  TCP_SEQUENCE,
  UDP_CHECKSUM,
  UDP_LENGTH,
} from "../spec/inet.js";
import { NET_RECORD_ALIGN, recordBytes } from "../spec/net-record.js";
import { VIRTIO_NET_HDR_BYTES } from "../spec/virtio-net.js";
import type { ChainSide } from "../vhost/chain.js";
import { NET_HEAD_BYTES_MAX, NET_SEGMENTS_MAX, type NetLarge } from "./net-large.js";
import { NET_PACKET_BYTES_MAX } from "./net-pipe.js";
import { checksumOf, fold16, NetSum, putU16, sumWords, swap16 } from "./net-sum.js";
import { type NetTag, putHead } from "./net-tag.js";

/** Bytes of a pipe that the segments of one packet take, at most. */
export const NET_SEGMENTS_BYTES_MAX =
  NET_PACKET_BYTES_MAX +
  NET_SEGMENTS_MAX * (recordBytes(VIRTIO_NET_HDR_BYTES + NET_HEAD_BYTES_MAX) + NET_RECORD_ALIGN);
/** Bytes of two addresses. */
const IPV4_ADDRESSES_BYTES = 8;
const IPV6_ADDRESSES_BYTES = 32;

function putBigU16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = (value >>> 8) & 0xff;
  bytes[at + 1] = value & 0xff;
}

/**
 * Cuts large packets in segments, each a frame that could have come from the guest: headers copied
 * and numbered, checksums made. Linux: tcp_gso_segment(), __udp_gso_segment().
 */
export class NetSegments {
  readonly #sum: NetSum;

  constructor(checksum: Checksum) {
    this.#sum = new NetSum(checksum);
  }

  /** Bytes of segment `index`, a frame. */
  bytesOf(large: NetLarge, index: number, { cut, added }: NetTag): number {
    return large.headBytes + payloadOf(large, index) + added - cut;
  }

  /**
   * Writes segment `index` of the packet to `at`, a frame. `isPartial`: its checksum is left to who
   * takes it, as virtio has that: the field has the sum of what is not in the frame.
   */
  write(
    packet: ChainSide,
    large: NetLarge,
    index: number,
    tag: NetTag,
    target: { bytes: Uint8Array; at: number; isPartial: boolean },
  ): void {
    const { bytes, at, isPartial } = target;
    const payload = payloadOf(large, index);
    const offset = index * large.sizeBytes;
    const payloadAt = putHead(large.head, large.headBytes, tag, bytes, at);
    const from = VIRTIO_NET_HDR_BYTES + large.headBytes + offset;
    packet.read(from, bytes, payloadAt, payload);
    const ip = at + large.ip + tag.added - tag.cut;
    const start = ip + large.start - large.ip;
    const behind = payloadAt + payload - start; // bytes from TCP's or UDP's header on
    putIp(large, index, bytes, ip, start + behind - ip);
    if (large.isUdp) putBigU16(bytes, start + UDP_LENGTH, behind);
    else putTcp(large, index, bytes, start);
    const field = start + (large.isUdp ? UDP_CHECKSUM : TCP_CHECKSUM);
    const pseudo = pseudoSum(large, bytes, ip, behind);
    putU16(bytes, field, isPartial ? fold16(pseudo) : 0);
    if (isPartial) return;
    const headSum = sumWords(bytes, start, payloadAt - start);
    putU16(bytes, field, checksumOf(pseudo + headSum + this.#sum.of(packet, from, payload)));
  }
}

function payloadOf({ payloadBytes, sizeBytes }: NetLarge, index: number): number {
  return Math.min(sizeBytes, payloadBytes - index * sizeBytes);
}

/** Sets what is different in each: length, number, the header's own checksum. */
function putIp(large: NetLarge, index: number, bytes: Uint8Array, ip: number, length: number) {
  if (large.isIpv6) {
    putBigU16(bytes, ip + IPV6_LENGTH, length - IPV6_HDR_BYTES);
    return;
  }
  putBigU16(bytes, ip + IPV4_LENGTH, length);
  putBigU16(bytes, ip + IPV4_ID, large.view.getUint16(large.ip + IPV4_ID) + index);
  putU16(bytes, ip + IPV4_CHECKSUM, 0);
  const headerBytes = large.start - large.ip;
  putU16(bytes, ip + IPV4_CHECKSUM, ~fold16(sumWords(bytes, ip, headerBytes)) & 0xffff);
}

/** What ends a stream is in the last segment, what began a smaller window in the first. */
function putTcp(large: NetLarge, index: number, bytes: Uint8Array, start: number): void {
  const first = large.view.getUint32(large.start + TCP_SEQUENCE);
  const sequence = first + index * large.sizeBytes;
  putBigU16(bytes, start + TCP_SEQUENCE, sequence >>> 16);
  putBigU16(bytes, start + TCP_SEQUENCE + 2, sequence);
  let flags = bytes[start + TCP_FLAGS] as number;
  if (index > 0) flags &= ~TCP_CWR;
  if (index < large.count - 1) flags &= ~(TCP_FIN | TCP_PSH);
  bytes[start + TCP_FLAGS] = flags;
}

/** The sum of what the checksum counts beside the header and the payload. RFC 9293, 3.1. */
function pseudoSum(large: NetLarge, bytes: Uint8Array, ip: number, length: number): number {
  const addresses = large.isIpv6
    ? sumWords(bytes, ip + IPV6_ADDRESSES, IPV6_ADDRESSES_BYTES)
    : sumWords(bytes, ip + IPV4_ADDRESSES, IPV4_ADDRESSES_BYTES);
  return addresses + swap16(large.protocol) + swap16(length);
}
