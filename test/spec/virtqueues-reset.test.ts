// The reset of one queue, while the other goes on: the device's side by a guest without a driver,
// the driver's by a device that is played. virtio 1.3, 2.6.1 Virtqueue Reset.

import { setImmediate as nextTurn, setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { CustomDriver } from "#dist/driver/custom.js";
import { blk } from "#dist/index.js";
import { VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT } from "#dist/spec/virtio-blk.js";
import {
  VIRTIO_F_EVENT_IDX,
  VIRTIO_F_RING_PACKED,
  VIRTIO_F_RING_RESET,
} from "#dist/spec/virtio-config.js";
import { blkHeader, blkRequest, pattern } from "../helpers/blk-raw.js";
import { custom, rejected } from "../helpers/devices.js";
import { openPlayed, PlayedRing } from "../helpers/played-device.js";
import { bit, MODES, type Mode, RawGuest, VERSION_1 } from "../helpers/raw-guest.js";

const NUM = 8;

const open = (mode: Mode, features = 0n) =>
  RawGuest.open(blk({ memoryBytes: 65536, queues: 2 }), {
    ...mode,
    features: VERSION_1 | bit(VIRTIO_F_RING_RESET) | features,
    num: NUM,
    queues: 2,
  });

async function write(guest: RawGuest, index: number, sector: number): Promise<void> {
  const ring = guest.rings[index] as RawGuest["ring"];
  const { status } = await blkRequest(ring, VIRTIO_BLK_T_OUT, sector, pattern(512, sector));
  expect(status).toBe(0);
}

/** Puts a read into the first ring, and kicks. */
function sendRead(guest: RawGuest): void {
  const pieces = [blkHeader(VIRTIO_BLK_T_IN, 0), 512, 1].map((piece) => guest.describe(piece));
  guest.ring.send(guest.ring.link(pieces));
}

describe.each(MODES)("$run, $ring ring", (mode) => {
  test("2.6.1.1.1 device: takes no more requests from a queue that was reset", async () => {
    await using guest = await open(mode);
    await write(guest, 0, 1);
    await guest.dev.resetVring(0);
    sendRead(guest);
    const areas = () => guest.shared.bytes.slice(guest.ring.used, guest.ring.used + 70);
    const before = areas();
    for (let i = 0; i < 4; i++) await write(guest, 1, 2 + i); // the other goes on
    expect(areas()).toEqual(before);
    expect(guest.ring.unseen).toBe(0);
    expect(guest.takeWritten().every((byte) => byte === 0)).toBe(true);
  });

  test("2.6.1.1.1 device: sends no more calls for a queue that was reset", async () => {
    await using guest = await open(mode);
    const { doorbell } = guest.dev.worker;
    await write(guest, 0, 1);
    await guest.dev.resetVring(0);
    doorbell.takeCalls();
    sendRead(guest);
    for (let i = 0; i < 4; i++) await write(guest, 1, 2 + i);
    if (mode.run === "thread") await sleep(20);
    expect(doorbell.takeCalls()).toBe(1 << 1);
  });

  test("2.6.1.1.1 device: forgets all that it knew of a queue that was reset", async () => {
    await using guest = await open(mode, bit(VIRTIO_F_EVENT_IDX));
    for (let i = 0; i < NUM + 3; i++) await write(guest, 0, i);
    guest.ring.availIdx += NUM + 1; // and it is refused
    guest.dev.worker.kick(0);
    await guest.until(() => (guest.dev.errorCounts()[0]?.VRING_E_AVAIL_INDEX ?? 0) > 0);
    await guest.dev.resetVring(0);
    expect(guest.dev.getVringBase(0)).toBe(0);
    expect(guest.dev.vringNum(0)).toBe(guest.dev.info.queueSizeMax);
    expect(guest.dev.isVringEnabled(0)).toBe(false);
    await rejected("EINVAL", guest.dev.startVring(0)); // its areas, too
    guest.addRing(0, NUM); // from 0 again
    await guest.dev.startVring(0);
    for (let i = 0; i < NUM + 3; i++) await write(guest, 0, i);
    expect(guest.ring.usedIdx).toBe(NUM + 3);
  });

  test("2.6.1.2.1 device: goes by the set-up made after the reset", async () => {
    await using guest = await open(mode);
    await write(guest, 0, 1);
    const old = guest.ring;
    const kept = () => guest.shared.bytes.slice(old.used, old.used + 70);
    await guest.dev.resetVring(0);
    const before = kept();
    const ring = guest.addRing(0, 4 * NUM);
    await guest.dev.startVring(0);
    old.offer(0);
    guest.dev.worker.kick(0);
    for (let i = 0; i < 5 * NUM; i++) await write(guest, 0, i % 64);
    expect(ring.usedIdx).toBe(5 * NUM);
    expect(kept()).toEqual(before);
  });
});

/** A driver with one request of each of two queues at the device, which never answers by itself. */
async function play(ring: "wasm" | "ts", options: { packed?: boolean } = {}) {
  const spec = custom("hangs", { config: 60, queues: 2 });
  const played = await openPlayed(CustomDriver.probe, { ring, queueSize: NUM, spec, ...options });
  const request = (index: number) => played.driver.request(index, new Uint8Array(4), 16);
  return { ...played, request, [Symbol.asyncDispose]: () => played[Symbol.asyncDispose]() };
}

describe.each(["wasm", "ts"] as const)("%s ring", (ring) => {
  test("2.6.1.1.2 driver: makes sure that the queue was really reset", async () => {
    await using played = await play(ring);
    const { transport, driver, guest } = played;
    const request = rejected("EIO", played.request(0));
    await played.sent(1);
    transport.resetQueue = async () => {}; // it says that it is done, and is not
    const { freeBytes } = guest;
    await rejected("EIO", driver.resetQueue(0));
    await request;
    expect(guest.freeBytes).toBe(freeBytes); // the device may still write to all it has
    await rejected("EIO", played.request(0));
  });

  test.each([false, true])(
    "2.6.1.2.2 driver: sets the queue up again as at first",
    async (packed) => {
      await using played = await play(ring, { packed });
      const { transport, driver } = played;
      expect((driver.features & bit(VIRTIO_F_RING_PACKED)) !== 0n).toBe(packed);
      const first = transport.queues[0];
      const request = rejected("ECANCELED", played.request(0));
      await nextTurn(); // it is in the ring
      await driver.resetQueue(0, { queueSize: 4 });
      await request;
      const second = transport.queues[0];
      expect(second).not.toEqual(first);
      expect(second?.num).toBe(4);
      expect(transport.isQueueEnabled(0)).toBe(true);
      expect(transport.dev.vringNum(0)).toBe(4);
      if (packed) return;
      const used = new PlayedRing(transport);
      expect([used.availIdx, used.usedIdx]).toEqual([0, 0]);
      const again = played.request(0);
      await nextTurn();
      expect(used.availIdx).toBe(1);
      used.answer(used.availHead(0), 3);
      expect(await again).toHaveLength(3);
    },
  );
});
