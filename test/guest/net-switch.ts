// `vhost-wasm serve net` beside a test.

import { join } from "node:path";
import { ROOT } from "../helpers/source.js";
import type { Lab } from "./lab.js";
import { Program } from "./program.js";

/** What a port has done; see `SwitchPortCounts`. */
interface Counts {
  port: number;
  received: number;
  receivedBytes: number;
  sent: number;
  sentBytes: number;
  missed: number;
  discarded: number;
  filtered: number;
  dropped: number;
  /** The interface, at a port that is no guest's. */
  tap?: string;
}

/** The last counts of each port that the program printed. */
export function lastCounts({ stdout }: Program): Counts[] {
  const counts: Counts[] = [];
  for (const line of stdout.split("\n")) {
    if (!line.includes('"event":"counts"')) continue;
    const one: Counts = JSON.parse(line);
    counts[one.port] = one;
  }
  return counts;
}

/** Starts it, with two sockets. `options`: more of the command's. */
export async function startSwitch(
  lab: Lab,
  options: string[],
  sockets = [lab.path("a"), lab.path("b")],
) {
  const args = [join(ROOT, "dist/cli/main.js"), "serve", "net", "--counts", "60", ...options];
  for (const socket of sockets) args.push("--socket", socket);
  const program = new Program(lab.tools, process.execPath, args);
  const isReady = () => program.stdout.split(/listening|connects to/).length > 2;
  await program.until(isReady, "listening", 30_000);
  return { program, sockets };
}
