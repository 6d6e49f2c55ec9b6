// No wake-up is lost, in any interleaving: see handshake.ts for what is modelled, machine.ts for
// how weak memory is, checker.ts for what is asked. And one is lost wherever a barrier is missing.

import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { ROOT } from "../helpers/source.js";
import type { Verdict } from "./checker.js";
import { check } from "./handshake.js";
import type { Flaw, Handshake } from "./rings.js";

const timeout = 180_000;

const RINGS = [
  { ring: "split", eventIdx: false },
  { ring: "split", eventIdx: true },
  { ring: "packed", eventIdx: false },
  { ring: "packed", eventIdx: true },
] as const;
const nameOf = ({ ring, eventIdx }: { ring: string; eventIdx: boolean }) =>
  `${ring}, ${eventIdx ? "EVENT_IDX" : "flags"}`;

/** The worker sleeps and is kicked; the driver does and is called; both. */
const KICKS = { worker: "parks", driver: "polls" } as const;
const CALLS = { worker: "polls", driver: "sleeps" } as const;
const BOTH = { worker: "parks", driver: "sleeps" } as const;

type Setup = Partial<Handshake>;

let statesOfAll = 0;
function run(ring: (typeof RINGS)[number], setup: Setup): Verdict {
  const plain = { num: 1, requests: 2, awaitsKick: false, stops: false, flaws: [] };
  const verdict = check({ ...plain, ...KICKS, notifier: "eventfd", ...ring, ...setup });
  statesOfAll += verdict.states;
  return verdict;
}

/** How many states the models of the product had, by name. */
const sizes = new Map<string, number>();

afterAll(() => {
  const lines = [...sizes].map(([name, states]) => `${String(states).padStart(9)} ${name}`);
  console.info(
    [...lines, `${String(statesOfAll).padStart(9)} all models, flawed ones too`].join("\n"),
  );
});

