import { Bench, type FnReturnedObject } from "tinybench";

/** One of the things compared in a case. Each of its samples does the same number of items. */
export interface Work {
  readonly name: string;
  /**
   * One sample. A function that returns nothing is timed from outside; a promise gives the
   * milliseconds that the part worth timing took.
   */
  readonly run: (() => void) | (() => Promise<number>);
  readonly isAsync: boolean;
  /** Items of a sample, when not the same as the others'. */
  readonly items?: number;
  /** What came out of all samples so far, as u32: equal for two works that did the same. */
  checksum(): number;
}

/** How much of it: `rounds` times, for each work in turn, `samples` samples of `items` items. */
export interface Amount {
  rounds: number;
  samples: number;
  items: number;
}

/** What one work took. */
export interface Measured {
  name: string;
  /** Median over the rounds of the round's median. */
  nsPerItem: number;
  itemsPerSecond: number;
  checksum: number;
  /** Median over the rounds of this work's time over the first's, in the same round. */
  timesSlower: number;
}

/** A case of a bench: the same work done by several, one after the other, many times over. */
export interface Case {
  bench: string;
  name: string;
  /** What the case is made of, for whoever looks for certain ones. */
  facts: Record<string, string | number>;
  /** Those that do the very same work, so that their checksums have to be equal. */
  sameWork: readonly string[];
  /** The one that is a part of each of the others: what they cost beside what is compared. */
  overhead?: string;
  measured: Measured[];
}

/** Middle value; of an even number of them, the mean of the two in the middle. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] as number;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] as number) + upper) / 2;
}

/** The work of that name. Throws when a case has none. */
export function measuredBy({ name, measured }: Case, work: string): Measured {
  const found = measured.find((one) => one.name === work);
  if (!found) throw new Error(`${name}: no ${work}`);
  return found;
}

/** tinybench calls it; a duration that the work measured by itself takes the place of its own. */
function sampleOf({ run, isAsync }: Work): () => unknown {
  if (!isAsync) return run;
  return async () => {
    const ms = (await run()) as number;
    return { overriddenDuration: ms, overriddenIterationCost: ms } satisfies FnReturnedObject;
  };
}

/** One round: nanoseconds an item, the median of the samples, for each work by its name. */
async function runRound(works: readonly Work[], amount: Amount): Promise<Map<string, number>> {
  const bench = new Bench({ iterations: amount.samples, time: 0, warmup: false, throws: true });
  for (const work of works) bench.add(work.name, sampleOf(work), { async: work.isAsync });
  const tasks = await bench.run();
  return new Map(
    tasks.map(({ name, result }, i) => {
      if (result.state !== "completed") throw new Error(`${name}: ${result.state}`);
      return [name, (result.latency.p50 * 1e6) / (works[i]?.items ?? amount.items)];
    }),
  );
}

/**
 * Runs all works in turn, round after round, in an order that is reversed each time: a machine that
 * gets slower gets slower for all of them. The first round is for warming up and is not counted.
 */
export async function compare(works: readonly Work[], amount: Amount): Promise<Measured[]> {
  const rounds: Map<string, number>[] = [];
  for (let round = 0; round <= amount.rounds; round++) {
    rounds.push(await runRound(round % 2 === 0 ? works : works.toReversed(), amount));
  }
  rounds.shift();
  const timesOf = (name: string) => rounds.map((round) => round.get(name) as number);
  const base = timesOf((works[0] as Work).name);
  return works.map((work) => {
    const times = timesOf(work.name);
    const nsPerItem = median(times);
    const timesSlower = median(times.map((ns, i) => ns / (base[i] as number)));
    const checksum = work.checksum() >>> 0;
    return { name: work.name, nsPerItem, itemsPerSecond: 1e9 / nsPerItem, checksum, timesSlower };
  });
}
