// Of which flow a frame is: the same number for both ways, whatever the frame is.

import { expect, test } from "vitest";
import { FLOW_HEAD_BYTES, flowHash, NetFlows } from "#dist/devices/net-flows.js";
import { Random } from "../fuzz/random.js";
import { type Endpoint, type FlowKind, flowFrame, swapEnds } from "../helpers/net-flow-frames.js";
import { seedOf } from "../helpers/seed.js";

const KINDS: FlowKind[] = [
  { version: 4, protocol: 6 },
  { version: 4, protocol: 17, optionWords: 10 },
  { version: 4, protocol: 6, vlan: 7 },
  { version: 6, protocol: 6 },
  { version: 6, protocol: 17, vlan: 4095 },
];

const anEnd = (random: Random): Endpoint => ({
  mac: 0x0200_0000_0000 + random.below(2 ** 30),
  address: random.below(2 ** 32),
  port: random.below(2 ** 16),
});

test("both ways of a flow have one number; another port, address or protocol another", () => {
  const seed = seedOf("flows");
  const random = new Random(seed);
  let same = 0;
  const tries = 200;
  for (let i = 0; i < tries; i++) {
    const ends = { from: anEnd(random), to: anEnd(random) };
    for (const kind of KINDS) {
      const frame = flowFrame(kind, ends);
      const hash = flowHash(frame, 0, frame.length);
      const back = flowFrame(kind, swapEnds(ends));
      expect(flowHash(back, 0, back.length), `FC_SEED=${seed}, ${i}`).toBe(hash);
      expect(flowHash(frame, 0, Math.min(FLOW_HEAD_BYTES, frame.length))).toBe(hash);
      const other = { ...ends, to: { ...ends.to, port: (ends.to.port + 1) & 0xffff } };
      const next = flowFrame(kind, other);
      if (flowHash(next, 0, next.length) === hash) same++;
    }
  }
  expect(same).toBe(0);
});

test("flows that differ in a port alone are spread over the pairs", () => {
  const flows = new NetFlows();
  const counts = [0, 0, 0, 0];
  for (let port = 0; port < 4000; port++) {
    const ends = { from: { mac: 1, address: 1, port }, to: { mac: 2, address: 2, port: 80 } };
    const frame = flowFrame({ version: 4, protocol: 6 }, ends);
    const pair = flows.pairOf(frame, 0, frame.length, 4);
    counts[pair] = (counts[pair] as number) + 1;
  }
  for (const count of counts) expect(count).toBeGreaterThan(700);
});

test("fragments of a packet are of one flow, with ports and without", () => {
  const ends = { from: { mac: 1, address: 1, port: 5 }, to: { mac: 2, address: 2, port: 80 } };
  const first = flowFrame({ version: 4, protocol: 17, fragment: 0x2000 }, ends);
  const last = flowFrame({ version: 4, protocol: 17, fragment: 0x00b9 }, swapEnds(ends));
  last.fill(0xee, 34); // no ports there
  expect(flowHash(last, 0, last.length)).toBe(flowHash(first, 0, first.length));
});

test("any bytes, cut anywhere: a number", () => {
  const seed = seedOf("flows of any bytes");
  const random = new Random(seed);
  for (let i = 0; i < 5000; i++) {
    const ends = { from: anEnd(random), to: anEnd(random) };
    const frame = flowFrame(KINDS[random.below(KINDS.length)] as FlowKind, ends);
    if (random.once(2)) frame[random.below(frame.length)] = random.below(256);
    const length = 14 + random.below(frame.length - 13);
    const hash = flowHash(frame, 0, length);
    // What lies behind the frame does not matter.
    expect(flowHash(frame.subarray(0, length), 0, length), `FC_SEED=${seed}, ${i}`).toBe(hash);
    expect(Number.isInteger(hash) && hash >= 0 && hash < 2 ** 32).toBe(true);
  }
});

test("5.1.6.5.5.1: a flow comes back on the pair that sent it last; of fewer pairs, on one", () => {
  const flows = new NetFlows();
  const ends = { from: { mac: 1, address: 1, port: 9 }, to: { mac: 2, address: 2, port: 80 } };
  const out = flowFrame({ version: 6, protocol: 6 }, ends);
  const back = flowFrame({ version: 6, protocol: 6 }, swapEnds(ends));
  for (const pair of [3, 0, 2, 1]) {
    flows.learn(out, 0, out.length, pair);
    expect(flows.pairOf(back, 0, back.length, 4)).toBe(pair);
  }
  flows.learn(out, 0, out.length, 3);
  expect(flows.pairOf(back, 0, back.length, 2)).toBeLessThan(2);
  flows.reset();
  flows.learn(back, 0, back.length, 0);
  expect(flows.pairOf(back, 0, back.length, 4)).toBe(0);
});
