// The available ring and the used ring: what is stored, and in what order. virtio 1.3, 2.7.6,
// 2.7.8, 2.7.13.

import { describe, expect, test } from "vitest";
import { BlkDriver } from "#dist/driver/blk.js";
import { CustomDriver } from "#dist/driver/custom.js";
import { blk } from "#dist/index.js";
import {
  VIRTIO_BLK_T_FLUSH,
  VIRTIO_BLK_T_GET_ID,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
} from "#dist/spec/virtio-blk.js";
import {
  VIRTQ_DESC_BYTES,
  VIRTQ_DESC_F_WRITE,
  VIRTQ_RING_FLAGS,
  VIRTQ_RING_IDX,
  VIRTQ_USED_ELEM_BYTES,
  VIRTQ_USED_ELEM_LEN,
} from "#dist/spec/virtio-ring.js";
import { blkHeader, pattern } from "../helpers/blk-raw.js";
import { rejected } from "../helpers/devices.js";
import { openPlayed } from "../helpers/played-device.js";
import { MODES, RawGuest, type RawPiece } from "../helpers/raw-guest.js";
import {
  KINDS,
  makePair,
  offer,
  type Pair,
  pieces,
  use,
  usedElement,
  wind,
} from "../helpers/split-pair.js";

const availIdx = ({ f }: Pair) => f.avail + VIRTQ_RING_IDX;
const usedIdx = ({ f }: Pair) => f.used + VIRTQ_RING_IDX;

