// What a driver puts into the descriptor table. virtio 1.3, 2.7.1, 2.7.4.2, 2.7.5.2, 2.7.5.3.1.

import { describe, expect, test } from "vitest";
import { BlkDriver } from "#dist/driver/blk.js";
import { CustomDriver } from "#dist/driver/custom.js";
import { blk } from "#dist/index.js";
import { VQ_F_IN_ORDER, VQ_NUM_FREE, VRING_E_CHAIN } from "#dist/spec/ring-state.js";
import { VIRTIO_F_INDIRECT_DESC } from "#dist/spec/virtio-config.js";
import {
  VIRTQ_DESC_F_INDIRECT as INDIRECT,
  VIRTQ_DESC_F_NEXT as NEXT,
  VIRTQ_DESC_BYTES,
  VIRTQ_DESC_F_WRITE as WRITE,
} from "#dist/spec/virtio-ring.js";
import { openPlayed } from "../helpers/played-device.js";
import { follow, KINDS, makePair, type Pair, pieces } from "../helpers/split-pair.js";

/** With tables, and without. */
const WAYS = [
  { way: "direct", shape: { num: 16 } },
  { way: "in a table", shape: { num: 16, indirect: true, indirectCapacity: 16 } },
] as const;

/** Adds one chain of so many readable and writable pieces; @returns its head. */
function addOne({ f, driver }: Pair, out: number, into: number): number {
  const all = pieces(f, Array(out + into).fill(8));
  f.setChain(0, 0, all.slice(0, out), all.slice(out));
  expect(driver.addBufs(1)).toBe(1);
  return f.record("driver", 0).head;
}

/** The device gives the chains at `heads` back, in that order, and the driver takes them. */
function giveBack({ f, driver, device }: Pair, heads: readonly number[]): void {
  driver.publish();
  device.getDescs(f.shape.burst);
  for (const head of heads) expect(device.addUsed(head, 0)).toBe(0);
  device.publish();
  expect(driver.getBufs(heads.length)).toBe(heads.length);
}

describe.each(KINDS)("the driver's ring, %s", (kind) => {
  describe.each(WAYS)("$way", ({ way, shape }) => {
    test("2.7.4.2 driver: puts what the device writes after what it reads", () => {
      for (const [out, into] of [
        [1, 1],
        [3, 2],
        [0, 4],
        [4, 0],
        [1, 6],
        [6, 1],
      ] as const) {
        const pair = makePair(kind, shape);
        const chain = follow(pair.f, addOne(pair, out, into)).filter(
          ({ flags }) => !(flags & INDIRECT),
        );
        const sides = chain.map(({ flags }) => (flags & WRITE) !== 0);
        expect(sides).toEqual([...Array(out).fill(false), ...Array(into).fill(true)]);
      }
    });

    test("2.7.5.2 driver: adds no chain of more than 2^32 bytes, and none with a loop", () => {
      const long: [number[], number[]][] = [
        [[0x8000_0000, 0x8000_0000, 1], []],
        [[0x8000_0000], [0x8000_0001]],
        [[], [0xffff_ffff, 2]],
        [Array(3).fill(0x6000_0000), [1]],
      ];
      const { f, driver, trace } = makePair(kind, shape);
      const piece = (bytes: number) => ({ linear: f.data, bytes });
      for (const [out, into] of long) {
        f.setChain(0, 0, out.map(piece), into.map(piece));
        const done = trace.during(() => driver.addBufs(1));
        expect(done.answer).toBe(-VRING_E_CHAIN);
        expect(done.trace.stores(f.guestStart, f.end - f.guestStart)).toEqual([]);
      }
      f.setChain(0, 0, [piece(0x7fff_ffff)], [piece(0x8000_0000)]);
      f.setChain(1, 2, [piece(0xffff_ffff)], [piece(2)]);
      expect(driver.addBufs(2)).toBe(1);
      driver.publish();
      expect(f.availIdx, "the longest, without the one that is longer").toBe(1);
      const chain = follow(f, 0).filter(({ flags }) => !(flags & INDIRECT));
      expect(chain.map(({ len }) => len)).toEqual([0x7fff_ffff, 0x8000_0000]);

      const other = makePair(kind, shape);
      // Chains of 1 to 4, back in another order, and again: the free list is shuffled.
      for (let round = 0; round < 40; round++) {
        const heads = [1, 4, 2, 3].map((count) => addOne(other, (round + count) % 2, count));
        const all = heads.flatMap((head) => follow(other.f, head));
        const inRing = all.filter(({ isInTable }) => !isInTable).map(({ index }) => index);
        expect(new Set(inRing).size, "no descriptor twice").toBe(inRing.length);
        giveBack(
          other,
          [2, 0, 3, 1].map((i) => heads[(i + round) % 4] as number),
        );
      }
      expect(other.f.word("driver", VQ_NUM_FREE)).toBe(16);
    });

    test("2.7.5.3.1 driver: puts no table into a table", () => {
      const pair = makePair(kind, shape);
      for (const count of [1, 2, 5]) {
        const entries = follow(pair.f, addOne(pair, 0, count)).filter((one) => one.isInTable);
        expect(entries).toHaveLength(way === "direct" || count === 1 ? 0 : count);
        for (const { flags } of entries) expect(flags & ~(NEXT | WRITE)).toBe(0);
      }
    });

    test("2.7.5.3.1 driver: never sets INDIRECT and NEXT in one descriptor", () => {
      const pair = makePair(kind, shape);
      // What lay there before must not show through.
      for (let i = 0; i < 16; i++) {
        pair.f.writeDesc(i, { addr: 0n, len: 0, flags: NEXT | INDIRECT, next: 3 });
      }
      for (const count of [1, 2, 5]) {
        for (const { flags } of follow(pair.f, addOne(pair, 1, count))) {
          expect(flags & (INDIRECT | NEXT)).not.toBe(INDIRECT | NEXT);
        }
      }
    });
  });

  test("2.7.5.3.1 driver: makes no table without the feature", () => {
    const pair = makePair(kind, { num: 16, indirect: false, indirectCapacity: 8 });
    for (const count of [1, 2, 5, 8]) {
      const chain = follow(pair.f, addOne(pair, 0, count));
      expect(chain).toHaveLength(count);
      for (const { flags } of chain) expect(flags & INDIRECT).toBe(0);
    }
    const tableBytes = 16 * 8 * VIRTQ_DESC_BYTES;
    expect(pair.trace.stores(pair.f.tables, tableBytes)).toEqual([]);
  });

  test("2.7.5.3.1 driver: makes no chain longer than the queue", () => {
    for (const num of [1, 2, 4]) {
      const { f, driver } = makePair(kind, { num });
      f.setChain(0, 0, pieces(f, Array(num + 1).fill(8)), []);
      expect(driver.addBufs(1)).toBe(-VRING_E_CHAIN);
      f.setChain(0, 0, pieces(f, Array(num).fill(8)), []);
      expect(driver.addBufs(1)).toBe(1);
    }
  });

  test("2.7.5.2 driver: in order: links a descriptor to the one after it, the last to 0", () => {
    const pair = makePair(kind, { num: 8 }, VQ_F_IN_ORDER);
    const { f } = pair;
    let next = 0;
    for (let round = 0; round < 20; round++) {
      const heads = [1 + (round % 3), 1].map((count) => addOne(pair, 1, count));
      for (const head of heads) {
        expect(head).toBe(next);
        for (const { index, flags, next: link } of follow(f, head)) {
          expect(index).toBe(next);
          next = index === 7 ? 0 : index + 1;
          if (flags & NEXT) expect(link, `after ${index}`).toBe(next);
        }
      }
      giveBack(pair, heads);
    }
  });

  test("2.7.5.3.1 driver: in order: the entries of a table follow one another", () => {
    const pair = makePair(kind, { num: 8, indirect: true, indirectCapacity: 8 }, VQ_F_IN_ORDER);
    const { f } = pair;
    for (let round = 0; round < 20; round++) {
      const counts = [2 + (round % 5), 3];
      const heads = counts.map((count) => addOne(pair, 1, count));
      for (const [i, head] of heads.entries()) {
        const entries = follow(f, head).filter(({ isInTable }) => isInTable);
        const total = (counts[i] ?? 0) + 1;
        expect(entries.map(({ index }) => index)).toEqual([...Array(total).keys()]);
        const links = entries.slice(0, -1).map(({ flags, next }) => (flags & NEXT ? next : -1));
        expect(links).toEqual([...Array(total).keys()].slice(1));
      }
      giveBack(pair, heads);
    }
  });

  describe("in a table", () => {
    test("2.7.5.3.1 driver: makes no chain longer than the queue", () => {
      for (const num of [1, 2, 4]) {
        const { f, driver } = makePair(kind, { num, indirect: true, indirectCapacity: 8 });
        f.setChain(0, 0, pieces(f, Array(num + 1).fill(8)), []);
        expect(driver.addBufs(1), `${num + 1} pieces, ${num} entries`).toBe(-VRING_E_CHAIN);
      }
    });
  });
});

