// A guest's driver that begins anew, which no message of QEMU's says: seen by where rings begin.

import { describe, expect, test } from "vitest";
import { type FrontEnd, u32s } from "#dist/bench/front-end.js";
import { custom } from "../helpers/devices.js";
import { describeVhostUser, Served } from "../helpers/vhost-user.js";

const CONFIG = u32s(0, 1, 0, 0).subarray(0, 13);
const FRESH = 0xec;
/** Where the rings are, when they are stopped. */
const AT = [5, 9];

/** How often the device was told. */
async function renewals(front: FrontEnd): Promise<number> {
  const answer = await front.ask("GET_CONFIG", CONFIG);
  return answer.getUint8(12) - FRESH;
}

/** Two rings, which are somewhere. */
async function running(served: Served): Promise<FrontEnd> {
  const front = await served.ready();
  for (const [index, base] of AT.entries()) await front.attach(front.makeQueue(index, 16), base);
  expect(await renewals(front)).toBe(0);
  return front;
}

async function stop(front: FrontEnd, index: number): Promise<void> {
  const state = await front.ask("GET_VRING_BASE", u32s(index, 0));
  expect(state.getUint32(4, true)).toBe(AT[index]);
}

const goOn = (front: FrontEnd, bases: number[]) =>
  bases.reduce(async (before, base, index) => {
    await before;
    await front.attach(front.makeQueue(index, 16), base);
  }, Promise.resolve());

describeVhostUser("vhost-user: a driver that begins anew", () => {
  const device = custom("echo", { queues: 2 });

  describe("all rings were stopped", () => {
    test.each([
      ["they go on: a pause", [5, 9], 0],
      ["they begin at their start", [0, 0], 1],
      ["one of them does", [0, 9], 1],
      ["the other does", [5, 0], 0], // the first was enabled before
    ])("%s", async (_, bases, count) => {
      await using served = await Served.start({ device });
      using front = await running(served);
      for (const index of AT.keys()) await stop(front, index);
      await goOn(front, bases);
      expect(await renewals(front)).toBe(count);
    });

    test("as QEMU goes about it: all are set up, then enabled", async () => {
      await using served = await Served.start({ device });
      using front = await running(served);
      for (const index of AT.keys()) await stop(front, index);
      await front.must("SET_VRING_BASE", u32s(0, 5));
      await front.must("SET_VRING_BASE", u32s(1, 0));
      expect(await renewals(front)).toBe(1);
    });
  });

  test("a ring that is reset alone is no new driver", async () => {
    await using served = await Served.start({ device });
    using front = await running(served);
    await stop(front, 0);
    await front.attach(front.makeQueue(0, 16), 0);
    expect(await renewals(front)).toBe(0);
  });

  test("the first base of all is none, whatever it is", async () => {
    await using served = await Served.start({ device });
    using front = await served.ready();
    await front.must("SET_VRING_BASE", u32s(0, 7));
    expect(await renewals(front)).toBe(0);
  });
});
