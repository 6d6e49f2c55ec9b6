// Large packets that are sound, and what may be done to them; and guests by what they leave to
// others, and what they take.

import fc from "fast-check";
import {
  VIRTIO_NET_F_CSUM,
  VIRTIO_NET_F_GUEST_CSUM,
  VIRTIO_NET_F_GUEST_ECN,
  VIRTIO_NET_F_GUEST_TSO4,
  VIRTIO_NET_F_GUEST_TSO6,
  VIRTIO_NET_F_GUEST_USO4,
  VIRTIO_NET_F_GUEST_USO6,
  VIRTIO_NET_F_HOST_ECN,
  VIRTIO_NET_F_HOST_TSO4,
  VIRTIO_NET_F_HOST_TSO6,
  VIRTIO_NET_F_HOST_USO,
  VIRTIO_NET_F_MRG_RXBUF,
} from "#dist/spec/virtio-net.js";
import { type LargeKind, largePacket } from "./net-large-frames.js";

/** Leaves everything to the device. */
export const SENDS = [
  VIRTIO_NET_F_CSUM,
  VIRTIO_NET_F_HOST_TSO4,
  VIRTIO_NET_F_HOST_TSO6,
  VIRTIO_NET_F_HOST_ECN,
  VIRTIO_NET_F_HOST_USO,
];
/** Takes packets without a checksum. */
export const PARTIAL = [VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_MRG_RXBUF];
/** Takes everything whole. */
export const WHOLE = [
  ...PARTIAL,
  VIRTIO_NET_F_GUEST_TSO4,
  VIRTIO_NET_F_GUEST_TSO6,
  VIRTIO_NET_F_GUEST_ECN,
  VIRTIO_NET_F_GUEST_USO4,
  VIRTIO_NET_F_GUEST_USO6,
];

const u16 = fc.oneof(
  fc.integer({ min: 0, max: 0xffff }),
  fc.constantFrom(0, 1, 13, 14, 47, 48, 0xfffb, 0xfffc, 0xffff),
  fc.integer({ min: 0, max: 120 }),
);

/** A large packet that is sound. */
export const kinds: fc.Arbitrary<LargeKind> = fc.record({
  version: fc.constantFrom(4 as const, 6 as const),
  protocol: fc.constantFrom("tcp" as const, "tcp" as const, "udp" as const),
  sizeBytes: fc.oneof(
    fc.integer({ min: 40, max: 1460 }),
    fc.integer({ min: 1, max: 60 }),
    fc.integer({ min: 1461, max: 9000 }),
  ),
  payload: fc
    .tuple(fc.oneof(fc.integer({ min: 0, max: 4000 }), fc.integer({ min: 0, max: 65_300 })), u16)
    .map(([length, salt]) => Buffer.from(Uint8Array.from({ length }, (_, i) => i * salt + i))),
  ipWords: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 10 })),
  tcpWords: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 10 })),
  extensions: fc.array(fc.constantFrom(0, 60), { maxLength: 3 }),
  flags: fc.integer({ min: 0, max: 255 }),
  sequence: fc.constantFrom(0, 1, 0x7fff_fff0, 0xffff_fff0),
  id: u16,
});

/** What is done to a packet. */
export interface Damage {
  tag: number | undefined;
  isEcn: boolean;
  /** Fields of virtio's header, by their offsets. */
  fields: [at: number, value: number][];
  /** Bytes of the frame's headers, from the type on. */
  bytes: [at: number, value: number][];
  /** What is left of it; 0: all. */
  length: number;
  /** Lengths of its pieces; the rest is the last. */
  cuts: number[];
}

const few = <T>(one: fc.Arbitrary<T>) =>
  fc.oneof(fc.constant<T[]>([]), fc.array(one, { minLength: 1, maxLength: 2 }));
export const damages: fc.Arbitrary<Damage> = fc.record({
  tag: fc.option(u16, { nil: undefined, freq: 2 }),
  isEcn: fc.boolean(),
  fields: few(fc.tuple(fc.constantFrom(0, 1, 2, 4, 6, 8), u16)),
  bytes: few(fc.tuple(fc.integer({ min: 12, max: 110 }), fc.integer({ min: 0, max: 255 }))),
  length: fc.oneof(fc.constant(0), fc.constant(0), fc.integer({ min: 14, max: 200 })),
  cuts: fc.array(fc.integer({ min: 1, max: 40 }), { maxLength: 60 }),
});

/** A packet with its damage. */
export function packetOf(kind: LargeKind, damage: Damage): Buffer {
  const { tag: vlan, isEcn, fields, bytes, length } = damage;
  const { packet } = largePacket({ ...kind, ...(vlan !== undefined && { vlan }) });
  if (isEcn) packet.writeUInt8((packet[1] as number) | 0x80, 1);
  for (const [at, value] of fields) {
    if (at < 2) packet[at] = value;
    else packet.writeUInt16LE(value, at);
  }
  for (const [at, value] of bytes) if (12 + at < packet.length) packet[12 + at] = value;
  return packet.subarray(0, length === 0 ? undefined : 12 + length);
}

/** It, as the pieces of a chain. */
export function piecesOf(packet: Buffer, { cuts }: Damage): Buffer[] {
  let at = 0;
  const pieces = cuts.map((length) => {
    at += length;
    return packet.subarray(at - length, at);
  });
  return [...pieces, packet.subarray(at)].filter(({ length }) => length > 0);
}