describe.each(KINDS)("drivers, %s ring", (ring) => {
  test.each([0, 1, 2, 3, 5, 8, 13, 4095])(
    "2.7.1 driver: lays its three parts out at multiples of 16, 2 and 4",
    async (skew) => {
      for (const queueSize of [1, 2, 4, 16, 64]) {
        await using device = await openPlayed(CustomDriver.probe, {
          ring,
          queueSize,
          withoutFeatures: [],
          prepare: (shared) => skew > 0 && shared.allocGuest(skew, 1),
        });
        for (const { desc, driver, device: used, num } of device.transport.queues) {
          expect(num).toBe(queueSize);
          expect([desc % 16n, driver % 2n, used % 4n]).toEqual([0n, 0n, 0n]);
        }
      }
    },
  );

  test("2.7.4.2 driver: puts what the device writes after what it reads", async () => {
    for (const withoutFeatures of [[], [VIRTIO_F_INDIRECT_DESC]]) {
      const spec = blk({ nullBytes: 1 << 20, queueSize: 16 });
      const options = { ring, withoutFeatures, spec, queueSize: 16 };
      await using device = await openPlayed(BlkDriver.probe, options);
      const { driver, used, sent } = device;
      using buffer = driver.alloc(512);
      const work = [driver.readInto(0, buffer), driver.writeFrom(0, buffer), driver.getId()];
      const ended = Promise.allSettled(work);
      await sent(3);
      const sides = [0, 1, 2].map((slot) => used.chain(slot).map(({ flags }) => flags & WRITE));
      expect(sides).toEqual([
        [0, WRITE, WRITE],
        [0, 0, WRITE],
        [0, WRITE, WRITE],
      ]);
      await driver.close();
      await ended;
    }
  });

  test("2.7.5.3.1 driver: makes no table without the feature", async () => {
    await using device = await openPlayed(CustomDriver.probe, { ring });
    const ended = Promise.allSettled([1, 2, 3].map((n) => device.driver.request(0, word, n)));
    await device.sent(3);
    for (let i = 0; i < 8; i++) {
      const { flags } = device.used.readDescAt(device.used.desc + i * VIRTQ_DESC_BYTES);
      expect(flags & INDIRECT).toBe(0);
    }
    await device.driver.close();
    await ended;
  });
});

const word = new Uint8Array(4);
