// The split virtqueue by hand: what virtio 1.3, 2.7 Split Virtqueues and the contract in ring.ts
// say, for the WebAssembly rings and for their twins alike. Peers that lie: ts-hostile.test.ts.

import { describe, expect, test } from "vitest";
import { loadRings } from "#dist/ring/load.js";
import {
  VQ_AVAIL_NEXT,
  VQ_AVAIL_PUBLISHED,
  VQ_FREE_HEAD,
  VQ_IN_FLIGHT,
  VQ_KICKED,
  VQ_LAST_AVAIL,
  VQ_LAST_USED,
  VQ_NUM_FREE,
  VRING_E_CHAIN,
  VRING_E_USED_LENGTH,
} from "#dist/spec/ring-state.js";
import {
  VIRTQ_DESC_F_INDIRECT as INDIRECT,
  VIRTQ_DESC_F_NEXT as NEXT,
  VIRTQ_AVAIL_F_NO_INTERRUPT,
  VIRTQ_USED_F_NO_NOTIFY,
  VIRTQ_DESC_F_WRITE as WRITE,
} from "#dist/spec/virtio-ring.js";
import { makeMemory, RingFixture, type RingShape } from "../helpers/ring-fixture.js";

describe.each(["wasm", "ts"] as const)("split ring, %s", (kind) => {
  function setup(shape: Partial<RingShape> = {}, memory = makeMemory(true)) {
    const f = new RingFixture(memory, shape);
    const rings = loadRings(memory, kind);
    const driver = rings.driver(f.driver.vq);
    const device = rings.device(f.device.vq);
    driver.reset();
    device.start(0);
    return { f, driver, device };
  }

  /** Adds `count` chains of one writable piece of 8 bytes each. @returns what addBufs answers. */
  function add({ f, driver }: ReturnType<typeof setup>, count: number): number {
    for (let i = 0; i < count; i++) f.setChain(i, i, [], [{ linear: f.data + 8 * i, bytes: 8 }]);
    return driver.addBufs(count);
  }

  /** Begins both sides at index `start`. */
  function wind({ f, device }: ReturnType<typeof setup>, start: number): void {
    const words = [VQ_AVAIL_NEXT, VQ_AVAIL_PUBLISHED, VQ_KICKED, VQ_LAST_USED];
    for (const word of words) f.setWord("driver", word, start);
    f.availIdx = f.usedIdx = start;
    device.start(start);
  }

  describe("2.7.13 Supplying Buffers to The Device", () => {
    test("a direct chain: readable first, linked by next, guest addresses, then the end", () => {
      const { f, driver } = setup();
      const [out, into] = [f.data, f.data + 100];
      f.setChain(0, 0, [{ linear: out, bytes: 16 }], [{ linear: into, bytes: 32 }]);
      expect(driver.addBufs(1)).toBe(1);
      expect(f.record("driver", 0).head).toBe(0);
      expect(f.readDescAt(f.desc)).toEqual({ addr: f.guestOf(out), len: 16, flags: NEXT, next: 1 });
      const last = { addr: f.guestOf(into), len: 32, flags: WRITE, next: 0 };
      expect(f.readDescAt(f.desc + 16)).toEqual(last);
      expect(f.word("driver", VQ_NUM_FREE)).toBe(6);
      expect(f.word("driver", VQ_IN_FLIGHT)).toBe(1);
    });

    test("nothing is visible before publish; publish with nothing new leaves idx alone", () => {
      const ring = setup();
      expect(add(ring, 3)).toBe(3);
      expect(ring.f.availIdx).toBe(0);
      ring.driver.publish();
      expect(ring.f.availIdx).toBe(3);
      expect([0, 1, 2].map((slot) => ring.f.availHead(slot))).toEqual([0, 1, 2]);
      ring.f.availIdx = 77;
      ring.driver.publish();
      expect(ring.f.availIdx).toBe(77);
    });

    test("several pieces go to the head's indirect table, one piece does not", () => {
      const { f, driver } = setup({ indirect: true, indirectCapacity: 4 });
      const piece = (i: number) => ({ linear: f.data + 10 * i, bytes: i });
      f.setChain(0, 0, [piece(1)], []);
      f.setChain(1, 1, [piece(2), piece(3)], [piece(4)]);
      expect(driver.addBufs(2)).toBe(2);
      expect(f.readDescAt(f.desc).flags).toBe(0);
      const table = f.tables + 1 * 4 * 16;
      const head = { addr: f.guestOf(table), len: 48, flags: INDIRECT, next: 0 };
      expect(f.readDescAt(f.desc + 16)).toEqual(head);
      const entry = (i: number) => f.readDescAt(table + 16 * i);
      expect(entry(0)).toEqual({ addr: f.guestOf(f.data + 20), len: 2, flags: NEXT, next: 1 });
      expect(entry(1)).toEqual({ addr: f.guestOf(f.data + 30), len: 3, flags: NEXT, next: 2 });
      expect(entry(2)).toEqual({ addr: f.guestOf(f.data + 40), len: 4, flags: WRITE, next: 0 });
    });

    test("more pieces than a table holds: a direct chain", () => {
      const { f, driver } = setup({ indirect: true, indirectCapacity: 2 });
      const pieces = [1, 2, 3].map((bytes) => ({ linear: f.data, bytes }));
      f.setChain(0, 0, pieces, []);
      expect(driver.addBufs(1)).toBe(1);
      expect(f.word("driver", VQ_NUM_FREE)).toBe(5);
      expect(f.readDescAt(f.desc).flags).toBe(NEXT);
    });

    test("descriptors run out: what fits is added, the rest is untouched, no error", () => {
      const ring = setup({ num: 4 });
      ring.f.setRecord("driver", 4, { head: 99 });
      expect(add(ring, 6)).toBe(4);
      expect(ring.f.record("driver", 4).head).toBe(99);
      expect(add(ring, 1)).toBe(0);
      expect(ring.f.errors("driver", VRING_E_CHAIN)).toBe(0);
    });

    test("mistakes: refused at once, or the burst ends before them; each is counted", () => {
      const ring = setup({ num: 4, iovCapacity: 8 });
      const { f, driver } = ring;
      const big = { linear: f.data, bytes: 0x8000_0000 };
      const mistakes = [
        () => f.setRecord("driver", 0, { iovStart: 0, outCount: 0, inCount: 0 }),
        () => f.setRecord("driver", 0, { iovStart: 7, outCount: 1, inCount: 1 }),
        () => f.setRecord("driver", 0, { iovStart: 1, outCount: 0xffff_ffff, inCount: 1 }),
        () => f.setChain(0, 0, [big], [big]),
        () => f.setRecord("driver", 0, { iovStart: 3, outCount: 3, inCount: 2 }),
      ];
      mistakes.forEach((make, i) => {
        make();
        expect(driver.addBufs(1), `mistake ${i}`).toBe(-VRING_E_CHAIN);
        expect(f.errors("driver", VRING_E_CHAIN)).toBe(i + 1);
      });
      expect(f.word("driver", VQ_NUM_FREE)).toBe(4);
      f.setChain(0, 7, [{ linear: f.data, bytes: 1 }], []); // the iovec table's last entry
      f.setRecord("driver", 1, { iovStart: 0, outCount: 0, inCount: 0 });
      expect(driver.addBufs(2)).toBe(1);
      expect(f.errors("driver", VRING_E_CHAIN)).toBe(mistakes.length + 1);
    });
  });

  describe("2.7.14 Receiving Used Buffers From The Device", () => {
    test("there and back: lengths, heads, and the free list in the chain's own order", () => {
      const { f, driver, device } = setup();
      const piece = (bytes: number) => ({ linear: f.data, bytes });
      f.setChain(0, 0, [piece(1), piece(2)], [piece(3)]);
      f.setChain(1, 3, [piece(4)], [piece(5)]);
      expect(driver.addBufs(2)).toBe(2);
      driver.publish();
      expect(device.getDescs(8)).toBe(2);
      expect(f.record("device", 0)).toEqual({
        head: 0,
        iovStart: 0,
        outCount: 2,
        inCount: 1,
        outBytes: 3,
        inBytes: 3,
        usedBytes: 0,
      });
      expect(f.record("device", 1)).toMatchObject({
        head: 3,
        iovStart: 3,
        outBytes: 4,
        inBytes: 5,
      });
      f.setRecord("device", 0, { usedBytes: 2 });
      f.setRecord("device", 1, { usedBytes: 5 });
      expect(device.addUsedN(2)).toBe(0);
      expect(driver.getBufs(8)).toBe(0);
      device.publish();
      expect(driver.getBufs(8)).toBe(2);
      expect(f.record("driver", 0)).toMatchObject({ head: 0, usedBytes: 2 });
      expect(f.record("driver", 1)).toMatchObject({ head: 3, usedBytes: 5 });
      expect(f.errors("driver", VRING_E_USED_LENGTH), "all five may be written").toBe(0);
      // The later chain is in front: 3, 4, then 0, 1, 2, then what was never used.
      expect(f.word("driver", VQ_FREE_HEAD)).toBe(3);
      f.setChain(
        0,
        0,
        Array.from({ length: 6 }, () => piece(1)),
        [],
      );
      expect(driver.addBufs(1)).toBe(1);
      const order = [f.availHead(2)];
      for (let i = 0; i < 5; i++) order.push(f.readDescAt(f.desc + 16 * (order.at(-1) ?? 0)).next);
      expect(order).toEqual([3, 4, 0, 1, 2, 5]);
    });

    test("indices wrap at 65536, slots at the queue size, and all chains survive it", () => {
      const ring = setup({ num: 4 });
      const { f, driver, device } = ring;
      wind(ring, 65533);
      for (let round = 0; round < 5; round++) {
        expect(add(ring, 2)).toBe(2);
        driver.publish();
        expect(device.availLen()).toBe(2);
        expect(device.getDescs(8)).toBe(2);
        f.setRecord("device", 0, { usedBytes: round });
        expect(device.addUsedN(2)).toBe(0);
        device.publish();
        expect(driver.getBufs(8)).toBe(2);
        expect(f.record("driver", 0).usedBytes).toBe(round);
      }
      expect([f.availIdx, f.usedIdx]).toEqual([7, 7]);
      expect(f.word("device", VQ_LAST_AVAIL)).toBe(7);
      expect(f.word("driver", VQ_LAST_USED)).toBe(7);
    });

    test("a burst takes at most max, and at most what the chain table holds", () => {
      const ring = setup({ burst: 3 });
      const { f, driver, device } = ring;
      expect(add(ring, 3)).toBe(3);
      expect(add(ring, 3)).toBe(3);
      driver.publish();
      expect(device.getDescs(1)).toBe(1);
      expect(device.getDescs(100)).toBe(3);
      expect(device.getDescs(100)).toBe(2);
      expect(device.getDescs(100)).toBe(0);
      for (let head = 0; head < 6; head++) expect(device.addUsed(head, 0)).toBe(0);
      device.publish();
      expect(f.word("device", VQ_IN_FLIGHT)).toBe(0);
      expect(driver.getBufs(2)).toBe(2);
      expect(driver.getBufs(100)).toBe(3);
      expect(driver.getBufs(100)).toBe(1);
    });

    test("reset forgets what was in flight; start takes used.idx as it finds it", () => {
      const ring = setup();
      const { f, driver, device } = ring;
      add(ring, 3);
      driver.publish();
      device.getDescs(8);
      f.usedFlags = f.availFlags = f.usedEvent = f.availEvent = 5;
      driver.reset();
      expect([f.availIdx, f.usedIdx, f.availFlags, f.usedFlags]).toEqual([0, 0, 0, 0]);
      expect([f.usedEvent, f.availEvent]).toEqual([0, 0]);
      expect(f.word("driver", VQ_NUM_FREE)).toBe(8);
      f.usedIdx = 40;
      f.usedFlags = 1;
      device.start(0x1_0003);
      expect(f.usedFlags).toBe(0);
      expect(f.word("device", VQ_LAST_AVAIL)).toBe(3);
      expect(f.word("device", VQ_IN_FLIGHT)).toBe(0);
      expect(device.callNeeded()).toBe(false);
    });
  });

  describe("2.7.7 Used Buffer Notification Suppression", () => {
    function used(count: number, ring: ReturnType<typeof setup>): void {
      add(ring, count);
      ring.driver.publish();
      ring.device.getDescs(count);
      ring.device.addUsedN(count);
      ring.device.publish();
    }

    test("by flags: a call unless the driver asked for none, one a publish", () => {
      const ring = setup();
      expect(ring.device.callNeeded()).toBe(false);
      used(1, ring);
      expect(ring.device.callNeeded()).toBe(true);
      expect(ring.device.callNeeded()).toBe(false);
      ring.driver.disableCall();
      expect(ring.f.availFlags).toBe(VIRTQ_AVAIL_F_NO_INTERRUPT);
      used(1, ring);
      expect(ring.device.callNeeded()).toBe(false);
      expect(ring.driver.enableCall()).toBe(true);
      expect(ring.driver.getBufs(8)).toBe(2);
      expect(ring.driver.enableCall()).toBe(false);
      expect(ring.f.availFlags).toBe(0);
    });

    test.each([
      { start: 0, event: 0, calls: true },
      { start: 0, event: 1, calls: true },
      { start: 0, event: 2, calls: false },
      { start: 0, event: 65535, calls: false },
      { start: 65534, event: 65535, calls: true },
      { start: 65535, event: 0, calls: true },
      { start: 65535, event: 65534, calls: false },
      { start: 65534, event: 0, calls: false },
    ])("by event: two entries from $start, event $event: $calls", ({ start, event, calls }) => {
      const ring = setup({ eventIdx: true, num: 16 });
      wind(ring, (start - 1) & 0xffff);
      ring.f.usedEvent = 12345;
      used(1, ring);
      expect(ring.device.callNeeded(), "the first is always called").toBe(true);
      ring.f.usedEvent = event;
      used(2, ring);
      expect(ring.device.callNeeded()).toBe(calls);
      expect(ring.device.callNeeded()).toBe(false);
    });

    test("by event: enableCall names the next entry, disableCall leaves the ring alone", () => {
      const ring = setup({ eventIdx: true });
      used(2, ring);
      expect(ring.driver.enableCall()).toBe(true);
      expect(ring.f.usedEvent).toBe(0);
      expect(ring.driver.getBufs(8)).toBe(2);
      expect(ring.driver.enableCall()).toBe(false);
      expect(ring.f.usedEvent).toBe(2);
      ring.driver.disableCall();
      expect([ring.f.availFlags, ring.f.usedEvent]).toEqual([0, 2]);
    });
  });

  describe("2.7.10 Available Buffer Notification Suppression", () => {
    test("by flags: a kick unless the device asked for none, one a publish", () => {
      const ring = setup();
      const { f, driver, device } = ring;
      expect(driver.kickNeeded()).toBe(false);
      add(ring, 1);
      expect(driver.kickNeeded()).toBe(false);
      driver.publish();
      expect(driver.kickNeeded()).toBe(true);
      expect(driver.kickNeeded()).toBe(false);
      device.disableKick();
      expect(f.usedFlags).toBe(VIRTQ_USED_F_NO_NOTIFY);
      add(ring, 1);
      driver.publish();
      expect(driver.kickNeeded()).toBe(false);
      expect(device.enableKick()).toBe(true);
      expect(device.getDescs(8)).toBe(2);
      expect(device.enableKick()).toBe(false);
      expect(f.usedFlags).toBe(0);
    });

    test("by event: avail_event is the next entry to come; across the wrap too", () => {
      const ring = setup({ eventIdx: true, num: 4 });
      const { f, driver, device } = ring;
      wind(ring, 65535);
      add(ring, 2);
      driver.publish();
      expect(driver.kickNeeded(), "avail_event is 0: entry 65535 to 0 passes it").toBe(true);
      expect(device.enableKick()).toBe(true);
      expect(f.availEvent, "the two that wait are looked at anyway").toBe(1);
      expect(device.getDescs(1)).toBe(1);
      expect(device.enableKick()).toBe(true);
      expect(f.availEvent).toBe(1);
      expect(device.getDescs(1)).toBe(1);
      expect(device.enableKick()).toBe(false);
      add(ring, 1);
      driver.publish();
      expect(driver.kickNeeded()).toBe(true);
      device.disableKick();
      add(ring, 1);
      driver.publish();
      expect(driver.kickNeeded()).toBe(false);
      expect([f.usedFlags, f.availEvent]).toEqual([0, 1]);
    });
  });
});
