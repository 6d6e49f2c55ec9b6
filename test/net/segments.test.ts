// Large packets to a function: cut, or refused when nothing about them fits together. virtio 1.3,
// 5.1.6.2 Packet Transmission.

import { describe, expect, test } from "vitest";
import { net } from "#dist/index.js";
import { VIRTIO_NET_F_CSUM, VIRTIO_NET_F_HOST_TSO6 } from "#dist/spec/virtio-net.js";
import { Random } from "../fuzz/random.js";
import { checkSegments, type LargeKind, largePacket } from "../helpers/net-large-frames.js";
import { bytesOf, HOST, KIND, MEMORY, mask, tx } from "../helpers/net-large-guests.js";
import { RawGuest, WAYS } from "../helpers/raw-guest.js";
import { seedOf } from "../helpers/seed.js";

function anyKind(random: Random): LargeKind {
  const version = random.once(2) ? 4 : 6;
  const protocol = random.once(3) ? "udp" : "tcp";
  const sizeBytes = 48 + random.below(random.once(4) ? 9000 : 1500);
  return {
    ...{ version, protocol, sizeBytes },
    payload: bytesOf(random, sizeBytes + 1 + random.below(20_000)),
    ...(random.once(3) && { vlan: random.below(4096) }),
    ipWords: random.once(3) ? random.below(11) : 0,
    tcpWords: random.once(2) ? random.below(11) : 0,
    extensions: random.once(3) ? [0, 60].slice(0, 1 + random.below(2)) : [],
    flags: random.below(256),
    sequence: random.once(2) ? 2 ** 32 - random.below(20_000) - 1 : random.below(2 ** 32),
    id: random.below(2 ** 16),
  };
}

/** Bytes cut at any places, as pieces of a chain. */
function pieces(bytes: Buffer, random: Random): Buffer[] {
  const cut: Buffer[] = [];
  for (let at = 0; at < bytes.length; ) {
    const length = 1 + random.below(random.once(3) ? 40 : bytes.length - at);
    cut.push(bytes.subarray(at, cut.length > 40 ? undefined : at + length));
    at += (cut.at(-1) as Buffer).length;
  }
  return cut;
}

describe.each(WAYS)("to a function, $run, $ring ring", (mode) => {
  const openGuest = async (features = HOST) => {
    const got: Buffer[] = [];
    const nic = net({ onPacket: (frame) => got.push(Buffer.from(frame)) });
    const guest = await RawGuest.open(nic, { ...mode, ...MEMORY, features, queues: 2 });
    const close = () => guest[Symbol.asyncDispose]();
    return { got, guest, [Symbol.asyncDispose]: close };
  };

  test("any packet in any pieces: its segments are sound, and make the whole again", async () => {
    const seed = seedOf("segments");
    const random = new Random(seed);
    await using raw = await openGuest();
    for (let i = 0; i < 60; i++) {
      const kind = anyKind(random);
      const { packet } = largePacket(kind);
      packet[1] = (packet[1] as number) | (kind.protocol === "tcp" && random.once(2) ? 0x80 : 0);
      packet.writeUInt16LE(random.below(2 ** 16), 2); // hdr_len, which may lie
      await tx(raw.guest).request(pieces(packet, random));
      const count = Math.ceil(kind.payload.length / kind.sizeBytes);
      await expect.poll(() => raw.got.length).toBe(count);
      const whole = checkSegments(kind, raw.got.splice(0));
      expect(whole.equals(kind.payload), `FC_SEED=${seed}, packet ${i}`).toBe(true);
    }
    expect(raw.guest.dev.errorCounts()).toEqual({});
  });

  test.each([
    ["the largest packet, in the smallest segments", 65565 - 12 - 54, 32],
    ["single bytes", 2048, 1],
  ])("%s", async (_, bytes, sizeBytes) => {
    await using raw = await openGuest();
    const payload = bytesOf(new Random(1), bytes);
    const kind: LargeKind = { version: 4, protocol: "tcp", sizeBytes, payload };
    for (let i = 0; i < 5; i++) {
      await tx(raw.guest).request([largePacket(kind).packet]);
    }
    const count = 5 * Math.ceil(payload.length / sizeBytes);
    await expect.poll(() => raw.got.length).toBe(count);
    const first = raw.got.slice(0, count / 5);
    expect(checkSegments(kind, first).equals(payload)).toBe(true);
  });
});

