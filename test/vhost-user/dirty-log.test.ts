// The pages that a device writes, marked in a log that the front-end shares. vhost-user, section
// "Migration".
import { describe, expect, test } from "vitest";
import { type FrontEnd, type FrontQueue, makeMemfd, u64s } from "#dist/bench/front-end.js";
import { blk } from "#dist/index.js";
import { signalEventfd } from "#dist/linux/eventfd.js";
import { mapFile } from "#dist/linux/mapping.js";
import { featureMask } from "#dist/spec/features.js";
import { VHOST_USER_F_PROTOCOL_FEATURES } from "#dist/spec/vhost-user.js";
import { VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT } from "#dist/spec/virtio-blk.js";
import { VIRTIO_F_RING_PACKED } from "#dist/spec/virtio-config.js";
import { blkHeader } from "../helpers/blk-raw.js";
import { LOG_ALL } from "../helpers/raw-guest.js";
import { tempFiles } from "../helpers/temp-file.js";
import { describeVhostUser, eventually, Served } from "../helpers/vhost-user.js";
import { FrontDisk } from "../helpers/vhost-user-disk.js";

const makeFile = tempFiles();

const PAGE = 4096;
const BIT30 = featureMask(VHOST_USER_F_PROTOCOL_FEATURES);
const PACKED = featureMask(VIRTIO_F_RING_PACKED);

/** A log of the front-end's, as both sides see it. */
class Log {
  readonly fd: number;
  readonly #bytes: Uint8Array;

  constructor(
    front: FrontEnd,
    readonly sizeBytes: number,
    readonly offset = 0,
  ) {
    this.fd = makeMemfd(offset + sizeBytes);
    const at = front.shared.allocGuest(Math.ceil((offset + sizeBytes) / PAGE) * PAGE, PAGE);
    mapFile(front.shared.memory, at, Math.ceil((offset + sizeBytes) / PAGE) * PAGE, this.fd, 0);
    this.#bytes = front.shared.bytes.subarray(at + offset, at + offset + sizeBytes);
  }

  /** The pages that are marked; none is, after it. */
  take(): number[] {
    const pages = [...this.#bytes].flatMap((byte, at) =>
      [0, 1, 2, 3, 4, 5, 6, 7].filter((n) => byte & (1 << n)).map((n) => at * 8 + n),
    );
    this.#bytes.fill(0);
    return pages;
  }

  payload(): Uint8Array {
    return u64s(this.sizeBytes, this.offset);
  }
}

/** Pages of guest memory that `bytes` bytes at a linear address touch. */
function pagesOf(front: FrontEnd, linear: number, bytes: number): number[] {
  const first = Number(front.shared.toGuest(linear) / BigInt(PAGE));
  const last = Number(front.shared.toGuest(linear + bytes - 1) / BigInt(PAGE));
  return Array.from({ length: last - first + 1 }, (_, i) => first + i);
}

const sorted = (...lists: number[][]) => [...new Set(lists.flat())].sort((a, b) => a - b);

/** Bytes of a log for all of the front-end's memory. */
const logBytes = ({ shared }: FrontEnd) =>
  Number(shared.toGuest(shared.guestStart + shared.guestBytes) / BigInt(PAGE) / 8n) + 1;

/** One request with each of its parts on pages of its own. */
class Spread {
  readonly header: number;
  readonly data: number;
  readonly status: number;

  constructor(
    readonly front: FrontEnd,
    readonly queue: FrontQueue,
    readonly dataBytes: number,
  ) {
    this.header = front.shared.allocGuest(16, PAGE);
    this.data = front.shared.allocGuest(dataBytes, PAGE);
    this.status = front.shared.allocGuest(1, PAGE);
  }

  async run(type: number): Promise<void> {
    const { tables, ring, kickFd } = this.queue;
    const { bytes } = this.front.shared;
    bytes.set(blkHeader(type, 0), this.header);
    bytes[this.status] = 0xff;
    tables.setIov(0, this.header, 16);
    tables.setIov(1, this.data, this.dataBytes);
    tables.setIov(2, this.status, 1);
    tables.setChain(0, 0, type === VIRTIO_BLK_T_IN ? 1 : 2, type === VIRTIO_BLK_T_IN ? 2 : 1);
    expect(ring.addBufs(1)).toBe(1);
    ring.publish();
    signalEventfd(kickFd);
    await eventually(() => ring.getBufs(1) === 1, "the answer");
    expect(bytes[this.status]).toBe(0);
  }
}

interface Logged {
  front: FrontEnd;
  log: Log;
  queue: FrontQueue;
}

interface Wish {
  optIn?: bigint;
  /** Whether the ring itself is logged. */
  ring?: boolean;
  sizeBytes?: number;
  offset?: number;
}

