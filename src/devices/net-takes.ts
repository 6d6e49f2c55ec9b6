import { hasFeature } from "../spec/features.js";
import {
  VIRTIO_NET_BUFFER_BYTES,
  VIRTIO_NET_F_GUEST_CSUM,
  VIRTIO_NET_F_GUEST_ECN,
  VIRTIO_NET_F_GUEST_TSO4,
  VIRTIO_NET_F_GUEST_TSO6,
  VIRTIO_NET_F_GUEST_USO4,
  VIRTIO_NET_F_GUEST_USO6,
  VIRTIO_NET_HDR_FLAGS,
  VIRTIO_NET_HDR_GSO_ECN,
  VIRTIO_NET_HDR_GSO_TCPV4,
  VIRTIO_NET_HDR_GSO_TCPV6,
  VIRTIO_NET_HDR_GSO_TYPE,
  VIRTIO_NET_HDR_GSO_UDP_L4,
  VIRTIO_NET_LARGE_BUFFER_BYTES,
} from "../spec/virtio-net.js";

// What a guest takes beside plain packets, a bit each.
/** Packets whose checksum is not made. The others go with it. */
export const TAKES_PARTIAL = 1;
const TAKES_TSO4 = 2;
const TAKES_TSO6 = 4;
const TAKES_ECN = 8;
const TAKES_USO4 = 16;
const TAKES_USO6 = 32;
const TAKES_LARGE = TAKES_TSO4 | TAKES_TSO6 | TAKES_USO4 | TAKES_USO6;

const BY_FEATURE: readonly (readonly [feature: number, bit: number])[] = [
  [VIRTIO_NET_F_GUEST_CSUM, TAKES_PARTIAL],
  [VIRTIO_NET_F_GUEST_TSO4, TAKES_TSO4],
  [VIRTIO_NET_F_GUEST_TSO6, TAKES_TSO6],
  [VIRTIO_NET_F_GUEST_ECN, TAKES_ECN],
  [VIRTIO_NET_F_GUEST_USO4, TAKES_USO4],
  [VIRTIO_NET_F_GUEST_USO6, TAKES_USO6],
];

/** The features that say what a guest takes, bit numbers. */
export const TAKES_FEATURES = BY_FEATURE.map(([feature]) => feature);

/** What a guest takes that has accepted `features`. */
export function takesOf(features: bigint): number {
  if (!hasFeature(features, VIRTIO_NET_F_GUEST_CSUM)) return 0;
  const taken = BY_FEATURE.filter(([feature]) => hasFeature(features, feature));
  return taken.reduce((mask, [, bit]) => mask | bit, 0);
}

/** Bytes that a buffer must have, by what its guest takes. virtio 1.3, 5.1.6.3.1. */
export function bufferBytesMin(takes: number): number {
  return (takes & TAKES_LARGE) === 0 ? VIRTIO_NET_BUFFER_BYTES : VIRTIO_NET_LARGE_BUFFER_BYTES;
}

/** What a guest must take to get a packet with `gso` in its header, VIRTIO_NET_HDR_GSO_…, whole. */
function neededFor(gso: number, isIpv6: boolean): number {
  const ecn = (gso & VIRTIO_NET_HDR_GSO_ECN) !== 0 ? TAKES_ECN : 0;
  switch (gso & ~VIRTIO_NET_HDR_GSO_ECN) {
    case VIRTIO_NET_HDR_GSO_TCPV4:
      return TAKES_PARTIAL | TAKES_TSO4 | ecn;
    case VIRTIO_NET_HDR_GSO_TCPV6:
      return TAKES_PARTIAL | TAKES_TSO6 | ecn;
    case VIRTIO_NET_HDR_GSO_UDP_L4:
      return TAKES_PARTIAL | (isIpv6 ? TAKES_USO6 : TAKES_USO4);
    default:
      return TAKES_PARTIAL;
  }
}

/** Whether a guest gets a packet whole that has `gso`, not 0, in its header. */
export function takesGso(takes: number, gso: number, isIpv6: boolean): boolean {
  const needed = neededFor(gso, isIpv6);
  return (takes & needed) === needed;
}

/**
 * Whether a guest takes the packet at `at`, by its header: it may be one that was sent before its
 * sender saw that another driver has come. Of UDP, one of the two versions is enough.
 */
export function takesPacket(takes: number, bytes: Uint8Array, at: number): boolean {
  if (bytes[at + VIRTIO_NET_HDR_FLAGS] === 0) return true;
  const gso = bytes[at + VIRTIO_NET_HDR_GSO_TYPE] as number;
  return takesGso(takes, gso, false) || takesGso(takes, gso, true);
}
