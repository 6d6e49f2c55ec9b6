// Commands of any kind, sound and not, while packets of all kinds come: each is answered as the
// specification has it, every packet ends somewhere, and what is asked for last holds. virtio 1.3,
// 5.1.6.5 Control Virtqueue.

import { setImmediate as nextTurn } from "node:timers/promises";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { net, Switch } from "#dist/index.js";
import { featureMask } from "#dist/spec/features.js";
import {
  VIRTIO_NET_F_CTRL_GUEST_OFFLOADS,
  VIRTIO_NET_F_CTRL_MAC_ADDR,
  VIRTIO_NET_F_CTRL_RX,
  VIRTIO_NET_F_CTRL_RX_EXTRA,
  VIRTIO_NET_F_CTRL_VLAN,
  VIRTIO_NET_F_CTRL_VQ,
  VIRTIO_NET_F_GUEST_ANNOUNCE,
  VIRTIO_NET_F_MQ,
} from "#dist/spec/virtio-net.js";
import { Random } from "../fuzz/random.js";
import { SENDS, WHOLE } from "../helpers/net-damage.js";
import { frameOf, macBytes, station } from "../helpers/net-frames.js";
import { largePacket } from "../helpers/net-large-frames.js";
import { KIND } from "../helpers/net-large-guests.js";
import { NetPeer, RINGS } from "../helpers/net-peer.js";

const SEED = Number(process.env.FC_SEED ?? Date.now() % 0x8000_0000);
const PAIRS = 3;
const CONTROL = 2 * PAIRS;
const FEATURES = [
  ...WHOLE,
  VIRTIO_NET_F_CTRL_VQ,
  VIRTIO_NET_F_CTRL_RX,
  VIRTIO_NET_F_CTRL_RX_EXTRA,
  VIRTIO_NET_F_CTRL_VLAN,
  VIRTIO_NET_F_CTRL_MAC_ADDR,
  VIRTIO_NET_F_CTRL_GUEST_OFFLOADS,
  VIRTIO_NET_F_GUEST_ANNOUNCE,
  VIRTIO_NET_F_MQ,
];
/** What may be turned on and off by command: WHOLE without the merging of buffers. */
const OFFLOADS = featureMask(...WHOLE.filter((bit) => bit !== 15));

const byte = fc.integer({ min: 0, max: 255 });
const le = (value: number, bytes: number) =>
  Array.from({ length: bytes }, (_, i) => Math.floor(value / 256 ** i) % 256);
const u16 = fc
  .oneof(
    fc.constantFrom(0, 1, 2, 3, 4, 0x0fff, 0x1000, 0x8000, 0x8001, 0xffff),
    fc.integer({ min: 0, max: 0xffff }),
  )
  .map((value) => le(value, 2));
const mac = fc
  .tuple(fc.constantFrom(0, 1, 2, 3, 0x33, 0xff), fc.integer({ min: 0, max: 3 }))
  .map(([first, last]) => [first, 0, 0, 0, 0, last]);
/** Addresses, and how many it says there are. */
const table = fc
  .tuple(
    fc.array(mac, { maxLength: 70 }),
    fc.oneof(fc.constant(undefined), fc.constantFrom(0, 1, 65, 0x2aaa_aaab, 0xffff_ffff)),
  )
  .map(([macs, count]) => [...le(count ?? macs.length, 4), ...macs.flat()]);
const offloads = fc.tuple(fc.integer({ min: 0, max: 0xff }), fc.boolean()).map(([low, isOwn]) => {
  const value = isOwn ? OFFLOADS & BigInt(low | (low << 8)) : BigInt(low) << 20n;
  return [...new Uint8Array(BigUint64Array.of(value).buffer)];
});

/** A command that is sound but for its numbers. */
const sound = fc.oneof(
  fc.tuple(fc.integer({ min: 0, max: 5 }), fc.integer({ min: 0, max: 1 })).map((c) => [0, ...c]),
  fc.tuple(table, table).map(([stations, groups]) => [1, 0, ...stations, ...groups]),
  mac.map((address) => [1, 1, ...address]),
  fc.tuple(fc.integer({ min: 0, max: 1 }), u16).map(([command, id]) => [2, command, ...id]),
  fc.constant<number[]>([3, 0]),
  u16.map((pairs) => [4, 0, ...pairs]),
  offloads.map((features) => [5, 0, ...features]),
);
/** Any command: cut short, longer, with another byte. */
const commands = fc
  .tuple(sound, fc.nat({ max: 5 }), fc.nat(), byte)
  .map(([command, how, place, value]) => {
    const at = place % command.length;
    if (how === 0 && at >= 2) return command.slice(0, at);
    if (how === 1) return [...command, value];
    if (how === 2) return command.with(at, value);
    return command;
  });

