// When a write is stable: a back-end that counts flushes. virtio 1.3, 5.2.5.2, 5.2.6.2.

import { describe, expect, test } from "vitest";
import {
  VIRTIO_BLK_S_IOERR as IOERR,
  VIRTIO_BLK_S_OK as OK,
  VIRTIO_BLK_F_CONFIG_WCE,
  VIRTIO_BLK_F_FLUSH,
  VIRTIO_BLK_T_DISCARD,
  VIRTIO_BLK_T_FLUSH,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
  VIRTIO_BLK_T_WRITE_ZEROES,
  VIRTIO_BLK_CONFIG_WRITEBACK as WRITEBACK,
} from "#dist/spec/virtio-blk.js";
import { blkRequest, blkSegments, pattern } from "../helpers/blk-raw.js";
import { custom } from "../helpers/devices.js";
import { bit, MODES, RawGuest, VERSION_1 } from "../helpers/raw-guest.js";

const FLUSH = bit(VIRTIO_BLK_F_FLUSH);
const WCE = bit(VIRTIO_BLK_F_CONFIG_WCE);

/** A disk with a counting back-end, under the features a driver accepted. */
async function open(features: bigint, mode = MODES[2]) {
  const words = new Int32Array(new SharedArrayBuffer(12));
  const spec = custom("countingBlk", { sizeBytes: 1 << 20, words: words.buffer });
  const guest = await RawGuest.open(spec, { ...mode, features: VERSION_1 | features });
  let before = 0;
  return {
    guest,
    words,
    [Symbol.asyncDispose]: () => guest[Symbol.asyncDispose](),
    /** Flushes since the last question. */
    flushes: () => {
      const count = Atomics.load(words, 0);
      const since = count - before;
      before = count;
      return since;
    },
    /** The `writeback` field. */
    writeback: async () => (await guest.dev.readConfig())[WRITEBACK],
    setWriteback: (value: number) => guest.dev.writeConfig(WRITEBACK, Uint8Array.of(value)),
    write: () => blkRequest(guest.ring, VIRTIO_BLK_T_OUT, 1, pattern(512)),
  };
}

const segment = blkSegments([{ sector: 0, sectors: 1 }]);

describe.each(MODES)("$run, $ring ring", (mode) => {
  test("5.2.6.2, case 1: neither FLUSH nor CONFIG_WCE: every write is flushed first", async () => {
    await using disk = await open(0n, mode);
    expect((await disk.write()).status).toBe(OK);
    expect(disk.flushes()).toBe(1);
    await blkRequest(disk.guest.ring, VIRTIO_BLK_T_WRITE_ZEROES, 0, segment);
    expect(disk.flushes()).toBe(1);
    await blkRequest(disk.guest.ring, VIRTIO_BLK_T_IN, 0, undefined, 512);
    expect(disk.flushes()).toBe(0);
  });

  test("5.2.6.2, case 3: with FLUSH a write is volatile until the driver flushes", async () => {
    await using disk = await open(FLUSH, mode);
    await disk.write();
    await blkRequest(disk.guest.ring, VIRTIO_BLK_T_WRITE_ZEROES, 0, segment);
    expect(disk.flushes()).toBe(0);
    expect((await blkRequest(disk.guest.ring, VIRTIO_BLK_T_FLUSH, 0)).status).toBe(OK);
    expect(disk.flushes()).toBe(1);
  });

  test("5.2.6.2, case 2: with CONFIG_WCE the driver switches by `writeback`", async () => {
    await using disk = await open(FLUSH | WCE, mode);
    expect(await disk.writeback()).toBe(1);
    await disk.write();
    expect(disk.flushes()).toBe(0);
    await disk.setWriteback(0);
    expect(await disk.writeback()).toBe(0);
    expect(disk.flushes()).toBe(1); // what was written before becomes stable with the switch
    await disk.write();
    expect(disk.flushes()).toBe(1);
    await disk.setWriteback(1);
    await disk.write();
    expect([await disk.writeback(), disk.flushes()]).toEqual([1, 0]);
  });
});

