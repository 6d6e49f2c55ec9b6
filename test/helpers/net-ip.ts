// The least of IPv4 that a station needs to talk to a host: who has what address, and UDP.

import { station } from "./net-frames.js";

const bytesOf = (mac: string) => Buffer.from(mac.replaceAll(":", ""), "hex");
const ipOf = (address: string) => Buffer.from(address.split(".").map(Number));

/** Bytes of the Ethernet and IP headers: where UDP begins. */
export const UDP_AT = 34;
const UDP_BYTES = 8;
const IPPROTO_UDP = 17;

/** The Internet's sum of `parts`, folded. RFC 1071. */
export function sumOf(...parts: Uint8Array[]): number {
  let sum = 0;
  for (const part of parts) {
    for (let at = 0; at < part.length; at += 2) {
      sum += ((part[at] as number) << 8) | (part[at + 1] ?? 0);
    }
  }
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return sum;
}

/** A station's addresses. */
export interface Station {
  mac: string;
  address: string;
}

/** A station by number, in a network of three numbers. */
export const stationOf = (network: string, number: number): Station => ({
  mac: station(number),
  address: `${network}.${number}`,
});

/** The answer to a request for the station's address; `undefined`: it is none. RFC 826. */
export function arpReply(frame: Buffer, own: Station): Buffer | undefined {
  if (frame.length < 42 || frame.readUInt16BE(12) !== 0x0806) return undefined;
  if (frame.readUInt16BE(20) !== 1 || !frame.subarray(38, 42).equals(ipOf(own.address))) {
    return undefined;
  }
  const sender = frame.subarray(22, 32);
  const mac = bytesOf(own.mac);
  return Buffer.concat([
    ...[sender.subarray(0, 6), mac, frame.subarray(12, 20), Buffer.from([0, 2])],
    ...[mac, ipOf(own.address), sender],
  ]);
}

/** From whom a UDP datagram comes, and what it says. */
export interface Datagram {
  mac: string;
  address: string;
  port: number;
  payload: Buffer;
  /** Whether its checksum is right. */
  isSound: boolean;
}

/** The UDP datagram in a frame, for that station; `undefined`: there is none. */
export function datagramOf(frame: Buffer, own: Station): Datagram | undefined {
  const isUdp = frame.length >= UDP_AT + UDP_BYTES && frame.readUInt16BE(12) === 0x0800;
  if (!isUdp || frame[23] !== IPPROTO_UDP || !frame.subarray(0, 6).equals(bytesOf(own.mac))) {
    return undefined;
  }
  const udp = frame.subarray(UDP_AT, UDP_AT + frame.readUInt16BE(UDP_AT + 4));
  const isSound = sumOf(pseudoHeader(frame, udp.length), udp) === 0xffff;
  return {
    mac: [...frame.subarray(6, 12)].map((byte) => byte.toString(16).padStart(2, "0")).join(":"),
    address: frame.subarray(26, 30).join("."),
    port: udp.readUInt16BE(0),
    payload: Buffer.from(udp.subarray(UDP_BYTES)),
    isSound,
  };
}

/** What UDP's checksum counts beside itself: addresses, protocol, length. RFC 768. */
function pseudoHeader(frame: Uint8Array, udpBytes: number): Buffer {
  const rest = Buffer.from([0, IPPROTO_UDP, udpBytes >>> 8, udpBytes & 0xff]);
  return Buffer.concat([frame.subarray(26, 34), rest]);
}

/**
 * A UDP datagram as a frame. "whole": with its checksum; "left": in its place the sum of what is
 * not in the datagram, as one is sent whose checksum is left to others.
 */
export function udpFrame(
  from: Station & { port: number },
  to: Station & { port: number },
  payload: Uint8Array,
  checksum: "whole" | "left" = "whole",
): Buffer {
  const udp = Buffer.alloc(UDP_BYTES + payload.length);
  udp.writeUInt16BE(from.port, 0);
  udp.writeUInt16BE(to.port, 2);
  udp.writeUInt16BE(udp.length, 4);
  udp.set(payload, UDP_BYTES);
  const header = Buffer.from([0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, IPPROTO_UDP, 0, 0]);
  header.writeUInt16BE(20 + udp.length, 2);
  const addresses = Buffer.concat([ipOf(from.address), ipOf(to.address)]);
  header.writeUInt16BE(~sumOf(header, addresses) & 0xffff, 10);
  const macs = Buffer.concat([bytesOf(to.mac), bytesOf(from.mac), Buffer.from([8, 0])]);
  const frame = Buffer.concat([macs, header, addresses, udp]);
  const sum = sumOf(pseudoHeader(frame, udp.length), ...(checksum === "whole" ? [udp] : []));
  frame.writeUInt16BE(checksum === "whole" ? ~sum & 0xffff || 0xffff : sum, UDP_AT + 6);
  return frame;
}
