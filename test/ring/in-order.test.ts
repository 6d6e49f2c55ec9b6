// VIRTIO_F_IN_ORDER over both ring formats, for both implementations alike: virtio 1.3, 2.7.9 and
// 2.8.8 In-order use of descriptors.

import { describe, expect, test } from "vitest";
import { loadRings } from "#dist/ring/load.js";
import { ringFlags } from "#dist/ring/state-block.js";
import { featureMask } from "#dist/spec/features.js";
import * as e from "#dist/spec/ring-state.js";
import { VIRTIO_F_IN_ORDER, VIRTIO_F_RING_PACKED } from "#dist/spec/virtio-config.js";
import { VIRTQ_DESC_F_NEXT as NEXT, VIRTQ_DESC_F_WRITE as WRITE } from "#dist/spec/virtio-ring.js";
import { AVAIL_1, DESC, positionAt, USED_1 } from "../helpers/packed-fixture.js";
import { add, get, makePair, ones, wind } from "../helpers/packed-pair.js";
import { makeMemory, RingFixture, type RingShape } from "../helpers/ring-fixture.js";

test("ringFlags knows what decides how a ring works", () => {
  expect(ringFlags(featureMask(VIRTIO_F_IN_ORDER))).toBe(e.VQ_F_IN_ORDER);
  expect(ringFlags(featureMask(VIRTIO_F_RING_PACKED))).toBe(e.VQ_F_PACKED);
});

