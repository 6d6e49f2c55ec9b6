import type { Checksum } from "../ring/checksum.js";
import { hasFeature } from "../spec/features.js";
import {
  ETH_HLEN,
  VIRTIO_NET_F_CSUM,
  VIRTIO_NET_F_HOST_ECN,
  VIRTIO_NET_F_HOST_TSO4,
  VIRTIO_NET_F_HOST_TSO6,
  VIRTIO_NET_F_HOST_USO,
  VIRTIO_NET_HDR_BYTES,
  VIRTIO_NET_HDR_CSUM_OFFSET,
  VIRTIO_NET_HDR_CSUM_START,
  VIRTIO_NET_HDR_F_NEEDS_CSUM,
  VIRTIO_NET_HDR_FLAGS,
  VIRTIO_NET_HDR_GSO_ECN,
  VIRTIO_NET_HDR_GSO_SIZE,
  VIRTIO_NET_HDR_GSO_TCPV4,
  VIRTIO_NET_HDR_GSO_TCPV6,
  VIRTIO_NET_HDR_GSO_TYPE,
  VIRTIO_NET_HDR_GSO_UDP_L4,
} from "../spec/virtio-net.js";
import type { ChainSide } from "../vhost/chain.js";
import { NetLarge } from "./net-large.js";
import { NetSegments } from "./net-segments.js";
import { checksumOf, NetSum } from "./net-sum.js";

/** Bytes of a checksum. */
const CHECKSUM_BYTES = 2;

/** What a guest may send that is to be cut in segments, by the feature that lets it. */
const FEATURES = {
  [VIRTIO_NET_HDR_GSO_TCPV4]: VIRTIO_NET_F_HOST_TSO4,
  [VIRTIO_NET_HDR_GSO_TCPV6]: VIRTIO_NET_F_HOST_TSO6,
  [VIRTIO_NET_HDR_GSO_UDP_L4]: VIRTIO_NET_F_HOST_USO,
};

/** The features that let a guest send what is to be cut, bit numbers. */
export const LARGE_FEATURES = [...Object.values(FEATURES), VIRTIO_NET_F_HOST_ECN];

/**
 * What a packet's header asks of whoever takes it: a checksum that its sender left to others, or to
 * cut it in segments. Read once, into memory of ours. virtio 1.3, 5.1.6.2 Packet Transmission.
 */
export class NetOffload {
  /** Where the checksum begins to count, in bytes of the frame; -1: none is asked for. */
  start = -1;
  /** Where it goes, in bytes of the frame. */
  at = 0;
  /** VIRTIO_NET_HDR_GSO_… as the guest wrote it; 0: it is not to be cut. */
  gso = 0;
  /** With that, the packet's headers. */
  readonly large = new NetLarge();
  /** Cuts it. */
  readonly segments: NetSegments;
  readonly #sum: NetSum;
  readonly #header = new Uint8Array(VIRTIO_NET_HDR_BYTES);
  readonly #view = new DataView(this.#header.buffer);
  #leavesChecksums = false;
  /** By VIRTIO_NET_HDR_GSO_…: whether the guest may send it. */
  #mayBe: boolean[] = [];
  #mayHaveEcn = false;

  constructor(checksum: Checksum) {
    this.#sum = new NetSum(checksum);
    this.segments = new NetSegments(checksum);
  }

  /** The guest has accepted `features`. */
  accept(features: bigint): void {
    this.#leavesChecksums = hasFeature(features, VIRTIO_NET_F_CSUM);
    this.#mayBe = [];
    for (const [type, feature] of Object.entries(FEATURES)) {
      this.#mayBe[Number(type)] = hasFeature(features, feature);
    }
    this.#mayHaveEcn = hasFeature(features, VIRTIO_NET_F_HOST_ECN);
  }

  /** Whether the guest may send what is to be cut. */
  get isLargeAllowed(): boolean {
    return this.#mayBe.includes(true);
  }

  /** Reads the header of a packet of `length` bytes. False: it asks for what can't be. */
  read(packet: ChainSide, length: number): boolean {
    this.start = -1;
    this.gso = 0;
    if (!this.#leavesChecksums) return true; // what a header says was not negotiated
    packet.read(0, this.#header);
    const flags = this.#header[VIRTIO_NET_HDR_FLAGS] as number;
    const gso = this.#header[VIRTIO_NET_HDR_GSO_TYPE] as number;
    if ((flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) === 0) return gso === 0;
    this.start = this.#view.getUint16(VIRTIO_NET_HDR_CSUM_START, true);
    this.at = this.start + this.#view.getUint16(VIRTIO_NET_HDR_CSUM_OFFSET, true);
    const frameBytes = length - VIRTIO_NET_HDR_BYTES;
    if (this.start < ETH_HLEN || this.at + CHECKSUM_BYTES > frameBytes) return false;
    return gso === 0 || this.#readLarge(packet, frameBytes, gso);
  }

  #readLarge(packet: ChainSide, frameBytes: number, gso: number): boolean {
    const type = gso & ~VIRTIO_NET_HDR_GSO_ECN;
    const isUdp = type === VIRTIO_NET_HDR_GSO_UDP_L4;
    if (!this.#mayBe[type] || (type !== gso && (isUdp || !this.#mayHaveEcn))) return false;
    const sizeBytes = this.#view.getUint16(VIRTIO_NET_HDR_GSO_SIZE, true);
    const { start, at: checksumAt } = this;
    if (!this.large.read(packet, frameBytes, { type, sizeBytes, start, checksumAt })) return false;
    this.gso = gso;
    return true;
  }

  /**
   * The checksum that is missing, a little-endian u16, of a packet of `length` bytes in the guest's
   * memory. The field itself holds the sum of what is not in the frame. Linux:
   * skb_checksum_help().
   */
  checksum(packet: ChainSide, length: number): number {
    const from = VIRTIO_NET_HDR_BYTES + this.start;
    return checksumOf(this.#sum.of(packet, from, length - from));
  }
}
