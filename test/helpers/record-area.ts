// The memory in which a device records: what the host does with it before a ring starts.

import { recoverPacked } from "#dist/ring/packed-recovery.js";
import { recoverSplit } from "#dist/ring/split-recovery.js";
import * as n from "#dist/spec/inflight.js";
import * as s from "#dist/spec/ring-state.js";
import { PVIRTQ_DESC_FLAGS, VIRTQ_DESC_BYTES } from "#dist/spec/virtio-ring.js";
import type { RecoverStep } from "./record-program.js";
import type { RingFixture } from "./ring-fixture.js";

/** The in-flight region of a ring. */
export function regionOf({ memory, areas }: RingFixture): DataView {
  return new DataView(memory.buffer, areas.inflight, areas.inflightBytes);
}

/** Writes what recovery says for a device that starts. @returns the position to start at. */
function install(fixture: RingFixture, position: number): number {
  const { num, shape, view, bytes, areas, device } = fixture;
  const flagsAt = (index: number) =>
    view.getUint16(fixture.desc + index * VIRTQ_DESC_BYTES + PVIRTQ_DESC_FLAGS, true);
  const found = shape.packed
    ? recoverPacked(regionOf(fixture), num, flagsAt, position)
    : recoverSplit(regionOf(fixture), num, fixture.usedIdx, position);
  bytes.set(found.table, areas.table);
  bytes.set(found.resubmit, areas.resubmit);
  fixture.setWord("device", s.VQ_RESUBMIT_COUNT, found.resubmitCount);
  fixture.setWord("device", s.VQ_RESUBMIT_NEXT, 0); // `start` does it, unless it refuses
  fixture.setWord("device", s.VQ_INFLIGHT_HEAD, found.head);
  fixture.setWord("device", s.VQ_INFLIGHT_OLD, found.head);
  view.setBigUint64(device.vq + s.VQ_INFLIGHT_COUNTER, found.counter, true);
  return found.position;
}

/** Empties the in-flight region, for a ring that starts at `position`; nothing without one. */
export function forget(fixture: RingFixture, position: number): void {
  const { bytes, areas, isInflight } = fixture;
  if (!isInflight) return;
  bytes.fill(0, areas.inflight, areas.inflight + areas.inflightBytes);
  install(fixture, position);
}

/** Where a ring goes on by its region as it is. Throws what recovery throws. */
export function goOn(fixture: RingFixture): number {
  return install(fixture, fixture.word("device", s.VQ_LAST_AVAIL));
}

/** Whether something is to be resubmitted still. */
export function isResubmitting(fixture: RingFixture): boolean {
  if (!fixture.isInflight) return false;
  const count = fixture.word("device", s.VQ_RESUBMIT_COUNT);
  return count > fixture.word("device", s.VQ_RESUBMIT_NEXT);
}

/** Writes heads that are to be resubmitted. */
function makeHeads(fixture: RingFixture, heads: readonly number[]): void {
  const { num, view, areas } = fixture;
  const some = heads.slice(0, num);
  for (const [i, head] of some.entries()) view.setUint16(areas.resubmit + 2 * i, head % num, true);
  fixture.setWord("device", s.VQ_RESUBMIT_COUNT, some.length);
}

type Made = Extract<RecoverStep, { how: "made" }>;

/** Writes a region in which these lists are in flight, and the ring goes on where it is. */
function makeLists(fixture: RingFixture, lists: Made["lists"]): void {
  const { num } = fixture;
  const region = regionOf(fixture);
  const set16 = (at: number, value: number) => region.setUint16(at, value, true);
  const entryAt = (entry: number) => n.INFLIGHT_PACKED_DESCS + entry * n.INFLIGHT_PACKED_DESC_BYTES;
  let free = 0;
  for (const [order, { id, pieces }] of lists.entries()) {
    if (free + pieces.length > num) break;
    const first = entryAt(free);
    region.setUint8(first, 1);
    region.setBigUint64(first + n.INFLIGHT_DESC_COUNTER, BigInt(order), true);
    set16(first + n.INFLIGHT_PACKED_DESC_NUM, pieces.length);
    set16(first + n.INFLIGHT_PACKED_DESC_LAST, free + pieces.length - 1);
    for (const { region: index, delta, len, flags } of pieces) {
      const at = entryAt(free++);
      const { guest } = fixture.region(index % fixture.regions.length);
      const address = BigInt.asUintN(64, guest + BigInt(delta));
      region.setBigUint64(at + n.INFLIGHT_PACKED_DESC_ADDR, address, true);
      region.setUint32(at + n.INFLIGHT_PACKED_DESC_LEN, len, true);
      set16(at + n.INFLIGHT_PACKED_DESC_FLAGS, flags);
      set16(at + n.INFLIGHT_PACKED_DESC_ID, id);
      set16(at + n.INFLIGHT_PACKED_DESC_NEXT, free);
    }
  }
  for (let entry = free; entry < num; entry++) {
    region.setUint8(entryAt(entry), 0);
    set16(entryAt(entry) + n.INFLIGHT_PACKED_DESC_NEXT, entry + 1);
  }
  set16(n.INFLIGHT_PACKED_FREE_HEAD, free);
  set16(n.INFLIGHT_PACKED_OLD_FREE_HEAD, free);
}

/**
 * Begins a device's half again as a step says; nothing without an in-flight region. @returns what
 * `start` answers, or why there is no going on: then the ring begins empty.
 */
export function recover(
  fixture: RingFixture,
  start: (position: number) => number,
  step: RecoverStep,
): string {
  if (!fixture.isInflight) return "";
  const { packed } = fixture.shape;
  const last = fixture.word("device", s.VQ_LAST_AVAIL);
  const used = fixture.word("device", s.VQ_USED_PUBLISHED);
  const here = packed ? used + used * 0x1_0000 : last;
  if (step.how === "crash") {
    try {
      return `${start(goOn(fixture))}`;
    } catch (error) {
      forget(fixture, here);
      return `${error} ${start(here)}`;
    }
  }
  forget(fixture, here);
  if (!packed) {
    makeHeads(fixture, step.heads);
    return `${start(here)}`;
  }
  makeLists(fixture, step.lists);
  return `${start(goOn(fixture))}`;
}

/** What a device has recorded, by the look of it: for tests that count how often they saw it. */
export function recordedBy(fixture: RingFixture): ("resubmitted" | "marked" | "inFlight")[] {
  const { bytes, areas, isInflight } = fixture;
  const isMarked = bytes.subarray(areas.log, areas.log + areas.logBytes).some((byte) => byte !== 0);
  return [
    ...(isInflight && fixture.word("device", s.VQ_RESUBMIT_NEXT) > 0
      ? (["resubmitted"] as const)
      : []),
    ...(isMarked ? (["marked"] as const) : []),
    ...(isInflight && fixture.word("device", s.VQ_IN_FLIGHT) > 0 ? (["inFlight"] as const) : []),
  ];
}
