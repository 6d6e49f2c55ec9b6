// The command: `npm run sim -- SEED`. Exit status: 0 nothing found, 1 something, 2 an argument is
// wrong.

import { Command, CommanderError, InvalidArgumentError } from "commander";
import { type SimResult, STEPS_DEFAULT, simulate } from "./simulation.js";

interface Options {
  seeds: number;
  steps: number;
  verbose: boolean;
}

/** Findings after which it ends. */
const FINDINGS_MAX = 10;

function toNumber(text: string): number {
  if (/^\d{1,10}$/.test(text) && Number(text) < 2 ** 32) return Number(text);
  throw new InvalidArgumentError("A whole number below 2^32.");
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
  const total = { runs: 0, steps: 0, sent: 0, completed: 0, lost: 0, simulatedMs: 0, found: 0 };
  for (; total.runs < seeds && total.found < FINDINGS_MAX; total.runs++) {
    const result = await simulate((begin + total.runs) >>> 0, { steps, ...print });
    total.steps += result.steps;
    total.sent += result.sent;
    total.completed += result.completed;
    total.lost += result.lost;
    total.simulatedMs += result.simulatedMs;
    if (seeds === 1) console.log(`trace ${result.hash}`);
    if (result.failure === undefined) continue;
    total.found++;
    console.log(report(result, steps));
  }
  const seconds = (performance.now() - began) / 1000;
  const { runs, sent, completed, lost, found } = total;
  console.log(
    `${runs} seeds from ${begin} in ${seconds.toFixed(1)} s, ` +
      `${(runs / seconds).toFixed(0)} a second: ` +
      `${total.steps} steps, ${(total.simulatedMs / 1000).toFixed(1)} simulated seconds`,
  );
  console.log(
    `${sent} requests: ${completed} completed, ${lost} lost with their driver or a reset`,
  );
  console.log(found === 0 ? "nothing found" : `${found} found`);
  if (found > 0) process.exitCode = 1;
}

const program = new Command("sim")
  .description("Driver, worker and device on one thread, by a seed, with faults.")
  .argument("[seed]", "of the first run; each next one has the next", toNumber)
  .option("--seeds <n>", "runs", toNumber, 1)
  .option("--steps <n>", "steps with faults in each", toNumber, STEPS_DEFAULT)
  .option("--verbose", "prints everything that happens", false)
  .exitOverride()
  .showHelpAfterError("Run with --help to see what there is.")
  .action(run);

try {
  await program.parseAsync();
} catch (error) {
  if (!(error instanceof CommanderError)) throw error;
  process.exitCode = error.exitCode === 0 ? 0 : 2;
}
