// The command: `npm run fuzz -- --seconds N`. Exit status: 0 nothing found, 1 something, 2 an
// argument is wrong.

import { Command, InvalidArgumentError, Option } from "commander";
import type { RingKind } from "#dist/ring/load.js";
import { runCommand, toU32 } from "./command.js";
import { type FuzzOptions, fuzz, type Summary } from "./fuzz.js";

interface Arguments {
  seconds: number;
  seed?: number;
  ring: "wasm" | "ts" | "both";
  race: boolean;
}

function toSeconds(text: string): number {
  const value = Number(text);
  if (text === "" || !(value >= 0 && value <= 1e9))
    throw new InvalidArgumentError("Seconds, 0 or more.");
  return value;
}

function report(summary: Summary, { kinds, isRace, seed }: FuzzOptions): string {
  const { cases, seconds, writes, errors, findings } = summary;
  const rate = Math.round(cases / Math.max(seconds, 0.001));
  const rings = kinds.join(" and ");
  const lines = [`${cases} cases in ${seconds.toFixed(1)} s, ${rate} a second: ${rings}`];
  if (isRace) lines.push(`${writes} writes by the second thread`);
  lines.push(`seeds from ${seed}`, "errors met:");
  const counts = Object.entries(errors).sort(([, a], [, b]) => b - a);
  for (const [name, count] of counts) lines.push(`  ${name.padEnd(30)} ${count}`);
  for (const { seed: found, what } of findings) {
    const ring = kinds.length > 1 ? "both" : kinds[0];
    const replay = `--seconds 0 --seed ${found} --ring ${ring}${isRace ? " --race" : ""}`;
    lines.push(`FOUND ${what}`, `  npm run fuzz -- ${replay}`);
  }
  lines.push(findings.length === 0 ? "nothing found" : `${findings.length} found`);
  return lines.join("\n");
}

async function run({ seconds, seed, ring, race }: Arguments): Promise<void> {
  const kinds: RingKind[] = ring === "both" ? ["wasm", "ts"] : [ring];
  const first = seed ?? Math.floor(Math.random() * 2 ** 32);
  const options: FuzzOptions = { kinds, isRace: race, seed: first, seconds };
  const stop = new AbortController();
  process.once("SIGINT", () => stop.abort());
  const { isTTY } = process.stderr;
  const summary = await fuzz(options, stop.signal, (cases) => {
    if (isTTY) process.stderr.write(`\r${cases} cases`);
  });
  if (isTTY) process.stderr.write("\r\x1b[K");
  console.log(report(summary, options));
  if (summary.findings.length > 0) process.exitCode = 1;
}

const program = new Command("fuzz")
  .description("Hostile drivers and devices against the rings, at random.")
  .option("--seconds <n>", "how long; 0: one case", toSeconds, 10)
  .option("--seed <n>", "of the first case; each next one has the next", toU32)
  .addOption(new Option("--ring <ring>", "which").choices(["wasm", "ts", "both"]).default("both"))
  .option("--race", "a second thread rewrites the rings while the device pops", false)
  .action(run);

await runCommand(program);
