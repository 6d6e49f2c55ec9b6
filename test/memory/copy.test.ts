// Copies between memory that is shared and memory that is not, however they are aligned.

import { describe, expect, test } from "vitest";
import { bufferOf, copyOf, copyTo } from "#dist/memory/copy.js";

const BYTES = 1024;
const LENGTHS = [0, 1, 7, 8, 64, 191, 192, 193, 200, 1000];
const OFFSETS = [0, 1, 4, 7, 8];
const MEMORIES: Record<string, () => Uint8Array> = {
  shared: () => new Uint8Array(new SharedArrayBuffer(BYTES)),
  own: () => new Uint8Array(BYTES),
};
const bytesOf = (length: number) => Uint8Array.from({ length }, (_, i) => i * 31 + 1);

describe.each(Object.keys(MEMORIES))("from %s memory", (from) => {
  test.each(Object.keys(MEMORIES))("to %s: all bytes, and no other", (to) => {
    for (const length of LENGTHS) {
      for (const at of OFFSETS) {
        for (const offset of OFFSETS) {
          const source = (MEMORIES[from] as () => Uint8Array)();
          source.set(bytesOf(length), offset);
          const target = (MEMORIES[to] as () => Uint8Array)().fill(0xee);
          copyTo(bufferOf(target), at, source.subarray(offset, offset + length));
          const expected = new Uint8Array(BYTES).fill(0xee);
          expected.set(bytesOf(length), at);
          expect(Buffer.compare(target, expected), `${length} from ${offset} to ${at}`).toBe(0);
        }
      }
    }
  });

  test("what has no room is a RangeError, and nothing is written", () => {
    for (const length of [10, 300]) {
      const target = new Uint8Array(BYTES);
      const source = (MEMORIES[from] as () => Uint8Array)().fill(1);
      const copy = () => copyTo(bufferOf(target), BYTES - 9, source.subarray(1, 1 + length));
      expect(copy).toThrow(RangeError);
      expect(target.every((byte) => byte === 0)).toBe(true);
    }
  });

  test("a copy has memory of its own, of its size", () => {
    for (const length of LENGTHS) {
      const source = (MEMORIES[from] as () => Uint8Array)();
      source.set(bytesOf(length), 1);
      const copy = copyOf(source.subarray(1, 1 + length));
      source.fill(0);
      expect([copy.length, copy.buffer.byteLength]).toEqual([length, length]);
      expect(copy.slice()).toEqual(bytesOf(length));
    }
  });
});
