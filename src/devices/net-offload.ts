import type { Checksum } from "../ring/checksum.js";
import {
  ETH_HLEN,
  VIRTIO_NET_HDR_BYTES,
  VIRTIO_NET_HDR_CSUM_OFFSET,
  VIRTIO_NET_HDR_CSUM_START,
  VIRTIO_NET_HDR_F_NEEDS_CSUM,
  VIRTIO_NET_HDR_FLAGS,
  VIRTIO_NET_HDR_GSO_TYPE,
} from "../spec/virtio-net.js";
import type { ChainSide } from "../vhost/chain.js";

/** Bytes of a checksum. */
const CHECKSUM_BYTES = 2;

const swap = (sum: number) => ((sum & 0xff) << 8) | (sum >>> 8);
const fold = (sum: number) => (sum > 0xffff ? sum - 0xffff : sum);

/**
 * What a packet's header asks of whoever takes it: a checksum that its sender left to others. Read
 * once, into memory of ours. virtio 1.3, 5.1.6.2 Packet Transmission.
 */
export class NetOffload {
  /** Where the checksum begins to count, in bytes of the frame; -1: none is asked for. */
  start = -1;
  /** Where it goes, in bytes of the frame. */
  at = 0;
  readonly #checksum: Checksum;
  readonly #header = new Uint8Array(VIRTIO_NET_HDR_BYTES);
  readonly #view = new DataView(this.#header.buffer);

  constructor(checksum: Checksum) {
    this.#checksum = checksum;
  }

  /** Reads the header of a packet of `length` bytes. False: it asks for what can't be. */
  read(packet: ChainSide, length: number): boolean {
    packet.read(0, this.#header);
    this.start = -1;
    if (this.#header[VIRTIO_NET_HDR_GSO_TYPE] !== 0) return false; // not offered
    const flags = this.#header[VIRTIO_NET_HDR_FLAGS] as number;
    if ((flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) === 0) return true;
    this.start = this.#view.getUint16(VIRTIO_NET_HDR_CSUM_START, true);
    this.at = this.start + this.#view.getUint16(VIRTIO_NET_HDR_CSUM_OFFSET, true);
    if (this.start < ETH_HLEN) return false;
    return this.at + CHECKSUM_BYTES <= length - VIRTIO_NET_HDR_BYTES;
  }

  /** It asks for nothing: no offload was negotiated. */
  clear(): void {
    this.start = -1;
  }

  /**
   * The checksum that is missing, a little-endian u16, of a packet of `length` bytes in the guest's
   * memory. The field itself holds the sum of what is not in the frame. Linux:
   * skb_checksum_help().
   */
  checksum(packet: ChainSide, length: number): number {
    const from = VIRTIO_NET_HDR_BYTES + this.start;
    let sum = 0;
    let isOdd = false;
    packet.forEach(from, length - from, (address, bytes) => {
      const part = this.#checksum.sum(address, bytes);
      sum = fold(sum + (isOdd ? swap(part) : part));
      isOdd = isOdd !== ((bytes & 1) === 1);
    });
    return ~sum & 0xffff || 0xffff; // 0 says that there is none
  }
}
