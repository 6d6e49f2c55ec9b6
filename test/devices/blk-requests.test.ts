// virtio-blk as a guest's own driver sees it: bytes in descriptors, a status byte back.
// virtio 1.3, 5.2.6 Device Operation.

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { blk } from "#dist/index.js";
import {
  VIRTIO_BLK_S_IOERR,
  VIRTIO_BLK_S_OK,
  VIRTIO_BLK_S_UNSUPP,
  VIRTIO_BLK_T_FLUSH,
  VIRTIO_BLK_T_GET_ID,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
} from "#dist/spec/virtio-blk.js";
import { blkHeader, blkPieces, blkRequest, pattern } from "../helpers/blk-raw.js";
import { type GuestRing, IO_MODES, MODES, RawGuest } from "../helpers/raw-guest.js";
import { tempFiles } from "../helpers/temp-file.js";

const makeFile = tempFiles();
const SECTORS = 64;

describe.each(IO_MODES)("a disk of 64 sectors: $run, $ring ring, io $io", ({ io, ...mode }) => {
  let guest: RawGuest;
  let ring: GuestRing;
  beforeAll(async () => {
    const bytes = SECTORS * 512;
    const source = io === "uring" ? { file: makeFile(bytes), io } : { memoryBytes: bytes };
    guest = await RawGuest.open(blk({ ...source, id: "serial 0815" }), mode);
    ring = guest.ring;
  });
  afterAll(() => guest[Symbol.asyncDispose]());

  const write = (sector: number, bytes: Uint8Array) =>
    blkRequest(ring, VIRTIO_BLK_T_OUT, sector, bytes);
  const read = (sector: number, bytes: number) =>
    blkRequest(ring, VIRTIO_BLK_T_IN, sector, undefined, bytes);

  test("OUT, then IN gives the same bytes; the length counts data and status", async () => {
    const bytes = pattern(1536);
    expect(await write(3, bytes)).toMatchObject({ status: VIRTIO_BLK_S_OK, length: 1 });
    const { status, length, data } = await read(3, 1536);
    expect({ status, length }).toEqual({ status: VIRTIO_BLK_S_OK, length: 1537 });
    expect(data).toEqual(Buffer.from(bytes));
  });

  test("a disk begins as zeroes, and a write touches its own sectors alone", async () => {
    await write(11, new Uint8Array(512).fill(1));
    expect((await read(10, 512)).data).toEqual(Buffer.alloc(512));
    expect((await read(12, 512)).data).toEqual(Buffer.alloc(512));
  });

  test("the last sector can be read and written; past it is IOERR and writes nothing", async () => {
    const last = SECTORS - 1;
    await write(last, pattern(512, 9));
    for (const [sector, bytes] of [
      [last, 1024],
      [SECTORS, 512],
      [2 ** 32, 512],
      [2n ** 55n, 512],
      [2n ** 64n - 1n, 512], // sector + count wraps
      [2n ** 64n - 2n, 1024],
    ] as const) {
      const written = await blkRequest(ring, VIRTIO_BLK_T_OUT, sector, pattern(bytes, 2));
      expect(written.status).toBe(VIRTIO_BLK_S_IOERR);
      const { status } = await blkRequest(ring, VIRTIO_BLK_T_IN, sector, undefined, bytes);
      expect(status).toBe(VIRTIO_BLK_S_IOERR);
    }
    expect(await read(last, 512)).toMatchObject({ status: 0, data: Buffer.from(pattern(512, 9)) });
    expect((await read(0, 512)).data).toEqual(Buffer.alloc(512));
  });

  test("5.2.6.1: data that is no multiple of 512 bytes is IOERR", async () => {
    for (const bytes of [1, 511, 513]) {
      expect((await write(20, pattern(bytes))).status).toBe(VIRTIO_BLK_S_IOERR);
      expect((await read(20, bytes)).status).toBe(VIRTIO_BLK_S_IOERR);
    }
    expect((await read(20, 512)).data).toEqual(Buffer.alloc(512));
  });

  test("no data at all is done at once", async () => {
    expect(await read(0, 0)).toMatchObject({ status: VIRTIO_BLK_S_OK, length: 1 });
    expect(await blkRequest(ring, VIRTIO_BLK_T_OUT, 0)).toMatchObject({ status: VIRTIO_BLK_S_OK });
  });

  test("FLUSH is done", async () => {
    const answer = await blkRequest(ring, VIRTIO_BLK_T_FLUSH, 0);
    expect(answer).toMatchObject({ status: VIRTIO_BLK_S_OK, length: 1 });
  });

  test("GET_ID gives 20 bytes; more room is zeroed, less is IOERR", async () => {
    const id = Buffer.from("serial 0815".padEnd(20, "\0"));
    const getId = (room: number) => blkRequest(ring, VIRTIO_BLK_T_GET_ID, 0, undefined, room);
    expect(await getId(20)).toMatchObject({ status: VIRTIO_BLK_S_OK, length: 21, data: id });
    const roomy = Buffer.concat([id, Buffer.alloc(12)]);
    expect(await getId(32)).toMatchObject({ status: VIRTIO_BLK_S_OK, length: 33, data: roomy });
    expect((await getId(19)).status).toBe(VIRTIO_BLK_S_IOERR);
  });

  test("a type nobody knows is UNSUPP, and nothing is written to the disk", async () => {
    await write(30, pattern(512, 3));
    for (const type of [2, 3, 5, 9, 12, 14, 16, 0x8000_0000, 0xffff_ffff]) {
      const { status } = await blkRequest(ring, type, 30, pattern(512), 512);
      expect(status).toBe(VIRTIO_BLK_S_UNSUPP);
    }
    expect((await read(30, 512)).data).toEqual(Buffer.from(pattern(512, 3)));
  });

  test("2.7.8.2: a used length vouches for bytes written, whatever the status", async () => {
    const room = 512;
    for (const [type, sector, out] of [
      [VIRTIO_BLK_T_IN, SECTORS, 0], // IOERR
      [99, 0, 0], // UNSUPP
      [VIRTIO_BLK_T_OUT, 0, 512], // OK, with room that no OUT needs
      [VIRTIO_BLK_T_OUT, SECTORS, 512],
      [VIRTIO_BLK_T_FLUSH, 0, 0],
    ] as const) {
      const { length, data } = await blkRequest(ring, type, sector, pattern(out), room);
      const untouched = data.subarray(0, Math.min(length, room)).filter((byte) => byte === 0xaa);
      expect(untouched, `type ${type}, length ${length}`).toHaveLength(0);
    }
  });

  test("2.7.4.1: header, data and status may be cut into descriptors anyhow", async () => {
    const bytes = pattern(1024, 5);
    const whole = Buffer.concat([blkHeader(VIRTIO_BLK_T_OUT, 40), bytes]);
    for (const cuts of [[16], [15], [1, 2, 15], [8, 16], [4, 500], [17], [], [16, 527], [1039]]) {
      const ends = [...cuts, whole.length];
      const pieces = ends.map((end, i) => whole.subarray(cuts[i - 1] ?? 0, end));
      expect(await blkPieces(ring, [...pieces, 1])).toMatchObject({ status: 0, length: 1 });
    }
    const header = blkHeader(VIRTIO_BLK_T_IN, 40);
    for (const room of [[1025], [1024, 1], [1, 1024], [512, 513], [3, 1000, 21, 1], [100, 925]]) {
      const answer = await blkPieces(ring, [header, ...room]);
      expect(answer).toMatchObject({ status: 0, length: 1025, data: Buffer.from(bytes) });
    }
    const thirds = [header.subarray(0, 4), header.subarray(4, 9), header.subarray(9)];
    const cut = await blkPieces(ring, [...thirds, 512, 500, 13]);
    expect(cut).toMatchObject({ status: 0, length: 1025, data: Buffer.from(bytes) });
  });

  test("descriptors of no bytes between them change nothing", async () => {
    const none = new Uint8Array(0);
    const out = [none, blkHeader(VIRTIO_BLK_T_OUT, 50), none, pattern(512, 6), none, 0, 1, 0];
    expect(await blkPieces(ring, out)).toMatchObject({ status: 0, length: 1 });
    const answer = await blkPieces(ring, [none, blkHeader(VIRTIO_BLK_T_IN, 50), 0, 512, 0, 1]);
    expect(answer).toMatchObject({ status: 0, length: 513, data: Buffer.from(pattern(512, 6)) });
  });

  test("no whole header, or no status: given back with length 0, and counted", async () => {
    const header = blkHeader(VIRTIO_BLK_T_IN, 0);
    const short = [
      [header], // nowhere to put a status
      [header.subarray(0, 15), 1],
      [header.subarray(0, 8), header.subarray(0, 7), 513],
      [1],
      [513],
      [header, pattern(512)],
      [header, 0],
    ];
    for (const [i, pieces] of short.entries()) {
      const { length, written } = await ring.request(pieces);
      expect(length).toBe(0);
      expect(written.every((byte) => byte === 0xaa)).toBe(true);
      expect(guest.errors()).toEqual({ VRING_E_REQUEST: i + 1 });
    }
    expect(await read(0, 512)).toMatchObject({ status: VIRTIO_BLK_S_OK, length: 513 });
  });
});

