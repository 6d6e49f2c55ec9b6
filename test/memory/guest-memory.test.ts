import fc from "fast-check";
import { expect, test } from "vitest";
import { GuestMemory, MEMORY_REGIONS_MAX, type MemoryRegion } from "#dist/memory/guest-memory.js";
import { REGION_BYTES } from "#dist/spec/ring-state.js";
import { refused } from "../helpers/kernel-counts.js";

const START = 0x30000;
const END = 0x100000;

function region(guestAddress: bigint, size: number | bigint, linearAddress = START): MemoryRegion {
  return { guestAddress, sizeBytes: BigInt(size), linearAddress };
}

const make = (...regions: MemoryRegion[]) => new GuestMemory(regions, START, END);

/** Makes a table that must be refused for the region of that index. */
function refusedRegion(index: number, ...regions: MemoryRegion[]): void {
  expect(refused("EINVAL", () => make(...regions)).facts).toMatchObject({ index });
}

test("regions that overlap in guest addresses: EINVAL, naming the later one", () => {
  const base = region(0x1000n, 0x1000);
  for (const [at, size] of [
    [0x1000n, 0x1000],
    [0x0fffn, 2],
    [0x1fffn, 1],
    [0x1800n, 1],
    [0n, 0x10000],
  ] as const) {
    refusedRegion(1, base, region(at, size));
  }
  expect(make(base, region(0x2000n, 1), region(0xfffn, 1)).regions).toHaveLength(3);
});

test("two guest ranges may show the same bytes, as aliases do", () => {
  expect(make(region(0n, 16), region(0x1000n, 16)).regions).toHaveLength(2);
});

test("a region of no bytes, or of fewer: EINVAL", () => {
  refusedRegion(0, region(0x1000n, 0));
  refusedRegion(0, region(0x1000n, -1n));
});

test("a region may end at 2^64 and not beyond; no address is below zero", () => {
  const top = 2n ** 64n - 16n;
  expect(make(region(top, 16)).translate(top, 16, 16, "x")).toBe(START);
  refusedRegion(0, region(top, 17));
  refusedRegion(0, region(2n ** 64n, 1));
  refusedRegion(0, region(-1n, 16));
});

test("a region must lie in the guest's part as a whole: EINVAL by a single byte", () => {
  expect(make(region(0n, END - START)).regions).toHaveLength(1);
  refusedRegion(0, region(0n, END - START + 1));
  refusedRegion(0, region(0n, 1, START - 1));
  refusedRegion(0, region(0n, 1, END));
  refusedRegion(0, region(0n, 2n ** 63n));
  refusedRegion(0, region(0n, 16, 0));
});

test("a linear address that is no whole number: EINVAL like any other mistake", () => {
  for (const linear of [START + 0.5, Number.NaN])
    refused("EINVAL", () => make(region(0n, 1, linear)));
});

test("64 regions are taken, one more is E2BIG", () => {
  const regions = (count: number) => Array.from({ length: count }, (_, i) => region(BigInt(i), 1));
  expect(MEMORY_REGIONS_MAX).toBe(64);
  expect(make(...regions(64)).regions).toHaveLength(64);
  refused("E2BIG", () => make(...regions(65)));
});

test("the table is its own: what the caller changes later does not reach it", () => {
  const mine = region(0x1000n, 0x1000);
  const memory = make(mine);
  mine.linearAddress = 0;
  expect(memory.translate(0x1000n, 1, 1, "x")).toBe(START);
});

test("translate: the whole range lies in one region, or EFAULT that names the area", () => {
  const memory = make(region(0x1000n, 0x100), region(0x1100n, 0x100, START + 0x1000));
  expect(memory.translate(0x1000n, 0x100, 16, "x")).toBe(START);
  expect(memory.translate(0x11f0n, 0x10, 16, "x")).toBe(START + 0x10f0);
  for (const [at, bytes] of [
    [0xff0n, 0x10],
    [0x10f0n, 0x11], // spans two regions that adjoin: not for a ring area
    [0x11f0n, 0x11],
    [0x1200n, 1],
    [0n, 1],
  ] as const) {
    const error = refused("EFAULT", () => memory.translate(at, bytes, 1, "driver area"));
    expect(error.message).toContain("driver area");
  }
  refused("EFAULT", () => make().translate(0n, 1, 1, "x"));
});

test("translate: a misaligned address is EINVAL", () => {
  const memory = make(region(0x1000n, 0x100));
  refused("EINVAL", () => memory.translate(0x1008n, 16, 16, "descriptor table"));
  refused("EINVAL", () => memory.translate(0x1001n, 2, 2, "driver area"));
});

test("translate gives an address aligned as asked, or EINVAL: atomics trap on any other", () => {
  const memory = () => make(region(0x1000n, 0x100, START + 1)).translate(0x1000n, 16, 4, "x");
  refused("EINVAL", memory);
});

test("translate agrees with a byte by byte look-up", () => {
  const tables = fc.uniqueArray(
    fc.record({ page: fc.nat(20), pages: fc.integer({ min: 1, max: 3 }), linear: fc.nat(20) }),
    { selector: ({ page }) => page, maxLength: 5 },
  );
  const query = fc.tuple(fc.nat(0x1800), fc.integer({ min: 1, max: 0x300 }));
  fc.assert(
    fc.property(tables, query, (table, [at, bytes]) => {
      const whereIs = new Map<number, [linear: number, index: number]>();
      const regions: MemoryRegion[] = [];
      for (const { page, pages, linear } of table.sort((a, b) => a.page - b.page)) {
        if (whereIs.has(page * 256)) continue;
        const next = table.find((other) => other.page > page)?.page ?? 99;
        const size = Math.min(pages, next - page) * 256;
        regions.push(region(BigInt(page * 256), size, START + linear * 256));
        for (let i = 0; i < size; i++) {
          whereIs.set(page * 256 + i, [START + linear * 256 + i, regions.length]);
        }
      }
      const memory = make(...regions);
      const [first, index] = whereIs.get(at) ?? [];
      const isWhole = Array.from({ length: bytes }, (_, i) => whereIs.get(at + i)?.[1]).every(
        (other) => other !== undefined && other === index,
      );
      const translate = () => memory.translate(BigInt(at), bytes, 1, "x");
      if (isWhole) expect(translate()).toBe(first);
      else refused("EFAULT", translate);
    }),
  );
});

test("writeTo writes what the rings read, and no byte more", () => {
  const memory = make(region(0x1_0000_0000n, 0x2000), region(2n ** 64n - 1n, 1, START + 0x5000));
  const view = new DataView(new ArrayBuffer(16 + memory.tableBytes + 16));
  memory.writeTo(view, 16);
  expect(memory.tableBytes).toBe(2 * REGION_BYTES);
  const words = Array.from({ length: 6 }, (_, i) => view.getBigUint64(16 + i * 8, true));
  const second = [2n ** 64n - 1n, 1n, BigInt(START + 0x5000)];
  expect(words).toEqual([0x1_0000_0000n, 0x2000n, BigInt(START), ...second]);
  const around = [0, 8, view.byteLength - 16, view.byteLength - 8];
  expect(around.map((at) => view.getBigUint64(at, true))).toEqual([0n, 0n, 0n, 0n]);
});
