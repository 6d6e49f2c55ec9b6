// An entropy source with its driver, in every mode: virtio 1.3, 5.4.

import { setTimeout as sleep } from "node:timers/promises";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { RNG_REQUEST_BYTES_MAX } from "#dist/devices/rng-device.js";
import { TokenBucket } from "#dist/devices/token-bucket.js";
import { Kernel, type RngOptions, rng } from "#dist/index.js";
import { rejected } from "../helpers/devices.js";
import { MODES, type Mode, RawGuest } from "../helpers/raw-guest.js";

async function open(mode: Mode, options: RngOptions = {}, driverOptions = {}) {
  const owner = new Kernel().spawn({ memoryBytes: 4 << 20 });
  const device = await owner.open(rng(options), mode);
  const driver = await device.driver(driverOptions);
  /** Waits for `work`, and does what is pending meanwhile when there is no thread for it. */
  const run = async <T>(work: Promise<T>): Promise<T> => {
    let isOver = false;
    const end = () => {
      isOver = true;
    };
    work.then(end, end);
    while (mode.run === "inline" && !isOver) {
      device.runPending();
      await sleep(1);
    }
    return work;
  };
  return { device, driver, run, [Symbol.asyncDispose]: () => owner.exit() };
}

describe.each(MODES)("$run, $ring ring", (mode) => {
  test.each([{}, { packed: true }, { inOrder: true }])("bytes, %o", async (driverOptions) => {
    await using both = await open(mode, {}, driverOptions);
    const all: string[] = [];
    for (const length of [0, 1, 16, 4096, 4097, 100_000]) {
      const bytes = await both.run(both.driver.read(length));
      expect(bytes.length).toBe(length);
      all.push(Buffer.from(bytes).toString("hex"));
      if (length < 1000) continue;
      // Of 4096 throws of eight fair coins and more, no way comes up too often; one that does not
      // at all is not too rare, three are.
      const counts = new Array(256).fill(0);
      for (const byte of bytes) counts[byte]++;
      expect(Math.max(...counts)).toBeLessThan((length / 256) * 4);
      expect(counts.filter((count) => count === 0).length).toBeLessThan(3);
    }
    expect(new Set(all).size).toBe(all.length);
    expect(both.device.errorCounts()).toEqual({});
  });

  test("at once, each gets its own", async () => {
    await using both = await open(mode, { queueSize: 8 });
    const reads = Array.from({ length: 50 }, (_, i) => both.driver.read(1 + i * 7));
    const all = await both.run(Promise.all(reads));
    expect(all.map(({ length }) => length)).toEqual(reads.map((_, i) => 1 + i * 7));
  });

  test("a rate is held", async () => {
    await using both = await open(mode, { rate: 500 });
    const began = performance.now();
    expect((await both.run(both.driver.read(900))).length).toBe(900);
    expect(performance.now() - began).toBeGreaterThan(780); // 400 bytes by and by
  });

  test("what waits for its bytes holds up nothing else, and goes with the device", async () => {
    await using both = await open(mode, { rate: 1 });
    const reading = both.driver.read(1000); // for a quarter of an hour
    const lost = rejected("ENODEV", reading);
    await both.run(sleep(20));
    await both.run(both.device.dev.readConfig());
    await both.run(both.device.close());
    await lost;
  });
});

describe.each(MODES)("what a broken driver gets, $run, $ring ring", (mode) => {
  test.each([undefined, 1 << 20])("rate %s", async (rate) => {
    await using guest = await RawGuest.open(rng(rate ? { rate } : {}), mode);
    const readable = new Uint8Array(8);
    expect((await guest.ring.request([readable])).length).toBe(0);
    expect((await guest.ring.request([readable, 8])).length).toBe(0);
    expect(guest.errors()).toEqual({ VRING_E_REQUEST: 2 });
    const none = guest.ring.link([{ addr: 0n, len: 0, flags: 2 }]);
    guest.ring.send(none);
    expect((await guest.ring.next()).length).toBe(0);
    const { length, written } = await guest.ring.request([3, 1, 200]);
    expect(length).toBe(204);
    expect(new Set(written).size).toBeGreaterThan(20);
  });

  test("a giant chain gets a part, and nothing beyond it is written", async () => {
    await using guest = await RawGuest.open(rng(), { ...mode, memoryBytes: 8 << 20 });
    const { length, written } = await guest.ring.request([40_000, 1 << 20]);
    expect(length).toBe(RNG_REQUEST_BYTES_MAX);
    expect(written.subarray(length).every((byte) => byte === 0xaa)).toBe(true);
    expect(new Set(written.subarray(0, 4000)).size).toBeGreaterThan(250);
  });

  test("many at a rate: no more than it allows, and none gets nothing", async () => {
    await using guest = await RawGuest.open(rng({ rate: 100 }), mode);
    for (let i = 0; i < 40; i++) guest.ring.offer(guest.ring.link([guest.describe(64)]));
    const began = performance.now();
    guest.dev.worker.kick(0);
    const lengths: number[] = [];
    while (performance.now() - began < 300 || lengths.length === 0) {
      if (guest.isInline) guest.runAll();
      if (guest.ring.unseen > 0) lengths.push((await guest.ring.next()).length);
      else await sleep(2);
    }
    const seconds = (performance.now() - began) / 1000;
    expect(Math.min(...lengths)).toBeGreaterThan(0);
    const sum = lengths.reduce((total, length) => total + length, 0);
    expect(sum).toBeGreaterThanOrEqual(64);
    expect(sum).toBeLessThanOrEqual(100 + 100 * seconds);
  });
});

test("a bucket gives no more in any time than a second's and what grew in it", () => {
  const steps = fc.array(fc.record({ ms: fc.nat(3000), wish: fc.nat(5000) }), { maxLength: 60 });
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 4000 }), steps, (rate, program) => {
      let now = 0;
      const bucket = new TokenBucket(rate, () => now);
      const given: { at: number; count: number }[] = [];
      for (const { ms, wish } of program) {
        now += ms;
        const count = Math.min(wish, Math.floor(bucket.tokens));
        bucket.take(count);
        given.push({ at: now, count });
        const wait = bucket.msUntil(1);
        expect(bucket.tokens + (wait * rate) / 1000).toBeGreaterThan(1 - 1e-6);
      }
      for (const [i, { at }] of given.entries()) {
        let sum = 0;
        for (const one of given.slice(i)) {
          sum += one.count;
          expect(sum).toBeLessThanOrEqual(rate + ((one.at - at) * rate) / 1000 + 1e-6);
        }
      }
    }),
  );
});

test.each([{ rate: 0 }, { rate: 1.5 }, { rate: "1K" }, { queueSize: 3 }, { rates: 1 }])(
  "%o is refused",
  (options) => {
    expect(() => rng(options as RngOptions)).toThrow(/^EINVAL: /);
  },
);

test("reads that are none", async () => {
  await using both = await open({ run: "thread", ring: "wasm" });
  await rejected("EINVAL", both.driver.read(-1));
  await rejected("EINVAL", both.driver.read(1.5));
  const signal = AbortSignal.abort(new Error("no"));
  await expect(both.driver.read(1, { signal })).rejects.toThrow("no");
});
