// In-flight regions that somebody has written to, and what must hold of what recovery makes of
// them.

import fc from "fast-check";
import { expect } from "vitest";
import { VhostError } from "#dist/spec/errno.js";
import * as n from "#dist/spec/inflight.js";
import * as s from "#dist/spec/ring-state.js";
import { VIRTQ_DESC_BYTES } from "#dist/spec/virtio-ring.js";
import { goOn, regionOf } from "./record-area.js";
import type { RingFixture } from "./ring-fixture.js";

/** A write to a region: to a byte at random, or to a field of its header or of an entry. */
export interface Damage {
  field: number;
  entry: number;
  value: number;
}

/** Fields of u16, and one of bytes. */
const HEADER = { split: [8, 10, 12, 14], packed: [8, 10, 12, 14, 16, 18, 20] };
const ENTRY = { split: [0, 6, 8, 14], packed: [0, 2, 4, 6, 8, 14, 16, 18, 20, 24, 30] };

/** Damage that matters: small numbers, those near the queue size, and anything. */
export const damageArb: fc.Arbitrary<Damage[]> = fc.array(
  fc.record({
    field: fc.nat(20),
    entry: fc.integer({ min: -1, max: 8 }),
    value: fc.oneof(
      { weight: 4, arbitrary: fc.nat(9) },
      { weight: 1, arbitrary: fc.nat(0xffff) },
      { weight: 1, arbitrary: fc.constantFrom(0x100, 0x101, 0x7fff, 0x8000, 0xffff) },
    ),
  }),
  { minLength: 1, maxLength: 6 },
);

/** Writes it. */
export function damage(fixture: RingFixture, writes: readonly Damage[]): void {
  const layout = fixture.shape.packed ? "packed" : "split";
  const [descs, bytes] = fixture.shape.packed
    ? [n.INFLIGHT_PACKED_DESCS, n.INFLIGHT_PACKED_DESC_BYTES]
    : [n.INFLIGHT_SPLIT_DESCS, n.INFLIGHT_SPLIT_DESC_BYTES];
  for (const { field, entry, value } of writes) {
    const fields = entry < 0 ? HEADER[layout] : ENTRY[layout];
    const base = entry < 0 ? 0 : descs + (entry % fixture.num) * bytes;
    regionOf(fixture).setUint16(base + (fields[field % fields.length] as number), value, true);
  }
}

/** Whether the region says that it was never written. */
export function isUnwritten(fixture: RingFixture): boolean {
  return regionOf(fixture).getUint16(n.INFLIGHT_REGION_VERSION, true) === 0;
}

/** Fills the region with these bytes, but says that it is the ring's. */
export function fill(fixture: RingFixture, bytes: Uint8Array): void {
  const region = regionOf(fixture);
  for (let at = 0; at < region.byteLength; at++) {
    region.setUint8(at, bytes[at % bytes.length] as number);
  }
  region.setUint16(n.INFLIGHT_REGION_VERSION, n.INFLIGHT_VERSION, true);
  region.setUint16(n.INFLIGHT_REGION_NUM, fixture.num, true);
}

/** Recovers. @returns the position; undefined: it was refused, and nothing was changed. */
export function tryToGoOn(fixture: RingFixture): number | undefined {
  const before = Buffer.from(fixture.bytes);
  try {
    return goOn(fixture);
  } catch (error) {
    expect(error).toBeInstanceOf(VhostError);
    expect((error as VhostError).code).toBe("EINVAL");
    expect(before.equals(fixture.bytes), "refused, and something was changed").toBe(true);
    return undefined;
  }
}

/** What recovery has installed is what a device may start on. */
export function checkInstalled(fixture: RingFixture, position: number): void {
  const count = fixture.word("device", s.VQ_RESUBMIT_COUNT);
  expect(count).toBeLessThanOrEqual(fixture.num);
  if (fixture.shape.packed) checkLists(fixture, position, count);
  else checkHeads(fixture, count);
}

function checkHeads({ num, view, areas }: RingFixture, count: number): void {
  const heads = Array.from({ length: count }, (_, i) =>
    view.getUint16(areas.resubmit + 2 * i, true),
  );
  expect(new Set(heads).size).toBe(count);
  for (const head of heads) expect(head).toBeLessThan(num);
}

function checkLists(fixture: RingFixture, position: number, count: number): void {
  const { num, view, areas } = fixture;
  const [avail, used] = [position & 0xffff, position >>> 16];
  const index = (at: number) => at & 0x7fff;
  expect(Math.max(index(avail), index(used))).toBeLessThan(num);
  const isSameLap = (avail & 0x8000) === (used & 0x8000);
  expect(index(avail) - index(used) + (isSameLap ? 0 : num)).toBe(count);
  const word = (entry: number, offset: number) =>
    view.getUint16(areas.table + entry * s.INFLIGHT_ENTRY_BYTES + offset, true);
  const taken = new Set<number>();
  const take = (entry: number) => {
    expect(entry).toBeLessThan(num);
    expect(taken.has(entry), `entry ${entry} twice`).toBe(false);
    taken.add(entry);
    return word(entry, s.INFLIGHT_ENTRY_NEXT);
  };
  let free = fixture.word("device", s.VQ_INFLIGHT_HEAD);
  while (free < num) free = take(free);
  expect(free).toBe(num);
  let descs = 0;
  for (let id = 0; id < 65536; id++) {
    for (let at = word(num, 2 * id); at !== 0; at = word(at - 1, s.INFLIGHT_ENTRY_OLDER)) {
      const length = word(at - 1, s.INFLIGHT_ENTRY_COUNT);
      let entry = at - 1;
      let last = entry;
      for (let i = 0; i < length; i++, descs++) [last, entry] = [entry, take(entry)];
      expect(last).toBe(word(at - 1, s.INFLIGHT_ENTRY_LAST));
    }
  }
  expect(descs).toBe(count);
  expect(taken.size).toBe(num);
  for (let i = 0; i < count; i++) {
    const flags = view.getUint16(areas.resubmit + i * VIRTQ_DESC_BYTES + 14, true);
    expect(flags & 0x8080, "available, with wrap counter 1").toBe(0x80);
    if (i === count - 1) expect(flags & 1, "the last list ends").toBe(0);
  }
}
