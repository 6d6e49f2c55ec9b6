import { arch, cpus } from "node:os";
import Table from "cli-table3";
import { type Case, type Measured, measuredBy } from "./harness.js";

/** Where it was measured. */
export function header(): string {
  const processors = cpus();
  const model = processors[0]?.model.trim() || "unknown CPU";
  const date = new Date().toISOString().slice(0, 16).replace("T", " ");
  return `Node ${process.version}, ${model}, ${arch()}, ${processors.length} cores, ${date} UTC`;
}

/** A value in the first of the units that it reaches; `from`, else the unit's size. */
function scaled(
  value: number,
  units: readonly [from: number, unit: string, digits: number, size?: number][],
): string {
  const reached = units.find(([from]) => value >= from) ?? units.at(-1);
  const [from, unit, digits, size = from] = reached as (typeof units)[number];
  return `${(value / size).toFixed(digits)} ${unit}`;
}

function rate({ itemsPerSecond, nsPerItem }: Measured): string {
  const perSecond = scaled(itemsPerSecond, [
    [1e6, "M/s", 2],
    [1e3, "k/s", 1],
    [1, "/s", 1],
  ]);
  const time = scaled(nsPerItem, [
    [1e6, "ms", 1],
    [1e4, "µs", 1, 1e3],
    [1, "ns", 0],
  ]);
  return `${perSecond}  ${time}`;
}

/** The checksum of those that did the same work; where it differs, all of them. */
function checksums({ measured, sameWork }: Case): string {
  const all = measured.filter(({ name }) => sameWork.includes(name));
  const texts = new Set(all.map(({ checksum }) => checksum.toString(16).padStart(8, "0")));
  return texts.size === 1 ? [...texts].join() : `DIFFERENT ${[...texts].join(" ")}`;
}

/** Times the first is faster than each of the others, and once more when its overhead is known. */
function ratios(one: Case): [string, string][] {
  const { measured, overhead } = one;
  const [first, ...others] = measured.filter(({ name }) => name !== overhead);
  const columns = others.map(({ name, timesSlower }): [string, string] => {
    return [`${first?.name} / ${name}`, timesSlower.toFixed(2)];
  });
  const [second] = others;
  if (!overhead || !first || !second) return columns;
  const { nsPerItem } = measuredBy(one, overhead);
  const alone = (second.nsPerItem - nsPerItem) / (first.nsPerItem - nsPerItem);
  return [...columns, [`less ${overhead}`, alone.toFixed(2)]];
}

/** One bench's cases as a table: rate of each, how many times faster the first is, checksum. */
export function table(cases: readonly Case[]): string {
  const [one] = cases;
  if (!one) return "";
  const named = (all: Iterable<string>) => [...new Set(all)];
  const works = named(cases.flatMap(({ measured }) => measured.map(({ name }) => name)));
  const ratioNames = named(cases.flatMap((row) => ratios(row).map(([name]) => name)));
  const numbers = [...works, ...ratioNames];
  const out = new Table({
    head: ["case", ...numbers, "checksum"],
    colAligns: ["left", ...numbers.map(() => "right" as const)],
    style: { head: [], border: [], compact: true },
  });
  for (const row of cases) {
    const cells = new Map([
      ...row.measured.map((one) => [one.name, rate(one)] as const),
      ...ratios(row),
    ]);
    out.push([row.name, ...numbers.map((name) => cells.get(name) ?? "–"), checksums(row)]);
  }
  return out.toString();
}

/** What we want to hold, of which cases. */
interface Target {
  text: string;
  /** The ratio must be this or more. */
  least: number;
  /** The case's ratio, when it is one that counts. */
  ratio(one: Case): number | undefined;
}

const ratioTo = (name: string, counts: (one: Case) => boolean) => (one: Case) =>
  counts(one) ? measuredBy(one, name).timesSlower : undefined;