test("5.2.5.2: CONFIG_WCE without FLUSH: writeback begins as 0", async () => {
  await using disk = await open(WCE);
  expect(await disk.writeback()).toBe(0);
  await disk.write();
  expect(disk.flushes()).toBe(1);
});

test("5.2.5.1: without CONFIG_WCE a write to `writeback` is not heard", async () => {
  await using disk = await open(FLUSH);
  await disk.setWriteback(0);
  await disk.write();
  expect(disk.flushes()).toBe(0);
});

test("a write to another field, or beyond the fields, changes nothing", async () => {
  await using disk = await open(FLUSH | WCE);
  const before = await disk.guest.dev.readConfig();
  for (const [offset, bytes] of [
    [0, 32],
    [WRITEBACK + 1, 27],
    [60, 8],
    [1000, 1],
    [WRITEBACK, 0],
  ] as const) {
    await disk.guest.dev.writeConfig(offset, new Uint8Array(bytes));
  }
  expect(await disk.guest.dev.readConfig()).toEqual(before);
  expect(disk.flushes()).toBe(0);
  await disk.guest.dev.writeConfig(WRITEBACK - 2, new Uint8Array(4)); // a wide write reaches it
  expect(await disk.writeback()).toBe(0);
});

test("a stop and a start keep the cache mode: the driver was not asked", async () => {
  await using disk = await open(FLUSH | WCE);
  await disk.setWriteback(0);
  await disk.guest.dev.stop();
  await disk.guest.dev.start();
  expect(await disk.writeback()).toBe(0);
  expect(disk.flushes()).toBe(1);
  await disk.write();
  expect(disk.flushes()).toBe(1);
});

test("2.4.1: after a reset the cache mode is as it was first", async () => {
  await using disk = await open(FLUSH | WCE);
  await disk.setWriteback(0);
  await disk.guest.dev.reset();
  expect(await disk.writeback()).toBe(1);
});

describe("a back-end that fails", () => {
  test("turns every request into IOERR and the disk lives on", async () => {
    await using disk = await open(FLUSH, MODES[0]);
    const { ring } = disk.guest;
    await disk.write();
    Atomics.store(disk.words, 1, 1);
    const statuses = [
      await disk.write(),
      await blkRequest(ring, VIRTIO_BLK_T_IN, 0, undefined, 512),
      await blkRequest(ring, VIRTIO_BLK_T_FLUSH, 0),
      await blkRequest(ring, VIRTIO_BLK_T_DISCARD, 0, segment),
      await blkRequest(ring, VIRTIO_BLK_T_WRITE_ZEROES, 0, segment),
    ].map(({ status }) => status);
    expect(statuses).toEqual([IOERR, IOERR, IOERR, IOERR, IOERR]);
    Atomics.store(disk.words, 1, 0);
    const { status, data } = await blkRequest(ring, VIRTIO_BLK_T_IN, 1, undefined, 512);
    expect({ status, data }).toEqual({ status: OK, data: Buffer.from(pattern(512)) });
  });

  test("a read that failed gives no bytes that lay in the buffer before", async () => {
    await using disk = await open(FLUSH);
    Atomics.store(disk.words, 1, 1);
    const { data, length } = await blkRequest(disk.guest.ring, VIRTIO_BLK_T_IN, 0, undefined, 512);
    expect(data.subarray(0, length)).toEqual(Buffer.alloc(512));
  });

  test("a write-through write whose flush fails is IOERR", async () => {
    await using disk = await open(0n);
    Atomics.store(disk.words, 1, 1);
    expect((await disk.write()).status).toBe(IOERR);
  });
});

test.each(MODES)("the back-end is closed once, with the device: $run, $ring", async (mode) => {
  const disk = await open(0n, mode);
  await disk.guest.dev.reset();
  expect(Atomics.load(disk.words, 2)).toBe(0);
  await disk.guest.dev.close();
  await disk.guest.dev.close();
  expect(Atomics.load(disk.words, 2)).toBe(1);
});
