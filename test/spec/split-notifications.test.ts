// Who calls, who kicks, and who says so. virtio 1.3, 2.7.7 Used Buffer Notification Suppression,
// 2.7.10 Available Buffer Notification Suppression.

import { setImmediate as nextTurn } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { CustomDriver } from "#dist/driver/custom.js";
import { VIRTIO_F_EVENT_IDX, VIRTIO_F_INDIRECT_DESC } from "#dist/spec/virtio-config.js";
import { VIRTQ_AVAIL_ELEM_BYTES, VIRTQ_USED_ELEM_BYTES } from "#dist/spec/virtio-ring.js";
import { custom } from "../helpers/devices.js";
import { openPlayed } from "../helpers/played-device.js";
import { bit, MODES, RawGuest, VERSION_1 } from "../helpers/raw-guest.js";
import { KINDS, makePair, offer, type Pair, use, wind } from "../helpers/split-pair.js";

const usedEvent = ({ f }: Pair) => f.avail + 4 + f.num * VIRTQ_AVAIL_ELEM_BYTES;
const availEvent = ({ f }: Pair) => f.used + 4 + f.num * VIRTQ_USED_ELEM_BYTES;

/** A few rounds in which both sides do all that they can. */
function workout(pair: Pair): void {
  const { driver, device } = pair;
  driver.reset();
  device.start(0);
  for (let round = 0; round < 6; round++) {
    if (round % 2 === 0) driver.disableCall();
    device.disableKick();
    use(pair, 1 + (round % 3));
    driver.kickNeeded();
    device.callNeeded();
    device.enableKick();
    driver.getBufs(8);
    driver.enableCall();
    if (round % 3 === 0) driver.disableCall();
  }
}

/** Values stored to the u16 at `at`, which a wider store may begin with. */
function valuesAt({ trace }: Pair, at: number): number[] {
  const stores = trace.stores(at, 2);
  for (const one of stores) expect(one.at).toBe(at);
  return stores.map(({ value }) => Number(value) & 0xffff);
}

/** Where an event stands by what was done since the last question: before, within, after. */
const EVENTS = [0, 1, 100, 65530, 65535].flatMap((start) =>
  [1, 2, 4].flatMap((count) =>
    [-2, -1, 0, 1, 2, 3, 4, 5].map((ahead) => ({ start, count, event: (start + ahead) & 0xffff })),
  ),
);

/** Whether the entry at `event` is one of the `count` from `start` on. */
const isPassed = ({ start, count, event }: (typeof EVENTS)[number]) =>
  ((event - start) & 0xffff) < count;

