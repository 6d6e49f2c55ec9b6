// Guests that send and take large packets.

import {
  VIRTIO_NET_F_CSUM,
  VIRTIO_NET_F_GUEST_CSUM,
  VIRTIO_NET_F_GUEST_TSO4,
  VIRTIO_NET_F_GUEST_TSO6,
  VIRTIO_NET_F_HOST_ECN,
  VIRTIO_NET_F_HOST_TSO4,
  VIRTIO_NET_F_HOST_TSO6,
  VIRTIO_NET_F_HOST_USO,
} from "#dist/spec/virtio-net.js";
import type { Random } from "../fuzz/random.js";
import type { LargeKind } from "./net-large-frames.js";
import { bit, type GuestRing, type RawGuest, VERSION_1 } from "./raw-guest.js";

/** Features, as a mask. */
export const mask = (...bits: number[]) => bits.reduce((all, one) => all | bit(one), VERSION_1);
/** A guest that sends them. */
export const HOST = mask(
  VIRTIO_NET_F_CSUM,
  VIRTIO_NET_F_HOST_TSO4,
  VIRTIO_NET_F_HOST_TSO6,
  VIRTIO_NET_F_HOST_ECN,
  VIRTIO_NET_F_HOST_USO,
);
/** A guest that takes them, but UDP and with ECN. */
export const GUEST = mask(
  VIRTIO_NET_F_GUEST_CSUM,
  VIRTIO_NET_F_GUEST_TSO4,
  VIRTIO_NET_F_GUEST_TSO6,
);
/** Room for many buffers that are not given back. */
export const MEMORY = { memoryBytes: 64 << 20 };

/** Any bytes. */
export const bytesOf = (random: Random, count: number) =>
  Buffer.from(Array.from({ length: count }, () => random.below(256)));

/** The transmit queue. */
export const tx = (guest: RawGuest) => guest.rings[1] as GuestRing;

/** One of ten segments. */
export const KIND: LargeKind = {
  ...{ version: 4, protocol: "tcp", sizeBytes: 100 },
  payload: Buffer.alloc(1000, 7),
};