describe.each(KINDS)("rings, %s", (kind) => {
  test.each([false, true])("2.7.6.1 driver: never takes avail.idx back", (eventIdx) => {
    const pair = makePair(kind, { num: 4, eventIdx });
    const { f, driver, device, trace } = pair;
    wind(pair, 65500);
    let old = 65500;
    for (let round = 0; round < 60; round++) {
      offer(pair, 1 + (round % 3));
      f.setChain(0, 0, [], []); // a mistake, which is not added
      driver.addBufs(1);
      driver.publish();
      driver.kickNeeded();
      const got = device.getDescs(8);
      device.addUsedN(got);
      driver.enableCall();
      device.publish();
      driver.getBufs(8);
      driver.disableCall();
    }
    for (const { value, bytes } of trace.stores(availIdx(pair), 2)) {
      expect(bytes).toBe(2);
      const steps = (Number(value) - old) & 0xffff;
      expect(steps, `${old} to ${value}`).toBeGreaterThan(0);
      expect(steps, `${old} to ${value}`).toBeLessThanOrEqual(f.num);
      old = Number(value);
    }
    expect(f.availIdx).toBe((65500 + 20 * (1 + 2 + 3)) & 0xffff);
  });

  test("2.7.8.2 device: sets len before it updates idx", () => {
    const pair = makePair(kind, { num: 4 });
    const { f, device, trace } = pair;
    wind(pair, 65534);
    for (let round = 0; round < 3; round++) {
      offer(pair, 3);
      expect(device.getDescs(3)).toBe(3);
      const first = f.usedIdx;
      const slots = [0, 1, 2].map((i) => (first + i) & 3);
      for (const slot of slots) f.setUsedElem(slot, 0xdead, 0xdead);
      for (let i = 0; i < 3; i++) f.setRecord("device", i, { usedBytes: 3 + i });
      const done = trace.during(() => {
        // One by one, and all in a row.
        if (round === 1) for (let i = 0; i < 3; i++) device.addUsed(f.record("device", i).head, 3);
        else device.addUsedN(3);
        expect(f.usedIdx, "not before it is published").toBe(first);
        device.publish();
      });
      const order = done.trace.all.filter(({ op }) => op === "store");
      const [idx, ...more] = done.trace.stores(usedIdx(pair), 2);
      expect(more).toEqual([]);
      expect(idx).toMatchObject({ value: (first + 3) & 0xffff, isAtomic: true });
      for (const [i, slot] of slots.entries()) {
        const lens = done.trace.stores(usedElement(f, slot) + VIRTQ_USED_ELEM_LEN, 4);
        expect(lens.map(({ value }) => value)).toEqual([round === 1 ? 3 : 3 + i]);
        const elements = done.trace.stores(usedElement(f, slot), VIRTQ_USED_ELEM_BYTES);
        for (const one of elements) {
          expect(order.indexOf(one)).toBeLessThan(order.indexOf(idx as (typeof order)[0]));
        }
      }
      pair.driver.getBufs(3);
    }
  });

  test("2.7.13.3.1 driver: lets idx go out after all that it exposes", () => {
    for (const indirectCapacity of [0, 4]) {
      const pair = makePair(kind, { indirect: indirectCapacity > 0, indirectCapacity });
      const { f, driver, trace } = pair;
      const [a, b, c] = pieces(f, [8, 8, 8]) as [P, P, P];
      f.setChain(0, 0, [a, b], [c]);
      f.setChain(1, 3, [a], []);
      const done = trace.during(() => {
        expect(driver.addBufs(2)).toBe(2);
        expect(f.availIdx).toBe(0);
        driver.publish();
      });
      const exposed = done.trace.stores(f.guestStart, f.end - f.guestStart);
      const idx = exposed.at(-1);
      expect(idx).toMatchObject({ at: availIdx(pair), bytes: 2, value: 2, isAtomic: true });
      const inTable = (at: number) => f.tables !== 0 && at >= f.tables && at < f.data;
      const inRing = (at: number) => at < f.desc + f.num * VIRTQ_DESC_BYTES;
      const before = exposed.slice(0, -1).map(({ at }) => at);
      expect(before.some(inRing)).toBe(true);
      expect(before.some(inTable)).toBe(indirectCapacity > 0);
      expect(before.filter((at) => at >= f.avail + 4 && at < f.used)).toHaveLength(2);
    }
  });

  test.each([false, true])(
    "2.7.13.4.1 driver: looks at flags or avail_event after idx is out",
    (eventIdx) => {
      const pair = makePair(kind, { eventIdx });
      const { f, driver, trace } = pair;
      f.setChain(0, 0, pieces(f, [8]), []);
      const done = trace.during(() => {
        driver.addBufs(1);
        driver.publish();
        driver.kickNeeded();
      });
      const event = f.used + 4 + f.num * VIRTQ_USED_ELEM_BYTES;
      const asked = done.trace.loads(eventIdx ? event : f.used + VIRTQ_RING_FLAGS, 2);
      expect(asked).toHaveLength(1);
      expect(asked[0]).toMatchObject({ isAtomic: true });
      const [out] = done.trace.stores(availIdx(pair), 2);
      expect(out).toMatchObject({ isAtomic: true });
      const order = done.trace.all;
      expect(order.indexOf(out as Acc)).toBeLessThan(order.indexOf(asked[0] as Acc));

      // So what the device changes in between counts.
      use(pair, 1);
      driver.kickNeeded();
      offer(pair, 1);
      if (eventIdx) f.availEvent = f.availIdx - 1;
      else f.usedFlags = 1;
      expect(driver.kickNeeded()).toBe(eventIdx);
    },
  );
});

type P = ReturnType<typeof pieces>[number];
type Acc = Pair["trace"]["all"][number];

/** Requests whose answer has every form: all, part, nothing of the room is data. */
const ANSWERED: readonly RawPiece[][] = [
  [blkHeader(VIRTIO_BLK_T_IN, 0), 512, 1],
  [blkHeader(VIRTIO_BLK_T_IN, 0), 100, 413],
  [blkHeader(VIRTIO_BLK_T_IN, 1 << 30), 512, 1],
  [blkHeader(VIRTIO_BLK_T_IN, 0), 100, 1],
  [blkHeader(VIRTIO_BLK_T_IN, 0), 1],
  [blkHeader(VIRTIO_BLK_T_OUT, 0), pattern(512), 1],
  [blkHeader(VIRTIO_BLK_T_OUT, 0), pattern(512), 64, 1],
  [blkHeader(VIRTIO_BLK_T_FLUSH), 7, 1],
  [blkHeader(VIRTIO_BLK_T_GET_ID), 20, 1],
  [blkHeader(VIRTIO_BLK_T_GET_ID), 60, 1],
  [blkHeader(VIRTIO_BLK_T_GET_ID), 5, 1],
  [blkHeader(77), 512, 1],
  [new Uint8Array(3), 40],
];

