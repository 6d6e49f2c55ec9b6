// virtio 1.3, 5.1.6.2: a checksum that the driver leaves to the device, and 5.1.6.4: to the driver.

import { describe, expect, test } from "vitest";
import { Kernel, net, Switch, type SwitchPortOptions } from "#dist/index.js";
import { VIRTIO_NET_F_CSUM, VIRTIO_NET_F_GUEST_CSUM } from "#dist/spec/virtio-net.js";
import { Random } from "../fuzz/random.js";
import { frameOf, station } from "../helpers/net-frames.js";
import { bit, RawGuest, VERSION_1, WAYS } from "../helpers/raw-guest.js";
import { seedOf } from "../helpers/seed.js";

const ALL = "ff:ff:ff:ff:ff:ff";
const CSUM = VERSION_1 | bit(VIRTIO_NET_F_CSUM);
const GUEST_CSUM = VERSION_1 | bit(VIRTIO_NET_F_GUEST_CSUM);

/** A header that asks for a checksum. */
function headerOf(start: number, offset: number, flags = 1, gsoType = 0): Buffer {
  const header = Buffer.alloc(12);
  header[0] = flags;
  header[1] = gsoType;
  header.writeUInt16LE(start, 6);
  header.writeUInt16LE(offset, 8);
  return header;
}

/** Whether the words from `start` on, and no others, add up to what RFC 1071 says: all ones. */
function isSound(frame: Uint8Array, start: number): boolean {
  let sum = 0;
  for (let at = start; at < frame.length; at += 2) {
    sum += ((frame[at] as number) << 8) | (frame[at + 1] ?? 0);
  }
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return sum === 0xffff;
}

function frameWith(payload: Uint8Array, vlan?: number): Buffer {
  return Buffer.concat([frameOf(ALL, station(1), 0, vlan).subarray(0, vlan ? 18 : 14), payload]);
}

/** Bytes cut at any places, as pieces of a chain. */
function cut(bytes: Buffer, random: Random): Buffer[] {
  const pieces: Buffer[] = [];
  for (let at = 0; at < bytes.length; ) {
    const length = 1 + random.below(bytes.length - at);
    pieces.push(bytes.subarray(at, at + length));
    at += length;
  }
  return pieces;
}

describe.each(WAYS)("$run, $ring ring", (mode) => {
  test("for a function: made, whatever pieces the packet is in", async () => {
    const seed = seedOf("left checksums");
    const random = new Random(seed);
    const got: Buffer[] = [];
    const nic = net({ onPacket: (frame) => got.push(Buffer.from(frame)) });
    await using guest = await RawGuest.open(nic, { ...mode, features: CSUM, queues: 2 });
    const tx = guest.rings[1] as (typeof guest.rings)[0];
    for (let i = 0; i < 40; i++) {
      const payload = Buffer.from(
        Array.from({ length: 40 + random.below(400) }, () => random.below(256)),
      );
      const start = 14 + random.below(20);
      const offset = 2 * random.below(8);
      const frame = frameWith(payload);
      frame.writeUInt16BE(0, start + offset); // as of a pseudo-header that adds up to 0
      const packet = Buffer.concat([headerOf(start, offset), frame]);
      await tx.request(cut(packet, random));
      await expect.poll(() => got.length).toBe(i + 1);
      const back = got[i] as Buffer;
      expect(isSound(back, start), `FC_SEED=${seed}, packet ${i}`).toBe(true);
      back.writeUInt16BE(0, start + offset);
      expect(back).toEqual(frame);
    }
  });

  test.each([
    ["beyond the packet", 70, 0],
    ["its field beyond the packet", 50, 9],
    ["its last byte beyond the packet", 14, 45],
    ["in the addresses", 13, 16],
    ["as far as numbers go", 0xffff, 0xffff],
  ])("csum_start %s: used, counted, goes nowhere", async (_, start, offset) => {
    let got = 0;
    const nic = net({ onPacket: () => got++ });
    await using guest = await RawGuest.open(nic, { ...mode, features: CSUM, queues: 2 });
    const tx = guest.rings[1] as (typeof guest.rings)[0];
    const frame = frameOf(ALL, station(1), 1); // 60 bytes
    await tx.request([headerOf(start, offset), frame]);
    await tx.request([headerOf(14, 6, 1, 1), frame]); // segments, which are not on offer
    await tx.request([headerOf(14, 44), frame]); // the last one that fits
    await expect.poll(() => got).toBe(1);
    expect(guest.dev.errorCounts()).toEqual({ 1: { VRING_E_REQUEST: 2 } });
  });
});

test("at a switch: left to who takes it, made for others, where a tag moved it", async () => {
  const lan = new Switch();
  const kernel = new Kernel();
  const process = kernel.spawn({ memoryBytes: 8 << 20 });
  const plug = (port: SwitchPortOptions, features: bigint) =>
    RawGuest.open(net({ switch: lan.port(port) }), { features, queues: 2 });
  const from = await plug({ vlan: 5 }, CSUM);
  const partial = await plug({ vlan: 5 }, GUEST_CSUM);
  const plain = await plug({ vlan: 5 }, VERSION_1);
  const trunk = await plug({ trunk: [5] }, GUEST_CSUM);
  const asked = [partial, plain, trunk].map((guest) => guest.ring.request([200]));
  const frame = frameWith(Buffer.alloc(50, 0xab));
  frame.writeUInt16BE(0x1234, 14 + 6);
  await (from.rings[1] as (typeof from.rings)[0]).request([headerOf(14, 6), frame]);
  const [left, made, tagged] = (await Promise.all(asked)).map(({ length, written }) =>
    Buffer.from(written.subarray(0, length)),
  );
  expect(left?.subarray(0, 12)).toEqual(
    Buffer.concat([headerOf(14, 6).subarray(0, 10), Buffer.from([1, 0])]),
  );
  expect(left?.subarray(12)).toEqual(frame);
  expect([...(made?.subarray(0, 12) ?? [])]).toEqual([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
  const whole = Buffer.from(made?.subarray(12) ?? []);
  const sum = whole.readUInt16BE(20);
  // The field had a pseudo-header's sum, which is not in the frame.
  whole.writeUInt16BE(0, 20);
  whole.writeUInt16BE(0x1234, 20);
  expect(whole).toEqual(frame);
  whole.writeUInt16BE(addOnes(sum, 0x1234), 20);
  expect(isSound(whole, 14)).toBe(true);
  expect(tagged?.readUInt16LE(6)).toBe(18);
  expect(tagged?.readUInt16LE(8)).toBe(6);
  expect(tagged?.subarray(30)).toEqual(frame.subarray(14));
  for (const guest of [from, partial, plain, trunk]) await guest[Symbol.asyncDispose]();
  await process.exit();
  lan.close();
});

/** One's complement addition. */
function addOnes(a: number, b: number): number {
  const sum = a + b;
  return sum > 0xffff ? sum - 0xffff : sum;
}
