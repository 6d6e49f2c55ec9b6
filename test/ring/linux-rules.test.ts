// The policy "linux", rule by rule, where no recorded scenario shows it alone.

import { describe, expect, test } from "vitest";
import { loadRings } from "#dist/ring/load.js";
import * as e from "#dist/spec/ring-state.js";
import {
  VIRTQ_DESC_F_INDIRECT as INDIRECT,
  VIRTQ_DESC_F_NEXT as NEXT,
  VIRTQ_USED_F_NO_NOTIFY,
  VIRTQ_DESC_F_WRITE as WRITE,
} from "#dist/spec/virtio-ring.js";
import { data, endOf, writeTable } from "../helpers/broken-chains.js";
import { makeMemory, RingFixture, type RingShape } from "../helpers/ring-fixture.js";

const MEMORY = { wasm: makeMemory(true, 40), ts: makeMemory(false, 40) };

describe.each(["wasm", "ts"] as const)("policy linux, %s", (kind) => {
  function setup(shape: Partial<RingShape> = {}) {
    const f = new RingFixture(MEMORY[kind], { linux: true, ...shape });
    const device = loadRings(MEMORY[kind], kind).device(f.device.vq);
    device.start(0);
    for (let i = 0; i < f.num; i++) f.writeDesc(i, { addr: data(f), len: 8, flags: 0 });
    const errors = () => {
      const codes = Array.from({ length: e.VRING_E_COUNT - 1 }, (_, i) => i + 1);
      return codes.flatMap((code) => (f.errors("device", code) > 0 ? [code] : []));
    };
    return { f, device, errors };
  }

  describe("an entry that fails", () => {
    test("stays, is counted at each try, and is a burst's first or not in it", () => {
      const { f, device } = setup();
      f.offer(1);
      f.offer(99);
      f.offer(2);
      expect(device.getDescs(10)).toBe(1);
      expect(f.errors("device", e.VRING_E_HEAD)).toBe(0);
      for (const times of [1, 2, 3]) {
        expect(device.getDescs(10)).toBe(-e.VRING_E_HEAD);
        expect(f.errors("device", e.VRING_E_HEAD)).toBe(times);
        expect(f.word("device", e.VQ_LAST_AVAIL)).toBe(1);
      }
      f.setAvailHead(1, 3);
      expect(device.getDescs(10)).toBe(2);
      expect([0, 1].map((i) => f.record("device", i).head)).toEqual([3, 2]);
      expect(f.word("device", e.VQ_ERROR)).toBe(0);
      expect(f.word("device", e.VQ_USED_NEXT)).toBe(0);
    });

    test("in a table counts VRING_E_INDIRECT too; what is wrong is what getDescs says", () => {
      const { f, device, errors } = setup();
      f.writeDesc(0, { addr: data(f), len: 16, flags: INDIRECT });
      f.writeDescAt(f.data, { addr: data(f), len: 16, flags: INDIRECT });
      f.offer(0);
      expect(device.getDescs(1)).toBe(-e.VRING_E_INDIRECT_NESTED);
      expect(errors()).toEqual([e.VRING_E_INDIRECT_NESTED, e.VRING_E_INDIRECT]);
    });

    test("an index that is too far ahead, seen after a good chain, is the next call's", () => {
      const { f, device } = setup();
      f.offer(0);
      expect(device.getDescs(1)).toBe(1);
      f.offer(1);
      expect(device.availLen()).toBe(1);
      expect(device.getDescs(1)).toBe(1);
      f.availIdx = 100;
      expect(device.getDescs(16)).toBe(-e.VRING_E_AVAIL_INDEX);
      expect(f.word("device", e.VQ_AVAIL_SEEN)).toBe(100);
      expect(device.getDescs(16)).toBe(16);
      expect(f.errors("device", e.VRING_E_AVAIL_INDEX)).toBe(1);
    });
  });

  describe("what Linux takes", () => {
    test("a table that is not negotiated, with WRITE and bits that are nobody's", () => {
      const { f, device } = setup({ indirect: false });
      f.writeDesc(0, { addr: data(f), len: 32, flags: INDIRECT | WRITE | 0xfff8 });
      writeTable(f, 2, 3);
      f.offer(0);
      expect(device.getDescs(1)).toBe(1);
      expect(f.record("device", 0)).toMatchObject({ outCount: 2, outBytes: 6, inCount: 0 });
    });

    test("table, buffer, table in one chain; an entry across two regions", () => {
      const { f, device } = setup({ more: [{ bytes: 64, skew: 3 }] });
      const across = endOf(f, 0) - 10n;
      f.writeDesc(0, { addr: data(f), len: 32, flags: INDIRECT | NEXT, next: 5 });
      f.writeDesc(5, { addr: data(f), len: 100, flags: NEXT, next: 3 });
      f.writeDesc(3, { addr: across, len: 16, flags: INDIRECT });
      writeTable(f, 2, 3);
      const scratch = f.data + 512;
      f.writeDescAt(scratch, { addr: data(f) + 7n, len: 9, flags: WRITE });
      f.bytes.copyWithin(f.data + f.shape.dataBytes - 10, scratch, scratch + 10);
      f.bytes.copyWithin(f.linearOf(1), scratch + 10, scratch + 16);
      f.offer(0);
      expect(device.getDescs(1)).toBe(1);
      expect(f.record("device", 0)).toMatchObject({
        ...{ outCount: 3, outBytes: 106, inCount: 1, inBytes: 9 },
      });
      expect(f.piece("device", 3)).toEqual({ linear: f.data + 7, bytes: 9 });
    });

    test("readable after a writable buffer of length 0, which lies nowhere", () => {
      const { f, device } = setup();
      f.writeDesc(0, { addr: 0n, len: 0, flags: WRITE | NEXT, next: 1 });
      f.offer(0);
      expect(device.getDescs(1)).toBe(1);
      expect(f.record("device", 0)).toMatchObject({ outCount: 1, inCount: 0 });
    });

    test("more chains in flight than the ring has entries", () => {
      const { f, device } = setup();
      for (let i = 0; i < 40; i++) {
        f.offer(i % 8);
        expect(device.getDescs(1)).toBe(1);
      }
      expect(f.word("device", e.VQ_IN_FLIGHT)).toBe(40);
      for (let i = 0; i < 40; i++) expect(device.addUsed(i % 8, 0)).toBe(0);
      device.publish();
      expect(f.usedIdx).toBe(40);
    });
  });

  describe("limits", () => {
    test.each([
      { pieces: 1024, answer: 1 },
      { pieces: 1025, answer: -e.VRING_E_IOV },
    ])("a chain of $pieces pieces, though the table has room for 2048", ({ pieces, answer }) => {
      const { f, device } = setup({ iovCapacity: 2048, dataBytes: 1025 * 16 });
      writeTable(f, pieces);
      f.writeDesc(0, { addr: data(f), len: 16 * pieces, flags: INDIRECT });
      f.offer(1);
      f.offer(0);
      expect(device.getDescs(1)).toBe(1);
      expect(device.getDescs(1)).toBe(answer);
    });

    test("a chain that doesn't fit behind others of its burst has the next for itself", () => {
      const { f, device } = setup({ iovCapacity: 4 });
      writeTable(f, 4);
      f.writeDesc(0, { addr: data(f), len: 16 * 4, flags: INDIRECT });
      f.offer(1);
      f.offer(0);
      expect(device.getDescs(2)).toBe(1);
      expect(device.getDescs(2)).toBe(1);
      expect(f.record("device", 0)).toMatchObject({ iovStart: 0, outCount: 4 });
    });

    test.each([
      { num: 1024, entries: 64, answer: 1 },
      { num: 1024, entries: 65, answer: -e.VRING_E_WALK },
    ])("$num tables of $entries buffers without bytes", ({ num, entries, answer }) => {
      const { f, device, errors } = setup({ num });
      writeTable(f, entries, 0);
      for (let i = 0; i < num; i++) {
        const flags = INDIRECT | (i + 1 < num ? NEXT : 0);
        f.writeDesc(i, { addr: data(f), len: 16 * entries, flags, next: i + 1 });
      }
      f.offer(0);
      expect(device.getDescs(1)).toBe(answer);
      expect(errors()).toEqual(answer < 0 ? [e.VRING_E_INDIRECT, e.VRING_E_WALK] : []);
    });

    test("bytes of 2^32", () => {
      const { f, device } = setup();
      f.writeDesc(0, { addr: data(f), len: 1, flags: NEXT, next: 1 });
      f.writeDesc(1, { addr: data(f), len: 0xffff_ffff, flags: 0 });
      f.offer(0);
      expect(device.getDescs(1)).toBe(-e.VRING_E_LENGTH);
    });
  });

  describe("notification", () => {
    test("avail_event is the index that was seen; the newer one is seen then", () => {
      const { f, device } = setup({ eventIdx: true });
      device.disableKick();
      f.offer(0);
      expect(device.getDescs(4)).toBe(1);
      f.offer(1);
      expect(device.enableKick()).toBe(true);
      expect(f.availEvent).toBe(1);
      expect(f.word("device", e.VQ_AVAIL_SEEN)).toBe(2);
      f.availEvent = 77;
      expect(device.enableKick(), "it is enabled").toBe(false);
      expect(f.availEvent).toBe(77);
    });

    test("enableKick finds an index that is too far ahead, once", () => {
      const { f, device } = setup();
      device.disableKick();
      f.availIdx = 9;
      expect(device.enableKick()).toBe(false);
      expect(f.errors("device", e.VRING_E_AVAIL_INDEX)).toBe(1);
      expect(f.word("device", e.VQ_ERROR)).toBe(e.VRING_E_AVAIL_INDEX);
      expect(device.getDescs(16)).toBe(9);
      expect(f.word("device", e.VQ_ERROR)).toBe(0);
    });

    test("used.flags is written when that changes; a start leaves it disabled", () => {
      const { f, device } = setup();
      device.disableKick();
      f.usedFlags = 0;
      device.disableKick();
      expect(f.usedFlags, "it was disabled").toBe(0);
      device.start(0);
      expect(f.usedFlags).toBe(VIRTQ_USED_F_NO_NOTIFY);
      expect(device.enableKick()).toBe(false);
      expect(f.usedFlags).toBe(0);
      device.start(0);
      expect(f.usedFlags).toBe(0);
    });

    test("after 2^16 used entries without a question, the next is like the first", () => {
      const { f, device } = setup({ eventIdx: true });
      const use = (count: number) => {
        for (let i = 0; i < count; i++) {
          f.offer(0);
          device.getDescs(1);
          device.addUsed(0, 0);
          device.publish();
        }
      };
      f.usedEvent = 0x8000;
      use(1);
      expect(device.callNeeded(), "the first").toBe(true);
      use(1);
      expect(device.callNeeded()).toBe(false);
      use(0xffff);
      expect(f.word("device", e.VQ_SIGNALLED_VALID)).toBe(1);
      use(1);
      expect(f.word("device", e.VQ_SIGNALLED_VALID)).toBe(0);
      expect(device.callNeeded()).toBe(true);
      expect(device.callNeeded(), "nothing since").toBe(false);
    });
  });
});
