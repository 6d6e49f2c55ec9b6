// The driver's half of a packed ring. virtio 1.3, 2.8.16, 2.8.17, 2.8.19, 2.8.21.

import { describe, expect, test } from "vitest";
import { VRING_E_CHAIN } from "#dist/spec/ring-state.js";
import {
  VIRTQ_DESC_F_INDIRECT as INDIRECT,
  VIRTQ_DESC_F_NEXT as NEXT,
  RING_EVENT_FLAGS_DISABLE,
  VIRTQ_DESC_BYTES,
  VIRTQ_DESC_F_WRITE as WRITE,
} from "#dist/spec/virtio-ring.js";
import {
  availableMarks,
  descAt,
  descStores,
  HandDevice,
  isMarked,
  MARKS,
  makePacked,
  readPacked,
} from "../helpers/packed-peers.js";
import { KINDS, type Pair, pieces } from "../helpers/split-pair.js";

const TABLES = { indirect: true, indirectCapacity: 8 };

/** Describes lists of so many pieces each, the last one writable, from record 0 on. */
function describeLists({ f }: Pair, counts: readonly number[]): void {
  let iov = 0;
  for (const [i, count] of counts.entries()) {
    const all = pieces(f, Array(count).fill(8), 8 * iov);
    f.setChain(i, iov, all.slice(0, -1), all.slice(-1));
    iov += count;
  }
}

/** Adds lists; how many, and what was stored to the ring. */
function add(pair: Pair, counts: readonly number[]) {
  describeLists(pair, counts);
  const done = pair.trace.during(() => pair.driver.addBufs(counts.length));
  return { added: done.answer, stores: descStores(pair.f, done.trace.all) };
}

/** Which descriptors are the device's: those that were marked, and not yet taken back. */
class Ownership {
  readonly problems: string[] = [];
  readonly #marked = new Set<number>();
  #released = 0;
  #from = 0;

  constructor(readonly pair: Pair) {}

