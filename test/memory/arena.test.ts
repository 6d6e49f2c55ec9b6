// The arena against a model that keeps a flag for every byte.

import fc from "fast-check";
import { expect, test } from "vitest";
import { Arena } from "#dist/memory/arena.js";
import { VhostError } from "#dist/spec/errno.js";
import { refused } from "../helpers/kernel-counts.js";

const START = 100; // aligned to nothing above 4, on purpose
const BYTES = 512;

const step = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({ bytes: fc.integer({ min: 1, max: 200 }), alignBits: fc.nat(7) }),
  },
  { weight: 2, arbitrary: fc.record({ free: fc.nat() }) },
);

/** The lowest aligned run of free bytes, or undefined. */
function firstFit(isUsed: readonly boolean[], bytes: number, align: number): number | undefined {
  for (let at = Math.ceil(START / align) * align; at + bytes <= START + BYTES; at += align) {
    if (!isUsed.slice(at - START, at - START + bytes).includes(true)) return at;
  }
  return undefined;
}

test("gives the first range that fits, never one twice, and takes all of them back", () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const arena = new Arena("a test", START, START + BYTES);
      const isUsed = new Array<boolean>(BYTES).fill(false);
      const given = new Map<number, number>();
      const mark = (address: number, bytes: number, value: boolean) =>
        isUsed.fill(value, address - START, address - START + bytes);
      for (const now of steps) {
        if ("free" in now) {
          const [address, bytes] = [...given][now.free % Math.max(given.size, 1)] ?? [];
          if (address === undefined || bytes === undefined) continue;
          arena.free(address);
          given.delete(address);
          mark(address, bytes, false);
        } else {
          const align = 2 ** now.alignBits;
          const expected = firstFit(isUsed, now.bytes, align);
          if (expected === undefined) refused("ENOMEM", () => arena.alloc(now.bytes, align));
          else {
            expect(arena.alloc(now.bytes, align)).toBe(expected);
            given.set(expected, now.bytes);
            mark(expected, now.bytes, true);
          }
        }
        expect(arena.freeBytes).toBe(isUsed.filter((used) => !used).length);
      }
      for (const address of given.keys()) arena.free(address);
      expect(arena.alloc(BYTES, 1)).toBe(START); // all of it, in one piece: neighbours were merged
    }),
    { numRuns: 300 },
  );
});

test("ENOMEM says whose memory is short, and leaves the rest as it was", () => {
  const arena = new Arena("the guest's buffers", 0, 64);
  arena.alloc(40);
  const error = refused("ENOMEM", () => arena.alloc(25, 1));
  expect(error.message).toContain("the guest's buffers");
  expect(error.facts).toEqual({ bytes: 25, freeBytes: 24 });
  expect(arena.alloc(24, 1)).toBe(40);
});

test("freed twice, or never given: EINVAL, and nothing is freed", () => {
  const arena = new Arena("a test", 0, 64);
  const [first, second] = [arena.alloc(16), arena.alloc(16)];
  arena.free(first);
  for (const address of [first, second + 1, 64, -1]) refused("EINVAL", () => arena.free(address));
  expect(arena.freeBytes).toBe(48);
});

test("a length that is no positive whole number: EINVAL", () => {
  const arena = new Arena("a test", 0, 64);
  for (const bytes of [0, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY]) {
    refused("EINVAL", () => arena.alloc(bytes));
  }
  expect(arena.freeBytes).toBe(64);
});

test("an arena of no bytes gives nothing", () => {
  for (const end of [8, 4]) {
    const arena = new Arena("a test", 8, end);
    expect(arena.freeBytes).toBe(0);
    expect(() => arena.alloc(1)).toThrow(VhostError);
  }
});
