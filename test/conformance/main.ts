// The command: `npm run conformance -- rings FILE…`. Exit status: 0 all agree, 1 some differ, 2 a
// file or an argument is wrong.

import { Command, CommanderError } from "commander";
import { RecordError, readRecords } from "./ring-record.js";
import { type Difference, type Outcome, runRecords } from "./rings.js";

/** Differences that are shown of each ring. */
const SHOWN_MAX = 10;

function describe({ id, field, expected, got }: Difference): string {
  const actual = got === undefined ? "nothing" : JSON.stringify(got);
  return `  ${id}  ${field}: expected ${JSON.stringify(expected)}, got ${actual}`;
}

function report(kind: string, { agree, differ, differences }: Outcome): string {
  const shown = differences.slice(0, SHOWN_MAX).map(describe);
  const left = differences.length - shown.length;
  const more = left > 0 ? [`  … and ${left} more`] : [];
  return [`${kind.padEnd(4)}  rings: ${agree} agree, ${differ} differ`, ...shown, ...more].join(
    "\n",
  );
}

function rings(files: readonly string[]): void {
  const records = files.flatMap(readRecords);
  for (const kind of ["wasm", "ts"] as const) {
    const outcome = runRecords(records, kind);
    console.log(report(kind, outcome));
    if (outcome.differ > 0) process.exitCode = 1;
  }
}

const program = new Command("conformance")
  .description("Holds the rings, with the policy linux, against records of a real kernel.")
  .exitOverride()
  .showHelpAfterError("Run with --help to see what there is.");
program
  .command("rings")
  .description("recorded split rings, through the WebAssembly ring and the TypeScript ring")
  .argument("<files...>", "JSON lines, plain or compressed by gzip")
  .action(rings);

try {
  program.parse();
} catch (error) {
  if (error instanceof RecordError) console.error(`conformance: ${error.message}`);
  else if (!(error instanceof CommanderError)) throw error;
  process.exitCode = error instanceof CommanderError && error.exitCode === 0 ? 0 : 2;
}
