// Positions of a packed ring and the rule of its event suppression, over all cases of small rings,
// held against walks. Queue sizes that are no power of two are among them. virtio 1.3, 2.8.

import { beforeAll, describe, expect, test } from "vitest";
import * as ts from "#dist/ring/ts-position.js";
import { RING_EVENT_FLAGS_DESC } from "#dist/spec/virtio-ring.js";
import { compileAssembly } from "../helpers/assembly.js";

const WRAP = 0x8000;

/** What is tested, of either implementation. */
interface Positions {
  moved(position: number, count: number, num: number): number;
  /** Modulo two laps. */
  distance(from: number, to: number, num: number): number;
  /** Whether the last `count` descriptors before `position` went past `event`. */
  passed(event: number, position: number, count: number, num: number): boolean;
}

interface Module extends Omit<Positions, "passed"> {
  isAskedFor(
    area: number,
    position: number,
    count: number,
    num: number,
    hasEventIdx: boolean,
    isFirst: boolean,
  ): number;
}

async function compiled(): Promise<Positions> {
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 65536 });
  const source = "test/ring/assembly/packed-position.ts";
  const module = (await compileAssembly(source, memory)) as unknown as Module;
  const event = new Uint32Array(memory.buffer);
  return {
    moved: module.moved,
    distance: module.distance,
    passed(at, position, count, num) {
      event[16] = at | (RING_EVENT_FLAGS_DESC << 16);
      return module.isAskedFor(64, position, count, num, true, false) !== 0;
    },
  };
}

/** Every position of a ring in the order in which one descriptor after another has them. */
function lap(num: number): number[] {
  const positions: number[] = [];
  for (const wrap of [WRAP, 0]) {
    for (let index = 0; index < num; index++) positions.push(index | wrap);
  }
  return positions;
}

describe.each([
  ["in WebAssembly", compiled],
  ["in TypeScript", async () => ts],
] as const)("%s", (_, load) => {
  let moved: Positions["moved"];
  let distance: Positions["distance"];
  let passed: Positions["passed"];
  beforeAll(async () => {
    ({ moved, distance, passed } = await load());
  }, 60_000);

  test("positions: sizes 1 to 64, from everywhere, by 0 to a whole lap", () => {
    for (let num = 1; num <= 64; num++) {
      const order = lap(num);
      for (const [start, from] of order.entries()) {
        for (let n = 0; n < 2 * num; n++) {
          const to = order[(start + n) % order.length] as number;
          if (n <= num && moved(from, n, num) !== to) expect.fail(`${from} + ${n} of ${num}`);
          if (distance(from, to, num) !== n) expect.fail(`${from} to ${to} of ${num}`);
        }
      }
    }
  });

  test("positions come back after two laps, whatever the steps are, and not before", () => {
    for (let num = 1; num <= 64; num++) {
      for (let n = 1; n <= num; n++) {
        let position = WRAP;
        let steps = 0;
        do {
          position = moved(position, n, num);
          steps += n;
          if ((position & ~WRAP) >= num) expect.fail(`${position} of ${num}`);
        } while (position !== WRAP);
        const expected = (2 * num * n) / gcd(n, 2 * num);
        if (steps !== expected) expect.fail(`by ${n} of ${num}: ${steps}, not ${expected}`);
      }
    }
  });

  test("positions of the largest ring", () => {
    expect(moved(WRAP | 0x7fff, 1, 0x8000)).toBe(0);
    expect(moved(0x7fff, 1, 0x8000)).toBe(WRAP);
    expect(moved(WRAP, 0x8000, 0x8000)).toBe(0);
    expect(distance(WRAP, 0, 0x8000)).toBe(0x8000);
    expect(distance(WRAP | 1, WRAP, 0x8000)).toBe(0xffff);
  });

  /** Walks from `old`, `count` descriptors: was `event` among those that were left behind? */
  function walked(order: readonly number[], old: number, count: number, event: number): boolean {
    for (let at = 0; at < count; at++) if (order[(old + at) % order.length] === event) return true;
    return false;
  }

  test("the event rule: sizes 1 to 16, every position, count and event", () => {
    let cases = 0;
    for (let num = 1; num <= 16; num++) {
      const order = lap(num);
      for (const start of order.keys()) {
        for (let count = 0; count <= num; count++) {
          const next = order[(start + count) % order.length] as number;
          for (const event of order) {
            const isWanted = walked(order, start, count, event);
            if (passed(event, next, count, num) !== isWanted) {
              expect.fail(`event ${event}, ${count} up to ${next} of ${num}`);
            }
            cases++;
          }
        }
      }
    }
    expect(cases).toBe(79_968); // the sum of 4 n² (n + 1)
  });

  test("the event rule in large rings, near powers of two and near the edges", () => {
    for (const num of [255, 256, 257, 0x3fff, 0x4001, 0x7fff, 0x8000]) {
      const laps = 2 * num;
      const near = [0, 1, 2, num - 2, num - 1, num, num + 1, laps - 2, laps - 1];
      const position = (at: number) => (at % num) | (at % laps < num ? WRAP : 0);
      for (const old of near) {
        for (const count of [0, 1, 2, num >> 1, num - 1, num]) {
          for (const event of [...near, old + count - 1, old + count, old + (count >> 1)]) {
            const isWanted = (event - old + 2 * laps) % laps < count;
            const answer = passed(position(event + laps), position(old + count), count, num);
            if (answer !== isWanted) expect.fail(`event ${event}, ${old} + ${count} of ${num}`);
          }
        }
      }
    }
  });

  // A whole lap is all that a side can publish past the place at which the other one sleeps. Of
  // more, an event is found in the last lap, for certain.
  test("the event rule past a lap finds what is within the last one", () => {
    for (let num = 1; num <= 16; num++) {
      const order = lap(num);
      for (const [at, next] of order.entries()) {
        for (const count of [num + 1, 2 * num, 3 * num, 1000, 0xffff]) {
          for (let back = 1; back <= num; back++) {
            const event = order[(at - back + 2 * num) % order.length] as number;
            if (!passed(event, next, count, num)) expect.fail(`${back} back, ${count} of ${num}`);
          }
        }
      }
    }
  });

  // Only a peer that lies asks for these: the answer may be either.
  test("an index that the ring does not have gets an answer", () => {
    const answers = new Set<unknown>();
    for (let num = 1; num <= 16; num++) {
      for (let event = 0; event < 0x10000; event++) {
        answers.add(passed(event, moved(WRAP, 1, num), 1, num));
      }
    }
    expect([...answers].sort()).toEqual([false, true]);
  });
});

function gcd(a: number, b: number): number {
  return b === 0 ? a : gcd(b, a % b);
}
