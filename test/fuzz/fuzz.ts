// Runs cases for a time, in a thread that can be watched: a call that does not return is a finding.

import { Worker } from "node:worker_threads";
import type { RingKind } from "#dist/ring/load.js";
import type { ErrorCounts } from "./case.js";

/** What to run. */
export interface FuzzOptions {
  kinds: readonly RingKind[];
  isRace: boolean;
  /** The first case's seed; the next has the next. */
  seed: number;
  /** One case is run at least. */
  seconds: number;
}

/** A property that did not hold. */
export interface Finding {
  /** Replays it. */
  seed: number;
  what: string;
}

/** What came of it. */
export interface Summary {
  cases: number;
  /** Race: what the second thread wrote meanwhile. */
  writes: number;
  seconds: number;
  errors: ErrorCounts;
  findings: Finding[];
}

/** What the thread gets. `cell`: 0 when it has to stop, cases done, the present seed. */
export interface FuzzData {
  options: FuzzOptions;
  cell: Int32Array;
}

/** A case takes some milliseconds; one that takes this long does not end. */
const HANG_MS = 15_000;
const TICK_MS = 1000;

/** Ends with the time, a number of findings, or `signal`. `onTick`: once a second. */
export async function fuzz(
  options: FuzzOptions,
  signal: AbortSignal,
  onTick: (cases: number) => void,
): Promise<Summary> {
  const cell = new Int32Array(new SharedArrayBuffer(12));
  const workerData: FuzzData = { options, cell };
  cell[0] = 1;
  const worker = new Worker(new URL("fuzz-thread.js", import.meta.url), { workerData });
  const began = performance.now();
  let resolve!: (summary: Summary) => void;
  let reject!: (error: unknown) => void;
  const promise = new Promise<Summary>((done, failed) => {
    resolve = done;
    reject = failed;
  });
  let seen = 0;
  let seenAt = began;
  const timer = setInterval(() => {
    const cases = Atomics.load(cell, 1);
    const now = performance.now();
    if (cases !== seen) seenAt = now;
    seen = cases;
    if (now - seenAt < HANG_MS) return onTick(cases);
    const findings = [{ seed: Atomics.load(cell, 2) >>> 0, what: "a call does not return" }];
    resolve({ cases, writes: 0, seconds: (now - began) / 1000, errors: {}, findings });
  }, TICK_MS);
  const stop = () => Atomics.store(cell, 0, 0);
  signal.addEventListener("abort", stop);
  if (signal.aborted) stop();
  worker.once("message", resolve);
  worker.once("error", reject);
  try {
    return await promise;
  } finally {
    clearInterval(timer);
    signal.removeEventListener("abort", stop);
    await worker.terminate();
  }
}
