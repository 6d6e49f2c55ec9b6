import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { type FrontEnd, u32s } from "#dist/bench/front-end.js";
import { type BlkOptions, blk } from "#dist/devices/blk.js";
import * as spec from "#dist/spec/virtio-blk.js";
import { VIRTIO_F_INDIRECT_DESC } from "#dist/spec/virtio-config.js";
import { blkSegments, pattern } from "../helpers/blk-raw.js";
import { bit, EVENT_IDX } from "../helpers/raw-guest.js";
import { tempFiles } from "../helpers/temp-file.js";
import { describeVhostUser, QUEUES, Served } from "../helpers/vhost-user.js";
import { FrontDisk, makeIndirectQueue } from "../helpers/vhost-user-disk.js";

const BYTES = 4 << 20;
const CHUNK = 64 << 10;
const INDIRECT = bit(VIRTIO_F_INDIRECT_DESC);
const FLUSH = { type: spec.VIRTIO_BLK_T_FLUSH };
const makeFile = tempFiles();

const device = (options: BlkOptions) => blk({ queues: QUEUES, queueSize: 1024, ...options });
const flushes = (count: number) => Array.from({ length: count }, () => FLUSH);

/** A queue that runs, and a driver at it. */
async function open(front: FrontEnd, index = 0, num = 64, slots = 8, bytes = 4096) {
  return new FrontDisk(front, await front.startQueue(index, num), slots, bytes);
}

