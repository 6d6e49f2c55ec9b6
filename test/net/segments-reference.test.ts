// Packets of a guest that leaves everything to others, sound and broken in any way, against a
// reference: what must come of them, byte for byte, for who takes what. virtio 1.3, 5.1.6.2 Packet
// Transmission, 5.1.6.4 Processing of Incoming Packets.

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { net, Switch, type SwitchPortOptions } from "#dist/index.js";
import {
  damages,
  kinds,
  PARTIAL,
  packetOf,
  piecesOf,
  SENDS,
  WHOLE,
} from "../helpers/net-damage.js";
import { frameOf, station } from "../helpers/net-frames.js";
import { NetPeer, RINGS, until } from "../helpers/net-peer.js";
import { expectFrames, framesOf, plainOf } from "../helpers/net-reference.js";

const SEED = Number(process.env.FC_SEED ?? Date.now() % 0x8000_0000);
console.log(`segments and a reference: FC_SEED=${SEED}`);
const RUNS = { seed: SEED, numRuns: 150 };
const ALL = "ff:ff:ff:ff:ff:ff";

/** IEEE 802: for experiments. */
const MARK = 0x88b5;
let count = 0;
/** Plain packets that no others are like, one for each VLAN: the end of what came before them. */
function marksOf(vlans: (number | undefined)[]): Buffer[] {
  count = (count + 1) % 0x10000;
  return vlans.map((vlan) => {
    const frame = frameOf(ALL, station(1), count, vlan);
    frame.writeUInt16BE(MARK, vlan === undefined ? 12 : 16);
    return Buffer.concat([Buffer.alloc(12), frame]);
  });
}
const isTagged = (packet: Buffer) => packet.length >= 26 && packet.readUInt16BE(24) === 0x8100;
const isMark = (packet: Buffer) =>
  packet.readUInt16BE(24) === MARK || (isTagged(packet) && packet.readUInt16BE(28) === MARK);
const bodyOf = (packet: Buffer | undefined) => packet?.toString("latin1", packet.length - 46);

describe.each(RINGS)("$ring ring, packed: $packed", (rings) => {
  test("to a function: the frames of the reference, or refused and counted", async () => {
    const got: Buffer[] = [];
    const nic = net({ onPacket: (frame) => got.push(Buffer.from(frame)) });
    await using guest = await NetPeer.open(nic, { ...rings, features: SENDS });
    let refused = 0;
    const property = fc.asyncProperty(kinds, damages, async (kind, damage) => {
      const packet = packetOf(kind, damage);
      const frames = framesOf(packet);
      if (!frames) refused++;
      const [end] = marksOf([undefined]) as [Buffer];
      await guest.send(piecesOf(packet, damage));
      await guest.send([end]);
      await until(() => got.at(-1)?.equals(end.subarray(12)) ?? false);
      expectFrames(got.splice(0).slice(0, -1), frames ?? []);
      expect(guest.errors(1)).toEqual(refused > 0 ? { VRING_E_REQUEST: refused } : {});
    });
    await fc.assert(property, RUNS);
    expect(refused).toBeGreaterThan(RUNS.numRuns / 10);
  });
});

/** Peers at a switch, the first of which sends. */
async function openLan(
  places: SwitchPortOptions[],
  features: number[][],
  vlans: (number | undefined)[],
) {
  const lan = new Switch();
  const peers = await Promise.all(
    places.map((place, index) =>
      NetPeer.open(net({ switch: lan.port(place) }), {
        ...(RINGS[index % RINGS.length] as (typeof RINGS)[0]),
        features: features[index] ?? [],
        buffers: index === 0 ? 0 : 250,
      }),
    ),
  );
  /** Sends a packet; what each of the others has got when its end has come. */
  const send = async (pieces: Buffer[]) => {
    const [sender, ...others] = peers as [NetPeer, ...NetPeer[]];
    const ends = marksOf(vlans);
    for (const packet of [pieces, ...ends.map((end) => [end])]) await sender.send(packet);
    for (const { packets } of others) {
      await until(() => bodyOf(packets.at(-1)) === bodyOf(ends[0]));
    }
    return others.map((other) => other.packets.splice(0).filter((packet) => !isMark(packet)));
  };
  const close = async () => {
    for (const peer of peers) await peer[Symbol.asyncDispose]();
    lan.close();
  };
  return { peers, send, [Symbol.asyncDispose]: close };
}

