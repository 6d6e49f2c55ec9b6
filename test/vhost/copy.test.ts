// Every way of copying, at the lengths where one takes over from another, however both lie.

import { expect, test } from "vitest";
import { type Area, Areas, copy } from "#dist/vhost/copy.js";

const LENGTHS = [0, 1, 3, 4, 15, 16, 17, 31, 127, 128, 129, 319, 320, 321, 1512];
const SIZE = 4096;

const filled = (value: (i: number) => number, buffer = new SharedArrayBuffer(SIZE)) =>
  new Uint8Array(buffer).map((_, i) => value(i));

/** Parts of two buffers, as pieces of memory are; or of one memory. */
function pair(isWithin = false): [Area, Area] {
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true });
  const buffer = () => (isWithin ? memory.buffer : new SharedArrayBuffer(2 * SIZE));
  const from = new Uint8Array(buffer(), 8, SIZE - 8);
  const to = new Uint8Array(buffer(), SIZE + 16, SIZE - 16);
  from.set(filled((i) => i * 7 + 1).subarray(0, from.length));
  const areas = new Areas(memory);
  return [areas.of(from), areas.of(to.fill(0xaa))];
}

const WITHIN = [false, true];
const cases = LENGTHS.flatMap((length) => WITHIN.map((isWithin) => [length, isWithin] as const));

test.each(cases)("%i bytes, within one memory: %s: those, and no others", (length, isWithin) => {
  for (let at = 0; at < 9; at++) {
    for (let toAt = 64; toAt < 73; toAt++) {
      const [from, to] = pair(isWithin);
      copy(from, at, to, toAt, length);
      const expected = new Uint8Array(to.array.length).fill(0xaa);
      expected.set(from.array.slice(at, at + length), toAt);
      expect(Buffer.compare(to.array, expected), `${at} to ${toAt}`).toBe(0);
    }
  }
});

test.each([20, 200, 1000])("a source that has less than %i bytes gives what it has", (length) => {
  const [from, to] = pair(length === 200);
  const at = from.array.length - 19;
  copy(from, at, to, 3, length);
  expect([...to.array.slice(3, 22)]).toEqual([...from.array.slice(at)]);
  expect(to.array.subarray(22).every((byte) => byte === 0xaa)).toBe(true);
});

test.each([20, 200, 1000])("no room for %i bytes: RangeError", (length) => {
  for (const isWithin of WITHIN) {
    const [from, to] = pair(isWithin);
    for (const shift of [0, 1]) {
      const toAt = to.array.length - length + 1 + shift;
      expect(() => copy(from, 0, to, toAt, length)).toThrow(RangeError);
    }
  }
});

test("what was used of late is found again, and is the array's own", () => {
  const areas = new Areas(new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true }));
  const arrays = Array.from({ length: 6 }, () => new Uint8Array(8));
  for (const array of [...arrays, ...arrays, ...arrays.slice(0, 3), ...arrays.slice(0, 3)]) {
    const area = areas.of(array);
    expect(area.array).toBe(array);
    expect(areas.of(array)).toBe(area);
  }
});
