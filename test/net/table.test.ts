// The table of a switch: what is learnt, forgotten, and kept from being pushed out.

import { describe, expect, test } from "vitest";
import { NET_TABLE_BYTES, NetTable } from "#dist/devices/net-switch-table.js";
import { Random } from "../fuzz/random.js";
import { seedOf } from "../helpers/seed.js";

const newTable = () => new NetTable(new SharedArrayBuffer(NET_TABLE_BYTES));
const AGE = 300;
const NOW = 1_700_000_000;

describe("an address", () => {
  test("is where it was heard last, from each thread's table over the same memory", () => {
    const buffer = new SharedArrayBuffer(NET_TABLE_BYTES);
    const [one, other] = [new NetTable(buffer), new NetTable(buffer)];
    expect(one.lookup(7, 8, NOW - AGE)).toBe(-1);
    one.learn(7, 8, 3, NOW, NOW - AGE);
    expect(other.lookup(7, 8, NOW - AGE)).toBe(3);
    other.learn(7, 8, 0, NOW, NOW - AGE);
    expect(one.lookup(7, 8, NOW - AGE)).toBe(0);
    expect(one.lookup(7, 9, NOW - AGE)).toBe(-1);
    expect(one.entries(NOW - AGE)).toHaveLength(1);
  });

  test("is unsigned, whole, and of one VLAN", () => {
    const table = newTable();
    table.learn(0xffff_fffe, 0x0ffe_02aa, 31, NOW, NOW - AGE);
    expect(table.lookup(0xffff_fffe, 0x0ffe_02aa, NOW - AGE)).toBe(31);
    expect(table.lookup(0xffff_fffe, 0x0ffd_02aa, NOW - AGE)).toBe(-1);
    const [entry] = table.entries(NOW - AGE);
    expect(entry).toEqual({
      mac: Uint8Array.of(0x02, 0xaa, 0xff, 0xff, 0xff, 0xfe),
      ...{ vlan: 0xffe, port: 31, seen: NOW },
    });
  });

  test("that was not heard for long is forgotten; one that is heard is not", () => {
    const table = newTable();
    table.learn(1, 1, 1, NOW, NOW - AGE);
    table.learn(2, 1, 1, NOW, NOW - AGE);
    table.learn(2, 1, 1, NOW + 200, NOW + 200 - AGE);
    const later = NOW + AGE + 1 - AGE;
    expect(table.lookup(1, 1, later)).toBe(-1);
    expect(table.lookup(2, 1, later)).toBe(1);
    expect(table.entries(later)).toHaveLength(1);
  });

  test("goes with its port", () => {
    const table = newTable();
    for (let i = 0; i < 20; i++) table.learn(i, 1, i % 2, NOW, NOW - AGE);
    table.forget(1);
    for (let i = 0; i < 20; i++) {
      expect(table.lookup(i, 1, NOW - AGE)).toBe(i % 2 === 0 ? 0 : -1);
    }
  });
});

test("a port that claims a million addresses pushes out its own, and nobody else's", () => {
  const table = newTable();
  const ours = Array.from({ length: 60 }, (_, i) => i); // more than 4 in a bucket: once in 10,000
  for (const i of ours) table.learn(i, 0xaa, 1 + (i % 3), NOW, NOW - AGE);
  const known = ours.filter((i) => table.lookup(i, 0xaa, NOW - AGE) >= 0);
  expect(known.length).toBeGreaterThan(57);
  for (let i = 0; i < 1_000_000; i++) table.learn(i, 0xbb, 0, NOW + 1, NOW + 1 - AGE);
  const left = known.filter((i) => table.lookup(i, 0xaa, NOW - AGE) === 1 + (i % 3));
  expect(left).toEqual(known);
  const entries = table.entries(NOW - AGE).filter(({ port }) => port === 0);
  expect(entries.length).toBeLessThanOrEqual(4 * 512);
});

test("words that others tear say nothing false: another's address is at no port of mine", () => {
  const seed = seedOf("table");
  const random = new Random(seed);
  const buffer = new SharedArrayBuffer(NET_TABLE_BYTES);
  const table = new NetTable(buffer);
  const words = new Int32Array(buffer);
  const at = new Map<number, number>();
  for (let i = 0; i < 500; i++) {
    const port = random.below(8);
    table.learn(i, 0xcc, port, NOW, NOW - AGE);
    at.set(i, port);
  }
  // Of two writers, each word is one's or the other's: any words of the table, exchanged.
  for (let i = 0; i < 2000; i++) {
    const [from, to] = [1 + random.below(words.length - 1), 1 + random.below(words.length - 1)];
    if ((from - to) % 5 === 0) words[to] = words[from] as number;
  }
  for (const [i, port] of at) {
    expect([-1, port], `FC_SEED=${seed}, ${i}`).toContain(table.lookup(i, 0xcc, NOW - AGE));
  }
});
