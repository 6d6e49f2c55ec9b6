import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { type FrontEnd, makeMemfd, USER_BASE, u32s, u64s } from "#dist/bench/front-end.js";
import { pattern } from "../helpers/blk-raw.js";
import { describeVhostUser, joined } from "../helpers/vhost-user.js";
import { closing, FILE_BYTES, nativeCall, Tried } from "../helpers/vhost-user-bad.js";
import { FrontDisk } from "../helpers/vhost-user-disk.js";

const GIB = 1 << 30;
const TOP = 1n << 64n;
const table = (...regions: Uint8Array[]) => joined(u32s(regions.length, 0), ...regions);
const alone = (region: Uint8Array) => joined(u64s(0), region);

/** Descriptions that hold for no file, each with the code that it is refused by. */
const WRONG: Record<string, [Uint8Array, string]> = {
  "an empty one": [u64s(0, 0, 0, 0), "EINVAL"],
  "past 2^64 for the guest": [u64s(TOP - 4096n, 8192, 0, 0), "EINVAL"],
  "past 2^64 for the front-end": [u64s(0, 8192, TOP - 4096n, 0), "EINVAL"],
  "past 2^64 in the file": [u64s(0, 8192, 0, TOP - 4096n), "EINVAL"],
  "past 2^63 in the file": [u64s(0, 8192, 0, TOP / 2n - 4096n), "EINVAL"],
  "2^64 - 1 bytes": [u64s(0, TOP - 1n, 0, 0), "EINVAL"],
  "2^64 - 1 bytes, from 1": [u64s(1, TOP - 1n, 1, 1), "EINVAL"],
  "2^63 bytes": [u64s(0, TOP / 2n, 0, 0), "ENOMEM"],
  "4 GiB": [u64s(0, 4 * GIB, 0, 0), "ENOMEM"],
  "one byte more than the file": [u64s(0, FILE_BYTES + 1, 0, 0), "EINVAL"],
  "from the end of the file": [u64s(0, 1, 0, FILE_BYTES), "EINVAL"],
  "from one before it": [u64s(0, 2, 0, FILE_BYTES - 1), "EINVAL"],
  "a page from behind it": [u64s(0, 4096, 0, FILE_BYTES + 4096), "EINVAL"],
};

