// Discard and write zeroes: segments in the data. virtio 1.3, 5.2.6 Device Operation.

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { blk } from "#dist/index.js";
import {
  VIRTIO_BLK_S_IOERR as IOERR,
  VIRTIO_BLK_S_OK as OK,
  VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP as UNMAP,
  VIRTIO_BLK_S_UNSUPP as UNSUPP,
  VIRTIO_BLK_T_DISCARD,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
  VIRTIO_BLK_T_WRITE_ZEROES,
} from "#dist/spec/virtio-blk.js";
import {
  blkHeader,
  blkPieces,
  blkRequest,
  blkSegments,
  pattern,
  type RawSegment,
} from "../helpers/blk-raw.js";
import { type GuestRing, IO_MODES, RawGuest } from "../helpers/raw-guest.js";
import { tempFiles } from "../helpers/temp-file.js";

const makeFile = tempFiles();
const SECTORS = 4096;
const MAX_SECTORS = 2048; // of one write-zeroes segment, see the configuration space
const FULL = Buffer.from(pattern(512, 4));

describe.each(IO_MODES)("segments: $run, $ring ring, io $io", ({ io, ...mode }) => {
  let guest: RawGuest;
  let ring: GuestRing;
  beforeAll(async () => {
    const bytes = SECTORS * 512;
    const source = io === "uring" ? { file: makeFile(bytes), io } : { memoryBytes: bytes };
    guest = await RawGuest.open(blk(source), mode);
    ring = guest.ring;
  });
  afterAll(() => guest[Symbol.asyncDispose]());

  const fill = (sector: number) => blkRequest(ring, VIRTIO_BLK_T_OUT, sector, FULL);
  const zeroes = async (sector: number) => {
    const { data } = await blkRequest(ring, VIRTIO_BLK_T_IN, sector, undefined, 512);
    return data.every((byte) => byte === 0);
  };
  const send = async (type: number, segments: readonly RawSegment[]) => {
    const answer = await blkRequest(ring, type, 0, blkSegments(segments));
    expect(answer.length).toBe(1);
    return answer.status;
  };

  test.each([0, UNMAP])("5.2.6.2: zeroes are read after WRITE_ZEROES, flags %i", async (flags) => {
    await filled(4, 5, 6, 7, 8);
    const status = await send(VIRTIO_BLK_T_WRITE_ZEROES, [{ sector: 5, sectors: 3, flags }]);
    expect(status).toBe(OK);
    expect(await each([4, 5, 6, 7, 8], zeroes)).toEqual([false, true, true, true, false]);
  });

  test("several segments are done in one request, 16 at most", async () => {
    const sectors = Array.from({ length: 17 }, (_, i) => 100 + i * 2);
    for (const type of [VIRTIO_BLK_T_WRITE_ZEROES, VIRTIO_BLK_T_DISCARD]) {
      await filled(...sectors);
      const segments = sectors.map((sector) => ({ sector, sectors: 1 }));
      expect(await send(type, segments)).toBe(IOERR); // 17
      expect(await each(sectors, zeroes)).not.toContain(true);
      expect(await send(type, segments.slice(0, 16))).toBe(OK);
      expect(await each(sectors.slice(0, 16), zeroes)).not.toContain(false);
      expect(await zeroes(sectors[16] as number)).toBe(false);
    }
  });

  test("data that is no segment, or no whole number of them, is IOERR", async () => {
    await filled(0);
    for (const type of [VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES]) {
      for (const bytes of [0, 1, 15, 17, 24, 512]) {
        const out = new Uint8Array(bytes).fill(0);
        expect((await blkRequest(ring, type, 0, out)).status, `${bytes} bytes`).toBe(IOERR);
      }
    }
    expect(await zeroes(0)).toBe(false);
  });

  test("5.2.6.2: an unknown flag is UNSUPP, and so is unmap on discard", async () => {
    await filled(20, 21);
    for (const flags of [2, 3, 4, 0x8000_0000, 0xffff_ffff]) {
      for (const type of [VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES]) {
        expect(await send(type, [{ sector: 20, sectors: 1, flags }])).toBe(UNSUPP);
      }
    }
    const unmap = { sector: 20, sectors: 1, flags: UNMAP };
    expect(await send(VIRTIO_BLK_T_DISCARD, [unmap])).toBe(UNSUPP);
    expect(await each([20, 21], zeroes)).toEqual([false, false]);
  });

  test("one bad segment among good ones: nothing at all is done", async () => {
    await filled(30, 31, 32);
    const good = [30, 31, 32].map((sector) => ({ sector, sectors: 1 }));
    for (const [bad, status] of [
      [{ sector: SECTORS, sectors: 1 }, IOERR],
      [{ sector: 0, sectors: 1, flags: 2 }, UNSUPP],
    ] as const) {
      for (let at = 0; at <= good.length; at++) {
        const segments: RawSegment[] = [...good];
        segments.splice(at, 0, bad);
        expect(await send(VIRTIO_BLK_T_WRITE_ZEROES, segments)).toBe(status);
        expect(await send(VIRTIO_BLK_T_DISCARD, segments)).toBe(status);
      }
    }
    expect(await each([30, 31, 32], zeroes)).toEqual([false, false, false]);
  });

  test("a segment past the end is IOERR, also where sector and count wrap", async () => {
    const last = SECTORS - 1;
    await filled(last, 0);
    for (const segment of [
      { sector: last, sectors: 2 },
      { sector: SECTORS, sectors: 1 },
      { sector: 0, sectors: SECTORS + 1 },
      { sector: 0, sectors: 0xffff_ffff },
      { sector: 2n ** 55n, sectors: 1 },
      { sector: 2n ** 64n - 1n, sectors: 1 },
      { sector: 2n ** 64n - 1n, sectors: 2 },
    ]) {
      for (const type of [VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES]) {
        expect(await send(type, [segment]), `${segment.sector}`).toBe(IOERR);
      }
    }
    expect(await each([last, 0], zeroes)).toEqual([false, false]);
    expect(await send(VIRTIO_BLK_T_WRITE_ZEROES, [{ sector: last, sectors: 1 }])).toBe(OK);
    expect(await zeroes(last)).toBe(true);
  });

  test("5.2.4: a write-zeroes segment has max_write_zeroes_sectors at most", async () => {
    await filled(MAX_SECTORS - 1, MAX_SECTORS);
    const write = (sectors: number) => send(VIRTIO_BLK_T_WRITE_ZEROES, [{ sector: 0, sectors }]);
    expect(await write(MAX_SECTORS + 1)).toBe(IOERR);
    expect(await zeroes(MAX_SECTORS - 1)).toBe(false);
    expect(await write(MAX_SECTORS)).toBe(OK);
    expect(await each([MAX_SECTORS - 1, MAX_SECTORS], zeroes)).toEqual([true, false]);
  });

  test("a segment of no sectors is done, within the disk", async () => {
    expect(await send(VIRTIO_BLK_T_WRITE_ZEROES, [{ sector: 7, sectors: 0 }])).toBe(OK);
    expect(await send(VIRTIO_BLK_T_DISCARD, [{ sector: SECTORS, sectors: 0 }])).toBe(OK);
    expect(await send(VIRTIO_BLK_T_DISCARD, [{ sector: SECTORS + 1, sectors: 0 }])).toBe(IOERR);
  });

  test("header and segments may be cut into descriptors anyhow", async () => {
    await filled(40, 41);
    const segments = [40, 41].map((sector) => ({ sector, sectors: 1 }));
    const bytes = [blkHeader(VIRTIO_BLK_T_WRITE_ZEROES), blkSegments(segments)];
    const whole = Buffer.concat(bytes);
    const pieces = [whole.subarray(0, 7), whole.subarray(7, 29), whole.subarray(29), 1];
    expect((await blkPieces(ring, pieces)).status).toBe(OK);
    expect(await each([40, 41], zeroes)).toEqual([true, true]);
  });

  /** Sectors one after the other, since answers come in order. */
  async function each<T>(sectors: readonly number[], ask: (sector: number) => Promise<T>) {
    const answers: T[] = [];
    for (const sector of sectors) answers.push(await ask(sector));
    return answers;
  }

  async function filled(...sectors: number[]): Promise<void> {
    await each(sectors, fill);
    expect(await each(sectors, zeroes)).not.toContain(true);
  }
});

test("5.2.6.2: discard and write zeroes on a read-only disk are IOERR", async () => {
  await using guest = await RawGuest.open(blk({ memoryBytes: 4096, readOnly: true }));
  for (const type of [VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_WRITE_ZEROES]) {
    const out = blkSegments([{ sector: 0, sectors: 1 }]);
    expect((await blkRequest(guest.ring, type, 0, out)).status).toBe(IOERR);
  }
});
