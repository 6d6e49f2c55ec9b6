// The rule by which a side finds out whether to notify, over all of its cases. Split: virtio 1.3,
// 2.7.7.1 and 2.7.10.1. It depends on two differences of u16 alone, so it has 2^32 cases: that it
// depends on nothing else is tested as well.

import { beforeAll, describe, expect, test } from "vitest";
import { needEvent } from "#dist/ring/ts-words.js";
import { compileAssembly } from "../helpers/assembly.js";

interface Loops {
  walkAll(old: number, first: number, last: number): number;
  walkSlowly(flaw: number, old: number, first: number, last: number): number;
  moveRandom(flaw: number, start: number, count: number): number;
  moveEdges(flaw: number, by: number): number;
}

const timeout = 180_000;
const LAST = 0xffff;

describe("needEvent in WebAssembly", () => {
  let loops: Loops;
  beforeAll(async () => {
    loops = (await compileAssembly("test/ring/assembly/need-event.ts")) as unknown as Loops;
  }, timeout);

  // In many calls: a compiler optimizes what is called again.
  const total = (calls: number, call: (i: number) => number) => {
    let sum = 0;
    for (let i = 0; i < calls; i++) sum += call(i);
    return sum;
  };

  test("is right in all 2^32 cases", { timeout }, () => {
    expect(total(1024, (i) => loops.walkAll(0, i * 64, i * 64 + 63))).toBe(0);
  });

  test("is right from other places too, where the way round wraps", { timeout }, () => {
    for (const old of [1, 0x7fff, 0x8000, 0xff00, 0xffff]) {
      for (const first of [0, 0x7f80, 0xff80]) {
        expect(loops.walkAll(old, first, first + 127)).toBe(0);
        expect(loops.walkSlowly(0, old, first, first + 127)).toBe(0);
      }
    }
  });

  test("does not change when all three move alike", { timeout }, () => {
    expect(total(1000, (i) => loops.moveRandom(0, i, 100_000))).toBe(0);
    expect(total(1024, (i) => loops.moveEdges(0, (i * 64 + i) & LAST))).toBe(0);
  });

  test("wrong rules are found wrong", () => {
    for (const flaw of [1, 2, 3]) {
      const wrong = loops.walkSlowly(flaw, 0, 0, 99) + loops.walkSlowly(flaw, 0, LAST - 99, LAST);
      expect(wrong, `rule ${flaw}`).toBeGreaterThan(0);
    }
    expect(loops.walkSlowly(4, 0, 0, 99)).toBe(0); // as long as nothing wraps
    expect(loops.moveRandom(4, 0, 100_000)).toBeGreaterThan(0);
    expect(loops.moveEdges(4, 1)).toBeGreaterThan(0);
  });
});

describe("needEvent in TypeScript", () => {
  /** As `walkAll`, for events `ahead` of `old`. */
  function walk(old: number, ahead: number): number {
    const event = (old + ahead) & 0xffff;
    let isPassed = false;
    let wrong = 0;
    for (let walked = 0; walked <= LAST; walked++) {
      const next = (old + walked) & 0xffff;
      if (needEvent(event, next, old) !== isPassed) wrong++;
      if (next === event) isPassed = true;
    }
    return wrong;
  }

  // All 65536 walks, of 4096 events: the edges, and one in 17 of the others. 2^28 of 2^32 cases.
  test("is right for 4096 events, each walked all the way round", { timeout }, () => {
    const isEdge = (ahead: number) => ((ahead + 64) & 0x3fff) < 128;
    let events = 0;
    let wrong = 0;
    for (let ahead = 0; ahead <= LAST; ahead++) {
      if (!isEdge(ahead) && ahead % 17 !== 0) continue;
      wrong += walk((ahead * 40503) & 0xffff, ahead);
      events++;
    }
    expect(events).toBeGreaterThanOrEqual(4096);
    expect(wrong).toBe(0);
  });

  test("is the same as in WebAssembly where all three are near an edge", () => {
    const near = [0, 1, 2, 0x7ffe, 0x7fff, 0x8000, 0x8001, 0xfffe, 0xffff];
    for (const event of near) {
      for (const next of near) {
        for (const old of near) {
          let at = old;
          while (at !== event && at !== next) at = (at + 1) & 0xffff;
          const isWanted = at === event && at !== next;
          expect(needEvent(event, next, old), `${event} ${next} ${old}`).toBe(isWanted);
        }
      }
    }
  });
});
