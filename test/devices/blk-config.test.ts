// What a disk says of itself. virtio 1.3, 5.2.3 Feature bits, 5.2.4 Device configuration layout.

import { describe, expect, test } from "vitest";
import { type BlkOptions, blk, Kernel } from "#dist/index.js";
import {
  VIRTIO_BLK_F_CONFIG_WCE,
  VIRTIO_BLK_F_DISCARD,
  VIRTIO_BLK_F_FLUSH,
  VIRTIO_BLK_F_MQ,
  VIRTIO_BLK_F_RO,
  VIRTIO_BLK_F_WRITE_ZEROES,
} from "#dist/spec/virtio-blk.js";
import { custom } from "../helpers/devices.js";
import { refused } from "../helpers/kernel-counts.js";
import { bit } from "../helpers/raw-guest.js";

const size = { memoryBytes: 1 << 20 };

async function inspect(options: BlkOptions) {
  const process = new Kernel().spawn();
  await using disk = await process.open(blk(options), { run: "inline" });
  const bytes = await disk.dev.readConfig();
  return { features: disk.dev.offeredFeatures, info: disk.dev.info, bytes };
}

/** Bytes in hex, in the groups of the fields of struct virtio_blk_config. */
function fields(bytes: Uint8Array): string[] {
  const ends = [8, 12, 16, 20, 24, 25, 26, 28, 32, 33, 34, 36, 40, 44, 48, 52, 56, 57, 60];
  return ends.map((end, i) => Buffer.from(bytes.subarray(ends[i - 1] ?? 0, end)).toString("hex"));
}

test("5.2.4: the configuration space, byte by byte", async () => {
  const { bytes } = await inspect({ memoryBytes: 0x12345 * 512, queues: 3, queueSize: 128 });
  expect(fields(bytes)).toEqual([
    "4523010000000000", // capacity: 0x12345 sectors
    "00000100", // size_max: 64 KiB
    "7e000000", // seg_max: 126
    "00000000", // geometry: not offered
    "00020000", // blk_size: 512
    "03", // physical_block_exp: 4 KiB
    "00", // alignment_offset
    "0100", // min_io_size: 1 block
    "08000000", // opt_io_size: 8 blocks
    "01", // writeback
    "00", // unused0
    "0300", // num_queues
    "00200000", // max_discard_sectors: 8192
    "10000000", // max_discard_seg: 16
    "08000000", // discard_sector_alignment: 8
    "00080000", // max_write_zeroes_sectors: 2048
    "10000000", // max_write_zeroes_seg: 16
    "00", // write_zeroes_may_unmap: unmapping frees nothing
    "000000", // unused1
  ]);
  expect(bytes).toHaveLength(60);
});

test("a large disk has more sectors than 32 bits hold", async () => {
  const { bytes } = await inspect({ nullBytes: 2 ** 42 });
  expect(fields(bytes)[0]).toBe("0000000002000000");
});

test("a queue of one or two entries still offers one segment", async () => {
  for (const queueSize of [1, 2]) {
    const { bytes } = await inspect({ ...size, queueSize });
    expect(fields(bytes)[2]).toBe("01000000");
  }
});

describe("5.2.3: what is offered", () => {
  const has = (features: bigint, number: number) => (features & bit(number)) !== 0n;

  test("a writable disk: FLUSH with CONFIG_WCE, DISCARD, WRITE_ZEROES, not RO", async () => {
    const { features } = await inspect(size);
    for (const number of [
      VIRTIO_BLK_F_FLUSH,
      VIRTIO_BLK_F_CONFIG_WCE,
      VIRTIO_BLK_F_DISCARD,
      VIRTIO_BLK_F_WRITE_ZEROES,
    ]) {
      expect(has(features, number), `bit ${number}`).toBe(true);
    }
    expect(has(features, VIRTIO_BLK_F_RO)).toBe(false);
  });

  test("a read-only disk: RO, and nothing that writes", async () => {
    const { features } = await inspect({ ...size, readOnly: true });
    expect(has(features, VIRTIO_BLK_F_RO)).toBe(true);
    for (const number of [
      VIRTIO_BLK_F_CONFIG_WCE,
      VIRTIO_BLK_F_DISCARD,
      VIRTIO_BLK_F_WRITE_ZEROES,
    ]) {
      expect(has(features, number), `bit ${number}`).toBe(false);
    }
  });

  test("MQ with several queues alone", async () => {
    expect(has((await inspect(size)).features, VIRTIO_BLK_F_MQ)).toBe(false);
    const { features, info } = await inspect({ ...size, queues: 32 });
    expect(has(features, VIRTIO_BLK_F_MQ)).toBe(true);
    expect(info).toMatchObject({ deviceId: 2, queueCount: 32, queueSizeMax: 256 });
  });
});

describe("options that make no disk: EINVAL at the door", () => {
  const bad: [string, unknown][] = [
    ["no source", {}],
    ["two sources", { memoryBytes: 512, nullBytes: 512 }],
    ["a file and a size", { file: "/tmp/x", memoryBytes: 512 }],
    ["a file that is no path", { file: 3 }],
    ["size 0", { memoryBytes: 0 }],
    ["a negative size", { memoryBytes: -512 }],
    ["no whole sectors", { nullBytes: 513 }],
    ["a size in text", { memoryBytes: "512" }],
    ["an unsafe size", { nullBytes: 2 ** 60 }],
    ["no queue", { nullBytes: 512, queues: 0 }],
    ["33 queues", { nullBytes: 512, queues: 33 }],
    ["half a queue", { nullBytes: 512, queues: 1.5 }],
    ["a queue of 3", { nullBytes: 512, queueSize: 3 }],
    ["a queue of 0", { nullBytes: 512, queueSize: 0 }],
    ["a queue of 65536", { nullBytes: 512, queueSize: 65536 }],
    ["an id of 21 bytes", { nullBytes: 512, id: "x".repeat(21) }],
    ["an id of 7 signs and 21 bytes", { nullBytes: 512, id: "€".repeat(7) }],
  ];
  test.each(bad)("%s", (_, options) => {
    refused("EINVAL", () => blk(options as BlkOptions));
  });
});

test("a device module with no queues, or more than 32: open rejects, nothing is kept", async () => {
  for (const how of ["noQueues", "tooManyQueues"]) {
    const kernel = new Kernel();
    const process = kernel.spawn({ uid: 1000 });
    await expect(process.open(custom(how), { run: "inline" })).rejects.toMatchObject({
      code: "EINVAL",
    });
    expect(kernel.model.ucounts.nproc(1000)).toBe(1);
  }
});
