// What a guest may put in its rings: it hurts itself at most, and no other port.

import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test, vi } from "vitest";
import { NET_PACKET_BYTES_MAX } from "#dist/devices/net-pipe.js";
import { Kernel, net, Switch } from "#dist/index.js";
import { VIRTIO_NET_F_MRG_RXBUF } from "#dist/spec/virtio-net.js";
import { Random } from "../fuzz/random.js";
import { frameOf, station } from "../helpers/net-frames.js";
import { bit, RawGuest, type RawPiece, VERSION_1, WAYS } from "../helpers/raw-guest.js";
import { seedOf } from "../helpers/seed.js";

const HEADER = Buffer.alloc(12);
const ALL = "ff:ff:ff:ff:ff:ff";
const FRAME = frameOf(ALL, station(1), 7);
const PACKET = Buffer.concat([HEADER, FRAME]);
const MERGEABLE = VERSION_1 | bit(VIRTIO_NET_F_MRG_RXBUF);

/** A raw guest at a switch, and a good neighbour with what it has got. */
async function open(mode: object, features = VERSION_1) {
  const lan = new Switch();
  const kernel = new Kernel();
  const process = kernel.spawn({ memoryBytes: 8 << 20 });
  const device = await process.open(net({ switch: lan.port() }));
  const neighbour = await device.driver();
  const got: Buffer[] = [];
  neighbour.onPacket = (frame) => got.push(Buffer.from(frame));
  const port = lan.port();
  const options = { features, queues: 2, ...mode };
  const guest = await RawGuest.open(net({ switch: port }), options);
  const [rx, tx] = guest.rings;
  if (!rx || !tx) throw new Error("two rings");
  return {
    ...{ lan, port, neighbour, got, guest, rx, tx },
    [Symbol.asyncDispose]: async () => {
      await guest[Symbol.asyncDispose]();
      await process.exit();
      lan.close();
    },
  };
}

const TX: [string, RawPiece[]][] = [
  ["shorter than the header", [Buffer.alloc(11)]],
  ["no frame", [Buffer.alloc(12)]],
  ["shorter than a frame's header", [Buffer.alloc(25)]],
  ["writable", [64]],
  ["a writable piece behind it", [PACKET, 64]],
  ["longer than any packet", [Buffer.alloc(60_000), Buffer.alloc(NET_PACKET_BYTES_MAX - 59_999)]],
];

