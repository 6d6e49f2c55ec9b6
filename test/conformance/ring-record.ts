// Reads files of recorded rings: a JSON object a line, compressed or not. All that is read is
// checked, for the first mistake to be named by its line.

import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";

/** A descriptor as recorded. */
export interface RecordedDesc {
  addr: bigint;
  len: number;
  flags: number;
  next: number;
}

/** A ring, and the memory around it, before the first kick. */
export interface RecordedRing {
  num: number;
  /** Where both indices begin. */
  base: number;
  eventIdx: boolean;
  indirect: boolean;
  /** Guest address and size in bytes. */
  regions: [gpa: bigint, bytes: number][];
  desc: RecordedDesc[];
  /** Indirect tables: all else in the regions is zero. */
  tables: { gpa: bigint; entries: RecordedDesc[] }[];
  availFlags: number;
  availRing: number[];
  availIdx: number;
  /** Undefined without EVENT_IDX. */
  usedEvent: number | undefined;
}

/** A value that was observed. */
export type Observation = string | number | readonly number[];

/** A line of a file. */
export interface RingRecord {
  id: string;
  input: RecordedRing;
  observed: Record<string, Observation>;
}

/** What is wrong with a file, in a sentence that names the place. */
export class RecordError extends Error {
  override readonly name = "RecordError";
}

/** Bytes that the regions of one ring may have together. */
const REGION_BYTES_MAX = 1 << 30;
const NUM_MAX = 32768;

type Json = Record<string, unknown>;

function fail(message: string): never {
  throw new RecordError(message);
}

function object(value: unknown, name: string): Json {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Json;
  return fail(`${name} is not an object`);
}

function list(value: unknown, name: string): unknown[] {
  return Array.isArray(value) ? value : fail(`${name} is not a list`);
}

function boolean(value: unknown, name: string): boolean {
  return typeof value === "boolean" ? value : fail(`${name} is not true or false`);
}

/** A number from 0 to `max`. */
function count(value: unknown, name: string, max: number): number {
  const isCount = Number.isInteger(value) && (value as number) >= 0 && (value as number) <= max;
  return isCount ? (value as number) : fail(`${name} is not a number from 0 to ${max}`);
}

/** An address: a number, or a string of decimal or hexadecimal digits. */
function address(value: unknown, name: string): bigint {
  const isText = typeof value === "string" && /^(0x[\da-f]+|\d+)$/i.test(value);
  if (!isText && !(Number.isSafeInteger(value) && (value as number) >= 0)) {
    return fail(`${name} is not an address`);
  }
  const parsed = BigInt(value as string | number);
  return parsed < 1n << 64n ? parsed : fail(`${name} is past 2^64`);
}

function desc(value: unknown, name: string): RecordedDesc {
  const fields = list(value, name);
  if (fields.length !== 4) fail(`${name} is not [addr, len, flags, next]`);
  return {
    addr: address(fields[0], `${name}'s address`),
    len: count(fields[1], `${name}'s length`, 0xffff_ffff),
    flags: count(fields[2], `${name}'s flags`, 0xffff),
    next: count(fields[3], `${name}'s next`, 0xffff),
  };
}

function descs(value: unknown, name: string): RecordedDesc[] {
  return list(value, name).map((one, i) => desc(one, `${name}[${i}]`));
}

function regions(value: unknown): [bigint, number][] {
  const found = list(value, "regions").map((one, i): [bigint, number] => {
    const name = `regions[${i}]`;
    const [gpa, bytes, ...more] = list(one, name);
    if (more.length > 0) fail(`${name} is not [gpa, size]`);
    const start = address(gpa, `${name}'s address`);
    const size = count(bytes, `${name}'s size`, REGION_BYTES_MAX);
    if (size === 0) fail(`${name} is empty`);
    if (start + BigInt(size) > 1n << 64n) fail(`${name} goes past 2^64`);
    return [start, size];
  });
  const sum = found.reduce((bytes, [, size]) => bytes + size, 0);
  return sum <= REGION_BYTES_MAX ? found : fail("the regions are more than 1 GiB together");
}

function ring(value: unknown): RecordedRing {
  const input = object(value, "input");
  const num = count(input.num, "num", NUM_MAX);
  if (num === 0 || (num & (num - 1)) !== 0) fail("num is no power of two");
  const eventIdx = boolean(input.event_idx, "event_idx");
  const availRing = list(input.avail_ring, "avail_ring");
  const table = descs(input.desc, "desc");
  if (availRing.length !== num) fail(`avail_ring has not ${num} entries, which is num`);
  if (table.length !== num) fail(`desc has not ${num} entries, which is num`);
  return {
    num,
    base: count(input.base, "base", 0xffff),
    eventIdx,
    indirect: boolean(input.indirect_negotiated, "indirect_negotiated"),
    regions: regions(input.regions),
    desc: table,
    tables: list(input.tables, "tables").map((one, i) => {
      const name = `tables[${i}]`;
      const { gpa, entries } = object(one, name);
      return {
        gpa: address(gpa, `${name}.gpa`),
        entries: descs(entries, `${name}.entries`),
      };
    }),
    availFlags: count(input.avail_flags, "avail_flags", 0xffff),
    availRing: availRing.map((head, i) => count(head, `avail_ring[${i}]`, 0xffff)),
    availIdx: count(input.avail_idx, "avail_idx", 0xffff),
    usedEvent: eventIdx ? count(input.used_event, "used_event", 0xffff) : undefined,
  };
}

function observation(value: unknown, name: string): Observation {
  if (typeof value === "string" || typeof value === "number") return value;
  const isList = Array.isArray(value) && value.every((one) => typeof one === "number");
  return isList ? value : fail(`${name} is no number, text or list of numbers`);
}

/** Large numbers become strings: JSON numbers are exact up to 2^53 only. */
function parseJson(text: string): unknown {
  const exact = text.replace(/"(?:[^"\\]|\\.)*"|(?<![.\deE+-])\d{16,}(?![.\deE])/g, (token) => {
    return token.startsWith('"') ? token : `"${token}"`;
  });
  try {
    return JSON.parse(exact);
  } catch {
    return fail("is no JSON");
  }
}

function record(text: string): RingRecord {
  const line = object(parseJson(text), "the line");
  if (typeof line.id !== "string") fail("id is not a text");
  const observed = Object.entries(object(line.observed, "observed"))
    .filter(([name]) => !name.startsWith("volatile_"))
    .map(([name, value]): [string, Observation] => [name, observation(value, name)]);
  if (observed.length === 0) fail("observed is empty");
  return { id: line.id as string, input: ring(line.input), observed: Object.fromEntries(observed) };
}

function readText(file: string): string {
  try {
    const bytes = readFileSync(file);
    return (bytes[0] === 0x1f && bytes[1] === 0x8b ? gunzipSync(bytes) : bytes).toString("utf8");
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    return fail(`${file}: ${code === "ENOENT" ? "there is no such file" : message}`);
  }
}

/** All records of a file, plain or compressed by gzip. Throws RecordError. */
export function readRecords(file: string): RingRecord[] {
  const records: RingRecord[] = [];
  for (const [index, text] of readText(file).split("\n").entries()) {
    if (text.trim() === "") continue;
    try {
      records.push(record(text));
    } catch (error) {
      if (!(error instanceof RecordError)) throw error;
      throw new RecordError(`${file}:${index + 1}: ${error.message}`);
    }
  }
  return records.length > 0 ? records : fail(`${file}: there is no record in it`);
}
