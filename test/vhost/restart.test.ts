// A device that is stopped goes on where it stood. virtio 1.3, 2.7.6 The Virtqueue Available Ring.

import { describe, expect, test } from "vitest";
import { blk } from "#dist/index.js";
import { inflightRegionBytes } from "#dist/memory/vring.js";
import { VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT } from "#dist/spec/virtio-blk.js";
import { VIRTIO_F_RING_PACKED } from "#dist/spec/virtio-config.js";
import { blkHeader, blkRequest, pattern } from "../helpers/blk-raw.js";
import { rejected } from "../helpers/devices.js";
import { bit, MODES, RawGuest, VERSION_1 } from "../helpers/raw-guest.js";

const spec = blk({ memoryBytes: 65536, queues: 2 });

describe.each(MODES)("$run, $ring ring", (mode) => {
  test("start, stop, start: the position is kept, and what came in between is served", async () => {
    await using guest = await RawGuest.open(spec, { ...mode, num: 4 });
    const { dev, ring } = guest;
    const writes = async (count: number, seed: number) => {
      for (let i = 0; i < count; i++) {
        const { status } = await blkRequest(ring, VIRTIO_BLK_T_OUT, i, pattern(512, seed + i));
        expect(status).toBe(0);
      }
    };
    await writes(5, 0);
    await dev.stop();
    expect(dev.getVringBase(0)).toBe(5);
    const chain = ring.link(
      [blkHeader(VIRTIO_BLK_T_IN, 4), 512, 1].map((piece) => guest.describe(piece)),
    );
    ring.send(chain); // nobody is there
    await dev.start();
    expect(await ring.next()).toEqual({ head: chain, length: 513 });
    expect(guest.takeWritten().subarray(0, 512)).toEqual(Buffer.from(pattern(512, 4)));
    await writes(3, 10);
    await dev.stop();
    expect([dev.getVringBase(0), ring.usedIdx]).toEqual([9, 9]);
  });

  test("a ring that begins near 65535 goes round", async () => {
    await using guest = await RawGuest.open(spec, { ...mode, queues: 1 });
    const { dev } = guest;
    await dev.stop();
    const ring = guest.addRing(0, 4, 65533);
    dev.setVringBase(0, 65533);
    await dev.start();
    for (let i = 0; i < 8; i++) {
      expect((await blkRequest(ring, VIRTIO_BLK_T_OUT, i, pattern(512, i))).status).toBe(0);
    }
    await dev.stop();
    expect([dev.getVringBase(0), ring.usedIdx]).toEqual([5, 5]);
  });

  test("while it is stopped nothing is served, and the rings may move", async () => {
    await using guest = await RawGuest.open(spec, { ...mode, queues: 2 });
    const { dev } = guest;
    await blkRequest(guest.ring, VIRTIO_BLK_T_OUT, 0, pattern(512));
    await dev.stop();
    const old = guest.ring;
    old.offer(0);
    dev.worker.kick(0);
    const ring = guest.addRing(0, 32, 1);
    dev.setVringBase(0, 1);
    await dev.start();
    const { data } = await blkRequest(ring, VIRTIO_BLK_T_IN, 0, undefined, 512);
    expect(data).toEqual(Buffer.from(pattern(512)));
    expect(old.usedIdx).toBe(1);
  });

  test("a queue without addresses is not started; the other one is", async () => {
    await using guest = await RawGuest.open(spec, { ...mode, queues: 0 });
    await guest.dev.stop();
    const ring = guest.addRing(1, 8);
    await guest.dev.start();
    guest.dev.worker.kick(0);
    expect((await blkRequest(ring, VIRTIO_BLK_T_OUT, 0, pattern(512))).status).toBe(0);
    await guest.dev.stop();
    expect([guest.dev.getVringBase(0), guest.dev.getVringBase(1)]).toEqual([0, 1]);
  });

  test("error counts are the device's history: stop and reset keep them", async () => {
    await using guest = await RawGuest.open(spec, mode);
    const { dev, ring } = guest;
    const bad = async () => {
      ring.send(ring.link([guest.describe(1)]));
      expect((await ring.next()).length).toBe(0);
      guest.takeWritten();
    };
    await bad();
    await dev.stop();
    expect(guest.errors()).toEqual({ VRING_E_REQUEST: 1 });
    await dev.start();
    await bad();
    expect(guest.errors()).toEqual({ VRING_E_REQUEST: 2 });
    await dev.reset();
    expect(guest.errors()).toEqual({ VRING_E_REQUEST: 2 });
  });

  test("a fresh in-flight region: no base that a packed ring can't be at", async () => {
    const features = VERSION_1 | bit(VIRTIO_F_RING_PACKED);
    await using guest = await RawGuest.open(spec, { ...mode, features, num: 8 });
    const { dev, shared } = guest;
    await dev.stop();
    const bytes = inflightRegionBytes(8, true);
    const region = shared.allocHost(bytes);
    dev.setVringInflight(0, region);
    for (const base of [0x1234_5678, 5, 0x8003_8000, 0x7fff_7fff, 0x8000_0000]) {
      shared.bytes.fill(0, region, region + bytes);
      dev.setVringBase(0, base);
      await rejected("EINVAL", dev.start());
    }
    dev.setVringBase(0, 0x8003_8003);
    shared.bytes.fill(0, region, region + bytes);
    await dev.start();
  });

  test("2.4: what was in flight at a reset is never written to any more", async () => {
    await using guest = await RawGuest.open(spec, mode);
    const { dev, ring } = guest;
    await blkRequest(ring, VIRTIO_BLK_T_OUT, 0, pattern(512));
    await dev.reset();
    const { shared } = guest;
    const before = Buffer.from(shared.bytes.slice(ring.desc, ring.desc + 8192));
    ring.offer(0);
    dev.worker.kick(0);
    await dev.readConfig(); // the worker has made a pass
    const after = Buffer.from(shared.bytes.slice(ring.desc, ring.desc + 8192));
    after.set(
      before.subarray(ring.avail - ring.desc, ring.avail - ring.desc + 8),
      ring.avail - ring.desc,
    );
    expect(after.equals(before)).toBe(true);
  });
});
