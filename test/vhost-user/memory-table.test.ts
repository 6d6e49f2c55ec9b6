import { readFileSync } from "node:fs";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { type FrontEnd, makeMemfd, USER_BASE, u32s, u64s } from "#dist/bench/front-end.js";
import { closeFd } from "#dist/linux/libc.js";
import { mapFile } from "#dist/linux/mapping.js";
import { VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT } from "#dist/spec/virtio-blk.js";
import { pattern } from "../helpers/blk-raw.js";
import { describeVhostUser, joined, Served } from "../helpers/vhost-user.js";
import { closing } from "../helpers/vhost-user-bad.js";
import { FrontDisk } from "../helpers/vhost-user-disk.js";
import { RawQueue } from "../helpers/vhost-user-ring.js";

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

describeVhostUser("vhost-user memory", () => {
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

  describe("SET_MEM_TABLE while rings run", () => {
    test("again and again, the same: every request is done, once", async () => {
      await front.setMemory();
      const disk = await start();
      let isOver = false;
      let round = 0;
      const work = async () => {
        for (; !isOver; round++) {
          const writes = Array.from({ length: 16 }, (_, i) => ({
            type: VIRTIO_BLK_T_OUT,
            sector: i,
            data: new Uint8Array(512).fill(round + i),
          }));
          const answers = await disk.batch(writes);
          expect(answers.every(({ status, used }) => status === 0 && used === 1)).toBe(true);
          const reads = writes.map(({ sector }) => ({
            type: VIRTIO_BLK_T_IN,
            sector,
            length: 512,
          }));
          for (const [i, { data }] of (await disk.batch(reads)).entries()) {
            expect(data.every((byte) => byte === ((round + i) & 0xff))).toBe(true);
          }
        }
      };
      const working = work();
      for (let i = 0; i < 200 || round < 10; i++) await front.setMemory();
      isOver = true;
      await working;
      expect(served.all("ring-error")).toEqual([]);
    });

    test("another file with the same contents: requests go on in that", async () => {
      await front.setMemory();
      const disk = await start();
      await disk.write(0, pattern(4096, 1));
      const { shared } = front;
      const old = new Uint8Array(shared.bytes.slice(shared.guestStart));
      const fd = makeMemfd(shared.guestBytes);
      mapFile(shared.memory, shared.guestStart, shared.guestBytes, fd, 0);
      shared.bytes.set(old, shared.guestStart);
      await setTable(front, [front.region()], fd);
      const oldFile = () => readFileSync(`/proc/self/fd/${front.memfd}`);
      const left = oldFile();
      expect(await disk.read(0, 4096)).toEqual(pattern(4096, 1));
      await disk.write(8192, pattern(4096, 2));
      expect(await disk.read(8192, 4096)).toEqual(pattern(4096, 2));
      expect(Buffer.compare(oldFile(), left)).toBe(0); // nothing goes there any more
      closeFd(fd);
    });

    test("without the one a ring lies in: told once; with it, it goes on", async () => {
      await front.setMemory();
      const disk = await start();
      await disk.write(0, pattern(512, 3));
      const { guestBytes } = front.shared;
      const moved = 1n << 40n;
      await setTable(front, [part(front, 0, guestBytes, moved)]);
      const unusable = await served.next("ring-unusable");
      expect(unusable).toMatchObject({ queue: 0, error: { code: "EFAULT" } });
      await setTable(front, [part(front, 0, guestBytes, moved)]);
      await front.setMemory();
      await front.must("SET_VRING_ADDR", front.vringAddress(disk.queue));
      expect(await disk.read(0, 512)).toEqual(pattern(512, 3));
      expect(served.all("ring-unusable")).toHaveLength(1);
    });

    test("user addresses that moved: the ring goes on when it is told where", async () => {
      await front.setMemory();
      const disk = await start();
      const { guestBytes } = front.shared;
      await setTable(front, [part(front, 0, guestBytes, -4096n * 1000n)]);
      const view = new DataView(front.vringAddress(disk.queue).buffer);
      for (const at of [8, 16, 24]) {
        view.setBigUint64(at, view.getBigUint64(at, true) - 4096n * 1000n, true);
      }
      await front.must("SET_VRING_ADDR", new Uint8Array(view.buffer));
      await disk.write(0, pattern(512, 4));
      expect(await disk.read(0, 512)).toEqual(pattern(512, 4));
    });

    test("none at all, then all again: the ring waits meanwhile", async () => {
      await front.setMemory();
      const disk = await start();
      await disk.write(0, pattern(512, 5));
      await front.must("SET_MEM_TABLE", u32s(0, 0));
      const reads = [{ type: VIRTIO_BLK_T_IN, sector: 0, length: 512 }];
      disk.offer(reads);
      await front.setMemory();
      expect((await disk.collect(reads))[0]?.data).toEqual(pattern(512, 5));
    });
  });

  describe("places that are easily got wrong", () => {
    test.each([
      ["from guest address 0", 0n],
      ["up to the very last", (1n << 64n) - BigInt((16 << 20) - 65536 - (2 << 20))],
      ["across 4 GiB", (1n << 32n) - 0x200000n],
      ["where JavaScript's numbers are not exact", (1n << 60n) + 4096n],
    ])("memory %s", async (_name, base) => {
      const { guestBytes } = front.shared;
      await setTable(front, [u64s(base, guestBytes, USER_BASE, 0)]);
      const ring = new RawQueue(front, 0, 8, base);
      await front.attach(ring.queue);
      for (let i = 0; i < 20; i++) expect(await ring.isServed()).toBe(true);
    });

    test.each(["wasm", "ts"] as const)(
      "rings and buffers beyond 3 GiB, rings by %s",
      async (ring) => {
        await using other = await Served.start({ ring });
        using far = other.connect();
        await far.negotiate(~0n);
        await closing(makeMemfd(3.5 * 2 ** 30), async (fd) => {
          const low = u64s(0, 3.5 * 2 ** 30, 0, 0); // sparse, and first
          await far.must("SET_MEM_TABLE", joined(u32s(2, 0), low, far.region()), [fd, far.memfd]);
          const disk = new FrontDisk(far, await far.startQueue(0, 64), 4, 65536);
          for (let i = 0; i < 4; i++) await disk.write(i * 65536, pattern(65536, i));
          for (let i = 0; i < 4; i++) {
            const read = await disk.read(i * 65536, 65536);
            expect(Buffer.compare(read, pattern(65536, i))).toBe(0);
          }
          expect(other.all("ring-error")).toEqual([]);
        });
      },
    );
  });
});
