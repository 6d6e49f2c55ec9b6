import fs, { fstatSync, ftruncateSync, openSync } from "node:fs";
import { syncBuiltinESMExports } from "node:module";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { type FrontEnd, makeMemfd, u32s, u64s } from "#dist/bench/front-end.js";
import { Random } from "#dist/fuzz/random.js";
import { closeFd, libc } from "#dist/linux/libc.js";
import { mapFile } from "#dist/linux/mapping.js";
import { pattern } from "../helpers/blk-raw.js";
import { seedOf } from "../helpers/seed.js";
import { tempFiles } from "../helpers/temp-file.js";
import { describeVhostUser, joined, Served } from "../helpers/vhost-user.js";
import { closing, Tried } from "../helpers/vhost-user-bad.js";
import { FrontDisk } from "../helpers/vhost-user-disk.js";
import { RawQueue } from "../helpers/vhost-user-ring.js";

const MFD_CLOEXEC = 1;
const MFD_ALLOW_SEALING = 2;
const F_ADD_SEALS = 1033;
const F_SEAL_SEAL = 1;
const F_SEAL_SHRINK = 2;
const F_SEAL_WRITE = 8;
const PUNCH_HOLE = 3; // and keep the size
const makeFile = tempFiles();
const table = (front: FrontEnd) => joined(u32s(1, 0), front.region());

/** The front-end's memory is that file's from now on. */
function remap(front: FrontEnd, fd: number): void {
  const { shared } = front;
  ftruncateSync(fd, shared.guestBytes);
  mapFile(shared.memory, shared.guestStart, shared.guestBytes, fd, 0);
}

async function expectDisk(front: FrontEnd): Promise<void> {
  const drive = new FrontDisk(front, await front.startQueue(0, 16));
  await drive.write(0, pattern(4096));
  expect(await drive.read(0, 4096)).toEqual(pattern(4096));
}