describe.each(KINDS)("rings, %s", (kind) => {
  test("2.7.7.1 driver: by flags: sets avail.flags to 0 or 1 and nothing else", () => {
    const pair = makePair(kind);
    workout(pair);
    expect(new Set(valuesAt(pair, pair.f.avail))).toEqual(new Set([0, 1]));
  });

  test("2.7.7.1 driver: by event: sets avail.flags to 0 and nothing else", () => {
    const pair = makePair(kind, { eventIdx: true });
    pair.f.availFlags = 1;
    workout(pair);
    expect(new Set(valuesAt(pair, pair.f.avail))).toEqual(new Set([0]));
  });

  test("2.7.10.2 device: by flags: sets used.flags to 0 or 1 and nothing else", () => {
    const pair = makePair(kind);
    workout(pair);
    expect(new Set(valuesAt(pair, pair.f.used))).toEqual(new Set([0, 1]));
  });

  test("2.7.10.2 device: by event: sets used.flags to 0 and nothing else", () => {
    const pair = makePair(kind, { eventIdx: true });
    pair.f.usedFlags = 1;
    pair.trace.clear();
    pair.device.start(0);
    expect(valuesAt(pair, pair.f.used)).toEqual([0]);
    workout(pair);
    expect(new Set(valuesAt(pair, pair.f.used))).toEqual(new Set([0]));
  });

  test("2.7.7.2 device: by flags: does not mind used_event", () => {
    for (const event of [0, 1, 2, 3, 7, 65535]) {
      for (const flags of [0, 1]) {
        const pair = makePair(kind);
        for (let round = 0; round < 3; round++) {
          pair.f.usedEvent = (event + round) & 0xffff;
          pair.f.availFlags = flags;
          use(pair, 1);
          expect(pair.device.callNeeded(), `event ${event}, flags ${flags}`).toBe(flags === 0);
          pair.driver.getBufs(1);
        }
        expect(pair.trace.loads(usedEvent(pair), 2)).toEqual([]);
      }
    }
  });

  test("2.7.10.1 driver: by flags: does not mind avail_event", () => {
    for (const event of [0, 1, 2, 3, 7, 65535]) {
      for (const flags of [0, 1]) {
        const pair = makePair(kind);
        for (let round = 0; round < 3; round++) {
          pair.f.availEvent = (event + round) & 0xffff;
          pair.f.usedFlags = flags;
          offer(pair, 1);
          expect(pair.driver.kickNeeded(), `event ${event}, flags ${flags}`).toBe(flags === 0);
        }
        expect(pair.trace.loads(availEvent(pair), 2)).toEqual([]);
      }
    }
  });

  test("2.7.7.2 device: by event: calls when the entry at used_event was written", () => {
    for (const one of EVENTS) {
      const pair = makePair(kind, { eventIdx: true });
      wind(pair, (one.start - 1) & 0xffff);
      use(pair, 1);
      pair.device.callNeeded(); // the first question of all
      pair.driver.getBufs(1);
      pair.f.usedEvent = one.event;
      for (let i = 0; i < one.count; i++) use(pair, 1); // each published by itself
      if (isPassed(one)) expect(pair.device.callNeeded(), JSON.stringify(one)).toBe(true);
    }
  });

  test("2.7.10.1 driver: by event: kicks when the entry at avail_event was written", () => {
    for (const one of EVENTS) {
      const pair = makePair(kind, { eventIdx: true });
      wind(pair, one.start);
      pair.f.availEvent = one.event;
      for (let i = 0; i < one.count; i++) offer(pair, 1);
      if (isPassed(one)) expect(pair.driver.kickNeeded(), JSON.stringify(one)).toBe(true);
    }
  });

  test("2.7.7.2 device: by event: does not mind bit 0 of avail.flags", () => {
    for (const one of EVENTS.filter(({ count }) => count < 4)) {
      const answers = [0, 1].map((flags) => {
        const pair = makePair(kind, { eventIdx: true });
        wind(pair, (one.start - 1) & 0xffff);
        pair.f.availFlags = flags;
        use(pair, 1);
        const first = pair.device.callNeeded();
        pair.f.usedEvent = one.event;
        use(pair, one.count);
        return [first, pair.device.callNeeded()];
      });
      expect(answers[1], JSON.stringify(one)).toEqual(answers[0]);
      expect(answers[1]?.[1] || !isPassed(one)).toBe(true);
    }
  });

  test("2.7.10.1 driver: by event: does not mind bit 0 of used.flags", () => {
    for (const one of EVENTS.filter(({ count }) => count < 4)) {
      const answers = [0, 1].map((flags) => {
        const pair = makePair(kind, { eventIdx: true });
        wind(pair, one.start);
        pair.f.usedFlags = flags;
        pair.f.availEvent = one.event;
        offer(pair, one.count);
        return pair.driver.kickNeeded();
      });
      expect(answers[1], JSON.stringify(one)).toBe(answers[0]);
      expect(answers[1] || !isPassed(one)).toBe(true);
    }
  });

  test("2.7.10.1 driver: sets used.flags to 0 when it makes the ring", () => {
    const pair = makePair(kind);
    pair.f.usedFlags = 0xffff;
    pair.driver.reset();
    expect(pair.f.usedFlags).toBe(0);
  });
});

const word = new Uint8Array(4);

