// The walk along a chain whose addresses are translated, and the look at a ring's areas, alone:
// what takes much memory, a table that ends oddly.

import { describe, expect, test } from "vitest";
import { SharedMemory } from "#dist/memory/shared-memory.js";
import {
  VRING_E_ADDRESS,
  VRING_E_INDIRECT_ADDRESS,
  VRING_E_INDIRECT_LENGTH,
  VRING_E_IOV,
  VRING_E_LENGTH,
  VRING_E_LOOP,
} from "#dist/spec/ring-state.js";
import { Iotlb, IotlbView } from "#dist/vhost/ioctl/iotlb.js";
import { IotlbAreas } from "#dist/vhost/ioctl/iotlb-areas.js";
import { IotlbSpace, type Stop } from "#dist/vhost/ioctl/iotlb-space.js";
import { type WalkedChain, walkChain } from "#dist/vhost/ioctl/iotlb-walk.js";
import { UserMemory } from "#dist/vhost/user-access.js";
import type { IovaDesc } from "../../helpers/viommu.js";

const NEXT = 1;
const WRITE = 2;
const INDIRECT = 4;
const NUM = 4;

function boot() {
  const memory = new WebAssembly.Memory({ initial: 128, maximum: 128, shared: true });
  const shared = SharedMemory.of(memory);
  const table = new Iotlb();
  const space = new IotlbSpace(memory, new UserMemory(memory), new IotlbView(table.buffer));
  const start = BigInt(shared.guestStart);
  const end = start + BigInt(shared.guestBytes);
  const map = (iova: bigint, size: bigint, uaddr: bigint, perm = 3) =>
    table.add({ start: iova, last: iova + size - 1n, uaddr, perm });
  const put = (into: DataView, at: number, { addr, len, flags = 0, next = 0 }: IovaDesc) => {
    into.setBigUint64(at, addr, true);
    into.setUint32(at + 8, len, true);
    into.setUint16(at + 12, flags, true);
    into.setUint16(at + 14, next, true);
  };
  const walk = (...descs: IovaDesc[]): WalkedChain | Stop =>
    walkChain(space, NUM, 0, (index, into) => {
      put(into, 0, descs[index] ?? { addr: 0n, len: 0 });
      return true;
    });
  const setTable = (at: number, descs: IovaDesc[]) => {
    for (const [i, desc] of descs.entries()) put(shared.view, at + 16 * i, desc);
  };
  return { memory, shared, table, space, start, end, map, walk, setTable };
}

describe("a chain", () => {
  test("has pieces of both sides, adjoining ranges one after the other", () => {
    const { walk, map, start } = boot();
    map(0x1000n, 0x1000n, start);
    map(0x2000n, 0x1000n, start + 0x5000n);
    const out = { addr: 0x1ff0n, len: 0x20, flags: NEXT, next: 1 };
    expect(walk(out, { addr: 0x2800n, len: 1, flags: WRITE })).toMatchObject({
      out: [
        { uaddr: start + 0xff0n, bytes: 0x10 },
        { uaddr: start + 0x5000n, bytes: 0x10 },
      ],
      in: [{ uaddr: start + 0x5800n, bytes: 1 }],
      outBytes: 0x20,
      inBytes: 1,
    });
  });

  test("asks for what it meets first, for what it is to be used", () => {
    const { walk, map, start } = boot();
    map(0x1000n, 0x1000n, start);
    const first = { addr: 0x1ff0n, len: 0x20, flags: WRITE | NEXT, next: 9 };
    expect(walk(first)).toEqual({ miss: 0x2000n, perm: 2 }); // before a `next` that can't be
    expect(walk({ addr: 0x9000n, len: 16, flags: INDIRECT })).toEqual({ miss: 0x9000n, perm: 1 });
    expect(walk({ addr: 2n ** 64n - 1n, len: 2 })).toEqual({ miss: 2n ** 64n - 1n, perm: 1 });
  });

  test("has 1024 pieces at most, of both sides together", () => {
    const { walk, map, start, setTable, shared } = boot();
    const table = shared.allocGuest(0x1_0000, 4096);
    map(0x1000n, 0x1000n, start);
    map(0x10_0000n, 0x1_0000n, BigInt(table));
    const of = (count: number) => {
      const flags = (i: number) => (i < 600 ? 0 : WRITE) | (i < count - 1 ? NEXT : 0);
      const desc = (_: unknown, i: number) => ({ addr: 0x1000n, len: 1, flags: flags(i) });
      setTable(table, Array.from({ length: count }, desc));
      return walk({ addr: 0x10_0000n, len: 16 * count, flags: INDIRECT });
    };
    expect(of(1024)).toMatchObject({ outBytes: 600, inBytes: 424 });
    expect(of(1025)).toEqual({ code: VRING_E_IOV, isInTable: true });
  });

  test("has less than 2^32 bytes a side", () => {
    const { walk, map, start, shared } = boot();
    const size = BigInt(shared.guestBytes);
    const ranges = 2n ** 32n / size;
    for (let i = 0n; i <= ranges + 1n; i++) map(i * size, size, start);
    const all = { addr: 0n, len: 2 ** 32 - 1, flags: NEXT, next: 1 };
    expect(ranges).toBeLessThan(1000);
    expect(walk(all, { addr: 0n, len: 0 })).toMatchObject({ outBytes: 2 ** 32 - 1 });
    expect(walk(all, { addr: 0n, len: 1 })).toEqual({ code: VRING_E_LENGTH });
    expect(walk(all, { addr: 0n, len: 1, flags: WRITE })).toMatchObject({ inBytes: 1 });
  });

  test("is an error where the range may not be used so, or is not there", () => {
    const { walk, map, start, end } = boot();
    map(0x1000n, 0x1000n, start, 1);
    map(0x2000n, 0x1000n, end - 8n);
    map(0x3000n, 0x1000n, 64n);
    expect(walk({ addr: 0x1000n, len: 1, flags: WRITE })).toEqual({ code: VRING_E_ADDRESS });
    expect(walk({ addr: 0x2000n, len: 8 })).toMatchObject({ outBytes: 8 });
    expect(walk({ addr: 0x2000n, len: 9 })).toEqual({ code: VRING_E_ADDRESS });
    expect(walk({ addr: 0x3000n, len: 1 })).toEqual({ code: VRING_E_ADDRESS });
  });
});

