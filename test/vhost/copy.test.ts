// Every way of copying, at the lengths where one takes over from another, however both lie.

import { expect, test } from "vitest";
import { Area, Areas, copy } from "#dist/vhost/copy.js";

const LENGTHS = [0, 1, 3, 4, 15, 16, 17, 31, 127, 128, 129, 319, 320, 321, 1512];
const SIZE = 4096;

const filled = (value: (i: number) => number, buffer = new SharedArrayBuffer(SIZE)) =>
  new Uint8Array(buffer).map((_, i) => value(i));

/** Part of a buffer, as pieces of memory are. */
function pair(): [Area, Area] {
  const from = new Uint8Array(new SharedArrayBuffer(SIZE), 8);
  const to = new Uint8Array(new SharedArrayBuffer(SIZE), 16);
  from.set(filled((i) => i * 7 + 1).subarray(0, from.length));
  return [new Area(from), new Area(to.fill(0xaa))];
}

test.each(LENGTHS)("%i bytes: those, and no others", (length) => {
  for (let at = 0; at < 9; at++) {
    for (let toAt = 64; toAt < 73; toAt++) {
      const [from, to] = pair();
      copy(from, at, to, toAt, length);
      const expected = new Uint8Array(to.array.length).fill(0xaa);
      expected.set(from.array.slice(at, at + length), toAt);
      expect(Buffer.compare(to.array, expected), `${at} to ${toAt}`).toBe(0);
    }
  }
});

test.each([20, 200, 1000])("a source that has less than %i bytes gives what it has", (length) => {
  const [from, to] = pair();
  const at = from.array.length - 19;
  copy(from, at, to, 3, length);
  expect([...to.array.slice(3, 22)]).toEqual([...from.array.slice(at)]);
  expect(to.array.subarray(22).every((byte) => byte === 0xaa)).toBe(true);
});

test.each([20, 200, 1000])("no room for %i bytes: RangeError", (length) => {
  const [from, to] = pair();
  for (const shift of [0, 1]) {
    const toAt = to.array.length - length + 1 + shift;
    expect(() => copy(from, 0, to, toAt, length)).toThrow(RangeError);
  }
});

test("what was used of late is found again, and is the array's own", () => {
  const areas = new Areas();
  const arrays = Array.from({ length: 6 }, () => new Uint8Array(8));
  for (const array of [...arrays, ...arrays, ...arrays.slice(0, 3), ...arrays.slice(0, 3)]) {
    const area = areas.of(array);
    expect(area.array).toBe(array);
    expect(areas.of(array)).toBe(area);
  }
});
