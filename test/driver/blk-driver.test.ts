// The friendly driver: promises, byte offsets, and refusals at the door.

import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { featureMask } from "#dist/spec/features.js";
import {
  VIRTIO_BLK_F_DISCARD,
  VIRTIO_BLK_F_FLUSH,
  VIRTIO_BLK_F_RO,
  VIRTIO_BLK_F_SEG_MAX,
  VIRTIO_BLK_F_SIZE_MAX,
  VIRTIO_BLK_F_WRITE_ZEROES,
} from "#dist/spec/virtio-blk.js";
import {
  VIRTIO_F_EVENT_IDX,
  VIRTIO_F_IN_ORDER,
  VIRTIO_F_INDIRECT_DESC,
  VIRTIO_F_NOTIFICATION_DATA,
  VIRTIO_F_RING_PACKED,
  VIRTIO_F_VERSION_1,
} from "#dist/spec/virtio-config.js";
import { pattern } from "../helpers/blk-raw.js";
import { openBlk, rejected } from "../helpers/devices.js";
import { bit, MODES } from "../helpers/raw-guest.js";
import { tempFiles } from "../helpers/temp-file.js";

const makeFile = tempFiles();
const MIB = 1 << 20;

describe.each(MODES)("$run, $ring ring", (mode) => {
  test("writes and reads of more than a buffer's worth arrive whole", async () => {
    const file = makeFile(4 * MIB);
    await using disk = await openBlk({ file }, mode);
    const bytes = pattern(3 * MIB + 512);
    await disk.run(disk.drive.write(512n, bytes));
    expect(
      readFileSync(file)
        .subarray(512, 512 + bytes.length)
        .equals(bytes),
    ).toBe(true);
    const back = await disk.run(disk.drive.read(512, bytes.length));
    expect(Buffer.from(back).equals(bytes)).toBe(true);
  });

  test("the id, the size and the features are the disk's", async () => {
    await using disk = await openBlk({ memoryBytes: MIB, id: "tenant a, disk 0" }, mode);
    expect(await disk.run(disk.drive.getId())).toBe("tenant a, disk 0");
    expect(disk.drive.sizeBytes).toBe(MIB);
    const optIn = featureMask(VIRTIO_F_RING_PACKED, VIRTIO_F_IN_ORDER, VIRTIO_F_NOTIFICATION_DATA);
    expect(disk.drive.features).toBe(disk.disk.dev.offeredFeatures & ~optIn);
    expect(disk.drive.isReadOnly).toBe(false);
  });

  test("an id of 20 bytes needs no end mark", async () => {
    await using disk = await openBlk({ memoryBytes: 512, id: "12345678901234567890" }, mode);
    expect(await disk.run(disk.drive.getId())).toBe("12345678901234567890");
  });

  test("a read-only disk: whatever would write is EROFS; reads and flushes go on", async () => {
    await using disk = await openBlk({ memoryBytes: MIB, readOnly: true }, mode);
    const { drive } = disk;
    using buffer = drive.alloc(512);
    expect(drive.isReadOnly).toBe(true);
    await rejected("EROFS", drive.write(0, new Uint8Array(512)));
    await rejected("EROFS", drive.writeFrom(0, buffer));
    await rejected("EROFS", drive.writeZeroes(0, 512));
    await rejected("EROFS", drive.discard(0, 512));
    expect(await disk.run(drive.read(0, 512))).toEqual(new Uint8Array(512));
    await disk.run(drive.flush());
  });

  test("5.2.6: a driver that did not see RO gets the disk's own answer: EIO", async () => {
    const withoutFeatures = [VIRTIO_BLK_F_RO];
    await using disk = await openBlk({ memoryBytes: MIB, readOnly: true }, mode, {
      withoutFeatures,
    });
    await rejected("EIO", disk.run(disk.drive.write(0, new Uint8Array(512))));
    expect(await disk.run(disk.drive.read(0, 512))).toEqual(new Uint8Array(512));
  });

  test.each([
    ["no indirect tables", [VIRTIO_F_INDIRECT_DESC]],
    ["no event index", [VIRTIO_F_EVENT_IDX]],
    ["neither", [VIRTIO_F_INDIRECT_DESC, VIRTIO_F_EVENT_IDX]],
    ["no limits known", [VIRTIO_BLK_F_SIZE_MAX, VIRTIO_BLK_F_SEG_MAX]],
  ])("%s: the same bytes", async (_, withoutFeatures) => {
    await using disk = await openBlk({ memoryBytes: 4 * MIB }, mode, { withoutFeatures });
    for (const number of withoutFeatures) expect(disk.drive.features & bit(number)).toBe(0n);
    const bytes = pattern(1536 * 1024);
    await disk.run(disk.drive.write(512, bytes));
    const back = await disk.run(disk.drive.read(512, bytes.length));
    expect(Buffer.from(back).equals(bytes)).toBe(true);
  });
});

