// Whether the machine's memory is as weak, and as strong, as it says: the usual small programs.

import { describe, expect, test } from "vitest";
import { explore } from "./checker.js";
import { Machine } from "./machine.js";
import { type Order, PLAIN, Program, SC } from "./program.js";

const ACQ_REL: Order = { acqRel: true, sc: false };

type Two = Program<{ a: number; b: number }>;

/** Two threads, each with its own steps; every outcome of their four registers. */
function outcomes(first: (p: Two) => void, second: (p: Two) => void): string[] {
  const seen = new Set<string>();
  const programs = [first, second].map((write, index) => {
    const p: Two = new Program(`thread ${index}`, { a: 0, b: 0 });
    write(p);
    p.end();
    return p;
  });
  const machine = new Machine(programs as never, { x: 0, y: 0 }, new Set(["x", "y"]), false);
  const verdict = explore(machine, (state) => {
    const isDone = programs.every((_, index) => machine.step(state, index).kind === "end");
    const [one, other] = state.threads.map(({ registers: { a, b } }) => `${a}${b}`);
    if (isDone) seen.add(`${one} ${other}`);
    return isDone;
  });
  expect(verdict.outcome).toBe("fine");
  return [...seen].sort();
}

/** Reads a place into a register. */
function read(p: Two, at: string, order: Order, into: "a" | "b"): void {
  p.load(`${into} = ${at}`, at, order, (r, value) => {
    r[into] = value;
  });
}

describe("two threads store, then load the other's (store buffering)", () => {
  const both = (store: Order, load: Order) => {
    const thread = (own: string, other: string) => (p: Two) => {
      p.store(own, own, store, 1);
      read(p, other, load, "a");
    };
    return outcomes(thread("x", "y"), thread("y", "x"));
  };

  test("sequentially consistent: one sees the other", () => {
    expect(both(SC, SC)).toEqual(["00 10", "10 00", "10 10"]);
  });

  test.each([
    ["plain", PLAIN, PLAIN],
    ["acquire and release", ACQ_REL, ACQ_REL],
    ["the stores alone are ordered", SC, ACQ_REL],
    ["the loads alone are ordered", ACQ_REL, SC],
  ])("%s: perhaps neither does", (_, store, load) => {
    expect(both(store, load)).toEqual(["00 00", "00 10", "10 00", "10 10"]);
  });
});

describe("data, then a flag; the flag, then the data (message passing)", () => {
  const pass = (store: Order, load: Order) =>
    outcomes(
      (p) => {
        p.store("data", "x", PLAIN, 1);
        p.store("flag", "y", store, 1);
      },
      (p) => {
        read(p, "y", load, "a");
        read(p, "x", PLAIN, "b");
      },
    );

  test.each([
    ["release and acquire", ACQ_REL, ACQ_REL],
    ["sequentially consistent", SC, SC],
  ])("%s: whoever sees the flag sees the data", (_, store, load) => {
    expect(pass(store, load)).toEqual(["00 00", "00 01", "00 11"]);
  });

  test.each([
    ["a plain flag", PLAIN, PLAIN],
    ["no release", PLAIN, ACQ_REL],
    ["no acquire", ACQ_REL, PLAIN],
  ])("%s: perhaps not", (_, store, load) => {
    expect(pass(store, load)).toEqual(["00 00", "00 01", "00 10", "00 11"]);
  });
});

test("one place's writes are seen in their order (coherence)", () => {
  const seen = outcomes(
    (p) => {
      p.store("1", "x", PLAIN, 1);
      p.store("2", "x", PLAIN, 2);
    },
    (p) => {
      read(p, "x", PLAIN, "a");
      read(p, "x", PLAIN, "b");
    },
  );
  expect(seen).toEqual(["00 00", "00 01", "00 02", "00 11", "00 12", "00 22"]);
});

test("one that sleeps while nobody wakes it is found, although another polls for ever", () => {
  const sleeper: Two = new Program("sleeper", { a: 0, b: 0 });
  sleeper.wait("sleeps", "x", () => 0);
  sleeper.end();
  const poller: Two = new Program("poller", { a: 0, b: 0 });
  poller.label("again");
  read(poller, "x", SC, "a");
  poller.jump("again");
  poller.end();
  const machine = new Machine([sleeper, poller] as never, { x: 0 }, new Set(), true);
  const verdict = explore(machine, (state) => machine.step(state, 0).kind === "end");
  expect(verdict.outcome).toBe("lost");
  expect(verdict.trace.at(-1)).toBe("sleeper: asleep for ever");
});
