// The table of translations, alone and against a list that is searched from its beginning.
// FC_SEED=<number> replays a run; FC_TIMES=<number> is how many steps it has.

import { describe, expect, test } from "vitest";
import { Iotlb, IotlbView } from "#dist/vhost/ioctl/iotlb.js";
import type { IotlbMap } from "#dist/vhost/ioctl/iotlb-columns.js";
import { Random } from "../../fuzz/random.js";
import { seedOf } from "../../helpers/seed.js";

const SEED = seedOf("iotlb table");
const STEPS = Number(process.env.FC_TIMES ?? 5000);

const LAST = 2n ** 64n - 1n;
const map = (start: bigint, last: bigint, uaddr = 0n, perm = 3): IotlbMap => ({
  start,
  last,
  uaddr,
  perm,
});

describe("a table of translations", () => {
  test("finds what meets a range: the one that begins first, of those the first that came", () => {
    const table = new Iotlb();
    const [high, low, twin] = [map(10n, 19n), map(5n, 12n), map(5n, 30n)] as const;
    for (const one of [high, low, twin]) expect(table.add(one)).toBe(true);
    expect(table.first(0n, 4n)).toBeUndefined();
    expect(table.first(0n, 5n)).toEqual(low);
    expect(table.first(11n, 11n)).toEqual(low);
    expect(table.first(13n, 13n)).toEqual(twin);
    expect(table.first(31n, LAST)).toBeUndefined();
  });

  test("has the last address of all", () => {
    const table = new Iotlb();
    const top = map(LAST - 4095n, LAST);
    table.add(top);
    expect(table.first(LAST, LAST)).toEqual(top);
    expect(table.first(LAST - 1n, 7n)).toBeUndefined(); // a length that wraps: nothing holds both
    table.delete(LAST, LAST);
    expect(table.size).toBe(0);
  });

  test("refuses a range that ends before it begins, and is as it was", () => {
    const table = new Iotlb();
    expect(table.add(map(2n, 1n))).toBe(false);
    expect([table.size, table.changeCount]).toEqual([0, 0]);
  });

  test("forgets what meets a range as a whole, nothing else", () => {
    const table = new Iotlb();
    for (const start of [0n, 10n, 20n, 30n]) table.add(map(start, start + 9n));
    table.delete(19n, 20n);
    expect(table.maps.map(({ start }) => start)).toEqual([0n, 30n]);
    table.delete(10n, 29n);
    expect(table.size).toBe(2);
  });

  test("of too many, the oldest goes, wherever it is", () => {
    const table = new Iotlb(3);
    for (const start of [50n, 10n, 90n, 70n]) table.add(map(start, start));
    expect(table.maps.map(({ start }) => start)).toEqual([10n, 70n, 90n]);
    table.delete(10n, 10n);
    for (const start of [1n, 2n]) table.add(map(start, start));
    expect(table.maps.map(({ start }) => start)).toEqual([1n, 2n, 70n]);
  });

  test("has 2048 at most where nothing else is said", () => {
    const table = new Iotlb();
    for (let i = 0n; i < 2049n; i++) table.add(map(i, i));
    expect(table.size).toBe(2048);
    expect([table.first(0n, 0n), table.first(1n, 1n)?.start]).toEqual([undefined, 1n]);
  });
});

/** The same, as it is said: searched from the beginning. */
class Naive {
  readonly maps: IotlbMap[] = [];

  constructor(readonly limit: number) {}

  add(one: IotlbMap): boolean {
    if (one.last < one.start) return false;
    if (this.maps.length === this.limit) this.maps.shift();
    this.maps.push(one);
    return true;
  }

  meeting(start: bigint, last: bigint): IotlbMap[] {
    return this.maps.filter((one) => one.start <= last && start <= one.last);
  }

  delete(start: bigint, last: bigint): void {
    for (const one of this.meeting(start, last)) this.maps.splice(this.maps.indexOf(one), 1);
  }

  first(start: bigint, last: bigint): IotlbMap | undefined {
    const before = (a: IotlbMap, b: IotlbMap) => (b.start < a.start ? b : a);
    const all = this.meeting(start, last);
    return all.length === 0 ? undefined : all.reduce(before);
  }
}

test.each([1, 2, 3, 17])(`as a list, at most %i long, FC_SEED=${SEED}`, (limit) => {
  const random = new Random(SEED + limit);
  const table = new Iotlb(limit);
  const view = new IotlbView(table.buffer);
  const naive = new Naive(limit);
  const bases = [0n, 40n, 2n ** 63n, LAST - 60n];
  const found = new Set<boolean>();
  const range = () => {
    const start = random.pick(bases) + BigInt(random.below(60));
    const last = start + BigInt(random.between(-2, 20));
    return [BigInt.asUintN(64, start), BigInt.asUintN(64, last)] as const;
  };
  for (let step = 0; step < STEPS; step++) {
    const [start, last] = range();
    const act = random.below(8);
    if (act === 0) {
      table.delete(start, last);
      naive.delete(start, last);
    } else if (act < 4) {
      const one = map(start, last, BigInt(step));
      expect(table.add(one), `step ${step}`).toBe(naive.add(one));
    } else {
      const first = naive.first(start, last);
      expect(table.first(start, last), `step ${step}`).toEqual(first);
      expect(view.first(start, last), `step ${step}`).toEqual(first);
      found.add(first !== undefined);
    }
    expect(table.size, `step ${step}`).toBe(naive.maps.length);
  }
  expect(found.size).toBe(2);
});