  /** Looks at what the driver has stored since the last time. */
  look(): void {
    const { f, trace } = this.pair;
    for (const { slot, flags } of descStores(f, trace.all.slice(this.#from))) {
      if (this.#marked.has(slot)) this.problems.push(`stored to ${slot}, which is the device's`);
      if (flags !== undefined && isMarked(flags)) this.#marked.add(slot);
    }
    this.#from = trace.all.length;
  }

  /** The driver has seen used descriptors for so many of the ring. */
  release(count: number): void {
    for (let i = 0; i < count; i++) this.#marked.delete(this.#released++ % this.pair.f.num);
  }
}

/** A number from a row that is always the same. */
function row(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

describe.each(KINDS)("the driver's packed ring, %s", (kind) => {
  test.each([{ num: 1, ...TABLES }, { num: 3 }, { num: 4 }, { num: 7, ...TABLES }, { num: 8 }])(
    "2.8.16 driver: changes no descriptor before it has seen USED change",
    (shape) => {
      const pair = makePacked(kind, shape);
      const { f, driver } = pair;
      const hand = new HandDevice(f);
      const ownership = new Ownership(pair);
      const random = row(shape.num);
      const sizes = new Map<number, number>();
      let published: number[] = [];
      let staged: number[] = [];
      let laps = 0;
      for (let step = 0; step < 400; step++) {
        const counts = Array.from({ length: 1 + random(3) }, () => 1 + random(Math.min(3, f.num)));
        const { added } = add(pair, counts);
        for (let i = 0; i < added; i++) {
          const { head } = f.record("driver", i);
          sizes.set(head, "indirect" in shape && (counts[i] ?? 0) > 1 ? 1 : (counts[i] ?? 0));
          staged.push(head);
        }
        ownership.look();
        if (random(3) > 0) {
          driver.publish();
          published = [...published, ...staged];
          staged = [];
          driver.kickNeeded();
        }
        ownership.look();
        while (published.length > 0 && random(3) > 0) {
          const [id = 0] = published.splice(random(published.length), 1); // in any order
          hand.use(id, sizes.get(id) ?? 0);
          laps = hand.lap;
        }
        driver.enableCall();
        driver.disableCall();
        ownership.look(); // used, but the driver has not looked
        const got = driver.getBufs(1 + random(4));
        ownership.look();
        for (let i = 0; i < got; i++) ownership.release(sizes.get(f.record("driver", i).head) ?? 0);
      }
      expect(ownership.problems).toEqual([]);
      expect(laps).toBeGreaterThan(20);
    },
  );

  test.each([{ num: 5 }, { num: 5, ...TABLES }])(
    "2.8.16 driver: leaves a descriptor alone once AVAIL has changed",
    (shape) => {
      const pair = makePacked(kind, shape);
      const { f, driver, trace } = pair;
      const ownership = new Ownership(pair);
      const stored = () => descStores(f, trace.all).length;
      expect(add(pair, [2, 1, 2]).added).toBe(3);
      driver.publish();
      ownership.look();
      const all = stored();
      for (let i = 0; i < 3; i++) {
        driver.publish();
        driver.kickNeeded();
        driver.enableCall();
        driver.disableCall();
        expect(driver.getBufs(8)).toBe(0);
        ownership.look();
      }
      expect(stored()).toBe(all);
      expect(add(pair, [1, 1, 1]).added).toBe("indirect" in shape ? 2 : 0);
      driver.publish();
      ownership.look();
      expect(ownership.problems).toEqual([]);
    },
  );

  test("2.8.17 driver: makes no list longer than the queue, and none with a loop", () => {
    for (const num of [1, 3, 4]) {
      const pair = makePacked(kind, { num });
      const { f, driver } = pair;
      const hand = new HandDevice(f);
      expect(add(pair, [num + 1])).toEqual({ added: -VRING_E_CHAIN, stores: [] });
      // From every place of the ring: a list goes on at the next descriptor, NEXT ends.
      for (let round = 0; round < 2 * num; round++) {
        for (const count of [num, 1]) {
          const { added } = add(pair, [count]);
          expect(added).toBe(1);
          driver.publish();
          const next = Array.from({ length: count }, (_, i) => {
            const { flags } = readPacked(f, descAt(f, (hand.slot + i) % num));
            expect(flags & MARKS).toBe(availableMarks(Math.floor((hand.passed + i) / num)));
            return flags & NEXT;
          });
          expect(next).toEqual([...Array(count - 1).fill(NEXT), 0]);
          hand.use(f.record("driver", 0).head, count);
          expect(driver.getBufs(1)).toBe(1);
        }
      }
    }
  });

  describe("in a table", () => {
    test("2.8.17 driver: makes no list longer than the queue, and none with a loop", () => {
      for (const num of [1, 3, 4]) {
        expect(add(makePacked(kind, { num, ...TABLES }), [num + 1]).added).toBe(-VRING_E_CHAIN);
      }
    });
  });

  test("2.8.17 driver: puts what the device writes after what it reads", () => {
    for (const shape of [{}, TABLES]) {
      for (const [out, into] of [
        [1, 1],
        [3, 2],
        [0, 4],
        [4, 0],
        [1, 5],
      ] as const) {
        const { f, driver } = makePacked(kind, { num: 8, ...shape });
        const all = pieces(f, Array(out + into).fill(8));
        f.setChain(0, 0, all.slice(0, out), all.slice(out));
        expect(driver.addBufs(1)).toBe(1);
        driver.publish();
        const at = "indirect" in shape ? f.tables : f.desc;
        const sides = all.map((_, i) => readPacked(f, at + i * VIRTQ_DESC_BYTES).flags & WRITE);
        expect(sides).toEqual([...Array(out).fill(0), ...Array(into).fill(WRITE)]);
      }
    }
  });

  test("2.8.17 driver: has room for a whole list before any of it is available", () => {
    const pair = makePacked(kind, { num: 4 });
    const { driver, f } = pair;
    expect(add(pair, [3]).added).toBe(1);
    driver.publish();
    expect(add(pair, [2])).toEqual({ added: 0, stores: [] });
    const { added, stores } = add(pair, [1, 1]);
    expect(added).toBe(1);
    expect(new Set(stores.map(({ slot }) => slot))).toEqual(new Set([3]));
    driver.publish();
    new HandDevice(f).use(0, 3);
    expect(driver.getBufs(4)).toBe(1);
    expect(add(pair, [4])).toEqual({ added: 0, stores: [] });
    expect(add(pair, [3]).added).toBe(1);
  });

  test("2.8.17 driver: waits for no used descriptor in the middle of a list", () => {
    const pair = makePacked(kind, { num: 4 });
    const { driver, f } = pair;
    expect(add(pair, [3]).added).toBe(1);
    driver.publish();
    // No part of what has no room: not in the burst, not when it is published, not later.
    expect(add(pair, [1, 2]).added).toBe(1);
    driver.publish();
    expect(f.record("driver", 0).head).toBe(1);
    const before = f.bytes.slice(f.desc, f.desc + 4 * VIRTQ_DESC_BYTES);
    expect(add(pair, [2])).toEqual({ added: 0, stores: [] });
    driver.publish();
    expect(driver.kickNeeded()).toBe(true);
    expect(f.bytes.slice(f.desc, f.desc + 4 * VIRTQ_DESC_BYTES)).toEqual(before);
    new HandDevice(f).use(0, 3);
    expect(driver.getBufs(4)).toBe(1);
    const { added, stores } = add(pair, [2]);
    expect(added).toBe(1);
    expect(new Set(stores.map(({ slot }) => slot))).toEqual(new Set([0, 1]));
  });

  describe("lists published one by one", () => {
    test("2.8.17 driver: makes the first descriptor of a list available last", () => {
      for (const num of [4, 5]) {
        const pair = makePacked(kind, { num });
        const hand = new HandDevice(pair.f);
        for (let round = 0; round < 12; round++) {
          const count = 1 + (round % 4);
          const done = pair.trace.during(() => {
            expect(add(pair, [count]).added).toBe(1);
            pair.driver.publish();
          });
          const marks = descStores(pair.f, done.trace.all).filter(
            ({ flags }) => flags !== undefined,
          );
          expect(marks).toHaveLength(count);
          expect(marks.at(-1)?.slot).toBe(hand.slot);
          hand.use(pair.f.record("driver", 0).head, count);
          expect(pair.driver.getBufs(1)).toBe(1);
        }
      }
    });
  });

  describe("lists published together", () => {
    /** The marks of two lists of two and three, the slot and the flags of each, in order. */
    function marksOfTwo() {
      const pair = makePacked(kind, { num: 8 });
      const done = pair.trace.during(() => {
        expect(add(pair, [2, 3]).added).toBe(2);
        pair.driver.publish();
      });
      return descStores(pair.f, done.trace.all).filter(({ flags }) => flags !== undefined);
    }

    test("2.8.17 driver: makes the first descriptor of a list available last", () => {
      // As a device sees it that goes by the order of the ring.
      const seen: number[] = Array(8).fill(0);
      for (const { slot, flags = 0 } of marksOfTwo()) {
        seen[slot] = flags;
        for (let at = 0; isMarked(seen[at] ?? 0); at++) {
          if ((seen[at] ?? 0) & NEXT) expect(isMarked(seen[at + 1] ?? 0), `${at}`).toBe(true);
        }
      }
      expect(seen.slice(0, 6).map(isMarked)).toEqual([true, true, true, true, true, false]);
    });

    test("2.8.17 driver: makes the first descriptor of a list available last", () => {
      const order = marksOfTwo().map(({ slot }) => slot);
      for (const [first, ...rest] of [
        [0, 1],
        [2, 3, 4],
      ]) {
        for (const slot of rest) {
          expect(order.indexOf(slot)).toBeLessThan(order.indexOf(first as number));
        }
      }
    });
  });

  test("2.8.19 driver: makes no table without the feature", () => {
    const pair = makePacked(kind, { num: 8, indirect: false, indirectCapacity: 8 });
    const { f, trace } = pair;
    for (const count of [1, 2, 4]) {
      for (const { flags = 0 } of add(pair, [count]).stores) expect(flags & INDIRECT).toBe(0);
    }
    pair.driver.publish();
    for (let i = 0; i < 7; i++) expect(readPacked(f, descAt(f, i)).flags & INDIRECT).toBe(0);
    expect(trace.stores(f.tables, 8 * 8 * VIRTQ_DESC_BYTES)).toEqual([]);
  });

  test("2.8.19 driver: sets no flag but WRITE in a table", () => {
    const pair = makePacked(kind, { num: 4, ...TABLES });
    const { f } = pair;
    f.bytes.fill(0xff, f.tables, f.tables + 4 * 8 * VIRTQ_DESC_BYTES); // what lay there before
    expect(add(pair, [2, 4, 3]).added).toBe(3);
    for (const [id, count] of [2, 4, 3].entries()) {
      for (let i = 0; i < count; i++) {
        const { flags } = readPacked(f, f.tables + (id * 8 + i) * VIRTQ_DESC_BYTES);
        expect(flags).toBe(i + 1 === count ? WRITE : 0);
      }
    }
  });

  test("2.8.19 driver: links the descriptor of a table to no other", () => {
    const pair = makePacked(kind, { num: 8, ...TABLES });
    const { f, driver } = pair;
    expect(add(pair, [2, 1, 8, 3]).added).toBe(4);
    driver.publish();
    const kinds = [0, 1, 2, 3].map((i) => readPacked(f, descAt(f, i)).flags & (INDIRECT | NEXT));
    expect(kinds).toEqual([INDIRECT, 0, INDIRECT, INDIRECT]);
    // Nor is one inside a list: what does not go to a table is a list of plain ones.
    const other = makePacked(kind, { num: 16, indirect: true, indirectCapacity: 2 });
    expect(add(other, [2, 5]).added).toBe(2);
    other.driver.publish();
    const flags = (i: number) => readPacked(other.f, descAt(other.f, i)).flags & (INDIRECT | NEXT);
    expect([0, 1, 2, 3, 4, 5].map(flags)).toEqual([INDIRECT, NEXT, NEXT, NEXT, NEXT, 0]);
  });

  test("2.8.21.1.1 driver: lets flags go out after all that they expose", () => {
    for (const shape of [{ num: 8 }, { num: 8, ...TABLES }]) {
      const pair = makePacked(kind, shape);
      const { f, driver, trace } = pair;
      const done = trace.during(() => {
        expect(add(pair, [3, 2]).added).toBe(2);
        driver.publish();
      });
      const toGuest = done.trace.stores(f.guestStart, f.end - f.guestStart);
      expect(toGuest.length).toBeGreaterThan(4);
      const [last] = descStores(f, [toGuest.at(-1) as (typeof toGuest)[0]]);
      expect(last).toMatchObject({ slot: 0, access: { isAtomic: true, bytes: 2 } });
      expect(isMarked(last?.flags ?? 0)).toBe(true);
      const earlier = descStores(f, toGuest.slice(0, -1));
      expect(earlier.some(({ slot, flags }) => slot === 0 && flags !== undefined)).toBe(false);
    }
  });

  test.each([false, true])(
    "2.8.21.3.1 driver: looks at the event structure after flags are out",
    (eventIdx) => {
      const pair = makePacked(kind, { num: 4, eventIdx });
      const { f, driver, trace } = pair;
      const done = trace.during(() => {
        add(pair, [2]);
        driver.publish();
        driver.kickNeeded();
      });
      const order = done.trace.all;
      const asked = done.trace.loads(f.used, 4);
      expect(asked).toHaveLength(1);
      expect(asked[0]).toMatchObject({ isAtomic: true, bytes: 4 });
      const out = descStores(f, order).at(-1)?.access;
      expect(out).toMatchObject({ isAtomic: true });
      expect(order.indexOf(out as (typeof order)[0])).toBeLessThan(
        order.indexOf(asked[0] as never),
      );
      // So what the device says in between counts.
      add(pair, [1]);
      driver.publish();
      f.view.setUint16(f.used + 2, RING_EVENT_FLAGS_DISABLE, true);
      expect(driver.kickNeeded()).toBe(false);
    },
  );
});
