// What random programs need for a device that records: where the records lie, and how a ring begins
// again from them. Steps are plain data; `record-area.ts` runs them.

import fc from "fast-check";

/** What a device records, and where. */
export interface RecordShape {
  /** VQ_F_LOG, VQ_F_LOG_USED, VQ_F_INFLIGHT (never with policy linux). */
  log: boolean;
  logUsed: boolean;
  inflight: boolean;
  /** Bytes of the dirty log. */
  logBytes: number;
  /** Guest addresses for VQ_LOG_USED and VQ_LOG_DESC; left out: where the areas are. */
  usedAt?: bigint | undefined;
  descAt?: bigint | undefined;
}

/** A descriptor that is to be resubmitted. */
export interface Piece {
  region: number;
  /** From the region's start on. */
  delta: number;
  len: number;
  flags: number;
}

/** A ring begins again, by the in-flight area. */
export type RecoverStep =
  /** By what is there. */
  | { op: "recover"; how: "crash" }
  /** By what somebody has written: heads; packed: lists with these ids. */
  | { op: "recover"; how: "made"; heads: number[]; lists: { id: number; pieces: Piece[] }[] };

const addressArb = fc.constantFrom(
  undefined,
  undefined,
  0n,
  0xfffn - 3n,
  0x7ffcn,
  (1n << 32n) - 4n,
  (1n << 64n) - (1n << 20n),
);

/** With records of some kind, or without. */
export const recordArb: fc.Arbitrary<RecordShape | undefined> = fc.option(
  fc.record({
    log: fc.boolean(),
    logUsed: fc.boolean(),
    inflight: fc.boolean(),
    logBytes: fc.constantFrom(0, 1, 3, 9_400, 131_100, 140_000),
    usedAt: addressArb,
    descAt: addressArb,
  }),
  { nil: undefined, freq: 3 },
);

const pieceArb: fc.Arbitrary<Piece> = fc.record({
  region: fc.nat(9),
  delta: fc.oneof({ weight: 5, arbitrary: fc.nat(40) }, fc.constantFrom(-1, 100_000)),
  len: fc.oneof({ weight: 5, arbitrary: fc.nat(40) }, fc.constantFrom(4096, 0xffff_ffff)),
  flags: fc.oneof({ weight: 8, arbitrary: fc.constantFrom(0, 2, 2) }, fc.nat(0xffff)),
});

/** Beginning again. */
export const recoverArb: fc.Arbitrary<RecoverStep> = fc.oneof(
  fc.record({ op: fc.constant("recover" as const), how: fc.constant("crash" as const) }),
  fc.record({
    op: fc.constant("recover" as const),
    how: fc.constant("made" as const),
    heads: fc.array(fc.nat(1023), { maxLength: 8 }),
    lists: fc.array(
      fc.record({
        id: fc.oneof({ weight: 5, arbitrary: fc.nat(8) }, fc.nat(0xffff)),
        pieces: fc.array(pieceArb, { minLength: 1, maxLength: 3 }),
      }),
      { maxLength: 5 },
    ),
  }),
);