describe.each(MODES)("a read-only disk: $run, $ring ring", (mode) => {
  test("5.2.6.2: a write to it is IOERR, and reads, flushes and GET_ID go on", async () => {
    await using guest = await RawGuest.open(blk({ memoryBytes: 4096, readOnly: true }), mode);
    const { ring } = guest;
    const answer = await blkRequest(ring, VIRTIO_BLK_T_OUT, 0, pattern(512));
    expect(answer).toMatchObject({ status: VIRTIO_BLK_S_IOERR, length: 1 });
    const { status, data } = await blkRequest(ring, VIRTIO_BLK_T_IN, 0, undefined, 512);
    expect({ status, data }).toEqual({ status: VIRTIO_BLK_S_OK, data: Buffer.alloc(512) });
    for (const type of [VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_GET_ID]) {
      const { status: other } = await blkRequest(ring, type, 0, undefined, 20);
      expect(other).toBe(VIRTIO_BLK_S_OK);
    }
  });
});

describe.each(MODES)("a disk that is nowhere: $run, $ring ring", (mode) => {
  test("reads and writes succeed and leave the data as it is", async () => {
    await using guest = await RawGuest.open(blk({ nullBytes: 1 << 30 }), mode);
    const { ring } = guest;
    const far = (1 << 21) - 2;
    expect(await blkRequest(ring, VIRTIO_BLK_T_OUT, far, pattern(1024))).toMatchObject({
      status: 0,
    });
    const { data, ...rest } = await blkRequest(ring, VIRTIO_BLK_T_IN, far, undefined, 1024);
    expect(rest).toEqual({ status: VIRTIO_BLK_S_OK, length: 1025 });
    expect(data.every((byte) => byte === 0xaa)).toBe(true);
    const past = await blkRequest(ring, VIRTIO_BLK_T_IN, far + 1, undefined, 1024);
    expect(past.status).toBe(VIRTIO_BLK_S_IOERR);
  });
});