describe.each(["wasm", "ts"] as const)("in order, %s", (kind) => {
  describe("packed ring", () => {
    const setup = (shape: Partial<RingShape> = {}) => makePair(kind, shape);

    test("completely used ones are skipped: one used descriptor at the place of the first", () => {
      const ring = setup({ inOrder: true });
      const { f, driver, device } = ring;
      expect(add(ring, [4, 4], [2], [8], [1])).toBe(4);
      driver.publish();
      expect(device.getDescs(8)).toBe(4);
      [8, 2, 3, 1].forEach((usedBytes, i) => {
        f.setRecord("device", i, { usedBytes });
      });
      expect(device.addUsedN(4)).toBe(0);
      device.publish();
      expect(f.packedDesc(0)).toMatchObject({ id: 2, len: 3, flags: USED_1 | WRITE });
      expect(f.packedDesc(4)).toMatchObject({ id: 3, len: 1, flags: USED_1 | WRITE });
      expect(f.word("device", e.VQ_USED_NEXT)).toBe(0x8005);
      expect(f.word("device", e.VQ_IN_FLIGHT)).toBe(0);
      expect(get(ring, 1)).toEqual([[0, 8]]);
      expect([e.VQ_BATCH_LEFT, e.VQ_BATCH_BYTES].map((w) => f.word("driver", w))).toEqual([2, 3]);
      expect(f.word("driver", e.VQ_LAST_USED)).toBe(0x8002);
      expect(driver.enableCall(), "two of the batch wait").toBe(true);
      expect(get(ring, 1)).toEqual([[1, 2]]);
      expect(get(ring)).toEqual([
        [2, 3],
        [3, 1],
      ]);
      expect(driver.enableCall()).toBe(false);
      const free = [e.VQ_NUM_FREE, e.VQ_FREE_HEAD, e.VQ_OLDEST].map((w) => f.word("driver", w));
      expect(free).toEqual([8, 4, 4]);
    });

    test.each([1, 3, 7, 8, 100])("batches wrap, %i descriptors, tables of two records", (num) => {
      const ring = setup({ num, inOrder: true, burst: 2, iovCapacity: 8 });
      const { f, driver, device } = ring;
      const ids: number[] = [];
      for (let round = 0, id = 0; round < 30; round++) {
        const fit = Math.min(num, 5);
        let count = 0;
        while (count < fit) count += Math.max(1, add(ring, ...ones(Math.min(2, fit - count))));
        driver.publish();
        // By hand, larger than the tables: all five by the last one's id.
        for (let left = fit; left > 0; left -= device.getDescs(2));
        const last = (id + fit - 1) % num;
        expect(device.addUsed(fit * 0x1_0000 + last, 5)).toBe(0);
        device.publish();
        for (let left = fit; left > 0; ) {
          const got = get(ring, 2);
          ids.push(...got.map(([one]) => one));
          left -= got.length;
          expect(got.at(-1)?.[1]).toBe(left === 0 ? 5 : 8);
        }
        expect(driver.getBufs(2)).toBe(0);
        id = (id + fit) % num;
      }
      expect(ids).toEqual(ids.map((_, i) => i % num));
      expect(f.word("driver", e.VQ_NUM_FREE)).toBe(num);
    });

    test("what a run had is not staged when one of it is refused", () => {
      const ring = setup({ inOrder: true });
      const { f, driver, device } = ring;
      add(ring, ...ones(3));
      driver.publish();
      expect(device.getDescs(8)).toBe(3);
      f.setRecord("device", 0, { usedBytes: 0 });
      f.setRecord("device", 1, { usedBytes: 8 });
      f.setRecord("device", 2, { head: 0x2_0002, usedBytes: 8 });
      expect(device.addUsedN(3)).toBe(-e.VRING_E_COMPLETION);
      device.publish();
      expect(f.word("device", e.VQ_IN_FLIGHT)).toBe(2);
      expect(get(ring)).toEqual([[0, 0]]);
      expect(device.addUsed(0x1_0001, 1)).toBe(0);
      expect(device.addUsed(0x1_0002, 2)).toBe(0);
      device.publish();
      expect(get(ring)).toEqual([
        [1, 1],
        [2, 2],
      ]);
    });

    test("a malformed list waits for the ones before it, and comes back after them", () => {
      const ring = setup({ inOrder: true });
      const { f, driver, device } = ring;
      add(ring, [8], [8], [8]);
      driver.publish();
      f.writePacked(1, { id: 1, len: 8, flags: AVAIL_1 });
      expect(device.getDescs(8)).toBe(1);
      expect(device.getDescs(8), "still").toBe(0);
      expect(f.errors("device", e.VRING_E_ADDRESS)).toBe(0);
      expect(device.availLen()).toBe(2);
      expect(device.addUsed(0x1_0000, 8)).toBe(0);
      expect(device.getDescs(8)).toBe(1);
      expect(f.errors("device", e.VRING_E_ADDRESS)).toBe(1);
      expect(device.addUsed(0x1_0002, 8)).toBe(0);
      device.publish();
      expect(get(ring)).toEqual([
        [0, 8],
        [1, 0],
        [2, 8],
      ]);
    });

    test("an event inside a batch is passed by it", () => {
      const ring = setup({ num: 5, inOrder: true, eventIdx: true });
      wind(ring, 4);
      add(ring, ...ones(4));
      ring.driver.publish();
      ring.f.driverEvent = DESC + positionAt(6, 5);
      expect(ring.device.getDescs(8)).toBe(4);
      expect(ring.device.addUsed(0x4_0000 + 2, 8)).toBe(0);
      ring.device.publish();
      expect(ring.device.callNeeded()).toBe(true);
      expect(get(ring).map(([id]) => id)).toEqual([4, 0, 1, 2]);
    });
  });

  describe("split ring", () => {
    function setup(shape: Partial<RingShape> = {}) {
      const f = new RingFixture(makeMemory(true), { inOrder: true, ...shape });
      const rings = loadRings(f.memory, kind);
      const driver = rings.driver(f.driver.vq);
      const device = rings.device(f.device.vq);
      driver.reset();
      device.start(0);
      return { f, driver, device };
    }
    type Ring = ReturnType<typeof setup>;

    /** Adds and publishes a chain of pieces of 8 bytes for each length. */
    function offer({ f, driver }: Ring, ...lengths: number[]): void {
      const piece = { linear: f.data, bytes: 8 };
      lengths.forEach((length, i) => {
        f.setChain(i, i * 4, [], new Array(length).fill(piece));
      });
      expect(driver.addBufs(lengths.length)).toBe(lengths.length);
      driver.publish();
    }

    function take({ f, driver }: Ring, max = 1000): [head: number, bytes: number][] {
      const got = driver.getBufs(max);
      return Array.from({ length: Math.max(got, 0) }, (_, i) => {
        const { head, usedBytes } = f.record("driver", i);
        return [head, usedBytes];
      });
    }

    const words = ({ f }: Ring, ...offsets: number[]) =>
      offsets.map((offset) => f.word("driver", offset));

    test("2.7.5: descriptors in ring order; next of the last of the table is 0", () => {
      const ring = setup({ num: 4 });
      const { f, device } = ring;
      offer(ring, 1, 2);
      expect(device.getDescs(8)).toBe(2);
      expect([device.addUsed(0, 1), device.addUsed(1, 2)]).toEqual([0, 0]);
      device.publish();
      expect(take(ring)).toEqual([
        [0, 1],
        [1, 2],
      ]);
      expect(words(ring, e.VQ_FREE_HEAD, e.VQ_OLDEST, e.VQ_NUM_FREE)).toEqual([3, 3, 4]);
      offer(ring, 3);
      expect([3, 0, 1].map((i) => f.readDescAt(f.desc + 16 * i))).toMatchObject([
        { flags: NEXT | WRITE, next: 0 },
        { flags: NEXT | WRITE, next: 1 },
        { flags: WRITE, next: 0 },
      ]);
      expect(f.availHead(2)).toBe(3);
    });

    test("completely used ones are skipped: one element at the place of the first", () => {
      const ring = setup();
      const { f, driver, device } = ring;
      offer(ring, 2, 1, 1, 1);
      expect(device.getDescs(8)).toBe(4);
      [16, 8, 3, 8].forEach((usedBytes, i) => {
        f.setRecord("device", i, { usedBytes });
      });
      expect(device.addUsedN(4)).toBe(0);
      device.publish();
      expect(f.usedIdx).toBe(4);
      expect([0, 1, 2, 3].map((slot) => f.usedElem(slot))).toEqual([
        [3, 3],
        [0, 0],
        [0, 0],
        [4, 8],
      ]);
      expect(take(ring, 1)).toEqual([[0, 16]]);
      expect(words(ring, e.VQ_BATCH_LEFT, e.VQ_BATCH_BYTES, e.VQ_LAST_USED)).toEqual([2, 3, 1]);
      f.setUsedElem(0, 99, 99);
      expect(driver.enableCall()).toBe(true);
      expect(take(ring)).toEqual([
        [2, 8],
        [3, 3],
        [4, 8],
      ]);
      expect(words(ring, e.VQ_NUM_FREE, e.VQ_FREE_HEAD, e.VQ_OLDEST)).toEqual([8, 5, 5]);
    });

    test("batches wrap with the table, larger than the chain table", () => {
      const ring = setup({ num: 8, burst: 2 });
      const { f, driver, device } = ring;
      for (let round = 0; round < 20; round++) {
        for (let i = 0; i < 3; i++) offer(ring, 1, 1);
        const heads: number[] = [];
        for (let left = 6; left > 0; left -= 2) {
          expect(device.getDescs(8)).toBe(2);
          heads.push(f.record("device", 0).head, f.record("device", 1).head);
        }
        const first = (round * 6) % 8;
        expect(heads).toEqual([0, 1, 2, 3, 4, 5].map((i) => (first + i) % 8));
        f.setUsedElem((round * 6) % 8, heads[5] ?? 0, 0x1_0000);
        f.usedIdx = (round + 1) * 6;
        expect([1, 2, 3].flatMap(() => take(ring))).toEqual(heads.map((head) => [head, 8]));
        expect(f.errors("driver", e.VRING_E_USED_LENGTH), "counted once").toBe(round + 1);
        device.start((round + 1) * 6);
        expect(driver.getBufs(8)).toBe(0);
      }
    });

    test("a batch past what is pending, or to what is not in flight, is refused", () => {
      const ring = setup();
      const { f, driver } = ring;
      offer(ring, 1, 2, 1);
      f.usedIdx = 2;
      for (const id of [3, 2, 4, 8, 0x1_0000]) {
        f.setUsedElem(0, id, 0);
        expect(driver.getBufs(8)).toBe(-e.VRING_E_USED_ID);
      }
      expect(f.errors("driver", e.VRING_E_USED_ID)).toBe(1);
      expect(words(ring, e.VQ_BATCH_LEFT, e.VQ_IN_FLIGHT, e.VQ_LAST_USED)).toEqual([0, 3, 0]);
      f.setUsedElem(0, 1, 5);
      expect(take(ring)).toEqual([
        [0, 8],
        [1, 5],
      ]);
      expect(f.word("driver", e.VQ_ERROR)).toBe(0);
      f.usedIdx = 3;
      f.setUsedElem(2, 0, 0); // it came back already
      expect(driver.getBufs(8)).toBe(-e.VRING_E_USED_ID);
    });

    test("used.idx that goes back keeps what a batch has left; no more is taken", () => {
      const ring = setup();
      const { f, driver } = ring;
      offer(ring, 1, 1, 1, 1);
      f.setUsedElem(0, 3, 8);
      f.usedIdx = 4;
      expect(take(ring, 1)).toEqual([[0, 8]]);
      f.usedIdx = 2;
      expect(take(ring)).toEqual([[1, 8]]);
      expect(driver.getBufs(8)).toBe(0);
      f.usedIdx = 1;
      expect(driver.getBufs(8)).toBe(-e.VRING_E_USED_INDEX);
      f.usedIdx = 4;
      expect(take(ring)).toEqual([
        [2, 8],
        [3, 8],
      ]);
      expect(words(ring, e.VQ_NUM_FREE, e.VQ_BATCH_LEFT)).toEqual([8, 0]);
    });

    test("a malformed chain waits for the ones before it, and comes back after them", () => {
      const ring = setup();
      const { f, device } = ring;
      offer(ring, 1, 1, 1);
      f.writeDesc(1, { addr: 0n, len: 8, flags: 0 });
      expect(device.getDescs(8)).toBe(1);
      expect(device.getDescs(8)).toBe(0);
      expect(f.errors("device", e.VRING_E_ADDRESS)).toBe(0);
      expect(device.addUsed(0, 8)).toBe(0);
      expect(device.getDescs(8)).toBe(1);
      expect(f.errors("device", e.VRING_E_ADDRESS)).toBe(1);
      expect(device.addUsed(2, 8)).toBe(0);
      device.publish();
      expect(take(ring)).toEqual([
        [0, 8],
        [1, 0],
        [2, 8],
      ]);
    });

    test("what a run had is not staged when one of it is refused", () => {
      const ring = setup();
      const { f, device } = ring;
      offer(ring, 1, 1);
      expect(device.getDescs(8)).toBe(2);
      for (let i = 0; i < 3; i++) f.setRecord("device", i, { head: i, usedBytes: 8, inBytes: 8 });
      expect(device.addUsedN(3)).toBe(-e.VRING_E_COMPLETION);
      expect(words(ring, e.VQ_IN_FLIGHT)).toEqual([2]);
      expect(f.word("device", e.VQ_IN_FLIGHT)).toBe(2);
      device.publish();
      expect(f.usedIdx).toBe(0);
    });

    test("reset forgets a batch", () => {
      const ring = setup();
      const { f, driver } = ring;
      offer(ring, 1, 1, 1);
      f.setUsedElem(0, 2, 3);
      f.usedIdx = 3;
      expect(driver.getBufs(1)).toBe(1);
      driver.reset();
      const none = [e.VQ_OLDEST, e.VQ_BATCH_LEFT, e.VQ_BATCH_BYTES, e.VQ_IN_FLIGHT];
      expect(words(ring, ...none)).toEqual([0, 0, 0, 0]);
      expect(driver.getBufs(8)).toBe(0);
    });
  });
});
