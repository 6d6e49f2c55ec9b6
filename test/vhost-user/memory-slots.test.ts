import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { type FrontEnd, makeMemfd, USER_BASE, u32s, u64s } from "#dist/bench/front-end.js";
import { closeFd } from "#dist/linux/libc.js";
import { VIRTIO_BLK_T_IN } from "#dist/spec/virtio-blk.js";
import { pattern } from "../helpers/blk-raw.js";
import {
  describeVhostUser,
  expectGivenBack,
  joined,
  Served,
  settled,
} from "../helpers/vhost-user.js";
import { FrontDisk } from "../helpers/vhost-user-disk.js";

/** Part of the front-end's memory as a region; user addresses may be moved. */
function part(front: FrontEnd, start: number, bytes: number, moved = 0n): Uint8Array {
  const { shared } = front;
  const guest = shared.toGuest(shared.guestStart + start);
  return u64s(guest, bytes, USER_BASE + BigInt(start) + moved, start);
}

/** SET_MEM_TABLE with several regions of the same file. */
const setTable = (front: FrontEnd, parts: Uint8Array[], fd = front.memfd) =>
  front.must(
    "SET_MEM_TABLE",
    joined(u32s(parts.length, 0), ...parts),
    parts.map(() => fd),
  );

const add = (front: FrontEnd, region: Uint8Array) =>
  front.must("ADD_MEM_REG", joined(u64s(0), region), [front.memfd]);
const remove = (front: FrontEnd, region: Uint8Array, fds: number[] = []) =>
  front.must("REM_MEM_REG", joined(u64s(0), region), fds);

describeVhostUser("vhost-user memory, by slots", () => {
  let served: Served;
  let front: FrontEnd;
  let drive: FrontDisk | undefined;
  beforeAll(async () => {
    served = await Served.start();
  });
  beforeEach(async () => {
    drive?.close();
    drive = undefined;
    front?.close();
    await served.idle();
    front = served.connect();
    await front.negotiate(~0n);
  });
  afterAll(async () => {
    drive?.close();
    front?.close();
    await served?.[Symbol.asyncDispose]();
  });

  const start = async (index = 0) => {
    drive = new FrontDisk(front, await front.startQueue(index, 64), 16);
    return drive;
  };

  describe("regions that come and go one by one", () => {
    const MIB = 1 << 20;
    const parts = (count: number, bytes: number) =>
      Array.from({ length: count }, (_, i) => part(front, i * bytes, bytes));

    test("a buffer in each, and across them all", async () => {
      const bytes = 64 << 10;
      const regions = parts(48, bytes);
      const order = regions.map((_, i) => (i * 29) % 48);
      for (const i of order) await add(front, regions[i] as Uint8Array);
      const disk = await start();
      const all = pattern(4096 * 16, 6);
      for (let round = 0; round < 24; round++) {
        front.shared.allocGuest(4096 * 5 + 512 * round); // buffers all over, across edges too
        const other = new FrontDisk(front, disk.queue, 1, all.length);
        await other.write(0, all);
        expect(Buffer.compare(await other.read(0, all.length), all)).toBe(0);
      }
    });

    test("a ring in a region that came later than another's", async () => {
      const [low, high] = parts(2, 4 * MIB) as [Uint8Array, Uint8Array];
      await add(front, low);
      const first = new FrontDisk(front, await front.startQueue(0, 64));
      await first.write(0, pattern(512, 7));
      front.shared.allocGuest(4 * MIB);
      const queue = front.makeQueue(1, 64);
      expect(await front.tell("SET_VRING_ADDR", front.vringAddress(queue))).toBe(false);
      await add(front, high);
      await front.attach(queue);
      const second = new FrontDisk(front, queue);
      expect(await second.read(0, 512)).toEqual(pattern(512, 7));
      expect(await first.read(0, 512)).toEqual(pattern(512, 7));
      for (const disk of [first, second]) disk.close();
    });

    test("a buffer in one that went: the chain comes back empty, the next is served", async () => {
      const [low, high] = parts(2, 4 * MIB) as [Uint8Array, Uint8Array];
      await add(front, low);
      await add(front, high);
      const disk = await start();
      front.shared.allocGuest(4 * MIB);
      const far = new FrontDisk(front, disk.queue);
      await far.write(0, pattern(512, 8));
      await remove(front, high);
      const reads = [{ type: VIRTIO_BLK_T_IN, sector: 0, length: 512 }];
      expect(await far.batch(reads)).toMatchObject([{ status: 0xff, used: 0 }]);
      expect(await disk.read(0, 512)).toEqual(pattern(512, 8));
      expect(await served.next("ring-error")).toMatchObject({ errors: { VRING_E_ADDRESS: 1 } });
      await add(front, high);
      expect(await far.read(0, 512)).toEqual(pattern(512, 8));
      far.close();
    });

    test("the one a ring lies in goes, while it runs, and comes again", async () => {
      const whole = part(front, 0, 8 * MIB);
      const rest = part(front, 8 * MIB, MIB);
      await add(front, whole);
      await add(front, rest);
      const disk = await start();
      await disk.write(0, pattern(512, 9));
      await remove(front, whole, [front.memfd]); // a descriptor is not needed, but taken
      expect((await served.next("ring-unusable")).error.code).toBe("EFAULT");
      await add(front, whole);
      await front.must("SET_VRING_ADDR", front.vringAddress(disk.queue));
      expect(await disk.read(0, 512)).toEqual(pattern(512, 9));
    });

    test("hundreds of times: no mapping, no descriptor is left behind", async () => {
      await front.setMemory();
      await start();
      const before = await settled(served.kernel);
      const fd = makeMemfd(MIB);
      const region = u64s(0, MIB, 0, 0);
      for (let i = 0; i < 300; i++) {
        await front.must("ADD_MEM_REG", joined(u64s(0), region), [fd]);
        await remove(front, region, i % 2 ? [fd] : []);
      }
      closeFd(fd);
      await expectGivenBack(served.kernel, before);
    });

    test("an offset in the file that is no multiple of a page", async () => {
      const { guestBytes } = front.shared;
      const bytes = guestBytes - 4096 - 32;
      await setTable(front, [part(front, 32, bytes)]);
      front.shared.allocGuest(4096, 4096);
      const disk = await start();
      await disk.write(0, pattern(4096, 10));
      expect(await disk.read(0, 4096)).toEqual(pattern(4096, 10));
    });

    test("the removed must be there: by guest address, size and user address", async () => {
      await add(front, part(front, 0, MIB));
      for (const wrong of [
        part(front, 4096, MIB),
        part(front, 0, MIB - 4096),
        part(front, 0, MIB, 4096n),
      ]) {
        expect(await front.tell("REM_MEM_REG", joined(u64s(0), wrong))).toBe(false);
        expect((await served.next("refused")).error.code).toBe("EINVAL");
      }
      const otherOffset = part(front, 0, MIB);
      new DataView(otherOffset.buffer).setBigUint64(24, 0x12345n, true); // it is not looked at
      await remove(front, otherOffset);
      expect(await front.tell("REM_MEM_REG", joined(u64s(0), part(front, 0, MIB)))).toBe(false);
    });
  });
});