describeVhostUser("vhost-user: hostile memory", () => {
  describe("by default", () => {
    let tried: Tried;
    beforeAll(async () => {
      tried = await Tried.start();
    });
    afterEach(() => tried?.isWell());
    afterAll(() => tried?.close());

    const connect = async () => {
      await tried.served.idle();
      const front = tried.served.connect();
      await front.negotiate(~0n);
      return front;
    };

    test("what can't be sealed is refused, and it is told why", async () => {
      using front = await connect();
      const sealed = makeMemfd(1 << 20);
      libc().fcntl(sealed, F_ADD_SEALS, F_SEAL_SEAL);
      const file = openSync(makeFile(1 << 20), "r+");
      const unsealed = makeMemfd(1 << 20, MFD_CLOEXEC);
      for (const fd of [unsealed, sealed, file]) {
        const region = u64s(0, 4096, 0, 0);
        const one = joined(u32s(1, 0), region);
        expect(await tried.refused(front, "SET_MEM_TABLE", one, [fd])).toBe("EINVAL");
        expect(tried.served.all("refused").at(-1)?.error.message).toMatch(/truncated under us/);
        const added = joined(u64s(0), region);
        expect(await tried.refused(front, "ADD_MEM_REG", added, [fd])).toBe("EINVAL");
        ftruncateSync(fd, 0); // it was not sealed on the way
        closeFd(fd);
      }
    });

    test("what is taken can't be truncated any more", async () => {
      using front = await connect();
      ftruncateSync(front.memfd, front.shared.guestBytes + 4096);
      await front.must("SET_MEM_TABLE", table(front), [front.memfd]);
      for (const bytes of [0, 4096, front.shared.guestBytes]) {
        expect(() => ftruncateSync(front.memfd, bytes)).toThrow("EPERM");
      }
      ftruncateSync(front.memfd, front.shared.guestBytes + 8192); // longer: no harm
      await expectDisk(front);
    });

    test("one that is sealed by its owner, for good", async () => {
      using front = await connect();
      libc().fcntl(front.memfd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_SEAL);
      await front.must("SET_MEM_TABLE", table(front), [front.memfd]);
      await expectDisk(front);
    });

    test("one that can't be written is refused, and the next table is taken", async () => {
      using front = await connect();
      await closing(makeMemfd(1 << 20), async (fd) => {
        expect(libc().fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE)).toBe(0);
        const one = joined(u32s(1, 0), u64s(0, 4096, 0, 0));
        expect(await tried.refused(front, "SET_MEM_TABLE", one, [fd])).toBe("EPERM");
      });
      await front.must("SET_MEM_TABLE", table(front), [front.memfd]);
      await expectDisk(front);
    });

    // found by reading: the size was looked at first, and the file sealed after
    test("one that shrinks while it is looked at", async () => {
      using front = await connect();
      const fd = makeMemfd(1 << 20);
      const real = fs.fstatSync;
      const { ino } = fstatSync(fd);
      let isTried = false;
      Object.assign(fs, {
        fstatSync: (...args: Parameters<typeof fstatSync>) => {
          const stat = real(...args);
          if (stat && Number(stat.ino) === ino && !isTried) {
            isTried = true;
            expect(() => ftruncateSync(fd, 0)).toThrow("EPERM");
          }
          return stat;
        },
      });
      syncBuiltinESMExports();
      try {
        const one = joined(u32s(1, 0), u64s(0, 1 << 20, 0, 0));
        await front.must("SET_MEM_TABLE", one, [fd]);
        expect(isTried).toBe(true);
      } finally {
        Object.assign(fs, { fstatSync: real });
        syncBuiltinESMExports();
        closeFd(fd);
      }
    });

    test("holes in it while rings run: zeroes are read, nothing else happens", async () => {
      using front = await connect();
      await front.setMemory();
      const raw = new RawQueue(front, 1);
      await front.attach(raw.queue);
      expect(await raw.isServed()).toBe(true);
      const { guestStart, guestBytes } = front.shared;
      for (let round = 0; round < 50; round++) {
        raw.offer(round % 8);
        raw.kick();
        expect(libc().fallocate(front.memfd, PUNCH_HOLE, 0, guestBytes)).toBe(0);
        await front.must("SET_VRING_ENABLE", u32s(2, round & 1));
      }
      expect(front.shared.bytes[guestStart]).toBe(0);
      await front.must("RESET_DEVICE");
      raw.clear();
      await front.attach(raw.queue);
      expect(await raw.isServed()).toBe(true);
    });

    test("the driver writes all over its own memory while requests run", async () => {
      using front = await connect();
      await front.setMemory();
      const raw = new RawQueue(front, 1, 64);
      await front.attach(raw.queue);
      const { bytes } = front.shared;
      const random = new Random(seedOf("a driver's own memory"));
      for (const end = performance.now() + 1500; performance.now() < end; ) {
        for (let i = 0; i < 5000; i++) {
          const area = [raw.desc, raw.avail, raw.used, raw.data][i & 3] as number;
          bytes[area + random.below(200)] = random.below(256);
        }
        raw.kick();
        await new Promise(setImmediate);
      }
      await front.must("RESET_DEVICE");
      raw.clear();
      await front.attach(raw.queue);
      expect(await raw.isServed()).toBe(true);
    });
  });

  describe('with memory: "any"', () => {
    const serve = () => Served.start({ memory: "any" });

    test("a memfd without seals", async () => {
      await using served = await serve();
      using front = served.connect();
      await front.negotiate(~0n);
      await closing(makeMemfd(0, MFD_CLOEXEC), async (fd) => {
        remap(front, fd);
        await front.must("SET_MEM_TABLE", table(front), [fd]);
        await expectDisk(front);
      });
    });

    test("a file", async () => {
      await using served = await serve();
      using front = served.connect();
      await front.negotiate(~0n);
      await closing(openSync(makeFile(0), "r+"), async (fd) => {
        remap(front, fd);
        await front.must("SET_MEM_TABLE", table(front), [fd]);
        await expectDisk(front);
      });
    });

    test("a file that may only be read is refused; all else is checked as ever", async () => {
      await using served = await serve();
      using front = served.connect();
      await front.negotiate(~0n);
      const one = joined(u32s(1, 0), u64s(0, 4096, 0, 0));
      await closing(openSync(makeFile(4096), "r"), async (fd) => {
        expect(await front.tell("SET_MEM_TABLE", one, [fd])).toBe(false);
        expect((await served.next("refused")).error.code).toBe("EACCES");
      });
      for (const fd of [openSync("/dev/zero", "r+"), openSync(makeFile(4095), "r+")]) {
        await closing(fd, async () => {
          expect(await front.tell("SET_MEM_TABLE", one, [fd])).toBe(false);
          expect((await served.next("refused")).error.code).toBe("EINVAL");
        });
      }
      await front.setMemory();
      await expectDisk(front);
    });

    test("what can be sealed still is", async () => {
      await using served = await serve();
      using front = served.connect();
      await front.negotiate(~0n);
      await closing(makeMemfd(4096, MFD_CLOEXEC | MFD_ALLOW_SEALING), async (fd) => {
        await front.must("SET_MEM_TABLE", joined(u32s(1, 0), u64s(0, 4096, 0, 0)), [fd]);
        expect(() => ftruncateSync(fd, 0)).toThrow("EPERM");
      });
    });
  });
});
