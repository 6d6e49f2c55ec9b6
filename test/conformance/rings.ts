// Runs recorded rings through ours and compares.

import type { SharedMemory } from "#dist/memory/shared-memory.js";
import { loadRings, type RingKind, type Rings } from "#dist/ring/load.js";
import { RingTables } from "#dist/ring/tables.js";
import { VQ_LAST_AVAIL } from "#dist/spec/ring-state.js";
import { memoryFor, RingMemory } from "./ring-memory.js";
import type { Observation, RingRecord } from "./ring-record.js";
import { type Signals, VsockTx } from "./vsock-tx.js";

/** A value that is not what was recorded. */
export interface Difference {
  id: string;
  field: string;
  expected: Observation;
  /** Undefined: we have no such value. */
  got: Observation | undefined;
}

/** What came of all records. */
export interface Outcome {
  agree: number;
  differ: number;
  differences: Difference[];
}

/** What can be seen after a kick, by the names of the records. */
function afterKick(
  name: string,
  memory: RingMemory,
  tables: RingTables,
  { errors, calls }: Signals,
): Record<string, Observation> {
  return {
    [`${name}_used_idx`]: memory.usedIdx,
    [`${name}_last_avail`]: tables.word(VQ_LAST_AVAIL),
    [`${name}_err_signals`]: errors,
    [`${name}_call_signals`]: calls,
    [`${name}_used_flags`]: memory.usedFlags,
    [`${name}_avail_event`]: memory.availEvent,
  };
}

/** The ids between two indices; undefined when the ring no longer has them all. */
function usedIds(memory: RingMemory, num: number, from: number, to: number): number[] | undefined {
  const count = (to - from) & 0xffff;
  if (count > num) return undefined;
  return Array.from({ length: count }, (_, i) => memory.usedId((from + i) & 0xffff));
}

/** Kicks a ring twice. @returns every value that a record may have. */
function observe(
  shared: SharedMemory,
  rings: Rings,
  { input }: RingRecord,
): Record<string, Observation | undefined> {
  const memory = new RingMemory(shared, input);
  try {
    const ring = rings.device(memory.vq);
    const tables = new RingTables(shared.memory, memory.vq);
    const running = ring.start(input.base) === 0 ? "OK" : "refused";
    const device = new VsockTx(ring, tables);
    const first = afterKick("k1", memory, tables, device.kick());
    const ids = usedIds(memory, input.num, input.base, memory.usedIdx);
    const second = afterKick("k2", memory, tables, device.kick());
    return { running, ...first, k1_used_ids: ids, ...second };
  } finally {
    memory.release();
  }
}

function isSame(a: Observation, b: Observation | undefined): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}

function compare(
  { id, input, observed }: RingRecord,
  seen: Record<string, Observation | undefined>,
): Difference[] {
  const returned = ((observed.k1_used_idx as number) - input.base) & 0xffff;
  return Object.entries(observed)
    .filter(([field]) => field !== "k1_used_ids" || returned <= input.num) // overwritten else
    .filter(([field, expected]) => !isSame(expected, seen[field]))
    .map(([field, expected]) => ({ id, field, expected, got: seen[field] }));
}

/** Runs each record through rings of `kind`. */
export function runRecords(records: readonly RingRecord[], kind: RingKind): Outcome {
  const shared = memoryFor(records.map(({ input }) => input));
  const rings = loadRings(shared.memory, kind);
  const found = records.map((record) => compare(record, observe(shared, rings, record)));
  const differ = found.filter((differences) => differences.length > 0).length;
  return { agree: records.length - differ, differ, differences: found.flat() };
}
