// Packed queues as drivers set them up and fill them. virtio 1.3, 2.8.11, 2.8.17, 2.8.19.

import { describe, expect, test } from "vitest";
import { BlkDriver } from "#dist/driver/blk.js";
import { CustomDriver } from "#dist/driver/custom.js";
import type { ProbeOptions } from "#dist/driver/probe.js";
import type { Transport } from "#dist/driver/transport.js";
import { blk } from "#dist/index.js";
import { VIRTIO_BLK_CONFIG_SEG_MAX, VIRTIO_BLK_CONFIG_SIZE_MAX } from "#dist/spec/virtio-blk.js";
import { VIRTIO_F_INDIRECT_DESC } from "#dist/spec/virtio-config.js";
import {
  VIRTQ_DESC_F_INDIRECT as INDIRECT,
  VIRTQ_DESC_F_NEXT as NEXT,
  PVIRTQ_DESC_FLAGS,
  VIRTQ_DESC_BYTES,
  VIRTQ_DESC_LEN,
} from "#dist/spec/virtio-ring.js";
import { rejected } from "../helpers/devices.js";
import { isMarked } from "../helpers/packed-peers.js";
import { openPlayed, type PlayedRing } from "../helpers/played-device.js";
import { KINDS } from "../helpers/split-pair.js";

const SEG_MAX = 2;
const SIZE_MAX = 512;

/** A disk's driver that is told of smaller requests than the queue would hold. */
function probeSmall(transport: Transport, options: ProbeOptions): Promise<BlkDriver> {
  const readConfig = transport.readConfig.bind(transport);
  transport.readConfig = async () => {
    const config = (await readConfig()).slice();
    const view = new DataView(config.buffer);
    view.setUint32(VIRTIO_BLK_CONFIG_SEG_MAX, SEG_MAX, true);
    view.setUint32(VIRTIO_BLK_CONFIG_SIZE_MAX, SIZE_MAX, true);
    return config;
  };
  return BlkDriver.probe(transport, options);
}

/** What is available on a ring that has not gone round: of each list, its elements. */
function lists({ view, desc, num }: PlayedRing): { elements: number; isInTable: boolean }[] {
  const found: { elements: number; isInTable: boolean }[] = [];
  let elements = 0;
  for (let slot = 0; slot < num; slot++) {
    const at = desc + slot * VIRTQ_DESC_BYTES;
    const flags = view.getUint16(at + PVIRTQ_DESC_FLAGS, true);
    if (!isMarked(flags)) break;
    const isInTable = (flags & INDIRECT) !== 0;
    elements += isInTable ? view.getUint32(at + VIRTQ_DESC_LEN, true) / VIRTQ_DESC_BYTES : 1;
    if (flags & NEXT) continue;
    found.push({ elements, isInTable });
    elements = 0;
  }
  return found;
}

/** The lists of requests of all sizes up to the device's limit, and of one beyond it. */
async function listsOfDisk(ring: "wasm" | "ts", withoutFeatures: number[]) {
  const spec = blk({ nullBytes: 1 << 20, queueSize: 64 });
  const options = { ring, spec, packed: true, queueSize: 64, withoutFeatures };
  await using disk = await openPlayed(probeSmall, options);
  const { driver } = disk;
  using buffer = driver.alloc(SIZE_MAX * (SEG_MAX + 1));
  const work: Promise<unknown>[] = [];
  for (let bytes = SIZE_MAX; bytes <= SEG_MAX * SIZE_MAX; bytes += SIZE_MAX) {
    work.push(driver.readInto(0, buffer, bytes), driver.writeFrom(0, buffer, bytes));
  }
  await rejected("EINVAL", driver.readInto(0, buffer));
  await rejected("EINVAL", driver.writeFrom(0, buffer));
  work.push(driver.read(0, SIZE_MAX * (SEG_MAX + 1))); // in several requests
  const ended = Promise.allSettled(work);
  while (lists(disk.used).length < work.length) await new Promise(setImmediate);
  const found = lists(disk.used);
  await driver.close();
  await ended;
  return found;
}

describe.each(KINDS)("drivers of packed queues, %s ring", (ring) => {
  test.each([0, 1, 2, 3, 5, 8, 13, 4095])(
    "2.8.11 driver: lays its three parts out at 16, 4 and 4",
    async (skew) => {
      for (const queueSize of [1, 3, 4, 21, 64]) {
        await using device = await openPlayed(CustomDriver.probe, {
          ring,
          queueSize,
          packed: true,
          withoutFeatures: [],
          prepare: (shared) => skew > 0 && shared.allocGuest(skew, 1),
        });
        for (const { desc, driver, device: used, num } of device.transport.queues) {
          expect(num).toBe(queueSize);
          expect([desc % 16n, driver % 4n, used % 4n]).toEqual([0n, 0n, 0n]);
        }
      }
    },
  );

  test("2.8.17 driver: makes no list longer than the device allows", async () => {
    const found = await listsOfDisk(ring, [VIRTIO_F_INDIRECT_DESC]);
    const most = SEG_MAX + 2; // header and status beside the data
    expect(Math.max(...found.map(({ elements }) => elements))).toBe(most);
    expect(found.some(({ isInTable }) => isInTable)).toBe(false);
  });

  test("2.8.19 driver: makes no table longer than the device allows", async () => {
    const found = await listsOfDisk(ring, []);
    expect(Math.max(...found.map(({ elements }) => elements))).toBe(SEG_MAX + 2);
    expect(found.every(({ isInTable }) => isInTable)).toBe(true);
  });
});
