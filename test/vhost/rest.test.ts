// What a queue that errs again and again leaves to its neighbours, by a clock of the test's own.

import { describe, expect, test } from "vitest";
import { SharedMemory } from "#dist/memory/shared-memory.js";
import { loadRings } from "#dist/ring/load.js";
import { allocDeviceState } from "#dist/ring/state-block.js";
import { VIRTIO_F_VERSION_1 } from "#dist/spec/virtio-config.js";
import { Counters } from "#dist/vhost/counters.js";
import type { Notifier } from "#dist/vhost/notifier.js";
import { Rest } from "#dist/vhost/rest.js";
import { VhostWorker } from "#dist/vhost/worker.js";
import { bit } from "../helpers/raw-guest.js";
import { RawRing } from "../helpers/raw-ring.js";

describe("a rest", () => {
  const clock = { ms: 0, asked: 0 };
  const rest = new Rest(() => {
    clock.asked++;
    return clock.ms;
  });
  function turn(ms: number, hasErred: boolean): void {
    rest.begin();
    clock.ms += ms;
    rest.end(hasErred);
  }

  test("a good queue has none, and does not ask for the time", () => {
    for (let i = 0; i < 10; i++) turn(5, false);
    expect({ isOn: rest.isOn, asked: clock.asked }).toEqual({ isOn: false, asked: 0 });
  });

  test("nor has one that erred once", () => {
    turn(5, true);
    expect(rest.isOn).toBe(false);
    turn(5, false);
    expect(rest.isOn).toBe(false);
    turn(5, true);
    expect(rest.isOn).toBe(false);
  });

  test("after the second turn in a row with errors: seven times the turn; again after each", () => {
    for (const ms of [2, 10, 1]) {
      turn(ms, true);
      expect(rest.isOn).toBe(true);
      clock.ms += 7 * ms - 0.5;
      expect(rest.isOn).toBe(true);
      clock.ms += 0.5;
      expect(rest.isOn).toBe(false);
    }
  });

  test("a turn without one ends it", () => {
    turn(2, true);
    turn(2, false);
    expect(rest.isOn).toBe(false);
  });
});

const NUM = 64;

/** A ring whose every entry is of a chain that is nowhere. */
class BadRing extends RawRing {
  readonly num = NUM;
  readonly desc: number;
  readonly avail: number;
  readonly used: number;

  constructor(readonly shared: SharedMemory) {
    super(shared.memory);
    this.desc = shared.allocGuest(16 * NUM, 16);
    this.avail = shared.allocGuest(6 + 2 * NUM, 16);
    this.used = shared.allocGuest(6 + 8 * NUM, 16);
    this.writeDesc(0, { addr: 0n, len: 16, flags: 0 });
  }

  get state() {
    const { desc, avail, used } = this;
    const features = bit(VIRTIO_F_VERSION_1);
    const setup = { num: NUM, features, desc, driver: avail, device: used };
    return allocDeviceState(this.shared, setup, 0, 0);
  }

  fill(): this {
    for (let i = 0; i < NUM; i++) this.offer(0);
    return this;
  }
}

/** A worker with this many queues full of bad chains; a look at the clock takes 1 ms. */
async function worker(queues: number, rests?: boolean) {
  const shared = SharedMemory.of(
    new WebAssembly.Memory({ initial: 32, maximum: 32, shared: true }),
  );
  const rings = Array.from({ length: queues }, () => new BadRing(shared).fill());
  const notifier: Notifier = {
    setQueues() {},
    takeKicks: () => 0,
    hasKicks: () => false,
    call() {},
    error() {},
    sleep() {},
  };
  const setup = {
    memory: shared.memory,
    doorbell: new SharedArrayBuffer(64),
    counters: new Counters().buffer,
    ringKind: "wasm" as const,
    pollMicroseconds: 0,
  };
  let ms = 0;
  const parts = { now: () => ms++, rings: loadRings(shared.memory, "wasm") };
  const made = new VhostWorker(setup, notifier, {
    ...parts,
    ...(rests !== undefined && { rests }),
  });
  const devices = new URL("../helpers/device-modules.mjs", import.meta.url).href;
  await made.attach(devices, { how: "echo", queues }, []);
  const starts = rings.map((ring, index) => {
    return { index, vq: ring.state.vq, position: 0, awaitsKick: false };
  });
  await made.start(bit(VIRTIO_F_VERSION_1), starts);
  return { made, rings, passes: () => Array.from({ length: 60 }, () => made.runWorkList()) };
}

describe("a worker with two queues that err", () => {
  test("has passes in which it serves none of them, and serves both to the end", async () => {
    const { made, rings, passes } = await worker(2);
    const some = passes();
    expect(some.slice(0, 2)).toEqual([true, true]);
    expect(some).toContain(false);
    expect(made.enableKicks()).toBe(true); // it must not sleep: what rests is not done
    for (let i = 0; i < 10_000 && rings.some((ring) => ring.usedIdx < NUM); i++) passes();
    expect(rings.map((ring) => ring.usedIdx)).toEqual([NUM, NUM]);
    while (made.runWorkList()) {}
    expect(made.enableKicks()).toBe(false);
  });

  test("none rests where the worker is another's thread", async () => {
    const { passes } = await worker(2, false);
    expect(passes().indexOf(false)).toBe(NUM - 16 + 1); // a burst of 16, the rest one by one
  });

  test("nor a queue that is alone", async () => {
    const { passes } = await worker(1);
    expect(passes().indexOf(false)).toBe(NUM - 16 + 1);
  });
});
