// One side of a chain: pieces that count as one run of bytes, read and written at any places in any
// order; who reads on from where he was does not look for it anew.

import fc from "fast-check";
import { expect, test } from "vitest";
import { ChainSide, type Pieces } from "#dist/vhost/chain.js";

const SEED = Number(process.env.FC_SEED ?? Date.now() % 0x8000_0000);
console.log(`pieces of a chain: FC_SEED=${SEED}`);
const memory = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true });
const bytes = new Uint8Array(memory.buffer);

/** Pieces one after the other, with gaps. */
class Table implements Pieces {
  looks = 0;
  readonly #addresses: number[] = [];

  constructor(readonly lengths: readonly number[]) {
    let address = 16;
    for (const length of lengths) {
      this.#addresses.push(address);
      address += length + 3;
    }
  }

  iovAddress(iov: number): number {
    return this.#addresses[iov] ?? Number.NaN;
  }

  iovLength(iov: number): number {
    this.looks++;
    return this.lengths[iov] ?? Number.NaN;
  }

  /** What lies in pieces from `start` on. */
  content(start: number, count: number): Buffer {
    const parts = this.lengths.slice(start, start + count).map((length, i) => {
      const at = this.iovAddress(start + i);
      return bytes.slice(at, at + length);
    });
    return Buffer.concat(parts);
  }
}

const sum = (lengths: readonly number[]) => lengths.reduce((total, length) => total + length, 0);
const lengths = fc.array(fc.oneof(fc.nat({ max: 40 }), fc.constantFrom(0, 1)), {
  minLength: 1,
  maxLength: 40,
});
const steps = fc.array(
  fc.record({
    how: fc.constantFrom("read", "read", "write", "forEach", "set"),
    at: fc.nat({ max: 999 }),
    length: fc.nat({ max: 90 }),
  }),
  { maxLength: 40 },
);

test("any reads and writes in any order are those of one run of bytes", () => {
  const property = fc.property(lengths, steps, (pieces, program) => {
    for (let i = 0; i < bytes.length; i++) bytes[i] = i * 7;
    const table = new Table(pieces);
    const side = new ChainSide(memory, table);
    let [start, count] = [0, pieces.length];
    side.set(start, count, sum(pieces));
    for (const [index, { how, at, length }] of program.entries()) {
      const content = table.content(start, count);
      const offset = at % (side.bytes + 1);
      const end = Math.min(offset + length, side.bytes);
      const there = content.subarray(offset, end);
      if (how === "set") {
        start = at % pieces.length;
        count = pieces.length - start;
        side.set(start, count, sum(pieces.slice(start)));
      } else if (how === "read") {
        const target = Buffer.alloc(length);
        expect(side.read(offset, target)).toBe(end - offset);
        expect(target.subarray(0, end - offset)).toEqual(there);
      } else if (how === "forEach") {
        const parts: Uint8Array[] = [];
        side.forEach(offset, length, (address, n) => {
          parts.push(bytes.slice(address, address + n));
        });
        expect(Buffer.concat(parts)).toEqual(there);
      } else {
        const source = Buffer.alloc(length, index + 1);
        expect(side.write(offset, source)).toBe(end - offset);
        content.fill(index + 1, offset, end);
        expect(table.content(start, count)).toEqual(content);
      }
    }
  });
  fc.assert(property, { seed: SEED, numRuns: 300 });
});

test("a long chain that is read part by part, each part twice, is walked once", () => {
  const table = new Table(Array(1000).fill(4));
  const side = new ChainSide(memory, table);
  side.set(0, 1000, 4000);
  const target = new Uint8Array(10);
  for (let offset = 0; offset < 4000; offset += 10) {
    side.read(offset, target);
    side.read(offset, target);
  }
  expect(table.looks).toBeLessThan(5 * 1000);
});