describeVhostUser("vhost-user: bad memory regions", () => {
  let tried: Tried;
  beforeAll(async () => {
    tried = await Tried.start();
  });
  afterEach(() => tried?.isWell());
  afterAll(() => tried?.close());

  /** A front-end with a disk that works before and after. */
  const withDisk = async (use: (front: FrontEnd) => Promise<void>) => {
    await tried.served.idle();
    using front = await tried.served.ready();
    const drive = new FrontDisk(front, await front.startQueue(0, 64));
    await drive.write(0, pattern(512));
    await use(front);
    expect(await drive.read(0, 512)).toEqual(pattern(512));
  };

  test("a refused table changes nothing: rings run on in the old one", async () => {
    await withDisk(async (front) => {
      const memfd = tried.kinds.of("memfd");
      for (const [name, [region, code]] of Object.entries(WRONG)) {
        expect(await tried.refused(front, "SET_MEM_TABLE", table(region), [memfd]), name).toBe(
          code,
        );
        const added = alone(region);
        new DataView(added.buffer).setBigUint64(8, 1n << 50n, true); // not where there is one
        if (/guest|from 1/.test(name)) continue;
        const refusal = await tried.refused(front, "ADD_MEM_REG", added, [memfd]);
        expect(["EINVAL", code], name).toContain(refusal);
      }
    });
  });

  test("counts, bytes and descriptors that do not agree", async () => {
    await withDisk(async (front) => {
      const memfd = tried.kinds.of("memfd");
      const refused = (payload: Uint8Array, fds: number) =>
        tried.refused(front, "SET_MEM_TABLE", payload, new Array(fds).fill(memfd));
      const region = u64s(0, 4096, 0, 0);
      const regions = (count: number) => Array.from({ length: count }, () => region);
      for (const [payload, fds] of [
        [table(), 1],
        [table(region), 0],
        [table(region), 2],
        [table(region), 8],
        [joined(u32s(2, 0), region), 2],
        [joined(u32s(0, 0), region), 0],
        [joined(u32s(1, 0), region, region), 1],
        [joined(u32s(0xffffffff, 0), region), 1],
        [joined(u32s(0x0800_0001, 0), region), 1], // × 32 is a region's bytes, modulo 2^32
        [table(...regions(9)), 8],
        [new Uint8Array(7), 0],
        [table(region).slice(0, 39), 1],
      ] as const) {
        expect(await refused(payload, fds)).toBe("EINVAL");
      }
      for (const fds of [[], [memfd, memfd], tried.kinds.all.slice(0, 8)]) {
        expect(await tried.refused(front, "ADD_MEM_REG", alone(region), fds)).toBe("EINVAL");
      }
      const two = [memfd, memfd];
      expect(await tried.refused(front, "REM_MEM_REG", alone(front.region()), two)).toBe("EINVAL");
    });
  });

  test("regions that overlap, for the guest or for the front-end", async () => {
    await withDisk(async (front) => {
      const memfd = tried.kinds.of("memfd");
      const first = u64s(0x1000_0000, 8192, 0x2000_0000, 0);
      for (const [guest, user, size] of [
        [0x1000_0000, 0x3000_0000, 8192], // the same
        [0x1000_1fff, 0x3000_0000, 4096], // its last byte
        [0x0fff_f001, 0x3000_0000, 4096], // its first byte
        [0x1000_0800, 0x3000_0000, 16], // within
        [0x0f00_0000, 0x3000_0000, FILE_BYTES * 16], // around
        [0x5000_0000, 0x2000_0000, 8192],
        [0x5000_0000, 0x2000_1fff, 1],
        [0x5000_0000, 0x1fff_f001, 4096],
      ] as const) {
        const both = table(first, u64s(guest, size, user, 0));
        expect(await tried.refused(front, "SET_MEM_TABLE", both, [memfd, memfd])).toBe("EINVAL");
        await front.must("ADD_MEM_REG", alone(first), [memfd]);
        const added = alone(u64s(guest, size, user, 0));
        expect(await tried.refused(front, "ADD_MEM_REG", added, [memfd])).toBe("EINVAL");
        await front.must("REM_MEM_REG", alone(first));
      }
      const adjoining = alone(
        u64s(front.shared.toGuest(front.shared.guestStart) - 4096n, 4096, 0, 0),
      );
      await front.must("ADD_MEM_REG", adjoining, [memfd]);
      await front.must("REM_MEM_REG", adjoining);
    });
  });

  test("descriptors that are no memory", async () => {
    await withDisk(async (front) => {
      const { kinds } = tried;
      const region = u64s(1n << 50n, 4096, 0, 0);
      for (const kind of kinds.not("memfd")) {
        const fds = [kinds.of(kind)];
        expect(await tried.refused(front, "SET_MEM_TABLE", table(region), fds), kind).toBe(
          "EINVAL",
        );
        expect(await tried.refused(front, "ADD_MEM_REG", alone(region), fds), kind).toBe("EINVAL");
        const good = [kinds.of("memfd"), ...fds];
        const two = table(u64s(1n << 51n, 4096, 8192, 0), region);
        expect(await tried.refused(front, "SET_MEM_TABLE", two, good), kind).toBe("EINVAL");
      }
    });
  });

  describe("4 GiB together", () => {
    test("as much as fits is taken, and a page more is not", async () => {
      await tried.served.idle();
      using front = tried.served.connect();
      await front.negotiate(0n);
      await closing(makeMemfd(5 * GIB), async (fd) => {
        const set = (...regions: Uint8Array[]): [Uint8Array, number[]] => [
          table(...regions),
          regions.map(() => fd),
        ];
        const most = 4 * GIB - (8 << 20) - (64 << 10);
        await front.must("SET_MEM_TABLE", ...set(u64s(0, most, 0, 0)));
        const more = most + 4096;
        const [payload, fds] = set(u64s(0, more, 0, 0));
        expect(await tried.refused(front, "SET_MEM_TABLE", payload, fds)).toBe("ENOMEM");
        const halves = [0, 1].map((i) => u64s(i * 4 * GIB, 2.5 * GIB, i * 4 * GIB, 0));
        const [twice, both] = set(...halves);
        expect(await tried.refused(front, "SET_MEM_TABLE", twice, both)).toBe("ENOMEM");
        const added = alone(u64s(8 * GIB, 4096, 8 * GIB, 0));
        expect(await tried.refused(front, "ADD_MEM_REG", added, [fd])).toBe("ENOMEM");
        // an offset that no number of JavaScript holds to the byte, were it not a whole page
        await front.must("SET_MEM_TABLE", ...set(u64s(0, GIB, 0, 4 * GIB)));
      });
    });

    test("regions that only rounding makes too large are refused whole", async () => {
      await tried.served.idle();
      using front = tried.served.connect();
      await front.negotiate(0n);
      await closing(makeMemfd(5 * GIB), async (fd) => {
        const most = 4 * GIB - (8 << 20) - (64 << 10);
        const odd = table(u64s(0, most, 0, 4095));
        expect(await tried.refused(front, "SET_MEM_TABLE", odd, [fd])).toBe("ENOMEM");
        const half = most / 2;
        const two = table(u64s(0, half, 0, 4095), u64s(4 * GIB, half, 4 * GIB, 8191));
        expect(await tried.refused(front, "SET_MEM_TABLE", two, [fd, fd])).toBe("ENOMEM");
        await front.must("SET_MEM_TABLE", table(u64s(0, most, 0, 0)), [fd]);
      });
    });
  });

  test("a file of 2^62 bytes, far within it", async () => {
    await tried.served.idle();
    using front = tried.served.connect();
    await front.negotiate(0n);
    const fd = makeMemfd(0);
    await closing(fd, async () => {
      const size = 1n << 62n;
      expect(nativeCall("int ftruncate(int fd, int64_t length)")(fd, size)).toBe(0);
      const region = u64s(0, 65536, USER_BASE, size - 65536n);
      await front.must("SET_MEM_TABLE", table(region), [fd]);
    });
  });
});
