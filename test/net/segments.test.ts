// Large packets: cut for who does not take them, whole for who does, refused when nothing about
// them fits together. virtio 1.3, 5.1.6.2 Packet Transmission, 5.1.6.4 Processing of Incoming
// Packets.

import { describe, expect, test } from "vitest";
import { net, Switch, type SwitchPortOptions } from "#dist/index.js";
import {
  VIRTIO_NET_F_CSUM,
  VIRTIO_NET_F_CTRL_GUEST_OFFLOADS,
  VIRTIO_NET_F_CTRL_VQ,
  VIRTIO_NET_F_GUEST_CSUM,
  VIRTIO_NET_F_GUEST_ECN,
  VIRTIO_NET_F_GUEST_TSO4,
  VIRTIO_NET_F_GUEST_TSO6,
  VIRTIO_NET_F_GUEST_USO4,
  VIRTIO_NET_F_HOST_ECN,
  VIRTIO_NET_F_HOST_TSO4,
  VIRTIO_NET_F_HOST_TSO6,
  VIRTIO_NET_F_HOST_USO,
  VIRTIO_NET_F_MRG_RXBUF,
} from "#dist/spec/virtio-net.js";
import { VIRTQ_DESC_F_WRITE } from "#dist/spec/virtio-ring.js";
import { Random } from "../fuzz/random.js";
import { checkSegments, type LargeKind, largePacket } from "../helpers/net-large-frames.js";
import { bit, type GuestRing, MODES, RawGuest, VERSION_1 } from "../helpers/raw-guest.js";

const mask = (...bits: number[]) => bits.reduce((all, one) => all | bit(one), VERSION_1);
const HOST = mask(
  VIRTIO_NET_F_CSUM,
  VIRTIO_NET_F_HOST_TSO4,
  VIRTIO_NET_F_HOST_TSO6,
  VIRTIO_NET_F_HOST_ECN,
  VIRTIO_NET_F_HOST_USO,
);
const GUEST = mask(VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_GUEST_TSO4, VIRTIO_NET_F_GUEST_TSO6);
/** Of each kind one. */
const WAYS = MODES.filter(({ run, ring }) => (run === "thread") === (ring === "wasm"));
const MEMORY = { memoryBytes: 64 << 20 };

const bytesOf = (random: Random, count: number) =>
  Buffer.from(Array.from({ length: count }, () => random.below(256)));

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

const tx = (guest: RawGuest) => guest.rings[1] as GuestRing;

describe.each(WAYS)("to a function, $run, $ring ring", (mode) => {
  const openGuest = async (features = HOST) => {
    const got: Buffer[] = [];
    const nic = net({ onPacket: (frame) => got.push(Buffer.from(frame)) });
    const guest = await RawGuest.open(nic, { ...mode, ...MEMORY, features, queues: 2 });
    const close = () => guest[Symbol.asyncDispose]();
    return { got, guest, [Symbol.asyncDispose]: close };
  };

  test("any packet in any pieces: its segments are sound, and make the whole again", async () => {
    const seed = Number(process.env.SEED ?? Date.now() % 2 ** 32);
    console.log(`segments: SEED=${seed}`);
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
      expect(whole.equals(kind.payload), `SEED=${seed}, packet ${i}`).toBe(true);
    }
    expect(raw.guest.dev.errorCounts()).toEqual({});
  });

  test("the largest packet, in the smallest segments", async () => {
    await using raw = await openGuest();
    const payload = bytesOf(new Random(1), 65565 - 12 - 54);
    const kind: LargeKind = { version: 4, protocol: "tcp", sizeBytes: 48, payload };
    for (let i = 0; i < 5; i++) {
      await tx(raw.guest).request([largePacket(kind).packet]);
    }
    const count = 5 * Math.ceil(payload.length / 48);
    await expect.poll(() => raw.got.length).toBe(count);
    const first = raw.got.slice(0, count / 5);
    expect(checkSegments(kind, first).equals(payload)).toBe(true);
  });
});

