// What becomes of a packet, as simply as it can be said: virtio 1.3, 5.1.6.2 Packet Transmission,
// and the RFCs. Nothing is shared with the product.

import { expect } from "vitest";

/** Expects these frames, and no others; of long lists, the first difference is what is shown. */
export function expectFrames(got: readonly Uint8Array[], frames: readonly Uint8Array[]): void {
  const at = frames.findIndex((frame, index) => Buffer.compare(frame, got[index] ?? NONE) !== 0);
  expect(at < 0 ? [] : [at, got[at]]).toEqual(at < 0 ? [] : [at, frames[at]]);
  expect(got.length).toBe(frames.length);
}

const NONE = new Uint8Array(0);

/** A sum of big-endian words as RFC 1071 has it. */
function fold(bytes: Uint8Array, start = 0): number {
  let sum = start;
  for (let at = 0; at < bytes.length; at += 2) sum += (bytes[at] ?? 0) * 256 + (bytes[at + 1] ?? 0);
  while (sum > 0xffff) sum = (sum % 0x10000) + Math.floor(sum / 0x10000);
  return sum;
}

/** Puts the checksum of what begins at `start` in its field; 0 is written as its other self. */
function finish(frame: Buffer, start: number, field: number): Buffer {
  const made = Buffer.from(frame);
  made.writeUInt16BE(~fold(frame.subarray(start)) & 0xffff || 0xffff, field);
  return made;
}

/** The frame in a packet whose header may leave a checksum to who takes it. */
export function plainOf(packet: Buffer): Buffer {
  const frame = Buffer.from(packet.subarray(12));
  if (((packet[0] as number) & 1) === 0) return frame;
  const start = packet.readUInt16LE(6);
  return finish(frame, start, start + packet.readUInt16LE(8));
}

/** Where a large packet's parts are. */
interface Parts {
  isIpv6: boolean;
  isUdp: boolean;
  ip: number;
  start: number;
  payload: number;
}

/** Follows the headers; `undefined`: they are not those of TCP or UDP over IP. */
function partsOf(frame: Buffer): Parts | undefined {
  const u8 = (at: number) => frame[at] ?? Number.NaN;
  const u16 = (at: number) => u8(at) * 256 + u8(at + 1);
  const ip = u16(12) === 0x8100 ? 18 : 14;
  const type = u16(ip - 2);
  const isIpv6 = type === 0x86dd;
  if (type !== 0x0800 && !isIpv6) return undefined;
  if (u8(ip) >> 4 !== (isIpv6 ? 6 : 4)) return undefined;
  let protocol = u8(ip + (isIpv6 ? 6 : 9));
  let start = ip + (isIpv6 ? 40 : (u8(ip) % 16) * 4);
  if (!isIpv6 && (start < ip + 20 || u16(ip + 6) % 0x4000 !== 0)) return undefined;
  while (isIpv6 && (protocol === 0 || protocol === 60) && start < 256) {
    protocol = u8(start);
    start += (u8(start + 1) + 1) * 8;
  }
  if (protocol !== 6 && protocol !== 17) return undefined;
  const isUdp = protocol === 17;
  const headerBytes = isUdp ? 8 : (u8(start + 12) >> 4) * 4;
  if (!isUdp && headerBytes < 20) return undefined;
  return { isIpv6, isUdp, ip, start, payload: start + headerBytes };
}

/** Segment `index`, with its checksum. */
function segmentOf(frame: Buffer, parts: Parts, sizeBytes: number, index: number): Buffer {
  const { isIpv6, isUdp, ip, start, payload } = parts;
  const from = payload + index * sizeBytes;
  const isLast = from + sizeBytes >= frame.length;
  const bytes = frame.subarray(from, from + sizeBytes);
  const made = Buffer.concat([frame.subarray(0, payload), bytes]);
  const behind = made.length - start;
  if (isIpv6) made.writeUInt16BE(made.length - ip - 40, ip + 4);
  else {
    made.writeUInt16BE(made.length - ip, ip + 2);
    made.writeUInt16BE((frame.readUInt16BE(ip + 4) + index) & 0xffff, ip + 4);
    made.writeUInt16BE(0, ip + 10);
    made.writeUInt16BE(~fold(made.subarray(ip, start)) & 0xffff, ip + 10);
  }
  if (isUdp) made.writeUInt16BE(behind, start + 4);
  else {
    made.writeUInt32BE((frame.readUInt32BE(start + 4) + index * sizeBytes) >>> 0, start + 4);
    if (index > 0) made[start + 13] = (made[start + 13] as number) & 0x7f; // CWR
    if (!isLast) made[start + 13] = (made[start + 13] as number) & 0xf6; // FIN, PSH
  }
  const field = start + (isUdp ? 6 : 16);
  const addresses = isIpv6 ? made.subarray(ip + 8, ip + 40) : made.subarray(ip + 12, ip + 20);
  made.writeUInt16BE(fold(addresses, behind + (isUdp ? 17 : 6)), field);
  return finish(made, start, field);
}

/**
 * The frames that a packet, virtio's header first, is for who takes nothing but plain frames, sent
 * by a guest that may leave everything to others. `undefined`: it is refused.
 */
export function framesOf(packet: Buffer): Buffer[] | undefined {
  const [flags, gso] = packet as unknown as [number, number];
  const [sizeBytes, start, offset] = [4, 6, 8].map((at) => packet.readUInt16LE(at)) as [
    number,
    number,
    number,
  ];
  const frame = packet.subarray(12);
  if ((flags & 1) === 0) return gso === 0 ? [frame] : undefined;
  if (start < 14 || start + offset + 2 > frame.length) return undefined;
  if (gso === 0) return [plainOf(packet)];
  const parts = partsOf(frame);
  if (!parts || parts.start !== start || offset !== (parts.isUdp ? 6 : 16)) return undefined;
  const { isUdp, isIpv6, ip, payload } = parts;
  const known = isUdp ? [5] : isIpv6 ? [4, 0x84] : [1, 0x81];
  if (!known.includes(gso)) return undefined;
  const payloadBytes = frame.length - payload;
  if (payload > 256 || payloadBytes < 1) return undefined;
  if (sizeBytes < 1 || sizeBytes > frame.length) return undefined;
  if (payload + Math.min(sizeBytes, payloadBytes) - ip > 65_535) return undefined;
  const count = Math.ceil(payloadBytes / sizeBytes);
  if (count > 2048) return undefined;
  return Array.from({ length: count }, (_, index) => segmentOf(frame, parts, sizeBytes, index));
}
