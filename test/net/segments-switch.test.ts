// Large packets at a switch: whole for who takes them, cut for others. virtio 1.3, 5.1.6.4
// Processing of Incoming Packets.

import { describe, expect, test } from "vitest";
import { net, Switch, type SwitchPortOptions } from "#dist/index.js";
import {
  VIRTIO_NET_F_CTRL_GUEST_OFFLOADS,
  VIRTIO_NET_F_CTRL_VQ,
  VIRTIO_NET_F_GUEST_CSUM,
  VIRTIO_NET_F_GUEST_ECN,
  VIRTIO_NET_F_GUEST_USO4,
  VIRTIO_NET_F_MRG_RXBUF,
} from "#dist/spec/virtio-net.js";
import { VIRTQ_DESC_F_WRITE } from "#dist/spec/virtio-ring.js";
import { Random } from "../fuzz/random.js";
import { checkSegments, type LargeKind, largePacket } from "../helpers/net-large-frames.js";
import { bytesOf, GUEST, HOST, KIND, MEMORY, mask, tx } from "../helpers/net-large-guests.js";
import { bit, type GuestRing, RawGuest, VERSION_1 } from "../helpers/raw-guest.js";

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

  test("what waits whole, and is not taken any more, is dropped; plain packets come", async () => {
    const offloads = bit(VIRTIO_NET_F_CTRL_VQ) | bit(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS);
    await using lan = await openLan(
      [
        [{}, HOST],
        [{}, GUEST | offloads],
      ],
      0,
      1300,
      3,
    );
    const [from, to] = lan.guests as [RawGuest, RawGuest];
    const { packet, frame } = largePacket(KIND);
    await tx(from).request([packet]);
    const plain = Buffer.concat([Buffer.alloc(12), frame.subarray(0, 60)]);
    await tx(from).request([plain]);
    const none = [Buffer.from([5, 0, 0, 0, 0, 0, 0, 0, 0, 0]), 1];
    expect((await (to.rings[2] as GuestRing).request(none)).written).toEqual(Buffer.from([0]));
    expect((await to.ring.request([1300])).length).toBe(0);
    const { length, written } = await to.ring.request([1300]);
    expect(written.subarray(12, length)).toEqual(plain.subarray(12));
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
