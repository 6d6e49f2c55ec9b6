// What a kick says with VIRTIO_F_NOTIFICATION_DATA is checked, and not gone by. virtio 1.3, 2.9
// Driver Notifications.

import { describe, expect, test } from "vitest";
import { blk } from "#dist/index.js";
import { VIRTIO_BLK_T_OUT } from "#dist/spec/virtio-blk.js";
import { VIRTIO_F_NOTIFICATION_DATA, VIRTIO_F_RING_PACKED } from "#dist/spec/virtio-config.js";
import { blkRequest, pattern } from "../helpers/blk-raw.js";
import { openBlk } from "../helpers/devices.js";
import { bit, MODES, RawGuest, VERSION_1 } from "../helpers/raw-guest.js";

const NUM = 8;
const DATA = bit(VIRTIO_F_NOTIFICATION_DATA);

describe.each(MODES)("$run, $ring ring", (mode) => {
  test("it may be of long ago, or a lie: the queue goes by its ring", async () => {
    const options = { ...mode, features: VERSION_1 | DATA, num: NUM };
    await using guest = await RawGuest.open(blk({ memoryBytes: 65536 }), options);
    for (const data of [0, NUM, NUM + 1, 0x8000, 0xffff]) {
      guest.dev.worker.kick(0, data);
      const { status } = await blkRequest(guest.ring, VIRTIO_BLK_T_OUT, 1, pattern(512));
      expect(status).toBe(0);
    }
    expect(guest.dev.errorCounts()).toEqual({});
    guest.dev.worker.kick(0, 0x1_0000); // what no driver can say
    await guest.until(() => guest.dev.errorCounts()[0]?.VRING_E_KICK === 1);
  });

  test("without the feature, nobody looks at it", async () => {
    const options = { ...mode, num: NUM };
    await using guest = await RawGuest.open(blk({ memoryBytes: 65536 }), options);
    guest.dev.worker.kick(0, 0x7777);
    await blkRequest(guest.ring, VIRTIO_BLK_T_OUT, 1, pattern(512));
    expect(guest.dev.errorCounts()).toEqual({});
  });

  test.each([true, false])(
    "a driver that is honest: nothing is counted (packed: %s)",
    async (packed) => {
      const probe = { packed, notificationData: true, queueSize: 16 };
      await using disk = await openBlk({ memoryBytes: 65536 }, mode, probe);
      expect(disk.drive.features & DATA).toBe(DATA);
      expect((disk.drive.features & bit(VIRTIO_F_RING_PACKED)) !== 0n).toBe(packed);
      for (let i = 0; i < 50; i++) {
        const reads = Array.from({ length: 5 }, () => disk.drive.read(0, 512));
        await disk.run(Promise.all(reads));
      }
      expect(disk.disk.errorCounts()).toEqual({});
    },
  );
});