describe.each(KINDS)("drivers, %s ring", (ring) => {
  const WITHOUT = { flags: [VIRTIO_F_INDIRECT_DESC, VIRTIO_F_EVENT_IDX], event: [] };

  /** Sends a request; whether the driver kicked for it. */
  async function kicks(
    { driver, sent, transport }: Awaited<ReturnType<typeof openPlayed<CustomDriver>>>,
    count: number,
  ): Promise<boolean> {
    const before = transport.kicks;
    driver.request(0, word, 4).catch(() => {}); // it is never answered
    await sent(count);
    await nextTurn();
    return transport.kicks > before;
  }

  test("2.7.10.1 driver: sets used.flags to 0 when it makes the ring", async () => {
    await using device = await openPlayed(CustomDriver.probe, {
      ring,
      prepare: ({ bytes, guestStart, guestBytes }) =>
        bytes.fill(0xff, guestStart, guestStart + guestBytes),
    });
    expect(device.used.usedFlags).toBe(0);
  });

  test("2.7.10.1 driver: by flags: kicks after each entry while used.flags is 0", async () => {
    const options = { ring, withoutFeatures: WITHOUT.flags };
    await using device = await openPlayed(CustomDriver.probe, options);
    const told: boolean[] = [];
    const flags = [0, 1, 0, 0];
    for (const [i, value] of flags.entries()) {
      device.used.usedFlags = value;
      device.used.availEvent = 0x8000;
      told.push(await kicks(device, i + 1));
    }
    expect(told).toEqual([true, false, true, true]);
    await device.driver.close();
  });

  test("2.7.10.1 driver: by event: kicks when the entry at avail_event was written", async () => {
    const options = { ring, withoutFeatures: WITHOUT.event };
    await using device = await openPlayed(CustomDriver.probe, options);
    const told: boolean[] = [];
    for (const [i, event] of [0, 0x8000, 2, 3].entries()) {
      device.used.usedFlags = 1;
      device.used.availEvent = event;
      told.push(await kicks(device, i + 1));
    }
    expect(told).toEqual([true, false, true, true]);
    await device.driver.close();
  });

  test.each(["flags", "event"] as const)(
    "2.7.7.1 driver: is not misled by calls without a cause",
    async (way) => {
      const options = { ring, withoutFeatures: WITHOUT[way] };
      await using device = await openPlayed(CustomDriver.probe, options);
      const { driver, used, sent } = device;
      const callMuch = async () => {
        for (let i = 0; i < 20; i++) {
          used.call();
          await nextTurn();
        }
      };
      await callMuch(); // nothing was ever sent
      for (let i = 0; i < 4; i++) {
        let settled = 0;
        const requests = [1, 2].map((room) =>
          driver.request(0, word, room).finally(() => settled++),
        );
        await sent(2 * i + 2);
        await callMuch();
        expect(settled).toBe(0);
        const slot = (2 * i) % used.num;
        used.answer(used.availHead(slot + 1), 2); // the second one only
        expect(await requests[1]).toHaveLength(2);
        await callMuch();
        expect(settled).toBe(1);
        used.answer(used.availHead(slot), 1);
        expect(await requests[0]).toHaveLength(1);
        await callMuch();
      }
      await driver.close();
    },
  );
});

describe.each(MODES)("devices: $run, $ring ring", (mode) => {
  const EVENT = VERSION_1 | bit(VIRTIO_F_EVENT_IDX);

  /** Sends one request and waits until it was used; how many calls came. */
  async function calls(guest: RawGuest): Promise<number> {
    const { ring, dev } = guest;
    const before = dev.worker.doorbell.callSequence();
    ring.send(ring.link([guest.describe(new Uint8Array(4)), guest.describe(4)]));
    await ring.next();
    await dev.readConfig(); // the worker has ended its turn
    return dev.worker.doorbell.callSequence() - before;
  }

  test("2.7.7.2 device: by flags: calls after each used entry while avail.flags is 0", async () => {
    await using guest = await RawGuest.open(custom("echo"), mode);
    const told: number[] = [];
    for (const flags of [0, 0, 1, 0]) {
      guest.ring.availFlags = flags;
      guest.ring.usedEvent = 0x8000;
      told.push(await calls(guest));
    }
    expect(told).toEqual([1, 1, 0, 1]);
  });

  test("2.7.7.2 device: by event: calls when the entry at used_event was written", async () => {
    await using guest = await RawGuest.open(custom("echo"), { ...mode, features: EVENT });
    const told: number[] = [];
    for (const event of [0, 1, 0x8000, 3]) {
      guest.ring.availFlags = 1;
      guest.ring.usedEvent = event;
      told.push(await calls(guest));
    }
    expect(told).toEqual([1, 1, 0, 1]);
  });

  test.each([VERSION_1, EVENT])(
    "2.7.10.2 device: is not misled by kicks without a cause",
    async (features) => {
      await using guest = await RawGuest.open(custom("echo", { queues: 2 }), { ...mode, features });
      const { ring, dev } = guest;
      const kickMuch = async () => {
        const { usedIdx } = ring;
        const before = dev.worker.doorbell.callSequence();
        for (let i = 0; i < 20; i++) {
          for (const queue of [0, 1]) dev.worker.kick(queue); // nobody has set up queue 1
          if (guest.isInline) guest.runAll();
          await dev.readConfig();
        }
        expect(ring.usedIdx).toBe(usedIdx);
        expect(dev.worker.doorbell.callSequence()).toBe(before);
      };
      await kickMuch();
      for (let i = 0; i < 3; i++) {
        const { written } = await ring.request([new Uint8Array(4).fill(7 + i), 4]);
        expect(Uint8Array.from(written)).toEqual(new Uint8Array(4).fill(7 + i));
        await kickMuch();
      }
      expect(guest.errors()).toEqual({});
    },
  );
});
