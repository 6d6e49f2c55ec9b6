import type { RingKind } from "#dist/ring/load.js";
import type { DeviceRing, DriverRing } from "#dist/ring/ring.js";
import { VIRTQ_RING_ELEMENTS, VIRTQ_RING_IDX } from "#dist/spec/virtio-ring.js";
import type { Loop } from "./cycle.js";
import { type Amount, type Case, compare, type Work } from "./harness.js";
import { BenchMemory, type PairShape, RingPair } from "./pair.js";

type Cycles = typeof import("./cycle.js");

/** What is inside the timed part. */
export const RING_NOTE = `One thread, a ring of 512, EVENT_IDX on, guest addresses above 4 GiB; a \
chain of 1 is writable, one of 3 is a header, data and a status. Data is not touched. Timed:
cycle   the driver's host writes a record and an iovec for each piece; addBufs, publish, kickNeeded;
        getDescs, which checks and translates; the device's host reads every record and iovec and
        sets the used bytes; addUsedN, publish, callNeeded; getBufs; the driver's host reads it all
device  from getDescs to callNeeded, over chains made beforehand
host    the same loop with a ring that does nothing: what the hosts cost in each of the others;
        "less host" is the ratio when that is taken off both`;

const NUM = 512;
const SPLIT = { num: NUM, format: "split", inOrder: false } as const;
const BURSTS = [1, 8, 32, 128];
const KINDS: readonly RingKind[] = ["wasm", "ts"];

interface RingCase {
  part: "cycle" | "device";
  burst: number;
  shape: PairShape;
}

/** Every burst with every kind of chain and memory. An indirect chain of one is a direct one. */
function allCases(): RingCase[] {
  const shapes: PairShape[] = [1, 8].flatMap((regionCount) => [
    { ...SPLIT, pieces: 1, indirect: false, regionCount },
    { ...SPLIT, pieces: 3, indirect: false, regionCount },
    { ...SPLIT, pieces: 3, indirect: true, regionCount },
  ]);
  const withBursts = (part: RingCase["part"]) =>
    shapes.flatMap((shape) => BURSTS.map((burst) => ({ part, burst, shape })));
  return [...withBursts("cycle"), ...withBursts("device")];
}

function nameOf({ part, burst, shape }: RingCase): string {
  const chain = `${shape.pieces} ${shape.indirect ? "indirect" : "direct"}`;
  const regions = `${shape.regionCount} region${shape.regionCount === 1 ? "" : "s"}`;
  return `${part}, chains of ${chain}, ${regions}, burst ${burst}`;
}

/** Finds its tables as they were left and does nothing: the hosts' part alone. */
class NoRing implements DriverRing, DeviceRing {
  readonly vq = 0;
  reset(): void {}
  start(): number {
    return 0;
  }
  addBufs = (count: number): number => count;
  getDescs = (max: number): number => max;
  getBufs = (max: number): number => max;
  addUsed = (): number => 0;
  addUsedN = (): number => 0;
  publish(): void {}
  kickNeeded = (): boolean => false;
  callNeeded = (): boolean => false;
  enableCall = (): boolean => false;
  enableKick = (): boolean => false;
  disableCall(): void {}
  disableKick(): void {}
  availLen = (): number => 0;
  kicked = (): number => 0;
}

/** A memory, and an evaluation of the loops for each implementation. */
class RingBench {
  readonly #memory = new BenchMemory();
  readonly #cycles = new Map<string, Cycles>();

  async load(): Promise<void> {
    for (const name of [...KINDS, "host"]) {
      const url = new URL(`./cycle.js?${name}`, import.meta.url).href;
      this.#cycles.set(name, (await import(url)) as Cycles);
    }
  }

  /** Fills the available ring, again from the first when descriptors run out. u16 of avail.idx. */
  #fill(u16: Uint16Array, loop: Loop, { driver, setup }: RingPair, { describe }: Cycles): number {
    let filled = 0;
    for (; filled < NUM; filled++) {
      describe(loop, 1);
      if (driver.addBufs(1) !== 1) break;
    }
    const ring = (setup.driver + VIRTQ_RING_ELEMENTS) >>> 1;
    for (let i = filled; i < NUM; i++) u16[ring + i] = u16[ring + i - filled] as number;
    return (setup.driver + VIRTQ_RING_IDX) >>> 1;
  }

  #work(name: RingKind | "host", { part, burst }: RingCase, pair: RingPair, chains: number): Work {
    const { driver, device, driverTables, deviceTables, buffers } = pair;
    const { pieces } = pair.shape;
    const loop = { driver, device, driverTables, deviceTables, buffers, pieces, next: 0 };
    const cycles = this.#cycles.get(name) as Cycles;
    let run = (bursts: number) => cycles.fullCycles(loop, burst, bursts);
    if (part === "device") {
      const u16 = new Uint16Array(this.#memory.shared.memory.buffer);
      const idx = this.#fill(u16, loop, pair, cycles);
      run = (bursts) => cycles.deviceCycles(loop, burst, bursts, u16, idx);
    }
    if (name === "host") {
      run(1); // leaves the tables filled
      const none = new NoRing();
      Object.assign(loop, { driver: none, device: none });
    }
    let sum = 0;
    const sample = () => {
      sum = (sum + run(chains / burst)) | 0;
    };
    return { name, isAsync: false, run: sample, checksum: () => sum };
  }

  async run(ringCase: RingCase, amount: Amount): Promise<Case> {
    const { part, burst, shape } = ringCase;
    const names = [...KINDS, "host"] as const;
    const pairs: RingPair[] = [];
    const works = names.map((name) => {
      const rings = this.#memory.rings(name === "host" ? "wasm" : name);
      const pair = new RingPair(this.#memory, rings, shape);
      pairs.push(pair);
      return this.#work(name, ringCase, pair, amount.items);
    });
    const measured = await compare(works, amount);
    for (const pair of pairs) pair.release();
    const { pieces, regionCount, indirect } = shape;
    const facts = { part, burst, pieces, regionCount, indirect: Number(indirect) };
    const name = nameOf(ringCase);
    return { bench: "ring", name, facts, sameWork: KINDS, overhead: "host", measured };
  }
}

/**
 * Chains a second through a ring, one thread. All cases are run shortly before the first is
 * counted, so that none is measured by code that has seen less than the others'.
 */
export async function benchRing(amount: Amount): Promise<Case[]> {
  const bench = new RingBench();
  await bench.load();
  const cases = allCases();
  const short = { ...amount, rounds: 1, samples: 1 };
  for (const ringCase of cases) await bench.run(ringCase, short);
  const results: Case[] = [];
  for (const ringCase of cases) results.push(await bench.run(ringCase, amount));
  return results;
}