describe.each(MODES)("a disk's answers: $run, $ring ring", (mode) => {
  test("2.7.8.2 device: has written len writable bytes before it updates idx", async () => {
    const spec = blk({ memoryBytes: 1 << 20, id: "here" });
    await using guest = await RawGuest.open(spec, mode);
    const { ring, shared } = guest;
    for (const [i, parts] of ANSWERED.entries()) {
      const descs = parts.map((piece) => guest.describe(piece));
      guest.takeWritten();
      const room = descs
        .filter(({ flags }) => flags & VIRTQ_DESC_F_WRITE)
        .map(({ addr, len }) => ({ at: Number(addr - guest.at(0)), len }));
      const look = () => room.flatMap(({ at, len }) => [...shared.bytes.subarray(at, at + len)]);
      let seen: number[] | undefined;
      const { store } = Atomics;
      // The TypeScript ring in this thread: what was there when idx went out.
      Atomics.store = ((array: Uint16Array, index: number, value: number) => {
        if (array.BYTES_PER_ELEMENT * index === ring.used + VIRTQ_RING_IDX) seen = look();
        return store(array, index, value);
      }) as typeof Atomics.store;
      const before = ring.usedIdx;
      ring.send(ring.link(descs));
      // With a thread: what was there as soon as idx was seen, without a turn of the event loop.
      if (guest.isInline) guest.runAll();
      else while (ring.usedIdx === before);
      seen ??= look();
      Atomics.store = store;
      const { length } = await ring.next();
      const unwritten = seen.indexOf(0xaa);
      const written = unwritten === -1 ? seen.length : unwritten;
      expect(length, `answer ${i}`).toBeLessThanOrEqual(written);
      expect(seen.slice(0, length)).toEqual(look().slice(0, length));
    }
  });
});

describe.each(KINDS)("drivers, %s ring", (ring) => {
  test("2.7.8.3 driver: makes nothing of what lies past len", async () => {
    await using device = await openPlayed(CustomDriver.probe, { ring });
    for (const [i, length] of [0, 1, 15, 16].entries()) {
      const request = device.driver.request(0, new Uint8Array(4), 16);
      await device.sent(i + 1);
      const room = device.used.lastBuffer(i % device.used.num);
      for (let at = 0; at < 16; at++) device.used.view.setUint8(room + at, 0x60 + at);
      device.used.answer(device.used.availHead(i % device.used.num), length);
      const bytes = Uint8Array.from({ length }, (_, at) => 0x60 + at);
      expect(await request).toEqual(bytes);
    }

    // A disk's status is the last byte: it says nothing when the length does not reach it.
    const spec = blk({ nullBytes: 1 << 20 });
    await using disk = await openPlayed(BlkDriver.probe, { ring, spec });
    for (const [i, length] of [0, 1, 512].entries()) {
      const read = rejected("EIO", disk.driver.read(0n, 512));
      await disk.sent(i + 1);
      disk.used.view.setUint8(disk.used.lastBuffer(i), 0);
      disk.used.answer(disk.used.availHead(i), length);
      await read;
    }
    const read = disk.driver.read(0n, 512);
    await disk.sent(4);
    disk.used.view.setUint8(disk.used.lastBuffer(3), 0);
    disk.used.answer(disk.used.availHead(3), 513);
    expect(await read).toHaveLength(512);
  });
});