describe("a table of descriptors", () => {
  test("has 65536 at most, and no part of one", () => {
    const { walk, map, shared } = boot();
    const table = shared.allocGuest(0x11_0000, 4096);
    map(0n, 0x11_0000n, BigInt(table));
    const wrong = { code: VRING_E_INDIRECT_LENGTH, isInTable: true };
    const of = (len: number) => walk({ addr: 0n, len, flags: INDIRECT });
    expect(of(16 * 65536)).toMatchObject({ outBytes: 0 });
    for (const len of [16 * 65537, 0, 8, 17]) expect(of(len)).toEqual(wrong);
  });

  test("is read as far as it is followed: it may go on where nothing is", () => {
    const { walk, map, end, setTable } = boot();
    map(0n, 0x1_0000n, end - 32n);
    const of = (len: number) => walk({ addr: 0n, len, flags: INDIRECT });
    const entry = { addr: 0n, len: 1 };
    setTable(Number(end) - 32, [{ ...entry, flags: NEXT }, entry]);
    expect(of(0x1000)).toMatchObject({ outBytes: 2 });
    setTable(Number(end) - 32, [
      { ...entry, flags: NEXT },
      { ...entry, flags: NEXT },
    ]);
    expect(of(0x1000)).toEqual({ code: VRING_E_INDIRECT_ADDRESS, isInTable: true });
    expect(of(32)).toEqual({ code: VRING_E_LOOP, isInTable: true });
  });

  test("may lie in pieces, a descriptor in two of them", () => {
    const { walk, map, start, setTable, shared } = boot();
    setTable(shared.guestStart, [
      { addr: 0n, len: 3, flags: NEXT },
      { addr: 0n, len: 4 },
    ]);
    map(0n, 24n, start);
    map(24n, 8n, start + 4096n);
    shared.bytes.copyWithin(
      shared.guestStart + 4096,
      shared.guestStart + 24,
      shared.guestStart + 32,
    );
    shared.bytes.fill(0xff, shared.guestStart + 24, shared.guestStart + 32);
    expect(walk({ addr: 0n, len: 32, flags: INDIRECT })).toMatchObject({ outBytes: 7 });
  });
});

describe("a used ring to be written alone", () => {
  const areasOf = ({ memory, space }: ReturnType<typeof boot>) =>
    new IotlbAreas(memory, space, {
      ...{ num: NUM, areas: { desc: 0x1000n, avail: 0x2000n, used: 0x3000n } },
      ...{ features: 0n, regions: [], log: { base: 0n, used: undefined } },
    });
  const missed: Stop[] = [];
  const store = (areas: IotlbAreas) => areas.store16("used", 2, 7, (stop) => missed.push(stop));

  test("is, as a whole; in two parts its words must be readable, too, as in Linux", () => {
    const lab = boot();
    const { map, start, table } = lab;
    map(0x1000n, 0x2000n, start);
    map(0x3000n, 0x1000n, start + 0x3000n, 2);
    const areas = areasOf(lab);
    expect(store(areas)).toBe(false); // nobody has looked for it yet
    expect([areas.prefetch(), store(areas)]).toEqual([undefined, true]);
    table.delete(0x3000n, 0x3000n);
    map(0x3000n, 8n, start + 0x3000n, 2);
    map(0x3008n, 0x1000n, start + 0x3008n, 2);
    expect([areas.prefetch(), store(areas), areas.writeUsed(0, 1, 2)]).toEqual([
      undefined,
      false,
      true,
    ]);
    expect(missed.filter(({ miss }) => miss !== undefined)).toEqual([]);
  });
});
