// The packed virtqueue against a peer that lies: each check of packed-ring.ts, for both
// implementations alike. A malformed list goes back with length 0 and the queue goes on; a list
// without an end is refused until it is repaired.

import { describe, expect, test } from "vitest";
import * as e from "#dist/spec/ring-state.js";
import {
  VIRTQ_DESC_F_INDIRECT as INDIRECT,
  VIRTQ_DESC_F_NEXT as NEXT,
  VIRTQ_DESC_F_WRITE as WRITE,
} from "#dist/spec/virtio-ring.js";
import { data, endOf, SHAPE, TOP } from "../helpers/broken-chains.js";
import { BROKEN_LISTS, table, writeList } from "../helpers/broken-lists.js";
import { AVAIL_0, AVAIL_1, USED_0, USED_1 } from "../helpers/packed-fixture.js";
import { add, FIRST, get, makePair, ones, useAll, wind } from "../helpers/packed-pair.js";
import { makeMemory, type RingShape } from "../helpers/ring-fixture.js";

describe.each(["wasm", "ts"] as const)("hostile packed ring, %s", (kind) => {
  const setup = (shape: Partial<RingShape> = {}, memory = makeMemory(true)) =>
    makePair(kind, { ...SHAPE, ...shape }, memory);

  describe("a malformed list goes back with length 0, is counted; the next one is served", () => {
    test.each(BROKEN_LISTS)("$name", ({ code, count = 1, write, shape }) => {
      const { f, device } = setup(shape);
      write(f);
      f.writePacked(count, { addr: data(f), len: 1, id: 9, flags: WRITE | AVAIL_1 });
      const { flags } = f.packedDesc(0);
      expect(device.getDescs(1), "the bad one alone").toBe(0);
      expect(f.errors("device", code)).toBe(1);
      const codes = Array.from({ length: e.VRING_E_COUNT - 1 }, (_, i) =>
        f.errors("device", i + 1),
      );
      expect(codes.reduce((a, b) => a + b)).toBe(1);
      expect(f.word("device", e.VQ_ERROR)).toBe(0);
      expect(f.word("device", e.VQ_IN_FLIGHT)).toBe(0);
      expect(f.packedDesc(0)).toMatchObject({ id: 5, len: 0, flags });
      device.publish();
      expect(f.packedDesc(0).flags).toBe(USED_1);
      expect(f.word("device", e.VQ_USED_NEXT)).toBe(0x8000 + count);
      expect(device.availLen()).toBe(1);
      expect(device.getDescs(1)).toBe(1);
      expect(f.record("device", 0)).toMatchObject({ head: 0x1_0009, inCount: 1, outCount: 0 });
    });
  });

  describe("not malformed, though it looks like it", () => {
    test("2.8.7: in a table all flags but WRITE are ignored, ids too; WRITE on it as well", () => {
      const { f, device } = setup();
      writeList(f, { ...table(f, 48), flags: INDIRECT | WRITE });
      const flags = [NEXT | INDIRECT, AVAIL_1 | WRITE, 0xffff];
      flags.forEach((bits, i) => {
        f.writePackedAt(f.data + 16 * i, { addr: data(f), len: i + 1, id: 99, flags: bits });
      });
      expect(device.getDescs(1)).toBe(1);
      expect(f.record("device", 0)).toMatchObject({ outBytes: 1, inCount: 2, inBytes: 5 });
    });

    test("2.8.7: a table across regions, not aligned", () => {
      const { f, device } = setup();
      writeList(f, { addr: endOf(f, 1) - 16n, len: 32, flags: INDIRECT });
      f.writePackedAt(f.linearOf(1, 240), { addr: data(f) + 8n, len: 5 });
      f.writePackedAt(f.linearOf(2), { addr: data(f) + 16n, len: 7, flags: WRITE });
      expect(device.getDescs(1)).toBe(1);
      expect(f.piece("device", 1)).toEqual({ linear: f.data + 16, bytes: 7 });
    });

    test("the id of a list is its last one's, and any; a list wraps; length 0 has no piece", () => {
      const ring = setup({ num: 3 });
      const { f, device } = ring;
      wind(ring, 2);
      f.writePacked(2, { addr: TOP - 1n, id: 1, flags: NEXT | AVAIL_1 });
      f.writePacked(0, { addr: data(f), len: 3, id: 0xffff, flags: WRITE | AVAIL_0 });
      expect(device.getDescs(8)).toBe(1);
      expect(f.record("device", 0)).toMatchObject({ head: 0x2_ffff, outCount: 0, inBytes: 3 });
      expect(f.word("device", e.VQ_LAST_AVAIL)).toBe(1);
    });

    test("one list of the whole ring that is malformed leaves nothing behind", () => {
      const { f, device } = setup({ num: 2 });
      writeList(f, { addr: 0n }, {});
      expect(device.getDescs(1)).toBe(0);
      expect(f.word("device", e.VQ_AVAIL_SEEN)).toBe(0);
      expect(device.availLen()).toBe(0);
    });
  });

  describe("the limits of a burst", () => {
    test("a list that does not fit behind others waits for the next burst, uncounted", () => {
      const { f, device } = setup({ iovCapacity: 2 });
      f.writePacked(0, { addr: data(f), len: 1, flags: AVAIL_1 });
      f.writePacked(1, { addr: data(f), len: 1, flags: AVAIL_1 | NEXT });
      f.writePacked(2, { addr: data(f), len: 1, flags: AVAIL_1 });
      expect(device.getDescs(8)).toBe(1);
      expect(f.errors("device", e.VRING_E_IOV)).toBe(0);
      expect(device.getDescs(8)).toBe(1);
      expect(f.record("device", 0)).toMatchObject({ head: 0x2_0000, iovStart: 0, outCount: 2 });
    });

    test("CVE-2019-3900: a burst ends when VQ_WALK_MAX descriptors were read", () => {
      const num = 2 * e.VQ_WALK_MAX;
      const { f, device } = setup({ num, burst: 64 });
      for (let i = 0; i < num; i++) {
        f.writePacked(i, { flags: AVAIL_1 | (i % 1000 < 999 ? NEXT : 0) });
      }
      expect(device.getDescs(64)).toBe(5);
      expect(f.word("device", e.VQ_LAST_AVAIL)).toBe(0x8000 + 5000);
      expect(device.getDescs(64)).toBe(3);
      expect(f.word("device", e.VQ_ERROR), "the rest has no end").toBe(e.VRING_E_LOOP);
    });
  });

  describe("refusals stand until they are repaired, counted once", () => {
    test("a list that goes on at what is not available", () => {
      const { f, device } = setup();
      writeList(f, { addr: 0n }, {}, {});
      f.setFlags(2, AVAIL_0);
      for (let i = 0; i < 3; i++) expect(device.getDescs(8)).toBe(-e.VRING_E_UNAVAILABLE);
      expect(device.getDescs(0)).toBe(-e.VRING_E_UNAVAILABLE);
      expect(f.errors("device", e.VRING_E_UNAVAILABLE)).toBe(1);
      expect(f.errors("device", e.VRING_E_ADDRESS)).toBe(0);
      expect(device.availLen()).toBe(2);
      f.setFlags(2, USED_1);
      expect(device.getDescs(8)).toBe(-e.VRING_E_UNAVAILABLE);
      f.setFlags(2, AVAIL_1);
      expect(device.getDescs(8)).toBe(0);
      expect(f.word("device", e.VQ_ERROR)).toBe(0);
      expect(f.errors("device", e.VRING_E_ADDRESS)).toBe(1);
    });

    test("a list that takes more than what is not in flight", () => {
      const ring = setup({ num: 4 });
      const { f, driver, device } = ring;
      add(ring, [1, 1]);
      driver.publish();
      expect(device.getDescs(8)).toBe(1);
      f.writePacked(2, { flags: NEXT | AVAIL_1 });
      f.writePacked(3, { flags: NEXT | AVAIL_1 });
      f.setFlags(0, NEXT | AVAIL_0);
      for (let i = 0; i < 2; i++) expect(device.getDescs(8)).toBe(-e.VRING_E_LOOP);
      expect(f.errors("device", e.VRING_E_LOOP)).toBe(1);
      f.setFlags(2, 0);
      expect(device.getDescs(8), "it is taken back").toBe(0);
      expect(f.word("device", e.VQ_ERROR)).toBe(0);
    });

    test("a ring full of NEXT ends the walk, from any place", () => {
      const ring = setup({ num: 3 });
      const { f, device } = ring;
      wind(ring, 4);
      for (let i = 0; i < 3; i++) f.setFlags(i, NEXT | (i === 0 ? AVAIL_1 : AVAIL_0));
      expect(device.getDescs(8)).toBe(-e.VRING_E_LOOP);
      expect(device.availLen()).toBe(3);
    });

    test("when all are in flight nothing is looked at, and a refusal ends", () => {
      const ring = setup({ num: 2 });
      const { f, driver, device } = ring;
      f.setFlags(0, NEXT | AVAIL_1);
      expect(device.getDescs(8)).toBe(-e.VRING_E_UNAVAILABLE);
      driver.reset();
      add(ring, ...ones(2));
      driver.publish();
      expect(device.getDescs(8)).toBe(2);
      for (let i = 0; i < 2; i++) f.setFlags(i, AVAIL_0);
      expect(device.getDescs(8)).toBe(0);
      expect([device.availLen(), device.enableKick()]).toEqual([0, false]);
      expect(f.word("device", e.VQ_ERROR)).toBe(0);
    });

    test("start ends a refusal", () => {
      const { f, device } = setup();
      f.setFlags(0, NEXT | AVAIL_1);
      expect(device.getDescs(8)).toBe(-e.VRING_E_UNAVAILABLE);
      expect(device.start(FIRST)).toBe(0);
      expect(f.word("device", e.VQ_ERROR)).toBe(0);
    });
  });

  test("addUsed of what was never popped: our own mistake, counted, nothing staged", () => {
    const ring = setup();
    const { f, driver, device } = ring;
    expect(device.addUsed(0x1_0000, 0)).toBe(-e.VRING_E_COMPLETION);
    add(ring, [1, 1]);
    driver.publish();
    expect(device.getDescs(8)).toBe(1);
    expect(device.addUsed(7, 0), "no count").toBe(-e.VRING_E_COMPLETION);
    expect(device.addUsed(0x3_0000, 0)).toBe(-e.VRING_E_COMPLETION);
    expect(device.addUsed(0xffff_0000, 0)).toBe(-e.VRING_E_COMPLETION);
    expect(f.errors("device", e.VRING_E_COMPLETION)).toBe(4);
    device.publish();
    expect(f.packedDesc(0).flags).toBe(NEXT | WRITE | AVAIL_1);
  });

  test("scribbling on used flags, published or not, keeps the device's place", () => {
    const ring = setup({ num: 1 });
    const { f, device } = ring;
    for (let lap = 0; lap < 5; lap++) {
      // Malformed, taken back before it is published, and offered again in the next lap.
      f.writePacked(0, { len: 1, flags: lap % 2 === 0 ? AVAIL_1 : AVAIL_0 });
      expect(device.getDescs(8)).toBe(0);
      expect(device.availLen()).toBe(0);
    }
    expect(f.errors("device", e.VRING_E_ADDRESS)).toBe(5);
    expect(f.word("device", e.VQ_USED_NEXT)).toBe(0);
    device.publish();
    expect(f.packedDesc(0).flags).toBe(USED_1);
    expect(f.word("device", e.VQ_USED_PUBLISHED)).toBe(0);
  });

  describe("2.8.22: a device that lies to the driver", () => {
    test.each([
      ["the queue size", 8],
      ["not in flight", 3],
      ["the largest", 0xffff],
      ["given twice", 0],
    ])("a used id: %s", (_name, id) => {
      const ring = setup();
      const { f, driver } = ring;
      add(ring, [8], [8, 8]);
      driver.publish();
      f.writePacked(0, { id: 0, len: 4, flags: USED_1 | WRITE });
      f.writePacked(1, { id, len: 4, flags: USED_1 | WRITE });
      expect(get(ring)).toEqual([[0, 4]]);
      for (let i = 0; i < 2; i++) expect(driver.getBufs(8)).toBe(-e.VRING_E_USED_ID);
      expect(f.errors("driver", e.VRING_E_USED_ID)).toBe(1);
      expect(f.word("driver", e.VQ_LAST_USED)).toBe(0x8001);
      f.writePacked(1, { id: 1, len: 0xffff_ffff, flags: USED_1 | WRITE });
      expect(get(ring)).toEqual([[1, 16]]);
      expect(f.errors("driver", e.VRING_E_USED_LENGTH)).toBe(1);
      expect(f.word("driver", e.VQ_ERROR)).toBe(0);
      expect(f.word("driver", e.VQ_NUM_FREE)).toBe(8);
    });

    test("used flags everywhere: each chain comes back once, and nothing else", () => {
      const ring = setup({ num: 7 });
      const { f, driver } = ring;
      for (let round = 0; round < 10; round++) {
        expect(add(ring, [1, 1], [2], [3, 3])).toBe(3);
        driver.publish();
        const wrap = f.word("driver", e.VQ_LAST_USED) >>> 15;
        const at = f.word("driver", e.VQ_LAST_USED) & 0x7fff;
        for (let i = 0; i < 7; i++) {
          const lap = i < at ? 1 - wrap : wrap;
          f.writePacked(i, { id: f.record("driver", i % 3).head, flags: lap ? USED_1 : USED_0 });
        }
        let taken = 0;
        for (let tries = 0; tries < 20 && taken < 3; tries++) {
          taken += Math.max(0, driver.getBufs(8));
          const index = f.word("driver", e.VQ_LAST_USED) & 0x7fff;
          const { flags } = f.packedDesc(index);
          f.writePacked(index, { id: tries % 7, flags });
        }
        expect(taken).toBe(3);
        expect(driver.getBufs(8)).toBe(0);
        expect(f.word("driver", e.VQ_NUM_FREE)).toBe(7);
      }
    });

    test("what was staged and never published may be claimed: the driver keeps its place", () => {
      const ring = setup({ num: 3 });
      const { f, driver } = ring;
      for (let lap = 0; lap < 3; lap++) {
        expect(add(ring, [1, 1, 1])).toBe(1);
        f.writePacked(0, { flags: lap % 2 === 0 ? USED_1 : USED_0 });
        expect(driver.getBufs(8)).toBe(1);
      }
      driver.publish();
      expect(f.word("driver", e.VQ_NUM_FREE)).toBe(3);
      expect(f.word("driver", e.VQ_AVAIL_PUBLISHED)).toBe(0);
      expect(f.packedDesc(0).flags, "of the third lap's first").toBe(NEXT | WRITE | AVAIL_1);
      driver.reset();
      ring.device.start(FIRST);
      wind(ring, 7);
    });

    test("IN_ORDER: an id that is not in flight is refused, others only once", () => {
      const ring = setup({ inOrder: true });
      const { f, driver } = ring;
      add(ring, [8], [8], [8]);
      driver.publish();
      for (const id of [3, 7, 8, 0xffff]) {
        f.writePacked(0, { id, flags: USED_1 });
        expect(driver.getBufs(8)).toBe(-e.VRING_E_USED_ID);
      }
      expect(driver.getBufs(0)).toBe(0);
      expect(f.word("driver", e.VQ_ERROR)).toBe(0);
      f.writePacked(0, { id: 1, len: 9, flags: USED_1 | WRITE });
      expect(get(ring, 1)).toEqual([[0, 8]]);
      expect(f.errors("driver", e.VRING_E_USED_LENGTH), "when it is read").toBe(1);
      f.writePacked(0, { id: 1, len: 1, flags: 0 });
      expect(get(ring)).toEqual([[1, 8]]);
      f.writePacked(2, { id: 1, flags: USED_1 });
      expect(driver.getBufs(8)).toBe(-e.VRING_E_USED_ID);
      f.writePacked(2, { id: 2, flags: USED_1 });
      expect(get(ring)).toEqual([[2, 0]]);
      expect(f.word("driver", e.VQ_NUM_FREE)).toBe(8);
    });
  });

  test("scribbling on descriptors after they were popped changes nothing for the device", () => {
    const ring = setup();
    add(ring, [8], [8, 8]);
    ring.driver.publish();
    expect(ring.device.getDescs(1)).toBe(1);
    ring.f.writePacked(0, { addr: 0n, len: 99, id: 7, flags: AVAIL_0 | NEXT });
    expect(ring.device.addUsed(ring.f.record("device", 0).head, 8)).toBe(0);
    expect(useAll(ring)).toBe(1);
    expect(get(ring).map(([id]) => id)).toEqual([0, 1]);
  });
});
