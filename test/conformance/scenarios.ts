// Holds the model of processes against recorded scenarios: reads the records, finds a script for
// each, runs it, compares.

import { readFileSync } from "node:fs";
import { isDeepStrictEqual } from "node:util";
import { RecordError } from "./ring-record.js";
import { type Outcome, ScriptRunner, SECONDS_MAX } from "./script-runner.js";

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
  /** For what cannot be expressed, and for a script that failed. */
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
  const seen = new Set<string>();
  return records.map(([line, place]) => {
    const record = parseRecord(line, place);
    const name = `${record.area}/${record.id}`;
    if (seen.has(name)) throw new RecordError(`${place}: ${name} is there twice`);
    seen.add(name);
    return record;
  });
}

/** Compares every value that is not volatile; findings go into the score. */
function compare(record: ScenarioRecord, outcome: Outcome, score: AreaScore): void {
  const { id, observed } = record;
  const fields = Object.entries(observed).filter(([field]) => !field.startsWith("volatile_"));
  score.values += fields.length;
  const { seen = {}, failed, inexpressible } = outcome;
  const differences: Finding[] = failed === undefined ? [] : [{ id, reason: failed }];
  const reasons: Finding[] = inexpressible === undefined ? [] : [{ id, reason: inexpressible }];
  for (const [field, expected] of outcome.seen === undefined ? [] : fields) {
    const { value: got, inexpressible: reason } = (Object.hasOwn(seen, field) && seen[field]) || {};
    if (reason !== undefined) reasons.push({ id, field, reason });
    else if (isDeepStrictEqual(expected, got)) score.valuesAgree++;
    else differences.push({ id, field, expected, got });
  }
  score.differences.push(...differences);
  score.reasons.push(...reasons);
  if (differences.length > 0) score.differ++;
  else if (reasons.length > 0) score.inexpressible++;
  else score.agree++;
}

/**
 * Runs each record's script from `dir` on a machine of its own; the scores, by area. A script that
 * throws, or takes longer than `secondsMax`, differs in every value.
 */
export async function runScenarios(
  records: readonly ScenarioRecord[],
  dir: string,
  secondsMax = SECONDS_MAX,
): Promise<AreaScore[]> {
  await using runner = new ScriptRunner(secondsMax);
  const scores = new Map<string, AreaScore>();
  for (const record of records) {
    const { area } = record;
    const numbers = { agree: 0, differ: 0, inexpressible: 0, valuesAgree: 0, values: 0 };
    const score = scores.get(area) ?? { area, ...numbers, differences: [], reasons: [] };
    scores.set(area, score);
    compare(record, await runner.run({ dir, area, id: record.id }), score);
  }
  return [...scores.values()];
}
