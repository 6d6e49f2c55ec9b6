// When the packed virtqueue's sides notify one another: virtio 1.3, 2.8.10 Driver and Device Event
// Suppression, for both implementations alike.

import { describe, expect, test } from "vitest";
import * as e from "#dist/spec/ring-state.js";
import { DESC, DISABLE, ENABLE, positionAt } from "../helpers/packed-fixture.js";
import { add, get, makePair, ones, type Pair, useAll, wind } from "../helpers/packed-pair.js";
import type { RingShape } from "../helpers/ring-fixture.js";

describe.each(["wasm", "ts"] as const)("packed ring, events, %s", (kind) => {
  const setup = (shape: Partial<RingShape> = {}) => makePair(kind, shape);

  function publish(ring: Pair, count: number): void {
    expect(add(ring, ...ones(count))).toBe(count);
    ring.driver.publish();
  }

  test("what a kick says is a position of this ring, or is counted", () => {
    const { f, device } = setup({ num: 5 });
    const bad = [5, 0x8005, 0x7fff, 0xffff, 0x1_0000, 0xffff_ffff];
    for (const position of [0, 4, 0x8000, 0x8004]) expect(device.kicked(position)).toBe(0);
    for (const position of bad) expect(device.kicked(position)).toBe(-e.VRING_E_KICK);
    expect(f.errors("device", e.VRING_E_KICK)).toBe(bad.length);
  });

  test.each([false, true])("kicks are enabled and disabled; EVENT_IDX: %s", (eventIdx) => {
    const ring = setup({ eventIdx });
    const { f, driver, device } = ring;
    expect(driver.kickNeeded()).toBe(false);
    add(ring, [8]);
    expect(driver.kickNeeded(), "not published").toBe(false);
    driver.publish();
    expect(driver.kickNeeded()).toBe(true);
    expect(driver.kickNeeded(), "answered").toBe(false);
    device.disableKick();
    expect(f.deviceEvent).toBe(DISABLE);
    expect(f.word("device", e.VQ_NOTIFY_DISABLED)).toBe(1);
    publish(ring, 1);
    expect(driver.kickNeeded()).toBe(false);
    expect(device.enableKick(), "two wait").toBe(true);
    expect(f.deviceEvent).toBe(eventIdx ? DESC + 0x8002 : ENABLE);
    expect(useAll(ring)).toBe(2);
    expect(device.enableKick()).toBe(false);
    expect(f.word("device", e.VQ_NOTIFY_DISABLED)).toBe(0);
    publish(ring, 1);
    expect(driver.kickNeeded()).toBe(true);
  });

  test.each([false, true])("calls are enabled and disabled; EVENT_IDX: %s", (eventIdx) => {
    const ring = setup({ eventIdx });
    const { f, driver, device } = ring;
    expect(device.callNeeded()).toBe(false);
    driver.disableCall();
    expect(f.driverEvent).toBe(DISABLE);
    publish(ring, 1);
    useAll(ring);
    expect(device.callNeeded()).toBe(false);
    expect(driver.enableCall(), "one waits").toBe(true);
    expect(f.driverEvent).toBe(eventIdx ? DESC + 0x8000 : ENABLE);
    expect(driver.getBufs(8)).toBe(1);
    expect(driver.enableCall()).toBe(false);
    expect(f.driverEvent).toBe(eventIdx ? DESC + 0x8001 : ENABLE);
    publish(ring, 1);
    expect(driver.enableCall(), "available is not used").toBe(false);
    useAll(ring);
    expect([device.callNeeded(), device.callNeeded()]).toEqual([true, false]);
  });

  test("reserved bits are ignored, value 3 and DESC that was not negotiated notify", () => {
    const ring = setup();
    for (const [event, kick] of [
      [0xfffd_0000, false],
      [0xfffc_1234, true],
      [0x0003_8000, true],
      [DESC + 0x8007, true],
    ] as const) {
      ring.f.deviceEvent = ring.f.driverEvent = event;
      publish(ring, 1);
      expect(ring.driver.kickNeeded()).toBe(kick);
      useAll(ring);
      expect(ring.device.callNeeded()).toBe(kick);
      ring.driver.getBufs(8);
    }
  });

  /** Every start, every length, every event of small rings: told when the event is passed. */
  test.each([1, 2, 3, 5])("by position, both ways: a ring of %i", (num) => {
    for (let start = 0; start < 2 * num; start++) {
      const ring = setup({ num, eventIdx: true });
      wind(ring, start === 0 ? 2 * num : start);
      const { f, driver, device } = ring;
      for (let count = 1; count <= num; count++) {
        const begin = start === 0 ? 2 * num : start;
        // An event a lap behind counts from where it was; two laps repeat.
        for (let event = begin - num + count; event <= begin + num; event++) {
          f.deviceEvent = f.driverEvent = DESC + positionAt(event, num);
          const isPassed = event >= begin && event < begin + count;
          publish(ring, count);
          const told = `${num}: ${begin} to ${begin + count}, event ${event}`;
          expect(driver.kickNeeded(), told).toBe(isPassed);
          expect(useAll(ring)).toBe(count);
          expect(device.callNeeded(), told).toBe(isPassed);
          expect(driver.getBufs(num)).toBe(count);
          wind(ring, 2 * num - count);
        }
      }
    }
  });

  test("by position: the first call is always made; two laps unasked are not none", () => {
    const ring = setup({ num: 1, eventIdx: true });
    ring.f.driverEvent = ring.f.deviceEvent = DESC + 0x0000;
    for (let i = 0; i < 2; i++) {
      publish(ring, 1);
      useAll(ring);
      expect(ring.driver.getBufs(8)).toBe(1);
    }
    expect(ring.f.word("driver", e.VQ_KICKED)).toBe(2);
    expect(ring.driver.kickNeeded()).toBe(true);
    expect(ring.device.callNeeded()).toBe(true);
    publish(ring, 1);
    useAll(ring);
    expect(ring.device.callNeeded()).toBe(false);
  });

  test("by position: enableCall names the next used one, through wraps", () => {
    const ring = setup({ num: 3, eventIdx: true });
    for (let steps = 0; steps < 14; steps += 2) {
      expect(ring.driver.enableCall()).toBe(false);
      expect(ring.f.driverEvent).toBe(DESC + positionAt(steps, 3));
      expect(ring.device.enableKick()).toBe(false);
      expect(ring.f.deviceEvent).toBe(DESC + positionAt(steps, 3));
      publish(ring, 2);
      expect(ring.driver.kickNeeded()).toBe(true);
      expect(ring.device.enableKick()).toBe(true);
      expect(ring.f.deviceEvent, "after what waits").toBe(DESC + positionAt(steps + 2, 3));
      useAll(ring);
      expect(ring.device.callNeeded()).toBe(true);
      expect(get(ring)).toHaveLength(2);
    }
  });
});