describeVhostUser("vhost-user data", () => {
  const ways = ["inline", "uring"] as const;

  test.each(ways)("a file, io %s: what is written arrives, and is read by the next", async (io) => {
    const path = makeFile(BYTES);
    await using served = await Served.start({ device: device({ file: path, io }) });
    const expected = Buffer.alloc(BYTES);
    {
      using front = await served.ready();
      const drives: FrontDisk[] = [];
      for (const i of [0, 1, 2, 3]) drives.push(await open(front, i, 64, 2, CHUNK));
      const order = Array.from({ length: BYTES / CHUNK }, (_, i) => ((i * 37) % 64) * CHUNK);
      await Promise.all(
        drives.map(async (drive, i) => {
          for (const offset of order.filter((_, j) => j % 4 === i)) {
            const bytes = pattern(CHUNK, offset / 4096);
            expected.set(bytes, offset);
            await drive.write(offset, bytes);
          }
          await drive.flush();
        }),
      );
    }
    expect(Buffer.compare(readFileSync(path), expected)).toBe(0);
    const { requests, bytes } = await served.next("disconnected");
    expect(requests).toBe(64 + 4);
    expect(bytes).toBe(64 * (16 + CHUNK + 1) + 4 * 17);
    using front = await served.ready();
    const drive = await open(front, 2, 8, 1, CHUNK);
    for (let offset = 0; offset < BYTES; offset += CHUNK) {
      const read = await drive.read(offset, CHUNK);
      expect(Buffer.compare(read, expected.subarray(offset, offset + CHUNK))).toBe(0);
    }
  });

  test("a disk in memory is kept from one front-end to the next", async () => {
    await using served = await Served.start({ device: device({ memoryBytes: BYTES }) });
    for (let boot = 0; boot < 3; boot++) {
      using front = await served.ready();
      const drive = await open(front, boot);
      for (let i = 0; i < boot; i++) {
        expect(await drive.read(i * 4096, 4096)).toEqual(pattern(4096, i));
      }
      expect(await drive.read(boot * 4096, 4096)).toEqual(new Uint8Array(4096));
      await drive.write(boot * 4096, pattern(4096, boot));
    }
  });

  test("32 queues, each woken by its own kicks", async () => {
    await using served = await Served.start({ device: device({ memoryBytes: BYTES, queues: 32 }) });
    using front = await served.ready();
    const drives: FrontDisk[] = [];
    for (let index = 31; index >= 0; index--) drives.push(await open(front, index, 16, 1, 512));
    for (const [i, drive] of drives.entries()) await drive.write(i * 512, pattern(512, i));
    for (const [i, drive] of drives.entries()) {
      expect(await drive.read((31 - i) * 512, 512)).toEqual(pattern(512, 31 - i));
    }
    await Promise.all(drives.map((drive) => drive.flush()));
  });

  test("nothing: reads and writes succeed and move nothing", async () => {
    await using served = await Served.start({ device: device({ nullBytes: BYTES }) });
    using front = await served.ready();
    const drive = await open(front);
    await drive.write(0, pattern(4096));
    expect(await drive.read(0, 4096)).toEqual(new Uint8Array(4096).fill(0xaa));
  });

  test.each(ways)("each kind of request, and what a disk refuses, io %s", async (io) => {
    const content = pattern(BYTES);
    await using served = await Served.start({ device: device({ file: makeFile(content), io }) });
    using front = await served.ready();
    const drive = await open(front);
    const answer = async (type: number, sector = 0, data?: Uint8Array, length = 0) =>
      (await drive.batch([{ type, sector, length, ...(data && { data }) }]))[0];
    const id = await answer(spec.VIRTIO_BLK_T_GET_ID, 0, undefined, 20);
    expect(id).toMatchObject({ status: 0, used: 21 });
    expect(Buffer.from(id?.data ?? []).toString()).toBe("vhost-wasm\0\0\0\0\0\0\0\0\0\0");
    const zeroes = blkSegments([{ sector: 8, sectors: 8 }]);
    expect(await answer(spec.VIRTIO_BLK_T_WRITE_ZEROES, 0, zeroes)).toMatchObject({ status: 0 });
    expect(await drive.read(4096, 4096)).toEqual(new Uint8Array(4096));
    expect(await answer(spec.VIRTIO_BLK_T_DISCARD, 0, zeroes)).toMatchObject({ status: 0 });
    const last = BYTES / 512 - 1;
    expect(await answer(spec.VIRTIO_BLK_T_IN, last, undefined, 512)).toMatchObject({ status: 0 });
    for (const [type, sector, data, length, status] of [
      [spec.VIRTIO_BLK_T_IN, last, undefined, 1024, spec.VIRTIO_BLK_S_IOERR],
      [spec.VIRTIO_BLK_T_OUT, last + 1, new Uint8Array(512), 0, spec.VIRTIO_BLK_S_IOERR],
      [spec.VIRTIO_BLK_T_OUT, 0, new Uint8Array(511), 0, spec.VIRTIO_BLK_S_IOERR],
      [99, 0, undefined, 512, spec.VIRTIO_BLK_S_UNSUPP],
    ] as const) {
      expect(await answer(type, sector, data, length)).toMatchObject({ status });
    }
    expect(await drive.read(0, 4096)).toEqual(new Uint8Array(content.subarray(0, 4096)));
  });

  test("a read-only disk refuses writes, and says that it is one", async () => {
    const path = makeFile(pattern(BYTES));
    const before = readFileSync(path);
    await using served = await Served.start({ device: device({ file: path, readOnly: true }) });
    using front = await served.ready();
    expect(front.has(spec.VIRTIO_BLK_F_RO)).toBe(true);
    const drive = await open(front);
    const data = new Uint8Array(512);
    const [answer] = await drive.batch([{ type: spec.VIRTIO_BLK_T_OUT, sector: 0, data }]);
    expect(answer).toMatchObject({ status: spec.VIRTIO_BLK_S_IOERR, used: 1 });
    expect(await drive.read(0, 512)).toEqual(new Uint8Array(before.subarray(0, 512)));
  });

  const MATRIX = (["wasm", "ts"] as const).flatMap((ring) =>
    [0n, EVENT_IDX, INDIRECT, EVENT_IDX | INDIRECT].map((accepted) => ({
      ring,
      accepted,
      name: [
        `rings by ${ring}`,
        (accepted & EVENT_IDX) !== 0n && "EVENT_IDX",
        (accepted & INDIRECT) !== 0n && "INDIRECT",
      ]
        .filter(Boolean)
        .join(", "),
    })),
  );

  describe.each(MATRIX)("$name", ({ ring, accepted }) => {
    const features = ~(EVENT_IDX | INDIRECT) | accepted;
    const openAny = async (front: FrontEnd, num: number, slots = 8) => {
      if ((accepted & INDIRECT) === 0n) return open(front, 0, num, slots);
      const queue = makeIndirectQueue(front, 0, num);
      await front.attach(queue);
      return new FrontDisk(front, queue, slots);
    };

    test("bursts of writes and reads, by calls", async () => {
      await using served = await Served.start({ ring });
      using front = await served.ready(features);
      const drive = await openAny(front, 32);
      for (let round = 0; round < 20; round++) {
        const writes = Array.from({ length: 8 }, (_, i) => ({
          type: spec.VIRTIO_BLK_T_OUT,
          sector: ((round * 8 + i) * 8) % 2000,
          data: pattern(4096, round * 8 + i),
        }));
        for (const answer of await drive.batch(writes)) {
          expect([answer.status, answer.used]).toEqual([0, 1]);
        }
        const reads = writes.map(({ sector }) => ({
          type: spec.VIRTIO_BLK_T_IN,
          sector,
          length: 4096,
        }));
        for (const [i, answer] of (await drive.batch(reads)).entries()) {
          expect([answer.status, answer.used]).toEqual([0, 4097]);
          expect(Buffer.compare(answer.data, writes[i]?.data as Uint8Array)).toBe(0);
        }
      }
      expect(served.all("ring-error")).toEqual([]);
    });

    if (ring === "ts" && accepted !== EVENT_IDX) return; // takes long, and shows it once
    test("the indices wrap at 65536", async () => {
      await using served = await Served.start({ ring, pollMicroseconds: 50 });
      using front = await served.ready(features);
      const drive = await openAny(front, 32, 16);
      for (let done = 0; done < 66_000; done += 16) drive.spin(flushes(16));
      expect(served.server.counts?.requests).toBe(66_000);
      const base = await front.ask("GET_VRING_BASE", u32s(0, 0));
      expect(base.getUint32(4, true)).toBe(66_000 & 0xffff);
    });
  });
});
