// Holds the model of processes against recorded scenarios: reads the records, finds a script for
// each, runs it, compares.

import { existsSync, readFileSync } from "node:fs";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { Inexpressible, makeScene, type Script, type Value } from "./machine/script.js";
import { RecordError } from "./ring-record.js";

/** A line of the records. */
export interface ScenarioRecord {
  id: string;
  area: string;
  observed: Record<string, unknown>;
}

/** What came of one value, or, without `field`, of a whole scenario. */
export interface Finding {
  id: string;
  field?: string;
  /** For what differs. */
  expected?: unknown;
  got?: unknown;
  /** For what cannot be expressed. */
  reason?: string;
}

/** What came of the scenarios of an area. */
export interface AreaScore {
  area: string;
  agree: number;
  differ: number;
  inexpressible: number;
  /** Values of all scenarios that were compared and were the same, and all that are recorded. */
  valuesAgree: number;
  values: number;
  differences: Finding[];
  reasons: Finding[];
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

function parseRecord(text: string, place: string): ScenarioRecord {
  let line: unknown;
  try {
    line = JSON.parse(text);
  } catch {
    throw new RecordError(`${place}: is no JSON`);
  }
  if (!isObject(line)) throw new RecordError(`${place}: is not an object`);
  const { id, area, observed } = line;
  for (const [name, value] of Object.entries({ id, area })) {
    if (typeof value === "string" && /^[\w.-]+$/.test(value)) continue;
    throw new RecordError(`${place}: ${name} is not a name`);
  }
  if (!isObject(observed)) throw new RecordError(`${place}: observed is not an object`);
  return { id: id as string, area: area as string, observed };
}

/** The scenarios of a file of JSON lines. Throws RecordError. */
export function readScenarios(file: string): ScenarioRecord[] {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (error) {
    throw new RecordError(`${file}: ${(error as Error).message}`);
  }
  const lines = text.split("\n").map((line, index) => [line, `${file}:${index + 1}`] as const);
  const records = lines.filter(([line]) => line.trim() !== "");
  if (records.length === 0) throw new RecordError(`${file}: there is no record in it`);
  return records.map(([line, place]) => parseRecord(line, place));
}

/** The script of a scenario, `<dir>/<area>/<id>` with .js, .mjs or .ts; `undefined`: none. */
async function loadScript(dir: string, { area, id }: ScenarioRecord): Promise<Script | undefined> {
  const names = [".js", ".mjs", ".ts"].map((end) => resolve(dir, area, id + end));
  const file = names.find((name) => existsSync(name));
  if (file === undefined) return undefined;
  const { run } = (await import(pathToFileURL(file).href)) as { run?: unknown };
  if (typeof run !== "function") throw new RecordError(`${file}: exports no function run`);
  return run as Script;
}

/** What a script saw, or why it saw nothing. A script that throws has seen nothing it can tell. */
async function runScript(dir: string, record: ScenarioRecord): Promise<Record<string, Value>> {
  const all = (value: Value) =>
    Object.fromEntries(Object.keys(record.observed).map((field) => [field, value]));
  const script = await loadScript(dir, record);
  if (script === undefined) return all(new Inexpressible("there is no script"));
  try {
    const seen = script(makeScene());
    return seen instanceof Inexpressible ? all(seen) : seen;
  } catch (error) {
    return all(`the script threw ${error instanceof Error ? error.message : String(error)}`);
  }
}

const isSame = (a: unknown, b: unknown): boolean => JSON.stringify(a) === JSON.stringify(b);

/** Compares every value that is not volatile; findings go into the score. */
function compare(record: ScenarioRecord, seen: Record<string, Value>, score: AreaScore): void {
  const { id, observed } = record;
  const before = [score.differences.length, score.reasons.length];
  for (const [field, expected] of Object.entries(observed)) {
    if (field.startsWith("volatile_")) continue;
    score.values++;
    const got = seen[field];
    if (got instanceof Inexpressible) score.reasons.push({ id, field, reason: got.reason });
    else if (isSame(expected, got)) score.valuesAgree++;
    else score.differences.push({ id, field, expected, got });
  }
  if (score.differences.length > (before[0] ?? 0)) score.differ++;
  else if (score.reasons.length > (before[1] ?? 0)) score.inexpressible++;
  else score.agree++;
}

/** Runs each record's script from `dir` on a machine of its own; the scores, by area. */
export async function runScenarios(
  records: readonly ScenarioRecord[],
  dir: string,
): Promise<AreaScore[]> {
  const scores = new Map<string, AreaScore>();
  for (const record of records) {
    const { area } = record;
    const numbers = { agree: 0, differ: 0, inexpressible: 0, valuesAgree: 0, values: 0 };
    const score = scores.get(area) ?? { area, ...numbers, differences: [], reasons: [] };
    scores.set(area, score);
    compare(record, await runScript(dir, record), score);
  }
  return [...scores.values()];
}