type Bytes = Buffer;
/** What is wrong with a packet, and how it is made so: `packet` with its header, 12 bytes. */
const BAD: [string, Partial<LargeKind>, (packet: Bytes) => void][] = [
  ["gso_size 0", {}, (packet) => packet.writeUInt16LE(0, 4)],
  ["more segments than any", { payload: Buffer.alloc(2049), sizeBytes: 1 }, () => {}],
  ["gso_size above the packet", {}, (packet) => packet.writeUInt16LE(0xffff, 4)],
  ["no checksum asked for", {}, (packet) => packet.writeUInt8(0, 0)],
  ["gso_type unknown", {}, (packet) => packet.writeUInt8(2, 1)],
  ["gso_type UFO", {}, (packet) => packet.writeUInt8(3, 1)],
  ["gso_type of the other version", {}, (packet) => packet.writeUInt8(4, 1)],
  ["ECN without TCP", { protocol: "udp" }, (packet) => packet.writeUInt8(0x85, 1)],
  ["ECN alone", {}, (packet) => packet.writeUInt8(0x80, 1)],
  ["csum_start beyond the packet", {}, (packet) => packet.writeUInt16LE(2000, 6)],
  ["csum_start in the addresses", {}, (packet) => packet.writeUInt16LE(13, 6)],
  ["csum_start in IP's header", {}, (packet) => packet.writeUInt16LE(14, 6)],
  ["csum_start behind TCP's", {}, (packet) => packet.writeUInt16LE(54, 6)],
  ["csum_offset not TCP's", {}, (packet) => packet.writeUInt16LE(6, 8)],
  ["csum_offset not UDP's", { protocol: "udp" }, (packet) => packet.writeUInt16LE(16, 8)],
  ["no IP", {}, (packet) => packet.writeUInt16BE(0x0806, 24)],
  ["IP of another version", {}, (packet) => packet.writeUInt8(0x65, 26)],
  ["IP's header shorter than one", {}, (packet) => packet.writeUInt8(0x44, 26)],
  ["IP's header up to somewhere else", {}, (packet) => packet.writeUInt8(0x46, 26)],
  ["a fragment", {}, (packet) => packet.writeUInt16BE(0x2000, 32)],
  ["the last fragment", {}, (packet) => packet.writeUInt16BE(5, 32)],
  ["another protocol", {}, (packet) => packet.writeUInt8(17, 35)],
  ["TCP's header shorter than one", {}, (packet) => packet.writeUInt8(0x40, 58)],
  ["nothing behind TCP's header", { payload: Buffer.alloc(0) }, () => {}],
  ["two tags", { vlan: 5 }, (packet) => packet.writeUInt16BE(0x8100, 28)],
  ["IPv6 of another version", { version: 6 }, (packet) => packet.writeUInt8(0x45, 26)],
  ["IPv6 with a fragment header", { version: 6, extensions: [44] }, () => {}],
  ["IPv6 with a routing header", { version: 6, extensions: [43] }, () => {}],
  ["an extension past TCP", { version: 6, extensions: [0] }, (packet) => packet.writeUInt8(9, 67)],
  ["headers longer than any", { version: 6, extensions: Array(30).fill(60) }, () => {}],
];

describe.each(WAYS)("refused, $run, $ring ring", (mode) => {
  test("what does not fit together goes nowhere, is counted, and stops nothing", async () => {
    const got: Buffer[] = [];
    const nic = net({ onPacket: (frame) => got.push(Buffer.from(frame)) });
    const options = { ...mode, ...MEMORY, features: HOST, queues: 2 };
    await using guest = await RawGuest.open(nic, options);
    for (const [index, [what, kind, change]] of BAD.entries()) {
      const { packet } = largePacket({ ...KIND, ...kind });
      change(packet);
      await tx(guest).request([packet]);
      expect([what, guest.errors(1)]).toEqual([what, { VRING_E_REQUEST: index + 1 }]);
    }
    await tx(guest).request([largePacket(KIND).packet.subarray(0, 12 + 53)]); // cut short
    expect(guest.errors(1)).toEqual({ VRING_E_REQUEST: BAD.length + 1 });
    await tx(guest).request([largePacket(KIND).packet]);
    await expect.poll(() => got.length).toBe(10);
    expect(checkSegments(KIND, got)).toEqual(KIND.payload);
  });

  test("any bytes in the headers: refused or cut, and the next one is served", async () => {
    const seed = seedOf("hostile segments");
    const random = new Random(seed);
    let got = 0;
    let longest = 0;
    const nic = net({
      onPacket: (frame) => {
        got++;
        longest = Math.max(longest, frame.length);
      },
    });
    const options = { ...mode, ...MEMORY, features: HOST, queues: 2 };
    await using guest = await RawGuest.open(nic, options);
    for (let i = 0; i < 400; i++) {
      const kind = anyKind(random);
      const { packet, headBytes } = largePacket({
        ...kind,
        payload: kind.payload.subarray(0, 3000),
      });
      for (let n = random.below(4); n >= 0; n--) {
        packet[random.below(12 + headBytes)] = random.below(256);
      }
      await tx(guest).request([
        packet.subarray(0, random.once(3) ? 26 + random.below(99) : undefined),
      ]);
    }
    await tx(guest).request([largePacket(KIND).packet]);
    const refused = guest.errors(1).VRING_E_REQUEST ?? 0;
    expect(refused).toBeGreaterThan(50);
    expect(refused).toBeLessThan(400);
    await expect.poll(() => got, { message: `FC_SEED=${seed}` }).toBeGreaterThan(10);
    expect(longest).toBeLessThanOrEqual(65553);
  });

  test("what was not negotiated is refused", async () => {
    const nic = net({ onPacket: () => {} });
    const features = mask(VIRTIO_NET_F_CSUM, VIRTIO_NET_F_HOST_TSO6);
    await using guest = await RawGuest.open(nic, { ...mode, ...MEMORY, features, queues: 2 });
    await tx(guest).request([largePacket(KIND).packet]);
    const ecn = largePacket({ ...KIND, version: 6 }).packet;
    ecn[1] = 0x84;
    await tx(guest).request([ecn]);
    await tx(guest).request([largePacket({ ...KIND, version: 6, protocol: "udp" }).packet]);
    expect(guest.errors(1)).toEqual({ VRING_E_REQUEST: 3 });
    await tx(guest).request([largePacket({ ...KIND, version: 6 }).packet]);
    expect(guest.errors(1)).toEqual({ VRING_E_REQUEST: 3 });
  });
});