const KIND: LargeKind = {
  ...{ version: 4, protocol: "tcp", sizeBytes: 100 },
  payload: Buffer.alloc(1000, 7),
};
type Bytes = Buffer;
/** What is wrong with a packet, and how it is made so: `packet` with its header, 12 bytes. */
const BAD: [string, Partial<LargeKind>, (packet: Bytes) => void][] = [
  ["gso_size 0", {}, (packet) => packet.writeUInt16LE(0, 4)],
  ["gso_size of less than TCP knows", {}, (packet) => packet.writeUInt16LE(47, 4)],
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
    const seed = Number(process.env.SEED ?? Date.now() % 2 ** 32);
    console.log(`hostile segments: SEED=${seed}`);
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
    await expect.poll(() => got, { message: `SEED=${seed}` }).toBeGreaterThan(10);
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

/** Guests at one switch; each but the first has so many buffers. */
async function openLan(
  ports: [SwitchPortOptions, bigint][],
  buffers: number,
  bytes: number,
  queues = 2,
) {
  const lan = new Switch();
  const guests = await Promise.all(
    ports.map(([options, features]) =>
      RawGuest.open(net({ switch: lan.port(options) }), { ...MEMORY, features, queues }),
    ),
  );
  const places = guests.map(() => [] as number[]);
  for (const [index, guest] of guests.entries()) {
    for (let i = 0; i < buffers && index > 0; i++) {
      const address = guest.put(new Uint8Array(bytes));
      places[index]?.push(address);
      const piece = { addr: guest.at(address), len: bytes, flags: VIRTQ_DESC_F_WRITE };
      guest.ring.send(guest.ring.link([piece]));
    }
  }
  const close = async () => {
    for (const guest of guests) await guest[Symbol.asyncDispose]();
    lan.close();
  };
  /** Packets that guest `index` has got: `count` of them, each in a buffer. */
  const packets = async (index: number, count: number) => {
    const guest = guests[index] as RawGuest;
    const got: Buffer[] = [];
    while (got.length < count) {
      const { length } = await guest.ring.next();
      const address = places[index]?.shift() ?? 0; // they are used in order
      got.push(Buffer.from(guest.shared.bytes.slice(address, address + length)));
    }
    return got;
  };
  return { guests, packets, [Symbol.asyncDispose]: close };
}

describe("at a switch", () => {
  test.each([
    ["TCP over IPv4", KIND],
    ["TCP over IPv6", { ...KIND, version: 6 }],
  ] as [string, LargeKind][])("%s: whole, in partial segments, in plain ones", async (_, kind) => {
    const partial = mask(VIRTIO_NET_F_GUEST_CSUM);
    const ports: [SwitchPortOptions, bigint][] = [
      [{ vlan: 5 }, HOST],
      [{ vlan: 5 }, GUEST],
      [{ vlan: 5 }, partial],
      [{ vlan: 5 }, VERSION_1],
      [{ trunk: [5] }, GUEST],
      [{ trunk: [5] }, VERSION_1],
    ];
    await using lan = await openLan(ports, 16, 1300);
    const { packet, frame, start, headBytes } = largePacket(kind);
    await tx(lan.guests[0] as RawGuest).request([packet]);
    const [whole] = await lan.packets(1, 1);
    const header = Buffer.from(packet.subarray(0, 12));
    header[10] = 1;
    expect(whole).toEqual(Buffer.concat([header, frame]));
    const left = await lan.packets(2, 10);
    for (const one of left) {
      expect([one[0], one[1], one.readUInt16LE(6), one.readUInt16LE(8)]).toEqual([1, 0, start, 16]);
    }
    const framesOf = (list: Buffer[]) => list.map((one) => one.subarray(12));
    expect(checkSegments(kind, framesOf(left), { isPartial: true })).toEqual(kind.payload);
    const plain = await lan.packets(3, 10);
    expect(checkSegments(kind, framesOf(plain))).toEqual(kind.payload);
    expect(plain.every((one) => one[0] === 0 && one[1] === 0)).toBe(true);
    const [tagged] = await lan.packets(4, 1);
    const there = tagged as Buffer;
    const fields = [2, 4, 6, 8].map((at) => there.readUInt16LE(at));
    expect(fields).toEqual([headBytes + 4, kind.sizeBytes, start + 4, 16]);
    expect(there.subarray(24, 28)).toEqual(Buffer.from([0x81, 0, 0, 5]));
    const segments = framesOf(await lan.packets(5, 10));
    expect(checkSegments(kind, segments, { tagBytes: 4 })).toEqual(kind.payload);
    for (const one of segments) expect(one.subarray(12, 16)).toEqual(Buffer.from([0x81, 0, 0, 5]));
  });

  test("ECN and UDP go whole to who takes them, each by its own feature", async () => {
    const ecn = GUEST | bit(VIRTIO_NET_F_GUEST_ECN);
    const uso = GUEST | bit(VIRTIO_NET_F_GUEST_USO4);
    await using lan = await openLan(
      [
        [{}, HOST],
        [{}, ecn],
        [{}, GUEST],
        [{}, uso],
      ],
      16,
      1300,
    );
    const [from] = lan.guests as [RawGuest];
    const { packet } = largePacket({ ...KIND, flags: 0x90 });
    packet[1] = 0x81;
    await tx(from).request([packet]);
    expect((await lan.packets(1, 1))[0]?.[1]).toBe(0x81);
    const cut = (await lan.packets(2, 10)).map((one) => one.subarray(12));
    const kind = { ...KIND, flags: 0x90 };
    expect(checkSegments(kind, cut, { isPartial: true })).toEqual(KIND.payload);
    await lan.packets(3, 10);
    const udp: LargeKind = { ...KIND, protocol: "udp", sizeBytes: 500 };
    await tx(from).request([largePacket(udp).packet]);
    for (const index of [1, 2]) {
      const frames = (await lan.packets(index, 2)).map((one) => one.subarray(12));
      expect(frames.length).toBe(2);
    }
    expect((await lan.packets(3, 1))[0]?.[1]).toBe(5);
  });

  test("5.1.6.5.6: what is not taken any more comes cut, what is again comes whole", async () => {
    const offloads = bit(VIRTIO_NET_F_CTRL_VQ) | bit(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS);
    await using lan = await openLan(
      [
        [{}, HOST],
        [{}, GUEST | offloads],
      ],
      30,
      1300,
      3,
    );
    const [from, to] = lan.guests as [RawGuest, RawGuest];
    const { packet } = largePacket(KIND);
    const set = async (features: bigint) => {
      const command = Buffer.alloc(10, 0);
      command[0] = 5;
      command.writeBigUInt64LE(features & ~VERSION_1, 2);
      const { written } = await (to.rings[2] as GuestRing).request([command, 1]);
      return written[0];
    };
    expect(await set(bit(VIRTIO_NET_F_GUEST_CSUM))).toBe(0);
    await tx(from).request([packet]);
    const left = await lan.packets(1, 10);
    expect(left.every((one) => one[0] === 1 && one[1] === 0)).toBe(true);
    expect(await set(0n)).toBe(0);
    await tx(from).request([packet]);
    expect((await lan.packets(1, 10)).every((one) => one[0] === 0)).toBe(true);
    expect(await set(GUEST | bit(VIRTIO_NET_F_GUEST_ECN))).toBe(1);
    expect(await set(GUEST)).toBe(0);
    await tx(from).request([packet]);
    expect((await lan.packets(1, 1))[0]?.[1]).toBe(1);
  });

  test("a whole packet over many merged buffers, and where none is large enough", async () => {
    const merge = GUEST | bit(VIRTIO_NET_F_MRG_RXBUF);
    const payload = bytesOf(new Random(2), 60_000);
    const kind: LargeKind = { ...KIND, payload, sizeBytes: 1448 };
    await using lan = await openLan(
      [
        [{}, HOST],
        [{}, merge],
        [{}, GUEST],
      ],
      60,
      1536,
    );
    const [from, , small] = lan.guests as [RawGuest, RawGuest, RawGuest];
    const { packet, frame } = largePacket(kind);
    await tx(from).request([packet]);
    const count = Math.ceil(packet.length / 1536);
    const parts = await lan.packets(1, count);
    expect(parts[0]?.readUInt16LE(10)).toBe(count);
    expect(Buffer.concat(parts).subarray(12).equals(frame)).toBe(true);
    expect((await small.ring.next()).length).toBe(0);
    expect(small.errors(0)).toEqual({ VRING_E_REQUEST: 1 });
  });
});
