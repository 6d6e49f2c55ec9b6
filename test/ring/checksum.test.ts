// The Internet's checksum, in WebAssembly and in TypeScript, by RFC 1071.

import { expect, test } from "vitest";
import { loadChecksum } from "#dist/ring/checksum.js";
import { Random } from "../fuzz/random.js";
import { seedOf } from "../helpers/seed.js";

const MEMORY_BYTES = 1 << 20;
const memories = {
  shared: new WebAssembly.Memory({ initial: 16, maximum: 16, shared: true }),
  unshared: new WebAssembly.Memory({ initial: 16, maximum: 65536 }),
};

/** RFC 1071, 4.1: word by word, with a number that has no limit. */
function byTheBook(bytes: Uint8Array): number {
  let sum = 0n;
  for (let i = 0; i < bytes.length; i += 2) {
    sum += BigInt((bytes[i] as number) | ((bytes[i + 1] ?? 0) << 8));
  }
  while (sum > 0xffffn) sum = (sum & 0xffffn) + (sum >> 16n);
  return Number(sum);
}

test.each(["shared", "unshared"] as const)("any bytes at any place, %s memory", (kind) => {
  const seed = seedOf("checksum");
  const random = new Random(seed);
  const memory = memories[kind];
  const bytes = new Uint8Array(memory.buffer);
  const [wasm, ts] = [loadChecksum(memory), loadChecksum(memory, "ts")];
  for (let i = 0; i < 400; i++) {
    const length = random.once(20) ? 65_600 : random.below(random.once(2) ? 70 : 2000);
    const address = random.below(MEMORY_BYTES - length + 1);
    const fill = random.below(3);
    for (let at = address; at < address + length; at++) {
      bytes[at] = fill === 0 ? 0xff : fill === 1 ? random.below(256) : random.once(50) ? 1 : 0;
    }
    const expected = byTheBook(bytes.subarray(address, address + length));
    const what = `FC_SEED=${seed}, run ${i}: ${length} bytes at ${address}`;
    expect([wasm.sum(address, length), ts.sum(address, length)], what).toEqual([
      expected,
      expected,
    ]);
  }
});

test("no lane runs over, and the last byte of the memory is read, none behind it", () => {
  for (const memory of Object.values(memories)) {
    new Uint8Array(memory.buffer).fill(0xff);
    for (const [address, length] of [
      [0, MEMORY_BYTES],
      [1, MEMORY_BYTES - 1],
      [MEMORY_BYTES - 1, 1],
      [MEMORY_BYTES - 17, 17],
      [MEMORY_BYTES, 0],
    ] as const) {
      const expected = byTheBook(new Uint8Array(length).fill(0xff));
      expect(loadChecksum(memory).sum(address, length)).toBe(expected);
      expect(loadChecksum(memory, "ts").sum(address, length)).toBe(expected);
    }
  }
});
