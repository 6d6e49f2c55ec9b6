import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { type FrontEnd, makeMemfd, u32s, u64s } from "#dist/bench/front-end.js";
import { closeFd } from "#dist/linux/libc.js";
import * as wire from "#dist/spec/vhost-user.js";
import * as blkSpec from "#dist/spec/virtio-blk.js";
import { DISK_BYTES, describeVhostUser, joined, QUEUES, Served } from "../helpers/vhost-user.js";

const u64Of = (view: DataView) => view.getBigUint64(0, true);
const bytesOf = (view: DataView) => [...new Uint8Array(view.buffer)];

/** A payload of GET_CONFIG or SET_CONFIG. */
const config = (offset: number, size: number, contents = new Uint8Array(size)) =>
  joined(u32s(offset, size, 0), contents);

/** No reply is under way: the next one is that of a request which always has one. */
async function expectSilence(front: FrontEnd): Promise<void> {
  front.send("GET_FEATURES");
  expect((await front.receive())?.request).toBe(wire.VHOST_USER_REQUESTS.GET_FEATURES);
}

describeVhostUser("vhost-user queries and configuration", () => {
  let served: Served;
  beforeAll(async () => {
    served = await Served.start();
  });
  beforeEach(() => served.idle());
  afterAll(() => served?.[Symbol.asyncDispose]());

  describe("queries", () => {
    test("GET_QUEUE_NUM, GET_MAX_MEM_SLOTS", async () => {
      using front = served.connect();
      await front.negotiate(0n);
      expect(u64Of(await front.ask("GET_QUEUE_NUM"))).toBe(BigInt(QUEUES));
      expect(u64Of(await front.ask("GET_MAX_MEM_SLOTS"))).toBe(64n);
    });

    test("as many regions as there are slots can be added, and one more can't", async () => {
      using front = served.connect();
      await front.negotiate(0n);
      const fd = makeMemfd(4096);
      const add = (i: number) => u64s(0, i * 4096, 4096, i * 4096, 0);
      for (let i = 0; i < 64; i++) await front.must("ADD_MEM_REG", add(i), [fd]);
      expect(await front.tell("ADD_MEM_REG", add(64), [fd])).toBe(false);
      expect((await served.next("refused")).error.code).toBe("E2BIG");
      closeFd(fd);
    });

    test("GET_STATUS gives what SET_STATUS set", async () => {
      using front = served.connect();
      await front.negotiate(0n);
      expect(u64Of(await front.ask("GET_STATUS"))).toBe(0n);
      for (const status of [1, 3, 11, 15, 255, 0]) {
        await front.must("SET_STATUS", u64s(status));
        expect(u64Of(await front.ask("GET_STATUS"))).toBe(BigInt(status));
      }
      await front.must("SET_STATUS", u64s(15));
      expect(await front.tell("SET_STATUS", u64s(256))).toBe(false);
      expect(u64Of(await front.ask("GET_STATUS"))).toBe(15n);
      await front.must("RESET_DEVICE");
      expect(u64Of(await front.ask("GET_STATUS"))).toBe(0n);
    });
  });

  describe("configuration", () => {
    const ask = async (front: FrontEnd, offset: number, size: number, length = size) => {
      front.send("GET_CONFIG", config(offset, size, new Uint8Array(length)));
      const reply = await front.receive();
      expect(reply).toMatchObject({ request: wire.VHOST_USER_REQUESTS.GET_CONFIG, flags: 5 });
      return bytesOf((reply as { payload: DataView }).payload);
    };

    test("GET_CONFIG gives the device's, with zeroes where it has none", async () => {
      using front = served.connect();
      await front.negotiate(0n);
      const all = await ask(front, 0, 256);
      expect(all.slice(0, 12)).toEqual([...u32s(0, 256, 0)]);
      const view = new DataView(Uint8Array.from(all.slice(12)).buffer);
      expect(view.getBigUint64(blkSpec.VIRTIO_BLK_CONFIG_CAPACITY, true)).toBe(
        BigInt(DISK_BYTES / 512),
      );
      expect(view.getUint16(blkSpec.VIRTIO_BLK_CONFIG_NUM_QUEUES, true)).toBe(QUEUES);
      expect(all.slice(12 + blkSpec.VIRTIO_BLK_CONFIG_BYTES).some((byte) => byte !== 0)).toBe(
        false,
      );
      for (const [offset, size] of [
        [0, 1],
        [8, 60],
        [20, 4],
        [59, 2],
        [60, 100],
        [255, 1],
        [256, 0],
        [0, 0],
      ] as const) {
        const part = all.slice(12 + offset, 12 + offset + size);
        expect(await ask(front, offset, size)).toEqual([...u32s(offset, size, 0), ...part]);
      }
    });

    test.each([
      [256, 1, 1],
      [0, 257, 257],
      [0xffffffff, 1, 1],
      [0xffffffff, 0, 0],
      [0, 0xffffffff, 4],
      [0, 4, 3],
      [0, 3, 4],
      [0, 300, 300],
    ])("GET_CONFIG of %i, %i with %i bytes: an answer without payload", async (...args) => {
      using front = served.connect();
      await front.negotiate(0n);
      expect(await ask(front, ...args)).toEqual([]);
      expect(await served.next("refused")).toMatchObject({ request: "GET_CONFIG" });
      await expectSilence(front);
    });

    test("SET_CONFIG switches the cache while the driver runs; a reset, back", async () => {
      using front = await served.ready();
      const at = blkSpec.VIRTIO_BLK_CONFIG_WRITEBACK;
      const writeback = async () => (await ask(front, at, 1)).at(-1);
      await front.startQueue(0, 8);
      expect(await writeback()).toBe(1);
      await front.must("SET_CONFIG", config(at, 1, Uint8Array.of(0)));
      expect(await writeback()).toBe(0);
      const before = await ask(front, 0, 60);
      await front.must("SET_CONFIG", config(0, 8, new Uint8Array(8).fill(0xff)));
      expect(await ask(front, 0, 60)).toEqual(before);
      await front.must("SET_STATUS", u64s(0));
      expect(await writeback()).toBe(0); // QEMU sends that at each pause
      await front.must("RESET_DEVICE");
      expect(await writeback()).toBe(1);
    });

    test.each([
      [256, 1, 1],
      [0xffffffff, 2, 2],
      [32, 1, 0],
      [32, 1, 2],
    ])("SET_CONFIG of %i, %i with %i bytes is refused", async (offset, size, length) => {
      using front = served.connect();
      await front.negotiate(0n);
      const payload = config(offset, size, new Uint8Array(length));
      expect(await front.tell("SET_CONFIG", payload)).toBe(false);
      expect(await served.next("refused")).toMatchObject({ request: "SET_CONFIG" });
    });
  });
});
