// Where a device records, in a fixture's memory: the dirty log and what belongs to the in-flight area.

import { inflightRegionBytes } from "#dist/ring/inflight.js";
import * as s from "#dist/spec/ring-state.js";
import { VIRTQ_DESC_BYTES } from "#dist/spec/virtio-ring.js";
import type { RingFixture, RingShape } from "./ring-fixture.js";

/** Linear addresses. */
export interface RecordAreas {
  log: number;
  logBytes: number;
  /** The queue's part of the in-flight area. */
  inflight: number;
  inflightBytes: number;
  /** Our own side of it, and what is to be resubmitted. */
  table: number;
  resubmit: number;
}

/** Takes what a shape records in; nothing for one that does not. */
export function takeAreas(
  { num, packed, record }: RingShape,
  take: (bytes: number, align?: number, gap?: number) => number,
): RecordAreas {
  const { logBytes = 0, inflight = false } = record ?? {};
  const inflightBytes = inflight ? inflightRegionBytes(num, packed) : 0;
  const tableBytes = packed ? num * s.INFLIGHT_ENTRY_BYTES + 2 * 65536 : 2 * num;
  return {
    log: take(logBytes, 1, 16),
    logBytes,
    inflight: take(inflightBytes, 64, 64),
    inflightBytes,
    table: take(inflight ? tableBytes : 0, 16, 16),
    resubmit: take(inflight ? num * VIRTQ_DESC_BYTES : 0),
  };
}

/** Tells the device's state block of them. */
export function writeAreas(fixture: RingFixture): void {
  const { areas, view, device } = fixture;
  const { record, linux } = fixture.shape;
  if (!record) return;
  const flags =
    (record.log ? s.VQ_F_LOG : 0) |
    (record.logUsed ? s.VQ_F_LOG_USED : 0) |
    (record.inflight && !linux ? s.VQ_F_INFLIGHT : 0);
  const words: [number, number][] = [
    [s.VQ_FLAGS, fixture.word("device", s.VQ_FLAGS) | flags],
    [s.VQ_LOG, areas.log],
    [s.VQ_LOG_BYTES, areas.logBytes],
    [s.VQ_INFLIGHT, areas.inflight],
    [s.VQ_INFLIGHT_TABLE, areas.table],
    [s.VQ_RESUBMIT, areas.resubmit],
  ];
  for (const [offset, value] of words) fixture.setWord("device", offset, value);
  const { usedAt = fixture.guestOf(fixture.used), descAt = fixture.guestOf(fixture.desc) } = record;
  view.setBigUint64(device.vq + s.VQ_LOG_USED, BigInt.asUintN(64, usedAt), true);
  view.setBigUint64(device.vq + s.VQ_LOG_DESC, BigInt.asUintN(64, descAt), true);
}
