// The packed virtqueue by hand: what virtio 1.3, 2.8 Packed Virtqueues and the contract in
// packed-ring.ts say, for both implementations alike. When to notify: packed-events.test.ts. Peers
// that lie: packed-hostile.test.ts.

import { describe, expect, test } from "vitest";
import * as e from "#dist/spec/ring-state.js";
import {
  VIRTQ_DESC_F_INDIRECT as INDIRECT,
  VIRTQ_DESC_F_NEXT as NEXT,
  VIRTQ_DESC_F_WRITE as WRITE,
} from "#dist/spec/virtio-ring.js";
import {
  AVAIL_0,
  AVAIL_1,
  DISABLE,
  positionAt,
  USED_0,
  USED_1,
} from "../helpers/packed-fixture.js";
import { add, FIRST, get, makePair, ones, useAll, wind } from "../helpers/packed-pair.js";
import { makeMemory, type RingShape } from "../helpers/ring-fixture.js";

describe.each(["wasm", "ts"] as const)("packed ring, %s", (kind) => {
  const setup = (shape: Partial<RingShape> = {}, memory = makeMemory(true)) =>
    makePair(kind, shape, memory);

  describe("2.8.21 Supplying Buffers to The Device", () => {
    test("one id, NEXT but for the last, guest addresses; first flags come with publish", () => {
      const { f, driver } = setup();
      const [out, into] = [f.data, f.data + 100];
      f.setChain(0, 0, [{ linear: out, bytes: 16 }], [{ linear: into, bytes: 32 }]);
      f.setChain(1, 0, [{ linear: out, bytes: 16 }], []);
      expect(driver.addBufs(2)).toBe(2);
      const first = { addr: f.guestOf(out), len: 16, id: 0, flags: 0 };
      expect(f.packedDesc(0)).toEqual(first);
      const last = { addr: f.guestOf(into), len: 32, id: 0, flags: WRITE | AVAIL_1 };
      expect(f.packedDesc(1)).toEqual(last);
      expect(f.packedDesc(2)).toEqual({ ...first, id: 1, flags: AVAIL_1 });
      driver.publish();
      expect(f.packedDesc(0)).toEqual({ ...first, flags: NEXT | AVAIL_1 });
      expect(f.record("driver", 1).head).toBe(1);
      expect(f.word("driver", e.VQ_NUM_FREE)).toBe(5);
      expect(f.word("driver", e.VQ_IN_FLIGHT)).toBe(2);
      f.setFlags(0, 0);
      driver.publish();
      expect(f.packedDesc(0).flags, "nothing is staged").toBe(0);
    });

    test("2.8.7: several pieces go to the id's table, whose entries have WRITE alone", () => {
      const { f, driver } = setup({ indirect: true, indirectCapacity: 4 });
      const piece = (i: number) => ({ linear: f.data + 10 * i, bytes: i });
      f.setChain(0, 0, [piece(1)], []);
      f.setChain(1, 1, [piece(2), piece(3)], [piece(4)]);
      expect(driver.addBufs(2)).toBe(2);
      const table = f.tables + 1 * 4 * 16;
      const flags = INDIRECT | AVAIL_1;
      expect(f.packedDesc(1)).toEqual({ addr: f.guestOf(table), len: 48, id: 1, flags });
      const entry = (i: number) => f.packedDescAt(table + 16 * i);
      expect(entry(0)).toEqual({ addr: f.guestOf(f.data + 20), len: 2, id: 0, flags: 0 });
      expect(entry(2)).toEqual({ addr: f.guestOf(f.data + 40), len: 4, id: 0, flags: WRITE });
      expect(f.word("driver", e.VQ_NUM_FREE)).toBe(6);
    });

    test("descriptors run out: what fits is added; mistakes are counted", () => {
      const ring = setup({ num: 5 });
      expect(add(ring, [1, 1], [1, 1], [1, 1])).toBe(2);
      expect(add(ring, [1, 1])).toBe(0);
      expect(add(ring, [1])).toBe(1);
      expect(add(ring, [])).toBe(-e.VRING_E_CHAIN);
      expect(add(ring, [1, 1, 1, 1, 1, 1])).toBe(-e.VRING_E_CHAIN);
      expect(ring.f.errors("driver", e.VRING_E_CHAIN)).toBe(2);
    });

    test("a run of exactly the ring's size: nothing is there, then all of it", () => {
      const ring = setup({ num: 3 });
      wind(ring, 2);
      for (let lap = 0; lap < 4; lap++) {
        expect(add(ring, [1, 1], [1])).toBe(2);
        expect(ring.device.availLen()).toBe(0);
        expect(ring.device.getDescs(8)).toBe(0);
        ring.driver.publish();
        expect(ring.device.availLen()).toBe(3);
        expect(useAll(ring)).toBe(2);
        expect(ring.device.availLen()).toBe(0);
        expect(get(ring).map(([, bytes]) => bytes)).toEqual([2, 1]);
      }
    });
  });

  describe("2.8.22 Receiving Used Buffers From The Device", () => {
    test("there and back: head and count, lengths, one used descriptor a list", () => {
      const ring = setup();
      const { f, driver, device } = ring;
      f.setChain(0, 0, [{ linear: f.data, bytes: 4 }], [{ linear: f.data + 8, bytes: 8 }]);
      f.setChain(1, 2, [{ linear: f.data, bytes: 5 }], []);
      expect(driver.addBufs(2)).toBe(2);
      driver.publish();
      expect(device.getDescs(8)).toBe(2);
      const record = { head: 0x2_0000, iovStart: 0, outCount: 1, inCount: 1, outBytes: 4 };
      expect(f.record("device", 0)).toEqual({ ...record, inBytes: 8, usedBytes: 0 });
      expect(f.record("device", 1)).toMatchObject({ head: 0x1_0001, iovStart: 2, outBytes: 5 });
      expect(f.word("device", e.VQ_IN_FLIGHT), "descriptors").toBe(3);
      const addr = f.packedDesc(0).addr;
      expect(device.addUsed(0x1_0001, 0)).toBe(0);
      expect(device.addUsed(0x2_0000, 7)).toBe(0);
      expect(f.packedDesc(0), "flags wait").toEqual({ addr, len: 0, id: 1, flags: NEXT | AVAIL_1 });
      expect(f.packedDesc(1)).toMatchObject({ len: 7, id: 0, flags: USED_1 | WRITE });
      expect(driver.getBufs(8)).toBe(0);
      device.publish();
      expect(f.packedDesc(0).flags).toBe(USED_1);
      expect(get(ring)).toEqual([
        [1, 0],
        [0, 7],
      ]);
      expect(f.word("driver", e.VQ_NUM_FREE)).toBe(8);
      expect(f.word("driver", e.VQ_FREE_HEAD), "the id that came last").toBe(0);
      expect([e.VQ_LAST_USED, e.VQ_AVAIL_NEXT].map((w) => f.word("driver", w))).toEqual([
        0x8003, 0x8003,
      ]);
    });

    test("2.8.3: without WRITE the length is nothing, whatever it says", () => {
      const ring = setup();
      add(ring, [8]);
      ring.driver.publish();
      ring.f.writePacked(0, { len: 8, flags: USED_1 });
      expect(get(ring)).toEqual([[0, 0]]);
      expect(ring.f.errors("driver", e.VRING_E_USED_LENGTH)).toBe(0);
    });

    test.each([1, 2, 3, 7, 8, 100])(
      "all sizes wrap: %i descriptors, lists of all lengths",
      (num) => {
        const ring = setup({ num, iovCapacity: 256, burst: 128 });
        const { f, driver, device } = ring;
        for (let round = 0, steps = 0; round < 40; round++) {
          const length = 1 + (round % Math.min(num, 5));
          const count = Math.max(1, Math.floor(num / length) - (round % 2));
          const list = Array.from({ length }, () => 3);
          expect(add(ring, ...Array.from({ length: count }, () => list))).toBe(count);
          driver.publish();
          expect(useAll(ring)).toBe(count);
          const got = get(ring);
          expect(got).toHaveLength(count);
          expect(new Set(got.map(([id]) => id)).size).toBe(count);
          expect(got.every(([, bytes]) => bytes === 3 * length)).toBe(true);
          steps += count * length;
          const here = positionAt(steps, num);
          expect(f.word("driver", e.VQ_LAST_USED)).toBe(here);
          expect(f.word("device", e.VQ_LAST_AVAIL)).toBe(here);
          expect(f.word("device", e.VQ_USED_NEXT)).toBe(here);
        }
        expect(f.word("driver", e.VQ_NUM_FREE)).toBe(num);
        expect(device.availLen()).toBe(0);
      },
    );

    test("the largest ring, 32768 descriptors in one list, and again", () => {
      const num = 32768;
      const ring = setup({ num, iovCapacity: num, dataBytes: num * 8 }, makeMemory(true, 64));
      const list = new Array<number>(num).fill(1);
      for (let lap = 0; lap < 3; lap++) {
        expect(add(ring, list)).toBe(1);
        ring.driver.publish();
        expect(ring.device.getDescs(8)).toBe(1);
        const { head } = ring.f.record("device", 0);
        expect([head >>> 16, head & 0xffff]).toEqual([num, 0]);
        expect(ring.device.getDescs(8)).toBe(0);
        expect(ring.device.addUsed(head, num)).toBe(0);
        ring.device.publish();
        expect(get(ring)).toEqual([[0, num]]);
      }
    });

    test("completed out of order, the ring keeps its place and no id is given twice", () => {
      const ring = setup({ num: 7 });
      const { f, driver, device } = ring;
      for (let round = 0; round < 12; round++) {
        expect(add(ring, [1, 1], [2], [3, 3, 3])).toBe(3);
        driver.publish();
        expect(device.getDescs(8)).toBe(3);
        for (const i of [2, 0, 1]) {
          const { head, inBytes } = f.record("device", i);
          expect(device.addUsed(head, inBytes)).toBe(0);
        }
        device.publish();
        expect(get(ring).map(([, bytes]) => bytes)).toEqual([9, 2, 2]);
      }
      expect(f.word("driver", e.VQ_NUM_FREE)).toBe(7);
    });

    test("a burst takes at most max, and at most what the chain table holds", () => {
      const ring = setup({ burst: 3 });
      const { f, driver, device } = ring;
      expect(add(ring, ...ones(3))).toBe(3);
      expect(add(ring, ...ones(3))).toBe(3);
      driver.publish();
      expect(device.getDescs(1)).toBe(1);
      expect(device.getDescs(100)).toBe(3);
      expect(device.getDescs(100)).toBe(2);
      for (let id = 0; id < 6; id++) expect(device.addUsed(0x1_0000 + id, 0)).toBe(0);
      device.publish();
      expect(f.word("device", e.VQ_IN_FLIGHT)).toBe(0);
      expect([2, 100, 100].map((max) => driver.getBufs(max))).toEqual([2, 3, 1]);
    });

    test("availLen counts descriptors, and what is in flight takes their room", () => {
      const ring = setup({ num: 4 });
      const { f, driver, device } = ring;
      add(ring, [1, 1], [1]);
      driver.publish();
      expect(device.availLen()).toBe(3);
      expect(f.word("device", e.VQ_AVAIL_SEEN)).toBe(0x8003);
      expect(device.getDescs(1)).toBe(1);
      expect(device.availLen()).toBe(1);
      for (const index of [0, 1, 3]) f.setFlags(index, index === 3 ? AVAIL_1 : AVAIL_0);
      expect(device.availLen(), "two more are not the driver's").toBe(2);
      f.setFlags(2, 0);
      f.setFlags(3, 0);
      expect(device.getDescs(1)).toBe(0);
      expect(device.availLen(), "what is taken back is not there").toBe(0);
    });

    test("reset empties ring and events, and forgets what was in flight", () => {
      const ring = setup({ inOrder: true });
      const { f, driver, device } = ring;
      add(ring, [1, 1], [1]);
      driver.publish();
      add(ring, [1]);
      useAll(ring);
      driver.getBufs(1);
      f.driverEvent = f.deviceEvent = 0xffff_ffff;
      driver.reset();
      for (let i = 0; i < 8; i++) {
        expect(f.packedDesc(i)).toEqual({ addr: 0n, len: 0, id: 0, flags: 0 });
      }
      expect([f.driverEvent, f.deviceEvent]).toEqual([0, 0]);
      const zero = [e.VQ_IN_FLIGHT, e.VQ_OLDEST, e.VQ_BATCH_LEFT, e.VQ_BATCH_BYTES, e.VQ_KICKED];
      for (const word of [...zero, e.VQ_STAGED_FLAGS, e.VQ_FREE_HEAD]) {
        expect(f.word("driver", word)).toBe(0);
      }
      expect(device.start(FIRST)).toBe(0);
      add(ring, [5]);
      driver.publish();
      expect(useAll(ring)).toBe(1);
      expect(get(ring)).toEqual([[0, 5]]);
    });
  });

  describe("start", () => {
    test.each([
      { num: 8, position: 0x8000_8000, inFlight: 0 },
      { num: 8, position: 0x0003_0003, inFlight: 0 },
      { num: 8, position: 0x8006_0006, inFlight: 8 },
      { num: 8, position: 0x8006_0002, inFlight: 4 },
      { num: 8, position: 0x0002_0007, inFlight: 5 },
      { num: 1, position: 0x0000_8000, inFlight: 1 },
      { num: 32768, position: 0xffff_ffff, inFlight: 0 },
    ])("$position of $num: $inFlight in flight", ({ num, position, inFlight }) => {
      const { f, device } = setup({ num }, makeMemory(true, 64));
      f.deviceEvent = 0x1_8888;
      expect(device.start(position)).toBe(0);
      expect(f.word("device", e.VQ_IN_FLIGHT)).toBe(inFlight);
      const [avail, used] = [position & 0xffff, position >>> 16];
      expect([e.VQ_LAST_AVAIL, e.VQ_AVAIL_SEEN].map((w) => f.word("device", w))).toEqual([
        avail,
        avail,
      ]);
      expect([e.VQ_USED_NEXT, e.VQ_USED_PUBLISHED].map((w) => f.word("device", w))).toEqual([
        used,
        used,
      ]);
      expect(f.deviceEvent).toBe(0);
      expect(device.callNeeded()).toBe(false);
    });

    test.each([
      ["an index that is the queue size", 8, 0x8000_8008],
      ["a used index that is", 8, 0x8008_8000],
      ["available before used", 8, 0x8001_8000],
      ["more than the ring holds between", 8, 0x8006_0007],
      ["a split ring's position", 8, 0x0000_8000 + 1],
    ])("refused: %s", (_name, num, position) => {
      const ring = setup({ num });
      const { f, device } = ring;
      wind(ring, 3);
      const words = () => Buffer.from(f.bytes.slice(f.device.vq, f.device.vq + 96)).toString("hex");
      const before = words();
      f.deviceEvent = DISABLE;
      expect(device.start(position)).toBe(-e.VRING_E_POSITION);
      expect(f.errors("device", e.VRING_E_POSITION)).toBe(1);
      expect(words()).toBe(before);
      expect(f.deviceEvent).toBe(DISABLE);
      wind(ring, 1);
    });

    test("goes on where another one stopped, in the ring's second lap too", () => {
      const ring = setup({ num: 3 });
      for (let round = 0; round < 7; round++) {
        wind(ring, 2);
        const word = (offset: number) => ring.f.word("device", offset);
        const position = word(e.VQ_LAST_AVAIL) + word(e.VQ_USED_NEXT) * 0x1_0000;
        add(ring, [8]);
        ring.driver.publish();
        expect(ring.device.start(position)).toBe(0);
        expect(useAll(ring)).toBe(1);
        expect(ring.device.callNeeded()).toBe(true);
        expect(get(ring)).toHaveLength(1);
      }
    });

    test("takes what is staged with it", () => {
      const ring = setup();
      add(ring, [8]);
      ring.driver.publish();
      ring.device.getDescs(1);
      ring.device.addUsed(0x1_0000, 8);
      expect(ring.device.start(FIRST)).toBe(0);
      ring.device.publish();
      expect(ring.f.packedDesc(0).flags).toBe(WRITE | AVAIL_1);
      expect(useAll(ring)).toBe(1);
      expect(get(ring)).toEqual([[0, 8]]);
    });
  });

  test("2.8.1: flags of the lap before are no news, in either direction", () => {
    const ring = setup({ num: 2 });
    for (let lap = 0; lap < 5; lap++) {
      const stale = lap % 2 === 0 ? [USED_0, AVAIL_0] : [USED_1, AVAIL_1];
      for (const flags of lap === 0 ? [USED_0] : stale) {
        ring.f.setFlags(0, flags);
        expect(ring.device.availLen()).toBe(0);
        expect(ring.device.getDescs(8)).toBe(0);
        add(ring, [1]);
        expect(ring.driver.getBufs(8)).toBe(0);
        ring.driver.reset();
        ring.device.start(FIRST);
        wind(ring, 2 * lap);
      }
      wind(ring, 2);
    }
  });
});
