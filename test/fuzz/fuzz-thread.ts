// The thread that runs the cases.

import { parentPort, workerData } from "node:worker_threads";
import { loadRings } from "#dist/ring/load.js";
import { CaseRunner } from "./case.js";
import { Violation } from "./field.js";
import type { Finding, FuzzData, Summary } from "./fuzz.js";
import { Race } from "./race.js";

/** So many findings are enough. */
const FINDINGS_MAX = 10;

const { options, cell } = workerData as FuzzData;
const { kinds, isRace, seed, seconds } = options;

function whatOf(error: unknown): string {
  if (error instanceof Violation) return error.message;
  return `an exception: ${error instanceof Error ? (error.stack ?? error.message) : error}`;
}

function runAll(runner: CaseRunner | Race): Summary {
  const findings: Finding[] = [];
  const began = performance.now();
  let cases = 0;
  let writes = 0;
  let elapsed = 0;
  do {
    const now = (seed + cases) >>> 0;
    Atomics.store(cell, 2, now | 0);
    try {
      runner.run(now);
    } catch (error) {
      findings.push({ seed: now, what: whatOf(error) });
    }
    if (runner instanceof Race) writes += runner.writes;
    Atomics.store(cell, 1, ++cases);
    elapsed = (performance.now() - began) / 1000;
  } while (elapsed < seconds && findings.length < FINDINGS_MAX && Atomics.load(cell, 0) === 1);
  return { cases, writes, seconds: elapsed, errors: runner.errors, findings };
}

const runner = isRace ? new Race(kinds, loadRings) : new CaseRunner(kinds);
const summary = runAll(runner);
if (runner instanceof Race) await runner.close();
parentPort?.postMessage(summary);
