// Positions of a packed ring and the rule of its event suppression, over all cases of small rings,
// held against walks. Queue sizes that are no power of two are among them. virtio 1.3, 2.8.

import { describe, expect, test } from "vitest";
import { between, moved, passedEvent, WRAP } from "../helpers/packed-position.js";

/** The functions under test; put the product's own beside them. */
const POSITIONS = [{ name: "as the contract says", moved, between }];
/** The rules under test: `event`, `next` and `old` are positions. Put the product's beside it. */
const RULES = [{ name: "as the contract says", passedEvent }];

/** Every position of a ring in the order in which one descriptor after another has them. */
function lap(num: number): number[] {
  const positions: number[] = [];
  for (const wrap of [WRAP, 0]) {
    for (let index = 0; index < num; index++) positions.push(index | wrap);
  }
  return positions;
}

describe.each(POSITIONS)("positions, $name", ({ moved, between }) => {
  test("of sizes 1 to 64, from everywhere, by 0 to a whole lap", () => {
    for (let num = 1; num <= 64; num++) {
      const order = lap(num);
      for (const [start, from] of order.entries()) {
        for (let n = 0; n <= num; n++) {
          const to = order[(start + n) % order.length] as number;
          if (moved(from, n, num) !== to) expect.fail(`${from} + ${n} of ${num} is ${to}`);
          if (between(from, to, num) !== n) expect.fail(`${from} to ${to} of ${num} is ${n}`);
        }
      }
    }
  });

  test("come back after two laps, whatever the steps are, and not before", () => {
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

  test("of the largest ring", () => {
    expect(moved(WRAP | 0x7fff, 1, 0x8000)).toBe(0);
    expect(moved(0x7fff, 1, 0x8000)).toBe(WRAP);
    expect(moved(WRAP, 0x8000, 0x8000)).toBe(0);
    expect(between(WRAP, 0, 0x8000)).toBe(0x8000);
  });
});

describe.each(RULES)("the event rule, $name", ({ passedEvent }) => {
  /** Walks from `old`, `span` descriptors: was `event` among those that were left behind? */
  function walked(order: readonly number[], old: number, span: number, event: number): boolean {
    for (let at = 0; at < span; at++) if (order[(old + at) % order.length] === event) return true;
    return false;
  }

  test("sizes 1 to 16, every position, span and event", () => {
    let cases = 0;
    for (let num = 1; num <= 16; num++) {
      const order = lap(num);
      for (const [start, old] of order.entries()) {
        for (let span = 0; span <= num; span++) {
          const next = order[(start + span) % order.length] as number;
          for (const event of order) {
            const isWanted = walked(order, start, span, event);
            const answer = passedEvent(event, next, old, num);
            if (answer !== isWanted) expect.fail(`event ${event}, ${old} to ${next} of ${num}`);
            cases++;
          }
        }
      }
    }
    expect(cases).toBe(79_968); // the sum of 4 n² (n + 1)
  });

  test("large rings, sizes around powers of two: positions, spans, events near the edges", () => {
    for (const num of [255, 256, 257, 0x3fff, 0x4001, 0x7fff, 0x8000]) {
      const count = 2 * num;
      const near = [0, 1, 2, num - 2, num - 1, num, num + 1, count - 2, count - 1];
      const position = (at: number) => (at % num) | (at % count < num ? WRAP : 0);
      for (const old of near) {
        for (const span of [0, 1, 2, num >> 1, num - 1, num]) {
          for (const event of [...near, old + span - 1, old + span, old + (span >> 1)]) {
            const isWanted = (event - old + 2 * count) % count < span;
            const answer = passedEvent(
              position((event + count) % count),
              position(old + span),
              position(old),
              num,
            );
            expect(answer, `event ${event}, ${old} + ${span} of ${num}`).toBe(isWanted);
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
        answers.add(passedEvent(event, moved(WRAP, 1, num), WRAP, num));
      }
    }
    expect([...answers].sort()).toEqual([false, true]);
  });

  // Why whoever publishes must ask each time: two laps later the position is the same again.
  test("two laps without a question look like nothing at all", () => {
    for (let num = 1; num <= 16; num++) {
      const once = moved(WRAP, num, num);
      expect(passedEvent(WRAP, once, WRAP, num)).toBe(true);
      expect(passedEvent(WRAP, moved(once, num, num), WRAP, num)).toBe(false);
    }
  });
});

function gcd(a: number, b: number): number {
  return b === 0 ? a : gcd(b, a % b);
}