/** A front-end in the middle of a migration, with one queue. */
async function logged(served: Served, wish: Wish = {}): Promise<Logged> {
  const front = served.connect();
  await front.negotiate(~0n, wish.optIn);
  await front.setMemory();
  const log = new Log(front, wish.sizeBytes ?? logBytes(front), wish.offset);
  front.send("SET_LOG_BASE", log.payload(), [log.fd]);
  expect((await front.receive())?.payload.getBigUint64(0, true)).toBe(0n);
  await front.must("SET_FEATURES", u64s(front.features | BIT30 | LOG_ALL));
  const queue = front.makeQueue(0, 64);
  await front.attach(queue);
  if (wish.ring) {
    const device = front.shared.toGuest(queue.areas.device);
    await front.must("SET_VRING_ADDR", front.vringAddress(queue, device));
  }
  return { front, log, queue };
}

describeVhostUser("vhost-user: the dirty log", () => {
  describe.each([
    ["split", 0n, "inline"],
    ["packed", PACKED, "inline"],
    ["split", 0n, "uring"],
    ["packed", PACKED, "uring"],
  ] as const)("%s", (_name, optIn, io) => {
    const disk = () => blk({ file: makeFile(1 << 20), io });

    test(`has the pages of what was read into, and no others, io ${io}`, async () => {
      await using served = await Served.start({ device: disk() });
      const { front, log, queue } = await logged(served, { optIn });
      const spread = new Spread(front, queue, 3 * PAGE);
      log.take();
      await spread.run(VIRTIO_BLK_T_IN);
      const written = sorted(
        pagesOf(front, spread.data, 3 * PAGE),
        pagesOf(front, spread.status, 1),
      );
      expect(log.take()).toEqual(written);
      await spread.run(VIRTIO_BLK_T_OUT);
      expect(log.take()).toEqual(pagesOf(front, spread.status, 1));
      front.close();
    });

    test(`has the ring's pages, too, where that is asked for, io ${io}`, async () => {
      await using served = await Served.start({ device: disk() });
      const { front, log, queue } = await logged(served, { optIn, ring: true });
      const { desc, device } = queue.areas;
      const spread = new Spread(front, queue, 512);
      log.take();
      for (let i = 0; i < 100; i++) await spread.run(VIRTIO_BLK_T_OUT);
      await front.ask("GET_VRING_BASE", new Uint8Array(8));
      const ring = optIn === PACKED ? pagesOf(front, desc, 64 * 16) : [];
      const written = sorted(pagesOf(front, spread.status, 1), pagesOf(front, device, 4), ring);
      expect(log.take()).toEqual(written);
      front.close();
    });
  });

  test("begins anywhere in its file", async () => {
    await using served = await Served.start();
    const { front, log, queue } = await logged(served, { offset: 4096 + 77 });
    const spread = new Spread(front, queue, 512);
    await spread.run(VIRTIO_BLK_T_IN);
    expect(log.take()).toEqual(
      sorted(pagesOf(front, spread.data, 512), pagesOf(front, spread.status, 1)),
    );
    front.close();
  });

  test("ends with LOG_ALL, without which nothing is marked", async () => {
    await using served = await Served.start();
    const { front, log, queue } = await logged(served, { ring: true });
    await front.must("SET_FEATURES", u64s((front.features & ~LOG_ALL) | BIT30));
    await front.must("SET_VRING_ADDR", front.vringAddress(queue));
    log.take();
    const spread = new Spread(front, queue, 512);
    await spread.run(VIRTIO_BLK_T_IN);
    expect(log.take()).toEqual([]);
    front.close();
  });

  test("that is too short for a page is told, and the request is done", async () => {
    await using served = await Served.start();
    const { front, queue } = await logged(served, { sizeBytes: 64 });
    await new Spread(front, queue, 512).run(VIRTIO_BLK_T_IN);
    expect((await served.next("ring-error")).errors).toHaveProperty("VRING_E_LOG");
    front.close();
  });

  test("that can't be ends the connection, and leaves nothing behind", async () => {
    await using served = await Served.start();
    for (const [size, offset] of [
      [0n, 0n],
      [4097n, 0n],
      [4096n, 1n],
      [1n, (1n << 64n) - 1n],
      [(1n << 64n) - 1n, 1n],
      [(1n << 63n) - 1n, 1n],
      [1n << 40n, 0n],
    ] as const) {
      const front = served.connect();
      await front.negotiate(~0n);
      const fd = makeMemfd(4096);
      front.send("SET_LOG_BASE", u64s(size, offset), [fd]);
      expect(await front.receive()).toBeUndefined();
      expect(await served.next("refused")).toMatchObject({ request: "SET_LOG_BASE" });
      front.close();
      await served.idle();
    }
  });

  test("is replaced by another, while requests go on", async () => {
    await using served = await Served.start();
    const { front, log, queue } = await logged(served);
    const drive = new FrontDisk(front, queue, 1);
    const other = new Log(front, logBytes(front));
    await drive.read(0, 512);
    front.send("SET_LOG_BASE", other.payload(), [other.fd]);
    await front.receive();
    expect(log.take().length).toBeGreaterThan(0);
    await drive.read(0, 512);
    expect(log.take()).toEqual([]);
    expect(other.take().length).toBeGreaterThan(0);
    front.close();
  });
});