const isOverVhostUser = (disk: string, depth?: number) => (one: Case) => {
  const { bench, facts } = one;
  const isIt = bench === "blk" && facts.transport === "vhost-user" && facts.disk === disk;
  return isIt && one.measured.length > 1 && (depth === undefined || facts.depth === depth);
};

/** Against the fastest of the others. */
const ratioToBest = (counts: (one: Case) => boolean) => (one: Case) =>
  counts(one)
    ? Math.min(...one.measured.slice(1).map(({ timesSlower }) => timesSlower))
    : undefined;

const isCycle = ({ bench, facts }: Case) => bench === "ring" && facts.part === "cycle";

const TARGETS: readonly Target[] = [
  {
    text: "one thread, whole cycle, bursts of 8 and more: wasm ≥ 1.3 × ts",
    least: 1.3,
    ratio: ratioTo("ts", (one) => isCycle(one) && Number(one.facts.burst) >= 8),
  },
  {
    text: "one thread, whole cycle, chains of 3, bursts of 8 and more: wasm ≥ 2 × ts",
    least: 2,
    ratio: ratioTo("ts", (one) => {
      return isCycle(one) && Number(one.facts.burst) >= 8 && one.facts.pieces === 3;
    }),
  },
  {
    text: "one thread, whole cycle, bursts of 8 and more: packed ≥ 1.3 × split",
    least: 1.3,
    ratio: ratioTo("split", (one) => one.bench === "formats" && Number(one.facts.burst) >= 8),
  },
  {
    text: "two threads, bursts of 8 and more: packed ≥ 1.3 × split",
    least: 1.3,
    ratio: ratioTo("split", (one) => {
      return one.bench === "formats-threads" && Number(one.facts.burst) >= 8;
    }),
  },
  {
    text: "two threads: ring of wasm ≥ 10 × MessagePort",
    least: 10,
    ratio: ratioTo("MessagePort", ({ bench, facts }) => bench === "threads" && facts.depth !== 1),
  },
  {
    text: "checksum of packets of 1500 bytes and more: wasm ≥ 5 × ts",
    least: 5,
    ratio: ratioTo("ts", ({ facts }) => facts.part === "checksum" && Number(facts.size) >= 1500),
  },
  {
    text: "over vhost-user, null: ≥ 4 × qemu-storage-daemon's null-co",
    least: 4,
    ratio: ratioToBest(isOverVhostUser("null")),
  },
  {
    text: "over vhost-user, file, depth 1: ≥ 3 × the better of qemu-storage-daemon's",
    least: 3,
    ratio: ratioToBest(isOverVhostUser("file", 1)),
  },
  {
    text: "over vhost-user, file, depth 32: ≥ 1.5 × the better of qemu-storage-daemon's",
    least: 1.5,
    ratio: ratioToBest(isOverVhostUser("file", 32)),
  },
];

/** How a target came out in this run. */
export interface Outcome {
  text: string;
  least: number;
  /** The worst and the best case's ratio; none when no case of this run counts. */
  worst: number | undefined;
  best: number | undefined;
  /** Cases that reach it, of those that count. */
  met: number;
  of: number;
}

/** Each target against the cases of this run. */
export function outcomes(cases: readonly Case[]): Outcome[] {
  return TARGETS.map(({ text, least, ratio }) => {
    const ratios = cases.map(ratio).filter((value) => value !== undefined);
    const [worst, best] = ratios.length === 0 ? [] : [Math.min(...ratios), Math.max(...ratios)];
    const met = ratios.filter((value) => value >= least).length;
    return { text, least, worst, best, met, of: ratios.length };
  });
}

/** A line for one; at smoke sizes it is stated, not judged. */
export function outcomeLine({ text, worst, best, met, of }: Outcome, isSmoke: boolean): string {
  if (worst === undefined || best === undefined) return `-       ${text}: not measured in this run`;
  const verdict = isSmoke ? "smoke  " : met === of ? "met    " : "MISSED ";
  return `${verdict} ${text}: ${met} of ${of} cases, ${worst.toFixed(2)} to ${best.toFixed(2)}`;
}