test("the functions that the table in handshake.ts names are where it says", () => {
  const table = readFileSync(join(ROOT, "test/model/handshake.ts"), "utf8").split("import")[0];
  const named = [...(table ?? "").matchAll(/([\w/-]+\.ts) (?:[A-Z]\w+\.)?(#?\w+)/g)];
  expect(named.length).toBeGreaterThan(40);
  for (const [, file = "", name = ""] of named) {
    const paths = ["src", "src/ring", "src/kernel", "assembly"].map((room) =>
      join(ROOT, room, file),
    );
    const path = paths.find((one) => existsSync(one));
    expect(path, file).toBeDefined();
    expect(readFileSync(path as string, "utf8"), `${name} in ${file}`).toContain(`${name}(`);
  }
});

describe("no wake-up is lost", () => {
  const setups: [string, Setup][] = [
    ["kicks by words", { ...KICKS, notifier: "doorbell", num: 2, requests: 2 }],
    ["calls by words", { ...CALLS, notifier: "doorbell", num: 2, requests: 2 }],
    ["both by words, indices wrap", { ...BOTH, notifier: "doorbell", num: 1, requests: 3 }],
    ["kicks by eventfds, indices wrap", { ...KICKS, num: 2, requests: 5 }],
    ["calls by eventfds, indices wrap", { ...CALLS, num: 2, requests: 5 }],
    ["both by eventfds", { ...BOTH, num: 2, requests: 3 }],
    ["kicks by eventfds, a ring of three", { ...KICKS, num: 3, requests: 4 }],
    ["a first kick by words, then a stop", { notifier: "doorbell", awaitsKick: true, stops: true }],
    ["a first kick by an eventfd, then a stop", { awaitsKick: true, stops: true }],
    ["a stop by words", { notifier: "doorbell", stops: true }],
    ["a stop by an eventfd", { stops: true }],
  ];

  for (const [name, setup] of setups) {
    test(name, { timeout }, () => {
      for (const ring of RINGS) {
        if (ring.ring === "split" && setup.num === 3) continue; // there is no such ring
        const { states, outcome, trace } = run(ring, setup);
        expect([outcome, ...trace], nameOf(ring)).toEqual(["fine"]);
        sizes.set(`${name}: ${nameOf(ring)}`, states);
      }
    });
  }
});

describe("a wake-up is lost", () => {
  const byWords = { notifier: "doorbell" } as const;
  const firstKick = { notifier: "doorbell", awaitsKick: true } as const;
  const flaws: [Flaw, Setup][] = [
    ["A2: publish is not ordered", KICKS],
    ["A2: the wish is read early", KICKS],
    ["A2: the wish is stored late", KICKS],
    ["A2: the second look is early", KICKS],
    ["U2: publish is not ordered", CALLS],
    ["U2: the wish is read early", CALLS],
    ["U2: the wish is stored late", CALLS],
    ["U2: the second look is early", CALLS],
    ["S1: WAKE is read after the look", { ...KICKS, ...byWords }],
    ["S1: woken before the work is stored", firstKick],
    ["S2: STATE is stored late", firstKick],
    ["S2: STATE is read early", firstKick],
    ["S2: STATE is stored late", { stops: true }],
    ["S2: STATE is read early", { stops: true }],
    ["setState after the look", { ...KICKS, ...byWords }],
    ["setState after the look", { stops: true }],
    ["kick: asked before publish", KICKS],
    ["enableKick: no second look", KICKS],
    ["enableKick: the wish after the second look", KICKS],
    ["enableKick: left out", KICKS],
    ["park: kicks are not looked for", firstKick],
    ["park: the eventfd is drained before the sleep", KICKS],
    ["call: asked before publish", CALLS],
    ["enableCall: no second look", CALLS],
    ["enableCall: the wish after the second look", CALLS],
    ["enableCall: left out", CALLS],
    ["sleep: the sequence is read after the look", { ...CALLS, ...byWords }],
    ["sleep: the eventfd is drained before the sleep", CALLS],
  ];

  const how = ({ notifier, awaitsKick, stops }: Setup) =>
    `${notifier ?? "eventfd"}${awaitsKick ? ", first kick" : ""}${stops ? ", stop" : ""}`;
  test.each(flaws)("%s (%#)", { timeout }, (flaw, setup) => {
    for (const ring of RINGS) {
      const { outcome, trace } = run(ring, { ...setup, flaws: [flaw] });
      expect(outcome, `${nameOf(ring)}, ${how(setup)}`).toBe("lost");
      expect(trace.at(-1)).toMatch(/asleep for ever$/);
    }
  });

  test("an event that is one entry too far", { timeout }, () => {
    for (const ring of RINGS.filter(({ eventIdx }) => eventIdx)) {
      for (const num of [1, 2]) {
        const kick = run(ring, { ...KICKS, num, flaws: ["enableKick: one too far"] });
        expect(kick.outcome).toBe("lost");
        const call = run(ring, { ...CALLS, num, flaws: ["enableCall: one too far"] });
        expect(call.outcome).toBe("lost");
      }
    }
  });

  test("and the way to it is told, the shortest", () => {
    const { trace } = run(RINGS[1], { ...KICKS, flaws: ["enableKick: no second look"] });
    expect(trace).toEqual([
      "driver: addBufs: the head: avail.ring[0] = 1",
      "worker: availLen, A1: avail.idx is 0",
      "driver: driverPublish, A1 A2: avail.idx = 1",
      "worker: setState, S1: WAKE is 0",
      "worker: setState, S2: STATE = 1",
      "worker: enableKick: where the driver is: avail.idx is 1",
      "worker: enableKick, A2: avail_event = 1",
      "worker: scheduleBy, S2: WAKE is 0",
      "worker: asleep for ever", // whatever kickNeeded answers now: avail_event is not passed
    ]);
  });

  test("weak memory shows in it: a store that the other side does not see yet", () => {
    const { trace } = run(RINGS[1], { ...KICKS, flaws: ["A2: publish is not ordered"] });
    const look = "worker: enableKick looks again, A2: avail.idx is 1 (not yet 0)";
    const question = "driver: kickNeeded, A2: avail_event is 0";
    expect(trace).toContain(look);
    expect(trace.lastIndexOf(question)).toBeLessThan(trace.indexOf(look));
  });
});

describe("an entry is read before it is written", () => {
  const flaws: [Flaw, Setup][] = [
    ["A1: publish does not release", KICKS],
    ["A1: idx is not acquired", KICKS],
    ["U1: publish does not release", CALLS],
    ["U1: idx is not acquired", CALLS],
  ];

  test.each(flaws)("%s", (flaw, setup) => {
    for (const ring of RINGS) {
      const { outcome, trace } = run(ring, { ...setup, flaws: [flaw] });
      expect(outcome, nameOf(ring)).toBe("broken");
      expect(trace.at(-1)).toMatch(/not written yet$/);
    }
  });
});

describe("what nothing rests on", () => {
  const stop = { notifier: "doorbell", awaitsKick: true, stops: true } as const;
  const harmless: [string, Flaw, Setup][] = [
    ["that STATE is stored before the look: WAKE was read", "STATE alone after the look", stop],
    ["that WAKE is bumped first: the work was stored", "S2: STATE is read before the bump", stop],
    ["S2 for kicks: A2 has ordered it", "S2: STATE is stored late", { notifier: "doorbell" }],
    ["S2 for kicks: A2 has ordered it", "S2: STATE is read early", { notifier: "doorbell" }],
    ["kicks, once the ring runs", "park: kicks are not looked for", { notifier: "doorbell" }],
  ];

  test.each(harmless)("%s", { timeout }, (_, flaw, setup) => {
    for (const ring of RINGS) expect(run(ring, { ...setup, flaws: [flaw] }).outcome).toBe("fine");
  });
});
