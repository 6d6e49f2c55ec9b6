// The split virtqueue against a peer that lies: each check of ring.ts, for the WebAssembly rings
// and for their TypeScript twins alike. A malformed chain goes back with length 0 and the queue
// goes on; an index or a head that can't be trusted is refused until it is repaired.

import { describe, expect, test } from "vitest";
import { loadRings } from "#dist/ring/load.js";
import * as e from "#dist/spec/ring-state.js";
import {
  VIRTQ_DESC_F_INDIRECT as INDIRECT,
  VIRTQ_DESC_F_NEXT as NEXT,
  VIRTQ_DESC_F_WRITE as WRITE,
} from "#dist/spec/virtio-ring.js";
import {
  BROKEN_CHAINS,
  data,
  endOf,
  indirect,
  SHAPE,
  TOP,
  writeTable,
} from "../helpers/broken-chains.js";
import { makeMemory, RingFixture, type RingShape } from "../helpers/ring-fixture.js";

describe.each(["wasm", "ts"] as const)("hostile split ring, %s", (kind) => {
  function setup(shape: Partial<RingShape> = {}, memory = makeMemory(true)) {
    const f = new RingFixture(memory, { ...SHAPE, ...shape });
    const rings = loadRings(memory, kind);
    const driver = rings.driver(f.driver.vq);
    const device = rings.device(f.device.vq);
    driver.reset();
    device.start(0);
    f.writeDesc(7, { addr: data(f), len: 1, flags: WRITE });
    return { f, driver, device };
  }

  describe("a malformed chain goes back with length 0, is counted; the next one is served", () => {
    test.each(BROKEN_CHAINS)("$name", ({ code, write, shape }) => {
      const { f, device } = setup(shape);
      write(f);
      f.setUsedElem(0, 99, 99);
      f.offer(0);
      f.offer(7);
      expect(device.getDescs(1), "the bad one alone").toBe(0);
      expect(f.errors("device", code)).toBe(1);
      expect(f.errors("device", 0), "of all kinds").toBe(1);
      expect(f.word("device", e.VQ_ERROR)).toBe(0);
      expect(f.word("device", e.VQ_IN_FLIGHT)).toBe(0);
      expect(f.usedIdx).toBe(0);
      device.publish();
      expect(f.usedIdx).toBe(1);
      expect(f.usedElem(0)).toEqual([0, 0]);
      expect(device.availLen()).toBe(1);
      expect(device.getDescs(1)).toBe(1);
      expect(f.record("device", 0)).toMatchObject({ head: 7, inCount: 1, inBytes: 1, outCount: 0 });
    });
  });

  describe("not malformed, though it looks like it", () => {
    test("a buffer across adjoining regions: a piece for each, at its own linear address", () => {
      const { f, device } = setup();
      const start = endOf(f, 0) - 4n;
      f.writeDesc(0, { addr: start, len: 4 + 256 + 40, flags: WRITE });
      f.offer(0);
      expect(device.getDescs(1)).toBe(1);
      expect(f.record("device", 0)).toMatchObject({ inCount: 3, inBytes: 300, outCount: 0 });
      expect([0, 1, 2].map((i) => f.piece("device", i))).toEqual([
        { linear: f.data + f.shape.dataBytes - 4, bytes: 4 },
        { linear: f.linearOf(1), bytes: 256 },
        { linear: f.linearOf(2), bytes: 40 },
      ]);
    });

    test("a buffer, and a table, that end exactly at 2^64", () => {
      const { f, device } = setup();
      f.writeDesc(0, { addr: TOP - 512n, len: 512, flags: 0 });
      f.writeDesc(1, { addr: TOP - 16n, len: 16, flags: INDIRECT });
      f.writeDescAt(f.linearOf(3, 496), { addr: TOP - 1n, len: 1, flags: WRITE });
      f.offer(0);
      f.offer(1);
      expect(device.getDescs(2)).toBe(2);
      expect(f.piece("device", 0)).toEqual({ linear: f.linearOf(3), bytes: 512 });
      expect(f.piece("device", 1)).toEqual({ linear: f.linearOf(3, 511), bytes: 1 });
    });

    test("length 0: no piece, whatever the address", () => {
      const { f, device } = setup();
      f.writeDesc(0, { addr: TOP - 1n, len: 0, flags: NEXT, next: 1 });
      f.writeDesc(1, { addr: 0n, len: 0, flags: WRITE });
      f.offer(0);
      expect(device.getDescs(1)).toBe(1);
      const nothing = { outCount: 0, inCount: 0, outBytes: 0, inBytes: 0 };
      expect(f.record("device", 0)).toMatchObject(nothing);
    });

    test("2.7.5.3: descriptors, then a table across regions, not aligned, with WRITE on it", () => {
      const { f, device } = setup();
      const at = endOf(f, 1) - 16n; // entry 1 is in region 2, at an odd linear address
      f.writeDesc(0, { addr: data(f), len: 3, flags: NEXT, next: 4 });
      f.writeDesc(4, { addr: at, len: 32, flags: INDIRECT | WRITE });
      f.writeDescAt(f.linearOf(1, 240), { addr: data(f) + 8n, len: 5, flags: NEXT, next: 1 });
      f.writeDescAt(f.linearOf(2), { addr: data(f) + 16n, len: 7, flags: WRITE, next: 9 });
      f.offer(0);
      expect(device.getDescs(1)).toBe(1);
      expect(f.record("device", 0)).toMatchObject({ outCount: 2, outBytes: 8, inBytes: 7 });
      expect(f.piece("device", 2)).toEqual({ linear: f.data + 16, bytes: 7 });
    });

    test("2.7.5.3: a table counts once in the ring: a full ring of descriptors ends in one", () => {
      const { f, device } = setup();
      for (let i = 0; i < 7; i++) {
        f.writeDesc(i, { addr: data(f), len: 0, flags: NEXT, next: i + 1 });
      }
      f.writeDesc(7, { addr: data(f), len: 16 * 16, flags: INDIRECT });
      writeTable(f, 16);
      f.offer(0);
      expect(device.getDescs(1)).toBe(1);
      expect(f.record("device", 0)).toMatchObject({ outCount: 16, outBytes: 16 });
    });

    test("guest addresses that cross 4 GiB, linear ones at the top of the memory", () => {
      const guest = (9n << 32n) - 0x100n;
      const memory = makeMemory(false, 65536);
      const { f, device } = setup({ guest, base: 0xfff8_0000, more: [] }, memory);
      f.writeDesc(0, { addr: guest + 0xf0n, len: 0x20, flags: NEXT, next: 1 });
      f.writeDesc(1, { addr: guest + 0xf0n, len: 0x20, flags: INDIRECT });
      f.writeDescAt(f.desc + 0xf0, { addr: guest + 0x100n, len: 1, flags: NEXT, next: 1 });
      f.writeDescAt(f.desc + 0x100, { addr: guest + 0xffn, len: 2, flags: WRITE });
      f.offer(0);
      expect(device.getDescs(1)).toBe(1);
      const piece = (i: number) => f.piece("device", i);
      expect(piece(0)).toEqual({ linear: f.desc + 0xf0, bytes: 0x20 });
      expect(piece(1)).toEqual({ linear: f.desc + 0x100, bytes: 1 });
      expect(piece(2)).toEqual({ linear: f.desc + 0xff, bytes: 2 });
    });

    test("2.7.5.3: the largest table, 65536 entries, and a next that names the last", () => {
      const { f, device } = setup({ dataBytes: 65536 * 16 }, makeMemory(true, 32));
      indirect(f, 65536 * 16);
      f.writeDescAt(f.data, { addr: data(f), len: 1, flags: NEXT, next: 65535 });
      f.writeDescAt(f.data + 65535 * 16, { addr: data(f), len: 2, flags: 0 });
      f.offer(0);
      expect(device.getDescs(1)).toBe(1);
      expect(f.record("device", 0)).toMatchObject({ outCount: 2, outBytes: 3 });
    });
  });

  describe("the limits of a burst", () => {
    test("a chain that does not fit behind others waits for the next burst, uncounted", () => {
      const { f, device } = setup({ iovCapacity: 2 });
      f.writeDesc(0, { addr: data(f), len: 1, flags: NEXT, next: 1 });
      f.writeDesc(1, { addr: data(f), len: 1, flags: 0 });
      f.offer(7);
      f.offer(0);
      expect(device.getDescs(8)).toBe(1);
      expect(f.errors("device", e.VRING_E_IOV)).toBe(0);
      expect(device.getDescs(8)).toBe(1);
      expect(f.record("device", 0)).toMatchObject({ head: 0, iovStart: 0, outCount: 2 });
    });

    test("too many pieces behind a chain that has none: malformed, the table was its own", () => {
      const { f, device } = setup({ iovCapacity: 1 });
      f.writeDesc(2, { addr: 0n, len: 0, flags: 0 });
      f.writeDesc(0, { addr: data(f), len: 1, flags: NEXT, next: 7 });
      for (const head of [2, 0, 7]) f.offer(head);
      expect(device.getDescs(8)).toBe(2);
      expect(f.errors("device", e.VRING_E_IOV)).toBe(1);
      expect(f.record("device", 1)).toMatchObject({ head: 7, iovStart: 0, inCount: 1 });
    });

    test("bad entries count as looked at: 0 good ones, and still something there", () => {
      const { f, device } = setup();
      f.writeDesc(0, { addr: 0n, len: 1, flags: 0 });
      for (let i = 0; i < 4; i++) f.offer(0);
      expect(device.getDescs(3)).toBe(0);
      expect(f.errors("device", e.VRING_E_ADDRESS)).toBe(3);
      expect(device.availLen()).toBe(1);
    });

    test("CVE-2019-3900: a burst ends when VQ_WALK_MAX descriptors were read", () => {
      const { f, device } = setup({ num: 1024, dataBytes: 64, burst: 64 });
      for (let i = 0; i < 1024; i++) {
        f.writeDesc(i, { addr: 0n, len: 0, flags: NEXT, next: (i + 1) % 1024 });
      }
      for (let i = 0; i < 10; i++) f.offer(i);
      expect(device.getDescs(64)).toBe(0);
      expect(f.errors("device", e.VRING_E_LOOP)).toBe(e.VQ_WALK_MAX / 1024);
      expect(device.availLen()).toBe(10 - e.VQ_WALK_MAX / 1024);
    });

    test.each([
      { entries: 2047, heads: [0, 0, 7], good: 2, why: "4096 were read after two" },
      { entries: 2046, heads: [0, 0, 7, 7, 7], good: 4, why: "4095 were read after three" },
    ])("CVE-2019-3900: tables' entries count too: $why", ({ entries, heads, good }) => {
      const { f, device } = setup({ iovCapacity: 2048, dataBytes: 2048 * 16 });
      writeTable(f, entries, 0);
      indirect(f, 16 * entries);
      for (const head of heads) f.offer(head);
      expect(device.getDescs(8)).toBe(good);
      expect(device.getDescs(8)).toBe(heads.length - good);
    });
  });

  describe("refusals stand until they are repaired, counted once", () => {
    test("avail.idx more than the queue size ahead", () => {
      const { f, device } = setup();
      f.availIdx = 9;
      for (let i = 0; i < 3; i++) expect(device.getDescs(8)).toBe(-e.VRING_E_AVAIL_INDEX);
      expect(f.errors("device", e.VRING_E_AVAIL_INDEX)).toBe(1);
      expect(f.word("device", e.VQ_ERROR)).toBe(e.VRING_E_AVAIL_INDEX);
      expect(f.word("device", e.VQ_AVAIL_SEEN)).toBe(0);
      expect(device.availLen()).toBe(9);
      f.availIdx = 0;
      expect(device.getDescs(8)).toBe(0);
      expect(f.word("device", e.VQ_ERROR)).toBe(0);
      f.availIdx = 65535;
      expect(device.getDescs(8)).toBe(-e.VRING_E_AVAIL_INDEX);
      expect(f.errors("device", e.VRING_E_AVAIL_INDEX)).toBe(2);
      for (let slot = 0; slot < 8; slot++) f.setAvailHead(slot, 7);
      f.availIdx = 8;
      expect(device.getDescs(8)).toBe(8);
    });

    test("a head that is the queue size", () => {
      const { f, device } = setup();
      f.offer(7);
      f.offer(8);
      f.offer(7);
      expect(device.getDescs(8)).toBe(1);
      expect(f.word("device", e.VQ_ERROR)).toBe(e.VRING_E_HEAD);
      for (let i = 0; i < 2; i++) expect(device.getDescs(8)).toBe(-e.VRING_E_HEAD);
      expect(f.errors("device", e.VRING_E_HEAD)).toBe(1);
      f.setAvailHead(1, 7);
      expect(device.getDescs(8)).toBe(2);
      expect(f.word("device", e.VQ_ERROR)).toBe(0);
    });

    test("CVE-2016-5403: as many in flight as the ring holds", () => {
      const { f, device } = setup();
      for (let i = 0; i < 8; i++) f.offer(7);
      expect(device.getDescs(16)).toBe(8);
      f.offer(7);
      for (let i = 0; i < 2; i++) expect(device.getDescs(16)).toBe(-e.VRING_E_IN_FLIGHT);
      expect(f.errors("device", e.VRING_E_IN_FLIGHT)).toBe(1);
      expect(device.addUsed(7, 1)).toBe(0);
      expect(device.getDescs(16)).toBe(1);
      expect(f.word("device", e.VQ_ERROR)).toBe(0);
    });

    test("a refusal that stands is answered even when nothing may be looked at", () => {
      const { f, device } = setup();
      f.availIdx = 9;
      expect(device.getDescs(1)).toBe(-e.VRING_E_AVAIL_INDEX);
      expect(device.getDescs(0)).toBe(-e.VRING_E_AVAIL_INDEX);
    });

    test("start ends a refusal", () => {
      const { f, device } = setup();
      f.availIdx = 9;
      device.getDescs(8);
      f.usedIdx = 3;
      device.start(9);
      expect(f.word("device", e.VQ_ERROR)).toBe(0);
      expect(device.getDescs(8)).toBe(0);
    });
  });

  test("addUsed of what was never popped: our own mistake, counted, nothing staged", () => {
    const { f, device } = setup();
    expect(device.addUsed(7, 0)).toBe(-e.VRING_E_COMPLETION);
    f.offer(7);
    expect(device.getDescs(1)).toBe(1);
    expect(device.addUsed(8, 0)).toBe(-e.VRING_E_COMPLETION);
    f.setRecord("device", 1, { head: 0xffff_ffff });
    expect(device.addUsedN(2)).toBe(-e.VRING_E_COMPLETION);
    expect(f.errors("device", e.VRING_E_COMPLETION)).toBe(3);
    device.publish();
    expect(f.usedIdx).toBe(1);
  });

  describe("2.7.8: a device that lies to the driver", () => {
    function inFlight(count: number) {
      const ring = setup();
      const { f, driver } = ring;
      for (let i = 0; i < count; i++) f.setChain(i, i, [], [{ linear: f.data, bytes: 8 }]);
      expect(driver.addBufs(count)).toBe(count);
      driver.publish();
      return ring;
    }

    test("used.idx further ahead than what is in flight: nothing is taken", () => {
      const { f, driver } = inFlight(2);
      f.setUsedElem(0, 0, 0);
      f.setUsedElem(1, 1, 0);
      f.usedIdx = 3;
      for (let i = 0; i < 2; i++) expect(driver.getBufs(8)).toBe(-e.VRING_E_USED_INDEX);
      expect(f.errors("driver", e.VRING_E_USED_INDEX)).toBe(1);
      f.usedIdx = 2;
      expect(driver.getBufs(8)).toBe(2);
      expect(f.word("driver", e.VQ_ERROR)).toBe(0);
    });

    test("a refusal stands while nothing is taken, and ends when nothing is pending", () => {
      const { f, driver } = inFlight(1);
      f.setUsedElem(0, 8, 0);
      f.usedIdx = 1;
      expect(driver.getBufs(8)).toBe(-e.VRING_E_USED_ID);
      expect(driver.getBufs(0)).toBe(0);
      expect(f.word("driver", e.VQ_ERROR)).toBe(e.VRING_E_USED_ID);
      f.usedIdx = 0;
      expect(driver.getBufs(8)).toBe(0);
      expect(f.word("driver", e.VQ_ERROR)).toBe(0);
    });

    test.each([
      ["the queue size", 8],
      ["not in flight", 3],
      ["above 16 bits", 0x1_0001],
      ["given twice", 0],
    ])("a used id: %s", (_name, id) => {
      const { f, driver } = inFlight(2);
      f.setUsedElem(0, 0, 4);
      f.setUsedElem(1, id, 4);
      f.usedIdx = 2;
      expect(driver.getBufs(8)).toBe(1);
      for (let i = 0; i < 2; i++) expect(driver.getBufs(8)).toBe(-e.VRING_E_USED_ID);
      expect(f.errors("driver", e.VRING_E_USED_ID)).toBe(1);
      expect(f.word("driver", e.VQ_IN_FLIGHT)).toBe(1);
      f.setUsedElem(1, 1, 4);
      expect(driver.getBufs(8)).toBe(1);
      expect(f.word("driver", e.VQ_ERROR)).toBe(0);
      expect(f.word("driver", e.VQ_NUM_FREE)).toBe(8);
    });

    test("a length above what the chain can hold is cut and counted", () => {
      const { f, driver } = inFlight(1);
      f.setUsedElem(0, 0, 0xffff_ffff);
      f.usedIdx = 1;
      expect(driver.getBufs(8)).toBe(1);
      expect(f.record("driver", 0).usedBytes).toBe(8);
      expect(f.errors("driver", e.VRING_E_USED_LENGTH)).toBe(1);
    });

    test("scribbling on descriptors after the driver wrote them changes nothing for it", () => {
      const { f, driver } = inFlight(2);
      for (let i = 0; i < 8; i++) f.writeDesc(i, { addr: 0n, len: 9, flags: NEXT, next: 0xffff });
      f.setUsedElem(0, 1, 8);
      f.setUsedElem(1, 0, 8);
      f.usedIdx = 2;
      expect(driver.getBufs(8)).toBe(2);
      expect(f.word("driver", e.VQ_NUM_FREE)).toBe(8);
    });
  });
});
