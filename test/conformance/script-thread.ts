// The thread that scripts run in: one that never ends, or ends the program, ends but this.

import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { parentPort } from "node:worker_threads";
import { Inexpressible, makeScene, type Script } from "./machine/script.js";
import type { Asked, Outcome, Told } from "./script-runner.js";

const because = (failed: string): Outcome => ({ failed });
const messageOf = (error: unknown): string =>
  error instanceof Error ? error.message : String(error);

/** The script of a scenario, `<dir>/<area>/<id>` with .js, .mjs or .ts; or why there is none. */
async function loadScript({ dir, area, id }: Asked): Promise<Script | Outcome> {
  const names = [".js", ".mjs", ".ts"].map((end) => resolve(dir, area, id + end));
  const file = names.find((name) => existsSync(name));
  if (file === undefined) return { inexpressible: "there is no script" };
  try {
    const { run } = (await import(pathToFileURL(file).href)) as { run?: unknown };
    return typeof run === "function" ? (run as Script) : because("it exports no function run");
  } catch (error) {
    return because(`it cannot be loaded: ${messageOf(error)}`);
  }
}

/** A value as another thread can have it, and a record could. */
function told(value: unknown): Told {
  if (value instanceof Inexpressible) return { inexpressible: value.reason };
  if (value === undefined) return {};
  if (typeof value === "bigint" || typeof value === "function") return { value: String(value) };
  return { value: JSON.parse(JSON.stringify(value) ?? "null") };
}

async function runScript(asked: Asked): Promise<Outcome> {
  const script = await loadScript(asked);
  if (typeof script !== "function") return script;
  try {
    const seen: unknown = await script(makeScene(asked.area));
    if (seen instanceof Inexpressible) return { inexpressible: seen.reason };
    if (typeof seen !== "object" || seen === null) return because("it returned no object");
    return { seen: Object.fromEntries(Object.entries(seen).map(([k, v]) => [k, told(v)])) };
  } catch (error) {
    return because(`it threw ${messageOf(error)}`);
  }
}

parentPort?.on("message", async (asked: Asked) => {
  parentPort?.postMessage(await runScript(asked));
});