describe.each(WAYS)("$run, $ring ring", (mode) => {
  test.each(TX)("to the device: %s: used, counted, and goes nowhere", async (_, pieces) => {
    await using lan = await open(mode);
    expect((await lan.tx.request(pieces)).length).toBe(0);
    expect(lan.guest.dev.errorCounts()).toEqual({ 1: { VRING_E_REQUEST: 1 } });
    await lan.tx.request([PACKET]);
    await expect.poll(() => lan.got).toEqual([FRAME]);
    expect(lan.port.counts()).toMatchObject({ received: 1 });
  });

  test("a header over many descriptors, a frame in single bytes, the longest packet", async () => {
    await using lan = await open(mode);
    await lan.tx.request(
      [...PACKET]
        .map((byte) => Buffer.from([byte]))
        .slice(0, 60)
        .concat(PACKET.subarray(60)),
    );
    await lan.tx.request([HEADER.subarray(0, 5), HEADER.subarray(5), FRAME]);
    const long = Buffer.concat([PACKET, Buffer.alloc(NET_PACKET_BYTES_MAX - PACKET.length)]);
    await lan.tx.request([long.subarray(0, 40_000), long.subarray(40_000)]);
    await expect.poll(() => lan.got.length).toBe(3);
    expect(lan.got.slice(0, 2)).toEqual([FRAME, FRAME]);
    expect(lan.got[2]).toEqual(long.subarray(12));
    expect(lan.guest.dev.errorCounts()).toEqual({});
  });

  test("what a header asks for and was not negotiated is not passed on", async () => {
    await using lan = await open(mode);
    await lan.tx.request([Buffer.concat([Buffer.alloc(12, 0xff), FRAME])]);
    await expect.poll(() => lan.got).toEqual([FRAME]);
    const asked = lan.rx.request([100]);
    await lan.neighbour.send(frameOf(ALL, station(0), 1));
    const { length, written } = await asked;
    expect(length).toBe(72);
    expect([...written.subarray(0, 12)]).toEqual([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
  });

  test.each([
    ["no room for a header", [11], false],
    ["no room for the packet", [60], false],
    ["readable", [Buffer.alloc(100)], false],
    ["a readable piece before it", [Buffer.alloc(4), 100], false],
    ["no room for a header, mergeable", [11], true],
  ] as [string, RawPiece[], boolean][])(
    "a buffer to the driver: %s",
    async (_, pieces, isMergeable) => {
      await using lan = await open(mode, isMergeable ? MERGEABLE : VERSION_1);
      const asked = lan.rx.request(pieces);
      await lan.neighbour.send(frameOf(ALL, station(0), 1));
      expect((await asked).length).toBe(0);
      expect(lan.guest.dev.errorCounts()).toEqual({ 0: { VRING_E_REQUEST: 1 } });
      const again = lan.rx.request([100]);
      await lan.neighbour.send(frameOf(ALL, station(0), 2));
      expect((await again).length).toBe(72);
    },
  );

  test("5.1.6.3.1: a frame longer than what a guest must take is no fault of its own", async () => {
    await using lan = await open(mode);
    const long = Buffer.concat([frameOf(ALL, station(9), 1), Buffer.alloc(2000)]);
    await using other = await RawGuest.open(net({ switch: lan.lan.port() }), { queues: 2 });
    const asked = lan.rx.request([1526]);
    await other.rings[1]?.request([HEADER, long]);
    expect((await asked).length).toBe(0);
    expect(lan.guest.dev.errorCounts()).toEqual({});
    expect(lan.port.counts().discarded).toBe(1);
    const again = lan.rx.request([1526]);
    await lan.neighbour.send(frameOf(ALL, station(0), 2));
    expect((await again).length).toBe(72);
  });

  test("a packet of more buffers than the ring has: dropped at once, they go back", async () => {
    await using lan = await open({ ...mode, num: 4 }, MERGEABLE);
    for (let i = 0; i < 4; i++) lan.rx.send(lan.rx.link([lan.guest.describe(40)]));
    // Others are waited for for a second: in this thread, it never ends.
    const now = lan.guest.isInline ? performance.now() : undefined;
    using clock = vi.spyOn(performance, "now");
    if (now !== undefined) clock.mockReturnValue(now);
    await lan.neighbour.send(Buffer.concat([frameOf(ALL, station(0), 1), Buffer.alloc(1000)]));
    for (let i = 0; i < 4; i++) expect((await lan.rx.next()).length).toBe(0);
    expect(lan.port.counts().discarded).toBe(1);
  });

  test("5.1.6.4: a packet in several buffers is used at once, and says how many", async () => {
    await using lan = await open(mode, MERGEABLE);
    const give = (bytes: number) => lan.rx.send(lan.rx.link([lan.guest.describe(bytes)]));
    give(30);
    give(12);
    await lan.neighbour.send(frameOf(ALL, station(0), 1));
    await sleep(20);
    expect(lan.rx.unseen).toBe(0);
    give(100);
    const lengths = [await lan.rx.next(), await lan.rx.next(), await lan.rx.next()];
    expect(lengths.map(({ length }) => length)).toEqual([30, 12, 30]);
    const written = lan.guest.takeWritten();
    expect(written[10]).toBe(3);
    expect(Buffer.from(written.subarray(12, 72))).toEqual(frameOf(ALL, station(0), 1));
  });

  test("buffers that never come: the packet is dropped, those it had go back", async () => {
    await using lan = await open(mode, MERGEABLE);
    lan.rx.send(lan.rx.link([lan.guest.describe(30)]));
    await lan.neighbour.send(frameOf(ALL, station(0), 1));
    expect((await lan.rx.next()).length).toBe(0);
    expect(lan.port.counts().discarded).toBe(1);
  });
});

test("any bytes in the rings: the neighbour's packets arrive all the same", async () => {
  const seed = seedOf("hostile net");
  const random = new Random(seed);
  await using lan = await open({ memoryBytes: 8 << 20 }, MERGEABLE);
  const third = new Kernel().spawn({ memoryBytes: 8 << 20 });
  const device = await third.open(net({ switch: lan.lan.port() }));
  const other = await device.driver();
  /** By their numbers: what the guest sends may lie where one of them has come to it. */
  const received = new Set<number>();
  other.onPacket = (frame) => {
    if (frame[6] === 2 && frame[11] === 0xee) received.add(Buffer.from(frame).readUInt16BE(14));
  };
  for (let i = 0; i < 300; i++) {
    const ring = lan.guest.rings[random.below(2)] as typeof lan.rx;
    const pieces = Array.from({ length: 1 + random.below(4) }, () => ({
      addr: lan.guest.describe(1 + random.below(2000)).addr + BigInt(random.below(3)),
      len: random.below(3000),
      flags: random.below(4) === 0 ? random.below(8) : (1 - lan.guest.rings.indexOf(ring)) * 2,
      next: random.below(70),
    }));
    ring.send(ring.link(pieces));
    await lan.neighbour.send(frameOf(ALL, station(0xee), i));
  }
  await expect.poll(() => received.size, { message: `FC_SEED=${seed}` }).toBe(300);
  await third.exit();
});
