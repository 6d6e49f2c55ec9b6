import type { RingKind } from "#dist/ring/load.js";
import { type Amount, type Case, compare, type Work } from "./harness.js";
import { RingLink } from "./link.js";
import { BenchMemory, type PairShape, RingPair } from "./pair.js";

type Cycles = typeof import("./cycle.js");

/** What is inside the timed part. */
export const FORMATS_NOTE = `The whole cycle of the bench "ring" with every ring there is: split, \
packed and both with IN_ORDER (whose batches are used by one entry), in WebAssembly and in \
TypeScript; a ring of 512, EVENT_IDX on, one region.`;

const NUM = 512;
const BURSTS = [1, 8, 32, 128];

/** The same of two threads. */
export const FORMATS_THREADS_NOTE = `The same rings between two threads, as in the bench \
"threads": both spin, as many in flight as the ring holds, added, popped, used and taken in \
bursts of so many at most. Needs two cores for itself.`;

interface Contender {
  name: string;
  kind: RingKind;
  format: PairShape["format"];
  inOrder: boolean;
}

/** The packed ring comes first: ratios are its. */
const CONTENDERS: readonly Contender[] = [
  { name: "packed", kind: "wasm", format: "packed", inOrder: false },
  { name: "split", kind: "wasm", format: "split", inOrder: false },
  { name: "packed in order", kind: "wasm", format: "packed", inOrder: true },
  { name: "split in order", kind: "wasm", format: "split", inOrder: true },
  { name: "ts packed", kind: "ts", format: "packed", inOrder: false },
  { name: "ts split", kind: "ts", format: "split", inOrder: false },
];

/** Of heads nothing is added up: they are other numbers in each format. */
const NO_HEADS = 0;

async function runCase(
  memory: BenchMemory,
  cycles: Map<string, Cycles>,
  chain: Pick<PairShape, "pieces" | "indirect">,
  burst: number,
  amount: Amount,
): Promise<Case> {
  const pairs: RingPair[] = [];
  const works = CONTENDERS.map(({ name, kind, format, inOrder }): Work => {
    const shape = { ...chain, num: NUM, regionCount: 1, format, inOrder };
    const pair = new RingPair(memory, memory.rings(kind), shape);
    pairs.push(pair);
    const { driver, device, driverTables, deviceTables, buffers } = pair;
    const { pieces } = chain;
    const loop = { driver, device, driverTables, deviceTables, buffers, pieces, next: 0 };
    const { fullCycles } = cycles.get(name) as Cycles;
    let sum = 0;
    const run = () => {
      sum = (sum + fullCycles(loop, burst, amount.items / burst, NO_HEADS)) | 0;
    };
    return { name, isAsync: false, run, checksum: () => sum };
  });
  const measured = await compare(works, amount);
  for (const pair of pairs) pair.release();
  const name = `chains of ${chain.pieces}${chain.indirect ? " indirect" : ""}, burst ${burst}`;
  const facts = { pieces: chain.pieces, indirect: Number(chain.indirect), burst };
  return { bench: "formats", name, facts, sameWork: CONTENDERS.map((one) => one.name), measured };
}

/** Chains a second through each of the rings, one thread. */
export async function benchFormats(amount: Amount): Promise<Case[]> {
  const memory = new BenchMemory();
  const cycles = new Map<string, Cycles>();
  for (const { name } of CONTENDERS) {
    const url = new URL(`./cycle.js?${encodeURIComponent(name)}`, import.meta.url).href;
    cycles.set(name, (await import(url)) as Cycles);
  }
  const chains = [
    { pieces: 1, indirect: false },
    { pieces: 3, indirect: false },
    { pieces: 3, indirect: true },
  ] as const;
  const results: Case[] = [];
  for (const isWarmup of [true, false]) {
    const much = isWarmup ? { ...amount, rounds: 1, samples: 1 } : amount;
    for (const chain of chains) {
      for (const burst of BURSTS) {
        const one = await runCase(memory, cycles, chain, burst, much);
        if (!isWarmup) results.push(one);
      }
    }
  }
  return results;
}

/** Chains a second through each of the rings, two threads. The other threads are gone after it. */
export async function benchFormatsThreads({ rounds, items }: Amount): Promise<Case[]> {
  const results: Case[] = [];
  for (const pieces of [1, 3] as const) {
    const links: RingLink[] = [];
    try {
      for (const one of CONTENDERS) links.push(await RingLink.make({ ...one, pieces }, NUM));
      for (const burst of BURSTS) {
        const count = burst === 1 ? items >> 2 : items; // slow, so it gets fewer
        const depth = Math.floor(NUM / pieces); // what is described is added
        const works = links.map((link) => link.work({ count, depth, burst }));
        const measured = await compare(works, { rounds, samples: 1, items: count });
        const name = `chains of ${pieces}, bursts of ${burst}`;
        const sameWork = CONTENDERS.map((one) => one.name);
        results.push({ bench: "formats-threads", name, facts: { burst }, sameWork, measured });
      }
    } finally {
      for (const link of links) await link[Symbol.asyncDispose]();
    }
  }
  return results;
}
