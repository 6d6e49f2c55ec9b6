// The command: `npm run sim -- SEED`. Exit status: 0 nothing found, 1 something, 2 an argument is
// wrong.

import { setImmediate as nextTurn } from "node:timers/promises";
import { Command, InvalidArgumentError } from "commander";
import { runCommand, toU32 } from "#dist/fuzz/command.js";
import { type SimResult, STEPS_DEFAULT, simulate } from "./simulation.js";

interface Options {
  seeds: number;
  steps: number;
  verbose: boolean;
}

/** Findings after which it ends. */
const FINDINGS_MAX = 10;

function toCount(text: string): number {
  const count = toU32(text);
  if (count > 0) return count;
  throw new InvalidArgumentError("At least 1.");
}

/** A finding, with all that is needed to look into it. */
function report({ seed, steps, config, failure, last }: SimResult, faultySteps: number): string {
  const more = faultySteps === STEPS_DEFAULT ? "" : ` --steps ${faultySteps}`;
  return [
    ...last.map((line) => `  ${line}`),
    `  ${JSON.stringify(config)}`,
    `FOUND seed ${seed}, step ${steps}: ${failure}`,
    `  npm run sim -- ${seed}${more}`,
  ].join("\n");
}

async function run(first: number | undefined, options: Options): Promise<void> {
  const { seeds, steps, verbose } = options;
  const begin = first ?? Math.floor(Math.random() * 2 ** 32);
  const print = verbose ? { print: (line: string) => console.log(line) } : {};
  const began = performance.now();
  let isStopped = false;
  process.once("SIGINT", () => {
    isStopped = true; // and the totals are printed; a second one ends it at once
  });
  const total = { runs: 0, steps: 0, sent: 0, completed: 0, lost: 0, simulatedMs: 0, found: 0 };
  for (; total.runs < seeds && total.found < FINDINGS_MAX && !isStopped; total.runs++) {
    await nextTurn();
    const result = await simulate((begin + total.runs) >>> 0, { steps, ...print });
    for (const name of ["steps", "sent", "completed", "lost", "simulatedMs"] as const) {
      total[name] += result[name];
    }
    if (seeds === 1) console.log(`trace ${result.hash}`);
    if (result.failure === undefined) continue;
    total.found++;
    console.log(report(result, steps));
  }
  const seconds = (performance.now() - began) / 1000;
  const { runs, sent, completed, lost, simulatedMs, found } = total;
  const simulated = `${total.steps} steps, ${(simulatedMs / 1000).toFixed(1)} simulated seconds`;
  const speed = `in ${seconds.toFixed(1)} s, ${(runs / seconds).toFixed(0)} a second`;
  console.log(`${runs} seeds from ${begin} ${speed}: ${simulated}`);
  const ends = `${completed} completed, ${lost} lost with their driver or a reset`;
  console.log(`${sent} requests: ${ends}`);
  console.log(found === 0 ? "nothing found" : `${found} found`);
  if (found > 0) process.exitCode = 1;
}

const program = new Command("sim")
  .description("Driver, worker and device on one thread, by a seed, with faults.")
  .argument("[seed]", "of the first run; each next one has the next", toU32)
  .option("--seeds <n>", "runs", toCount, 1)
  .option("--steps <n>", "steps with faults in each", toU32, STEPS_DEFAULT)
  .option("--verbose", "prints everything that happens", false)
  .action(run);

await runCommand(program);
