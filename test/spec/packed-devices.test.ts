// The device's half of a packed ring. virtio 1.3, 2.8.12, 2.8.15, 2.8.18.

import { describe, expect, test } from "vitest";
import { VRING_E_UNAVAILABLE } from "#dist/spec/ring-state.js";
import {
  VIRTQ_DESC_BYTES,
  VIRTQ_DESC_F_AVAIL,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_USED,
  VIRTQ_DESC_F_WRITE,
} from "#dist/spec/virtio-ring.js";
import {
  availableMarks,
  descAt,
  descStores,
  HandDriver,
  MARKS,
  makePacked,
  readPacked,
  usedMarks,
  writePacked,
} from "../helpers/packed-peers.js";
import type { Access } from "../helpers/recorded-ring.js";
import { KINDS, type Pair, pieces } from "../helpers/split-pair.js";

/** Pops what is there; id and number of descriptors of each list. */
function pop({ f, device }: Pair, max = 16): { id: number; count: number; head: number }[] {
  const got = device.getDescs(max);
  return Array.from({ length: Math.max(0, got) }, (_, i) => {
    const { head } = f.record("device", i);
    return { id: head & 0xffff, count: head >>> 16, head };
  });
}

/** What a used descriptor says. */
function usedAt({ f }: Pair, slot: number): { id: number; len: number; marks: number } {
  const { id, len, flags } = readPacked(f, descAt(f, slot));
  return { id, len, marks: flags & MARKS };
}