describe("at the door: EINVAL, and the disk is not asked", () => {
  test.each([
    ["an offset inside a sector", 1, 512],
    ["a length inside a sector", 0, 511],
    ["below the disk", -512, 512],
    ["past the end", MIB, 512],
    ["over the end", MIB - 512, 1024],
    ["an unsafe offset", 2n ** 60n, 512],
    ["no number", Number.NaN, 512],
  ])("%s", async (_, offset, length) => {
    await using disk = await openBlk({ memoryBytes: MIB }, { run: "inline" });
    const { drive } = disk;
    using buffer = drive.alloc(2048);
    while (disk.disk.runPending()) {}
    const bytes = new Uint8Array(length);
    await rejected("EINVAL", drive.read(offset, length));
    await rejected("EINVAL", drive.write(offset, bytes));
    await rejected("EINVAL", drive.readInto(offset, buffer, length));
    await rejected("EINVAL", drive.writeFrom(offset, buffer, length));
    await rejected("EINVAL", drive.discard(offset, length));
    await rejected("EINVAL", drive.writeZeroes(offset, length));
    expect(disk.disk.runPending()).toBe(false);
  });

  test("more than the buffer holds", async () => {
    await using disk = await openBlk({ memoryBytes: MIB }, { run: "inline" });
    using buffer = disk.drive.alloc(512);
    await rejected("EINVAL", disk.drive.readInto(0, buffer, 1024));
    await rejected("EINVAL", disk.drive.writeFrom(0, buffer, 1024));
  });

  test("a negative length", async () => {
    await using disk = await openBlk({ memoryBytes: MIB }, { run: "inline" });
    await rejected("EINVAL", disk.drive.read(0, -512));
  });
});

test("nothing to read, write or zero is done without asking the disk", async () => {
  await using disk = await openBlk({ memoryBytes: MIB }, { run: "inline" });
  const { drive } = disk;
  expect(await drive.read(MIB, 0)).toEqual(new Uint8Array(0));
  await drive.write(0, new Uint8Array(0));
  await drive.writeZeroes(0, 0);
  await drive.discard(MIB, 0);
});

test.each([[4], [8], [4, VIRTIO_F_INDIRECT_DESC], [8, VIRTIO_F_INDIRECT_DESC]])(
  "a ring of %i entries reads and writes any length, without feature %s",
  async (queueSize, ...withoutFeatures) => {
    const probe = { queueSize, withoutFeatures };
    await using disk = await openBlk({ memoryBytes: 4 * MIB }, { run: "inline" }, probe);
    const bytes = pattern(2 * MIB + 512);
    await disk.run(disk.drive.write(0, bytes));
    const back = await disk.run(disk.drive.read(0, bytes.length));
    expect(Buffer.from(back).equals(bytes)).toBe(true);
  },
);

test("no discard, no write zeroes: EOPNOTSUPP; no flush: nothing to do", async () => {
  const withoutFeatures = [VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_WRITE_ZEROES, VIRTIO_BLK_F_FLUSH];
  await using disk = await openBlk({ memoryBytes: MIB }, { run: "inline" }, { withoutFeatures });
  await rejected("EOPNOTSUPP", disk.drive.discard(0, 512));
  await rejected("EOPNOTSUPP", disk.drive.writeZeroes(0, 512));
  await disk.drive.flush();
});

test("a driver that leaves VERSION_1 alone is refused, and another can come", async () => {
  await using disk = await openBlk({ memoryBytes: MIB });
  await disk.drive.close();
  const old = disk.disk.driver({ withoutFeatures: [VIRTIO_F_VERSION_1] });
  await rejected("EOPNOTSUPP", old);
  const again = await disk.disk.driver();
  expect(await again.read(0, 512)).toEqual(new Uint8Array(512));
});

test("memory is short: ENOMEM for the one request, and the next goes well", async () => {
  await using disk = await openBlk({ memoryBytes: 8 * MIB }, { run: "inline" });
  const { guest } = disk.disk.dev.sharedMemory;
  const hog = guest.alloc(guest.freeBytes - 4096, 1);
  await rejected("ENOMEM", disk.run(disk.drive.read(0, 8192)));
  expect(await disk.run(disk.drive.read(0, 512))).toEqual(new Uint8Array(512));
  guest.free(hog);
});
