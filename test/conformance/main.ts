// The command: `npm run conformance -- rings FILE…` or `-- scenarios`. Exit status: 0 all agree, 1
// some differ, 2 a file or an argument is wrong.

import { fileURLToPath } from "node:url";
import { Command, CommanderError, InvalidArgumentError } from "commander";
import { RecordError, readRecords } from "./ring-record.js";
import { type Difference, type Outcome, runRecords } from "./rings.js";
import { type AreaScore, type Finding, readScenarios, runScenarios } from "./scenarios.js";
import { SECONDS_MAX } from "./script-runner.js";

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

const text = (value: unknown): string => JSON.stringify(value) ?? "nothing";

function describeDifference({ id, field, expected, got, reason }: Finding): string {
  if (reason !== undefined) return `  ${id}  the script failed: ${reason}`;
  return `  ${id}  ${field}: expected ${text(expected)}, got ${text(got)}`;
}

const describeReason = ({ id, field, reason }: Finding): string =>
  `  ${id}  ${field === undefined ? "" : `${field}: `}not expressible: ${reason}`;

function reportArea(score: AreaScore): string {
  const { area, agree, differ, inexpressible, valuesAgree, values } = score;
  const scenarios = `${agree} agree, ${differ} differ, ${inexpressible} not expressible`;
  const findings = [
    ...score.differences.map(describeDifference),
    ...score.reasons.map(describeReason),
  ];
  const head = `${area.padEnd(8)}  scenarios: ${scenarios}; values: ${valuesAgree} of ${values}`;
  return [head, ...findings].join("\n");
}

/** Where the project's own records and scripts are; both are built files' neighbours. */
const RECORDS = fileURLToPath(
  new URL("../../test/conformance/data/scenarios.jsonl", import.meta.url),
);
const SCRIPTS = fileURLToPath(new URL(".", import.meta.url));

function seconds(text: string): number {
  const value = Number(text);
  if (value > 0 && value <= 3600) return value;
  throw new InvalidArgumentError("It is a number of seconds, up to 3600.");
}

interface ScenarioOptions {
  records: string;
  scripts: string;
  area?: string;
  timeout: number;
}

async function scenarios(options: ScenarioOptions): Promise<void> {
  const { records, scripts, area, timeout } = options;
  const chosen = readScenarios(records).filter((one) => area === undefined || one.area === area);
  if (chosen.length === 0) throw new RecordError(`${records}: there is no area ${area}`);
  const scores = await runScenarios(chosen, scripts, timeout);
  for (const score of scores) console.log(reportArea(score));
  if (scores.some(({ differ }) => differ > 0)) process.exitCode = 1;
}

const program = new Command("conformance")
  .description("Holds the rings and the processes against records of a real kernel.")
  .exitOverride()
  .showHelpAfterError("Run with --help to see what there is.");
program
  .command("rings")
  .description("recorded split rings, through the WebAssembly ring and the TypeScript ring")
  .argument("<files...>", "JSON lines, plain or compressed by gzip")
  .action(rings);
program
  .command("scenarios")
  .description("recorded scenarios of processes, each by its script on a machine of its own")
  .option("--records <file>", "JSON lines", RECORDS)
  .option("--scripts <dir>", "scripts, <dir>/<area>/<id>.js", SCRIPTS)
  .option("--area <name>", "one area alone")
  .option("--timeout <seconds>", "how long a script may take", seconds, SECONDS_MAX)
  .action(scenarios);

try {
  await program.parseAsync();
} catch (error) {
  if (error instanceof RecordError) console.error(`conformance: ${error.message}`);
  else if (!(error instanceof CommanderError)) throw error;
  process.exitCode = error instanceof CommanderError && error.exitCode === 0 ? 0 : 2;
}