/** Whether a switch finds a checksum where it can be, behind a tag that comes or goes. */
function isPlaced(packet: Buffer): boolean {
  if (((packet[0] as number) & 1) === 0) return true;
  const start = packet.readUInt16LE(6);
  return start <= 0xfffb && (!isTagged(packet) || start >= 18);
}

/** Whether a packet that is these frames is still one for who takes such: Linux has a limit. */
const isLarge = (packet: Buffer, { length }: Buffer[]) =>
  length > 0 && packet[1] !== 0 && (packet[1] !== 5 || length <= 128);

const isShort = (frame: Buffer) => frame.length <= 1514;

test("at a switch: for who takes nothing, checksums, all: as the reference has it", async () => {
  const features = [SENDS, [], PARTIAL, WHOLE];
  await using lan = await openLan([{}, {}, {}, {}], features, [undefined]);
  const [, plain] = lan.peers as [NetPeer, NetPeer];
  let long = 0;
  const property = fc.asyncProperty(kinds, damages, async (kind, damage) => {
    const packet = packetOf(kind, damage);
    const isHalfTag = packet.length < 30 && isTagged(packet);
    const frames = isPlaced(packet) && !isHalfTag ? (framesOf(packet) ?? []) : [];
    const got = await lan.send(piecesOf(packet, damage));
    const [none, partial, whole] = got as [Buffer[], Buffer[], Buffer[]];
    long += frames.filter((frame) => !isShort(frame)).length;
    expectFrames(
      none.map((one) => one.subarray(12)),
      frames.filter(isShort),
    );
    expect(none.every((one) => one[0] === 0 && one[1] === 0)).toBe(true);
    expectFrames(partial.map(plainOf), frames);
    expect(partial.every((one) => one[1] === 0)).toBe(true);
    if (!isLarge(packet, frames)) expectFrames(whole.map(plainOf), frames);
    else {
      expectFrames(
        whole.map((one) => one.subarray(12)),
        [packet.subarray(12)],
      );
      expectFrames(framesOf(whole[0] as Buffer) ?? [], frames);
    }
  });
  await fc.assert(property, RUNS);
  expect(plain.empty).toBe(long); // what is longer than its buffers is dropped,
  expect(plain.errors(0)).toEqual({}); // and no fault of its own
});

/** The frame without its tag. */
const untag = (frame: Buffer) => Buffer.concat([frame.subarray(0, 12), frame.subarray(16)]);

test("from a trunk: each VLAN's frames to its ports, with their tag and without", async () => {
  const places = [{ trunk: [5, 6] }, { vlan: 5 }, { trunk: [6, 7] }, { trunk: [5, 6] }];
  await using lan = await openLan(places, [SENDS, PARTIAL, PARTIAL, WHOLE], [5, 6]);
  const vlans = fc.constantFrom(5, 6, 7);
  const property = fc.asyncProperty(kinds, damages, vlans, async (kind, damage, vlan) => {
    const tag = vlan + ((damage.tag ?? 0) & 0xf000);
    const packet = packetOf(kind, { ...damage, tag });
    const isFrame = packet.length >= 30 && isTagged(packet) && isPlaced(packet);
    const id = isFrame ? packet.readUInt16BE(26) & 0xfff : 0;
    const frames = id === 5 || id === 6 ? (framesOf(packet) ?? []) : [];
    const got = await lan.send(piecesOf(packet, damage));
    const [five, six, both] = got as [Buffer[], Buffer[], Buffer[]];
    expectFrames(five.map(plainOf), id === 5 ? frames.map(untag) : []);
    expectFrames(six.map(plainOf), id === 6 ? frames : []);
    const isOne = isLarge(packet, frames);
    const whole = isOne ? [packet.subarray(12)] : frames;
    expectFrames(
      both.map((one) => (isOne ? one.subarray(12) : plainOf(one))),
      whole,
    );
  });
  await fc.assert(property, RUNS);
});
