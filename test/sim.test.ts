// The simulation: a hundred seeds, the same again from the same seed, and that it does find what is
// wrong.

import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { beforeAll, describe, expect, test } from "vitest";
import { MUTANTS } from "#dist/sim/mutants.js";
import { type SimResult, simulate } from "#dist/sim/simulation.js";
import { hasFeature } from "#dist/spec/features.js";
import { VIRTIO_F_EVENT_IDX, VIRTIO_F_INDIRECT_DESC } from "#dist/spec/virtio-config.js";
import { seedOf } from "./helpers/seed.js";

const MAIN = fileURLToPath(new URL("../dist/sim/main.js", import.meta.url));
const SEEDS = 100;
/** Of them, the first 50 are the same in each run; the others begin where chance has it. */
const FIXED_SEEDS = 50;
const RANDOM_BEGIN = seedOf("sim");
/** A mutant is found within so many seeds, from 0 on. */
const MUTANT_SEEDS_MAX = 100;

/** Runs the command. */
function sim(...args: string[]) {
  const options = { encoding: "utf8", timeout: 60_000 } as const;
  const { status, stdout } = spawnSync(process.execPath, [MAIN, ...args], options);
  return { status, stdout };
}

/** What is to be read of a run that should have found nothing. */
function told({ seed, failure, last, config }: SimResult): string {
  const lines = [...last.slice(-20), JSON.stringify(config), failure];
  return [...lines, `To replay it: npm run sim -- ${seed}`].join("\n");
}

describe("a hundred seeds", () => {
  const results: SimResult[] = [];
  beforeAll(async () => {
    for (let i = 0; i < SEEDS; i++) {
      const seed = i < FIXED_SEEDS ? i : (RANDOM_BEGIN + i) >>> 0;
      results.push(await simulate(seed));
    }
  }, 120_000);

  test("nothing is found", () => {
    for (const result of results) expect(result.failure, told(result)).toBeUndefined();
  });

  test("requests are done, and lost with their driver", () => {
    const total = { sent: 0, completed: 0, lost: 0 };
    for (const { sent, completed, lost } of results) {
      total.sent += sent;
      total.completed += completed;
      total.lost += lost;
    }
    expect(total.completed).toBeGreaterThan(10_000);
    expect(total.lost).toBeGreaterThan(500);
    expect(total.completed + total.lost).toBe(total.sent);
  });

  test("each fault happens", () => {
    const counts: Record<string, number> = {};
    for (const { faults } of results) {
      for (const [name, count] of Object.entries(faults)) {
        counts[name] = (counts[name] ?? 0) + count;
      }
    }
    const seldom = Object.entries(counts).filter(([, count]) => count < 5);
    expect(seldom).toEqual([]);
    expect(Object.keys(counts).length).toBe(15);
  });

  test("each kind of ring, worker and driver is there", () => {
    const kinds = new Set<string>();
    for (const { config, rings } of results) {
      const { workerRing, driverRing, policy, notifier, recovery, hasLog, queueCount } = config;
      kinds.add(`notifier ${notifier}`).add(`recovery ${recovery}`).add(`policy ${policy}`);
      kinds.add(`${queueCount} queues`).add(`log ${hasLog}`);
      for (const { isPacked, isInOrder, features, positions } of rings) {
        const layout = isPacked ? "packed" : "split";
        kinds.add(`${layout}, worker ${workerRing}`).add(`${layout}, driver ${driverRing}`);
        kinds.add(`${layout}, in order ${isInOrder}`);
        kinds.add(`${layout}, event index ${hasFeature(features, VIRTIO_F_EVENT_IDX)}`);
        kinds.add(`${layout}, indirect ${hasFeature(features, VIRTIO_F_INDIRECT_DESC)}`);
        if (positions.some((at) => at > 0)) kinds.add("indices that wrap");
      }
    }
    const layouts = ["split", "packed"].flatMap((layout) =>
      [
        ...["wasm", "ts"].flatMap((ring) => [`worker ${ring}`, `driver ${ring}`]),
        ...["in order", "event index", "indirect"].flatMap((x) => [`${x} true`, `${x} false`]),
      ].map((kind) => `${layout}, ${kind}`),
    );
    const others = [
      ...["doorbell", "eventfd", "kickless"].map((kind) => `notifier ${kind}`),
      ...["recovery redo", "recovery inflight", "policy strict", "policy linux"],
      ...["1 queues", "2 queues", "3 queues", "log true", "log false", "indices that wrap"],
    ];
    expect([...kinds].sort()).toEqual([...layouts, ...others].sort());
  });
});

describe("a seed says all", () => {
  test("the same trace twice, and another for another seed", async () => {
    const hashes = [];
    for (const seed of [7, RANDOM_BEGIN, 7, RANDOM_BEGIN]) hashes.push((await simulate(seed)).hash);
    expect(hashes.slice(2), `seed ${RANDOM_BEGIN}`).toEqual(hashes.slice(0, 2));
    expect(hashes[0]).not.toBe(hashes[1]);
  });

  test("the same trace in another process", async () => {
    const { hash, steps } = await simulate(RANDOM_BEGIN);
    const { status, stdout } = sim(String(RANDOM_BEGIN));
    const first = `trace ${hash}\n1 seeds from ${RANDOM_BEGIN} in `;
    expect(stdout).toContain(first);
    expect(stdout).toMatch(new RegExp(` a second: ${steps} steps, .*\n.*\nnothing found\n$`));
    expect(status).toBe(0);
  });
});

test("npm run sim: several seeds, all that happens, arguments that are wrong", () => {
  const { status, stdout } = sim("3", "--seeds", "2", "--steps", "20", "--verbose");
  expect(stdout).toMatch(/^0\.0000 a driver: /);
  expect(stdout).toMatch(/\n2 seeds from 3 in .*\n.* completed, .*\nnothing found\n$/);
  expect(status).toBe(0);
  for (const args of [["x"], ["-1"], ["1", "--seeds", "0"], ["1", "--seeds", "4294967296"]]) {
    expect(sim(...args).status).toBe(2);
  }
  expect(sim("--help").status).toBe(0);
});

describe("found:", () => {
  test.each(MUTANTS.map((mutant) => [mutant.name, mutant] as const))(
    "%s",
    async (_, mutant) => {
      const { found, config = {}, make } = mutant;
      const others: string[] = [];
      for (let seed = 0; seed < MUTANT_SEEDS_MAX; seed++) {
        const { failure } = await simulate(seed, { parts: make(), config });
        if (failure !== undefined && found.test(failure)) return;
        if (failure !== undefined) others.push(`seed ${seed}: ${failure}`);
      }
      expect.fail(`not within ${MUTANT_SEEDS_MAX} seeds; instead:\n${others.join("\n")}`);
    },
    120_000,
  );
});
