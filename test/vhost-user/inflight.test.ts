// What is in flight, recorded in memory that the front-end keeps. vhost-user, section "Inflight I/O
// tracking".
import { fstatSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { type FrontEnd, type FrontQueue, makeMemfd, u32s, u64s } from "#dist/bench/front-end.js";
import { signalEventfd } from "#dist/linux/eventfd.js";
import { mapFile } from "#dist/linux/mapping.js";
import { featureMask } from "#dist/spec/features.js";
import {
  INFLIGHT_PACKED_DESCS,
  INFLIGHT_SPLIT_DESCS,
  INFLIGHT_SPLIT_USED_IDX,
} from "#dist/spec/inflight.js";
import { VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT } from "#dist/spec/virtio-blk.js";
import { VIRTIO_F_IN_ORDER, VIRTIO_F_RING_PACKED } from "#dist/spec/virtio-config.js";
import { pattern } from "../helpers/blk-raw.js";
import { describeVhostUser, eventually, joined, QUEUES, Served } from "../helpers/vhost-user.js";
import { FrontDisk } from "../helpers/vhost-user-disk.js";

const PACKED = featureMask(VIRTIO_F_RING_PACKED);
const IN_ORDER = featureMask(VIRTIO_F_IN_ORDER);
const PAGE = 4096;

/** A payload of the two messages, as QEMU sends it. */
const inflight = (
  size: number | bigint,
  offset: number | bigint,
  queues: number,
  entries: number,
) => joined(u64s(size, offset), new Uint8Array(Uint16Array.of(queues, entries, 0, 0).buffer));

/** The area, as the front-end sees it. */
class Area {
  readonly view: DataView;
  readonly bytes: number;

  constructor(
    front: FrontEnd,
    readonly fd: number,
    readonly payload: Uint8Array,
  ) {
    const { size } = fstatSync(fd);
    const at = front.shared.allocGuest(Math.ceil(size / PAGE) * PAGE, PAGE);
    mapFile(front.shared.memory, at, Math.ceil(size / PAGE) * PAGE, fd, 0);
    this.view = new DataView(front.shared.memory.buffer, at, size);
    this.bytes = size;
  }

  /** Asks for one, and hands it back, as QEMU does. */
  static async make(front: FrontEnd, queues: number, entries: number): Promise<Area> {
    const answer = await front.ask("GET_INFLIGHT_FD", inflight(0, 0, queues, entries));
    const payload = new Uint8Array(answer.buffer.slice(0));
    const [fd] = front.received;
    const area = new Area(front, fd as number, payload);
    expect(answer.getBigUint64(0, true)).toBe(BigInt(area.bytes));
    await front.must("SET_INFLIGHT_FD", payload, [area.fd]);
    return area;
  }

  get version(): number {
    return this.view.getUint16(8, true);
  }
}

async function ready(served: Served, optIn = 0n): Promise<FrontEnd> {
  const front = served.connect();
  await front.negotiate(~0n, optIn);
  await front.setMemory();
  return front;
}

/** Adds a write of one sector at each of `sectors`, and no kick. */
function addWrites(front: FrontEnd, { ring, tables }: FrontQueue, sectors: number[]): number[] {
  const heads = sectors.map((sector) => {
    const at = front.shared.allocGuest(1024, 512);
    front.shared.view.setUint32(at, VIRTIO_BLK_T_OUT, true);
    front.shared.view.setBigUint64(at + 8, BigInt(sector), true);
    front.shared.bytes.set(pattern(512, sector), at + 512);
    tables.setIov(0, at, 16);
    tables.setIov(1, at + 512, 512);
    tables.setIov(2, at + 16, 1);
    tables.setChain(0, 0, 2, 1);
    expect(ring.addBufs(1)).toBe(1);
    return tables.head(0);
  });
  ring.publish();
  return heads;
}

/** Takes so many used entries: their heads, in order. */
async function takeUsed({ ring, tables }: FrontQueue, count: number): Promise<number[]> {
  const heads: number[] = [];
  await eventually(() => {
    const got = ring.getBufs(count - heads.length);
    for (let i = 0; i < got; i++) heads.push(tables.head(i));
    return heads.length === count;
  }, "used entries");
  return heads;
}

describeVhostUser("vhost-user: what is in flight", () => {
  describe.each([
    ["split", 0n, INFLIGHT_SPLIT_DESCS],
    ["split, in order", IN_ORDER, INFLIGHT_SPLIT_DESCS],
    ["packed", PACKED, INFLIGHT_PACKED_DESCS],
    ["packed, in order", PACKED | IN_ORDER, INFLIGHT_PACKED_DESCS],
  ])("%s", (_name, optIn, descs) => {
    test("is recorded, and nothing of it when all is done", async () => {
      await using served = await Served.start();
      using front = await ready(served, optIn);
      const area = await Area.make(front, 2, 64);
      const drive = new FrontDisk(front, await front.startQueue(0, 64));
      const requests = Array.from({ length: 8 }, (_, i) => ({
        type: VIRTIO_BLK_T_IN,
        sector: i,
        length: 512,
      }));
      for (let i = 0; i < 20; i++) await drive.batch(requests);
      await front.ask("GET_VRING_BASE", u32s(0, 0));
      expect(area.version).toBe(1);
      const entryBytes = descs;
      for (let i = 0; i < 64; i++) expect(area.view.getUint8(descs + i * entryBytes)).toBe(0);
      const counters = Array.from({ length: 64 }, (_, i) =>
        area.view.getBigUint64(descs + i * entryBytes + 8, true),
      );
      expect(counters.reduce((a, b) => (a > b ? a : b))).toBe(159n);
    });
  });

  test("begins with what was in flight, in the order in which it was popped", async () => {
    await using served = await Served.start();
    using front = await ready(served);
    const area = await Area.make(front, 1, 8);
    const queue = front.makeQueue(0, 8);
    // Three requests were popped, the second one first; used.idx of the last back-end was seen.
    const [first, second] = addWrites(front, queue, [10, 11]) as [number, number];
    const entry = (head: number) => INFLIGHT_SPLIT_DESCS + head * 16;
    area.view.setUint16(10, 8, true);
    area.view.setUint16(INFLIGHT_SPLIT_USED_IDX, 0, true);
    for (const [head, counter] of [
      [first, 9n],
      [second, 5n],
    ] as const) {
      area.view.setUint8(entry(head), 1);
      area.view.setBigUint64(entry(head) + 8, counter, true);
    }
    area.view.setUint16(8, 1, true);
    await front.attach(queue, 0);
    signalEventfd(queue.kickFd);
    expect(await takeUsed(queue, 2)).toEqual([second, first]);
    const [third] = addWrites(front, queue, []).concat(addWrites(front, queue, [12]));
    signalEventfd(queue.kickFd);
    expect(await takeUsed(queue, 1)).toEqual([third]);
    const state = await front.ask("GET_VRING_BASE", u32s(0, 0));
    expect(state.getUint32(4, true)).toBe(3);
    await front.attach(queue, 3);
    const drive = new FrontDisk(front, queue, 1);
    for (const sector of [10, 11, 12]) {
      expect(await drive.read(sector * 512, 512)).toEqual(pattern(512, sector));
    }
  });

  test("an area that says what can't be: told, and the ring does not run", async () => {
    for (const damage of [
      (view: DataView) => view.setUint16(8, 2, true),
      (view: DataView) => view.setUint16(10, 9, true),
      (view: DataView) => view.setUint16(INFLIGHT_SPLIT_USED_IDX, 100, true),
      (view: DataView) => {
        view.setUint16(INFLIGHT_SPLIT_USED_IDX, 0xfffe, true);
        view.setUint16(12, 8, true);
      },
    ]) {
      await using served = await Served.start();
      using front = await ready(served);
      const area = await Area.make(front, 1, 8);
      area.view.setUint16(8, 1, true);
      area.view.setUint16(10, 8, true);
      damage(area.view);
      await front.attach(front.makeQueue(0, 8));
      const { error } = await served.next("ring-unusable");
      expect(error.code).toBe("EINVAL");
    }
  });

  test("a ring larger than its area is not run", async () => {
    await using served = await Served.start();
    using front = await ready(served);
    await Area.make(front, 1, 8);
    await front.attach(front.makeQueue(0, 16));
    expect((await served.next("ring-unusable")).error.code).toBe("EINVAL");
    await front.attach(front.makeQueue(1, 16)); // which the area is not for
    expect(await front.ask("GET_STATUS")).toBeDefined();
  });

  test("areas that can't be are refused", async () => {
    await using served = await Served.start();
    using front = await ready(served);
    const fd = makeMemfd(PAGE);
    for (const [size, offset, queues, entries] of [
      [0, 0, 1, 8],
      [PAGE, 0, 0, 8],
      [PAGE, 0, QUEUES + 1, 8],
      [PAGE, 0, 0xffff, 0xffff],
      [PAGE, 0, 1, 0],
      [PAGE, 0, 1, 32769],
      [PAGE, 0, 1, 1024],
      [PAGE, 4, 1, 8],
      [PAGE, 8, 1, 8],
      [PAGE + 1, 0, 1, 8],
      [(1n << 64n) - 1n, 8, 1, 8],
      [(1n << 63n) - 8n, 8, 1, 8],
      [8, (1n << 64n) - 8n, 1, 8],
    ] as const) {
      const payload = inflight(size, offset, queues, entries);
      expect(await front.tell("SET_INFLIGHT_FD", payload, [fd])).toBe(false);
      expect(await served.next("refused")).toMatchObject({ error: { code: "EINVAL" } });
    }
    expect(await front.tell("SET_INFLIGHT_FD", inflight(PAGE, 0, 1, 8))).toBe(false);
    expect(await front.tell("SET_INFLIGHT_FD", inflight(PAGE, 0, 1, 8), [front.eventfd()])).toBe(
      false,
    );
  });

  test("none is made for queues that there are not", async () => {
    await using served = await Served.start();
    for (const [queues, entries] of [
      [0, 8],
      [QUEUES + 1, 8],
      [1, 0],
      [1, 40000],
    ] as const) {
      using front = await ready(served);
      front.send("GET_INFLIGHT_FD", inflight(0, 0, queues, entries));
      expect(await front.receive()).toBeUndefined();
      await served.idle();
    }
  });

  test("is not on offer with the policy linux", async () => {
    await using served = await Served.start({ policy: "linux" });
    using front = await ready(served);
    expect(front.protocolFeatures & (1n << 12n)).toBe(0n);
    expect(await front.tell("SET_INFLIGHT_FD", inflight(PAGE, 0, 1, 8), [makeMemfd(PAGE)])).toBe(
      false,
    );
  });
});
