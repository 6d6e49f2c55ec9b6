// Packed rings and IN_ORDER over vhost-user: data, sleeping on both sides, positions.
import { describe, expect, test } from "vitest";
import { u32s } from "#dist/bench/front-end.js";
import { featureMask } from "#dist/spec/features.js";
import { VIRTIO_F_IN_ORDER, VIRTIO_F_RING_PACKED } from "#dist/spec/virtio-config.js";
import { pattern } from "../helpers/blk-raw.js";
import { describeVhostUser, Served } from "../helpers/vhost-user.js";
import { FrontDisk } from "../helpers/vhost-user-disk.js";

const PACKED = featureMask(VIRTIO_F_RING_PACKED);
const IN_ORDER = featureMask(VIRTIO_F_IN_ORDER);

/** A front-end that accepted `optIn`, with its memory handed over. */
async function ready(served: Served, optIn: bigint) {
  const front = served.connect();
  await front.negotiate(~0n, optIn);
  expect(front.features & optIn).toBe(optIn);
  await front.setMemory();
  return front;
}

describeVhostUser("vhost-user: other rings", () => {
  describe.each([
    ["packed", PACKED, 100],
    ["packed, of 5", PACKED, 5],
    ["split, in order", IN_ORDER, 64],
    ["packed, in order", PACKED | IN_ORDER, 7],
  ])("%s", (_name, optIn, num) => {
    test("what is written is read back, many times around, asleep in between", async () => {
      await using served = await Served.start();
      using front = await ready(served, optIn);
      const drive = new FrontDisk(front, await front.startQueue(0, num), 1);
      for (let i = 0; i < 3 * num; i++) {
        const offset = (i % 200) * 4096;
        await drive.write(offset, pattern(4096, i));
        expect(Buffer.compare(await drive.read(offset, 4096), pattern(4096, i))).toBe(0);
      }
    });

    test("stopped, it goes on where it says that it was", async () => {
      await using served = await Served.start();
      using front = await ready(served, optIn);
      const queue = await front.startQueue(0, num);
      const drive = new FrontDisk(front, queue, 1);
      for (let i = 0; i < 12; i++) {
        await drive.write(i * 512, pattern(512, i));
        const state = await front.ask("GET_VRING_BASE", u32s(0, 0));
        await front.attach(queue, state.getUint32(4, true));
      }
      for (let i = 0; i < 12; i++) expect(await drive.read(i * 512, 512)).toEqual(pattern(512, i));
    });
  });

  test("a base of one position, as DPDK says it, is taken for both", async () => {
    await using served = await Served.start();
    using front = await ready(served, PACKED);
    const queue = front.makeQueue(0, 8);
    await front.attach(queue, 0x8000);
    const drive = new FrontDisk(front, queue, 1);
    await drive.write(0, pattern(512, 1));
    expect(await drive.read(0, 512)).toEqual(pattern(512, 1));
  });

  test("a base that a packed ring can't go on at: told, and the ring does not run", async () => {
    for (const base of [100, 0x8064_8064, 0x8000_8001, 0x0005_8000, 0xffff_ffff]) {
      await using served = await Served.start();
      using front = await ready(served, PACKED);
      await front.attach(front.makeQueue(0, 100), base >>> 0);
      const { queue, error } = await served.next("ring-unusable");
      expect({ queue, code: error.code }).toEqual({ queue: 0, code: "EINVAL" });
    }
  });
});