describe.each(KINDS)("the device's packed ring, %s", (kind) => {
  test.each([3, 5, 8])("2.8.12 device: begins with lists in the order of the ring", (num) => {
    const pair = makePacked(kind, { num });
    const driver = new HandDriver(pair.f);
    for (let round = 0; round < 12; round++) {
      // Ids in no order, and buffers too: only the place in the ring counts.
      const ids = [2, 0, 1].map((id) => (id + round) % num);
      for (const id of ids) driver.offerSome(id, 1);
      const popped = round % 2 === 0 ? pop(pair) : [1, 1, 1].flatMap((max) => pop(pair, max));
      expect(popped.map(({ id }) => id)).toEqual(ids);
      for (const { head } of popped) expect(pair.device.addUsed(head, 0)).toBe(0);
      pair.device.publish();
    }
  });

  test.each([false, true])(
    "2.8.12 device: begins to write used descriptors in the order of completion",
    (isPublishedOnce) => {
      const num = 7;
      const pair = makePacked(kind, { num });
      const { f, device } = pair;
      const driver = new HandDriver(f);
      for (let round = 0; round < 10; round++) {
        const begin = driver.passed;
        for (const [id, count] of [2, 1, 3].entries()) driver.offerSome(id, count);
        const popped = pop(pair);
        expect(popped).toMatchObject([
          { id: 0, count: 2 },
          { id: 1, count: 1 },
          { id: 2, count: 3 },
        ]);
        let at = begin;
        const order = [
          [2, 0, 1],
          [1, 2, 0],
          [0, 1, 2],
        ][round % 3] as number[];
        const places: [number, number][] = [];
        for (const id of order) {
          const { head, count } = popped[id] as (typeof popped)[0];
          places.push([at, id]);
          expect(device.addUsed(head, 10 + id)).toBe(0);
          if (!isPublishedOnce) device.publish();
          at += count;
        }
        device.publish();
        for (const [place, id] of places) {
          const marks = usedMarks(Math.floor(place / num));
          expect(usedAt(pair, place % num)).toEqual({ id, len: 10 + id, marks });
        }
      }
    },
  );

  test("2.8.15 device: writes to no buffer that it is given to read", () => {
    const pair = makePacked(kind, { num: 8, indirect: true, indirectCapacity: 4, eventIdx: true });
    const { f, device, driver, trace } = pair;
    const all = pieces(f, [8, 8, 8, 8, 8]);
    f.setChain(0, 0, all.slice(0, 3), all.slice(3, 4)); // in a table
    f.setChain(1, 4, all.slice(4), []);
    expect(driver.addBufs(2)).toBe(2);
    driver.publish();
    const hand = new HandDriver(f);
    hand.passed = 2;
    hand.offer(5, [{ addr: 0n, len: 16, flags: 0 }]); // nowhere
    const done = trace.during(() => {
      const popped = pop(pair);
      expect(popped).toHaveLength(2);
      for (const { head } of popped) device.addUsed(head, 1);
      device.publish();
      device.callNeeded();
      device.disableKick();
      device.enableKick();
    });
    const isOurs = ({ at, bytes }: Access) => {
      const isDesc = at >= f.desc && at + bytes <= f.desc + 8 * VIRTQ_DESC_BYTES;
      return isDesc || (at >= f.used && at + bytes <= f.used + 4);
    };
    const toGuest = done.trace.stores(f.guestStart, f.end - f.guestStart);
    expect(toGuest.length).toBeGreaterThan(0);
    expect(toGuest.filter((one) => !isOurs(one))).toEqual([]);
    expect(trace.stores(f.data, 4096)).toEqual([]);
  });

  test.each([4, 5])("2.8.15 device: uses no descriptor before it has seen AVAIL change", (num) => {
    const marks = [0, VIRTQ_DESC_F_AVAIL, VIRTQ_DESC_F_USED, MARKS];
    const pair = makePacked(kind, { num });
    const { f, device } = pair;
    const driver = new HandDriver(f);
    for (let turn = 0; turn < 4 * num; turn++) {
      const { slot, lap } = driver;
      const desc = { addr: f.guestOf(f.data), len: 8, id: 1 };
      for (const wrong of marks.filter((flags) => flags !== availableMarks(lap))) {
        writePacked(f, descAt(f, slot), { ...desc, flags: wrong });
        const before = f.bytes.slice(f.desc, f.desc + num * VIRTQ_DESC_BYTES);
        expect(pop(pair), `lap ${lap}, flags ${wrong}`).toEqual([]);
        expect(device.availLen()).toBe(0);
        device.publish();
        expect(f.bytes.slice(f.desc, f.desc + num * VIRTQ_DESC_BYTES)).toEqual(before);
      }
      driver.offerSome(1, 1);
      const [only, ...more] = pop(pair);
      expect([only?.id, more]).toEqual([1, []]);
      expect(pop(pair), "not twice").toEqual([]);
      device.addUsed(only?.head ?? 0, 0);
      device.publish();
      expect(pop(pair), "not when it is used").toEqual([]);
    }
    // The whole ring is the device's: what stands behind the last one is not made available anew.
    for (let id = 0; id < num; id++) driver.offerSome(id, 1);
    expect(pop(pair)).toHaveLength(num);
    expect(pop(pair)).toEqual([]);
    expect(device.availLen()).toBe(0);
  });

  test("2.8.15 device: uses no descriptor before it has seen AVAIL change", () => {
    // In the middle of a list.
    const pair = makePacked(kind, { num: 4 });
    const { f, device } = pair;
    const desc = { addr: f.guestOf(f.data), len: 8, id: 1 };
    const first = VIRTQ_DESC_F_AVAIL | VIRTQ_DESC_F_NEXT;
    for (const flags of [0, VIRTQ_DESC_F_USED, MARKS]) {
      writePacked(f, descAt(f, 1), { ...desc, flags });
      writePacked(f, descAt(f, 0), { ...desc, flags: first });
      const before = f.bytes.slice(f.desc, f.desc + 4 * VIRTQ_DESC_BYTES);
      expect(device.getDescs(4)).toBe(-VRING_E_UNAVAILABLE);
      device.publish();
      expect(f.bytes.slice(f.desc, f.desc + 4 * VIRTQ_DESC_BYTES)).toEqual(before);
    }
    writePacked(f, descAt(f, 1), { ...desc, flags: VIRTQ_DESC_F_AVAIL });
    expect(pop(pair)).toMatchObject([{ id: 1, count: 2 }]);
  });

  test.each([false, true])(
    "2.8.15 device: leaves a descriptor alone once USED has changed",
    (isOneCall) => {
      const num = 5;
      const pair = makePacked(kind, { num, eventIdx: true });
      const { f, device, trace } = pair;
      const driver = new HandDriver(f);
      for (let round = 0; round < 8; round++) {
        const begin = driver.passed;
        for (const [id, count] of [2, 1, 1].entries()) driver.offerSome(id, count);
        const popped = pop(pair);
        for (let i = 0; i < 3; i++) f.setRecord("device", i, { usedBytes: 1 + i });
        const done = trace.during(() => {
          if (isOneCall) expect(device.addUsedN(3)).toBe(0);
          else for (const [i, { head }] of popped.entries()) device.addUsed(head, 1 + i);
          device.publish();
          device.publish();
          device.callNeeded();
          device.disableKick();
          device.enableKick();
          expect(device.getDescs(8)).toBe(0);
        });
        const stores = descStores(f, done.trace.all);
        const places = [begin, begin + 2, begin + 3];
        expect(new Set(stores.map(({ slot }) => slot))).toEqual(
          new Set(places.map((place) => place % num)),
        );
        for (const place of places) {
          const mine = stores.filter(({ slot }) => slot === place % num);
          const last = mine.at(-1)?.flags ?? -1;
          expect(last & MARKS, "the flags come last").toBe(usedMarks(Math.floor(place / num)));
          expect(mine.filter(({ flags }) => flags !== undefined)).toHaveLength(1);
        }
        // The driver looks at the first one: it must not see it before the others are there.
        expect(stores.at(-1)).toMatchObject({ slot: begin % num, access: { isAtomic: true } });
      }
    },
  );

  test.each([5, 8])("2.8.18 device: takes a list in the order of its NEXT", (num) => {
    const pair = makePacked(kind, { num, dataBytes: 4096 });
    const { f, device } = pair;
    const driver = new HandDriver(f);
    for (let round = 0; round < 10; round++) {
      // Addresses go down while the ring goes up, and round its end.
      const all = pieces(f, [8, 16, 24, 32]).reverse();
      driver.offer(
        round % num,
        all.map(({ linear, bytes }, i) => ({
          addr: f.guestOf(linear),
          len: bytes,
          flags: i < 2 ? 0 : VIRTQ_DESC_F_WRITE,
        })),
      );
      const [list] = pop(pair);
      expect(list).toMatchObject({ id: round % num, count: 4 });
      const { iovStart, outCount, inCount } = f.record("device", 0);
      expect([outCount, inCount]).toEqual([2, 2]);
      expect([0, 1, 2, 3].map((i) => f.piece("device", iovStart + i))).toEqual(all);
      device.addUsed(list?.head ?? 0, 0);
      device.publish();
    }
  });
});