/** Bytes of the table that begins at `at`, or NaN. */
function tableBytes(bytes: number[], at: number): number {
  if (!(at + 4 <= bytes.length)) return Number.NaN; // it may be one
  const count = Buffer.from(bytes).readUInt32LE(at);
  return at + 4 + 6 * count <= bytes.length ? 4 + 6 * count : Number.NaN;
}

/** What the device has to answer: 0, it is done, or 1. */
function answerTo(bytes: number[]): number {
  const [group, command, ...data] = bytes as [number, number, ...number[]];
  const value = (data[0] ?? 0) + 256 * (data[1] ?? 0);
  const isGood = (): boolean => {
    if (group === 0) return command <= 5 && data.length === 1 && value <= 1;
    if (group === 1 && command === 0) {
      const second = 2 + tableBytes(bytes, 2);
      return second + tableBytes(bytes, second) === bytes.length;
    }
    if (group === 1) return command === 1 && data.length === 6 && value % 2 === 0;
    if (group === 2) return command <= 1 && data.length === 2 && value < 4096;
    if (group === 3) return command === 0 && data.length === 0;
    if (group === 4) return command === 0 && data.length === 2 && value >= 1 && value <= PAIRS;
    if (group !== 5 || command !== 0 || data.length !== 8) return false;
    return (Buffer.from(data).readBigUInt64LE() & ~OFFLOADS) === 0n;
  };
  return isGood() ? 0 : 1;
}

/** A packet for one, for many or for all, of some flow, with a tag or none, large or not. */
function anyPacket(random: Random): Buffer {
  const to = random.pick([[2, 0, 0, 0, 0, 1], [3, 0, 0, 0, 0, 2], Array(6).fill(0xff)]);
  const vlan = random.once(3) ? { vlan: random.below(4096) } : {};
  const { packet } = largePacket({
    ...{ ...KIND, ...vlan, version: random.pick([4, 6] as const) },
    payload: KIND.payload.subarray(0, random.once(2) ? 1000 : 40),
  });
  packet.set(to, 12);
  packet[packet.length - 50] = random.below(256);
  if (packet.length < 300) packet.fill(0, 0, 12);
  return packet;
}

describe.each(RINGS)("$ring ring, packed: $packed", (rings) => {
  test("each command is answered, each packet ends, and the last word holds", async () => {
    console.log(`commands under load: FC_SEED=${SEED}`);
    using lan = new Switch();
    const [port, others] = [lan.port(), lan.port()];
    const nic = net({ switch: port, queuePairs: PAIRS, mac: station(1) });
    await using guest = await NetPeer.open(nic, { ...rings, features: FEATURES });
    for (let queue = 2; queue < CONTROL; queue += 2) {
      for (let i = 0; i < 32; i++) guest.give(1526, queue);
    }
    await using sender = await NetPeer.open(net({ switch: others }), {
      features: SENDS,
      buffers: 1,
    });
    const random = new Random(SEED);
    let isOver = false;
    const sending = (async () => {
      while (!isOver) {
        await sender.send([anyPacket(random)]);
        await nextTurn();
      }
    })();
    const property = fc.asyncProperty(commands, async (bytes) => {
      const half = Math.ceil(bytes.length / 2);
      const pieces = [bytes.slice(0, half), bytes.slice(half)].map((part) => Buffer.from(part));
      const answer = await guest.command(pieces, CONTROL);
      expect(answer).toBe(answerTo(bytes));
    });
    await fc.assert(property, { seed: SEED, numRuns: 400 });
    isOver = true;
    await sending;
    const all = () => {
      const { sent, refused, discarded, missed } = port.counts();
      return sent + refused + discarded + missed;
    };
    const { forwarded, dropped } = others.counts();
    await expect.poll(all).toBe(forwarded + dropped);
    expect(await guest.command([Buffer.from([4, 0, 1, 0])], CONTROL)).toBe(0);
    expect(await guest.command([Buffer.from([1, 1, ...macBytes(station(7))])], CONTROL)).toBe(0);
    const off = [0, 1, 2, 3, 4, 5].map((command) => Buffer.from([0, command, 0]));
    for (const command of off) expect(await guest.command([command], CONTROL)).toBe(0);
    guest.packets.length = 0;
    const frames = [1, 7].map((number) => frameOf(station(number), station(2), number));
    const none = Buffer.from([1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    expect(await guest.command([none], CONTROL)).toBe(0);
    for (const frame of frames) await sender.send([Buffer.alloc(12), frame]);
    await expect.poll(() => guest.frames).toEqual([frames[1]]);
    expect(guest.dev.errorCounts()).toEqual({});
  });
});
