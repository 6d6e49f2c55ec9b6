// Large packets, as a guest sends them to be cut; and what must hold of the frames that are made.

import { expect } from "vitest";
import { sumOf } from "./net-ip.js";

/** A large packet to be. */
export interface LargeKind {
  version: 4 | 6;
  protocol: "tcp" | "udp";
  sizeBytes: number;
  payload: Uint8Array;
  vlan?: number;
  /** Words of options: of IPv4, of TCP. */
  ipWords?: number;
  tcpWords?: number;
  /** IPv6 extension headers, of 8 bytes each: their numbers. */
  extensions?: number[];
  flags?: number;
  sequence?: number;
  id?: number;
}

const GSO = { "4tcp": 1, "6tcp": 4, "4udp": 5, "6udp": 5 } as const;
const PROTOCOL = { tcp: 6, udp: 17 } as const;

function ethernet(version: 4 | 6, vlan: number | undefined): Buffer {
  const tag = vlan === undefined ? [] : [0x81, 0, vlan >>> 8, vlan & 0xff];
  const type = version === 4 ? [8, 0] : [0x86, 0xdd];
  return Buffer.from([...Array(6).fill(0xff), 2, 0, 0, 0, 0, 1, ...tag, ...type]);
}

function ipv4({ ipWords = 0, id = 0, protocol }: LargeKind, behind: number): Buffer {
  const header = Buffer.alloc(20 + 4 * ipWords, 1);
  header[0] = 0x45 + ipWords;
  header.writeUInt16BE(Math.min(0xffff, header.length + behind), 2);
  header.writeUInt16BE(id, 4);
  header.writeUInt16BE(0x4000, 6);
  header[9] = PROTOCOL[protocol];
  header.set([10, 0, 0, 1, 10, 9, 8, 7], 12);
  return header;
}

function ipv6({ extensions = [], protocol }: LargeKind, behind: number): Buffer {
  const numbers = [...extensions, PROTOCOL[protocol]];
  const header = Buffer.alloc(40);
  header[0] = 0x60;
  header.writeUInt16BE(Math.min(0xffff, 8 * extensions.length + behind), 4);
  header[6] = numbers[0] as number;
  for (let i = 8; i < 40; i++) header[i] = i * 37;
  const more = extensions.map((_, i) =>
    Buffer.from([numbers[i + 1] as number, 0, 1, 4, 0, 0, 0, 0]),
  );
  return Buffer.concat([header, ...more]);
}

function tcp({ tcpWords = 0, flags = 0x10, sequence = 0 }: LargeKind): Buffer {
  const header = Buffer.alloc(20 + 4 * tcpWords, 1);
  header.writeUInt16BE(40_000, 0);
  header.writeUInt16BE(80, 2);
  header.writeUInt32BE(sequence, 4);
  header[12] = (5 + tcpWords) << 4;
  header[13] = flags;
  header.writeUInt16BE(0x1234, 16); // what is there does not matter
  return header;
}

/** A packet with its virtio header, and where its parts begin in the frame. */
export function largePacket(kind: LargeKind) {
  const { version, protocol, payload, sizeBytes, vlan } = kind;
  const transport = protocol === "tcp" ? tcp(kind) : Buffer.from([0x9c, 0x40, 0, 53, 0, 0, 9, 9]);
  const behind = transport.length + payload.length;
  const link = ethernet(version, vlan);
  const ip = version === 4 ? ipv4(kind, behind) : ipv6(kind, behind);
  const frame = Buffer.concat([link, ip, transport, payload]);
  const start = link.length + ip.length;
  const headBytes = start + transport.length;
  const header = Buffer.alloc(12);
  header[0] = 1;
  header[1] = GSO[`${version}${protocol}`];
  header.writeUInt16LE(headBytes, 2);
  header.writeUInt16LE(sizeBytes, 4);
  header.writeUInt16LE(start, 6);
  header.writeUInt16LE(protocol === "tcp" ? 16 : 6, 8);
  return { packet: Buffer.concat([header, frame]), frame, start, headBytes, ip: link.length };
}

/** The pseudo-header that transports sum. RFC 768, RFC 8200. */
function pseudo(version: 4 | 6, ip: Buffer, protocol: number, bytes: number): Buffer {
  const addresses = version === 4 ? ip.subarray(12, 20) : ip.subarray(8, 40);
  return Buffer.concat([addresses, Buffer.from([0, protocol, bytes >>> 8, bytes & 0xff])]);
}

/**
 * Checks frames that were made of a packet, by what the RFCs say, and gives their payload back.
 * `isPartial`: their checksum is left to who takes them. `tagBytes`: by how much a tag has moved
 * all.
 */
export function checkSegments(
  kind: LargeKind,
  frames: readonly Buffer[],
  options: { isPartial?: boolean; tagBytes?: number } = {},
): Buffer {
  const { isPartial = false, tagBytes = 0 } = options;
  const { version, protocol, sizeBytes, payload, flags = 0x10, sequence = 0, id = 0 } = kind;
  const whole = largePacket(kind);
  const [ipAt, start, headBytes] = [whole.ip, whole.start, whole.headBytes].map(
    (at) => at + tagBytes,
  ) as [number, number, number];
  const count = Math.ceil(payload.length / sizeBytes);
  expect(frames.length).toBe(count);
  const parts = frames.map((frame, index) => {
    const isLast = index === count - 1;
    const bytes = isLast ? payload.length - index * sizeBytes : sizeBytes;
    expect(frame.length).toBe(headBytes + bytes);
    const ip = frame.subarray(ipAt);
    const transport = frame.subarray(start);
    const ipBytes = start - ipAt;
    if (version === 4) {
      expect(ip.readUInt16BE(2)).toBe(frame.length - ipAt);
      expect(ip.readUInt16BE(4)).toBe((id + index) & 0xffff);
      expect(sumOf(ip.subarray(0, ipBytes))).toBe(0xffff);
    } else expect(ip.readUInt16BE(4)).toBe(frame.length - ipAt - 40);
    const proto = pseudo(version, ip, PROTOCOL[protocol], transport.length);
    if (isPartial) expect(transport.readUInt16BE(protocol === "tcp" ? 16 : 6)).toBe(sumOf(proto));
    else expect(sumOf(proto, transport)).toBe(0xffff);
    if (protocol === "tcp") {
      expect(transport.readUInt32BE(4)).toBe((sequence + index * sizeBytes) % 2 ** 32);
      const kept = (isLast ? 0xff : 0xff & ~0x09) & (index === 0 ? 0xff : 0x7f);
      expect(transport[13]).toBe(flags & kept);
    } else expect(transport.readUInt16BE(4)).toBe(transport.length);
    return frame.subarray(headBytes);
  });
  return Buffer.concat(parts);
}
