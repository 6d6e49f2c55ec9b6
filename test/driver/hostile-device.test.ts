// A device that lies in the used ring: the test writes it by hand, the device itself never answers.
// The driver rejects what it can't trust and never waits for ever. virtio 1.3, 2.7.8 The Virtqueue
// Used Ring.

import { describe, expect, test } from "vitest";
import { BlkDriver } from "#dist/driver/blk.js";
import { CustomDriver } from "#dist/driver/custom.js";
import type { ProbeOptions } from "#dist/driver/probe.js";
import type { Transport } from "#dist/driver/transport.js";
import { VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK } from "#dist/spec/virtio-blk.js";
import { rejected } from "../helpers/devices.js";
import { openPlayed } from "../helpers/played-device.js";

const NUM = 8;

type Probe<T> = (transport: Transport, options: ProbeOptions) => Promise<T>;

const open = <T>(probe: Probe<T>, ring: "wasm" | "ts", queues = 2) =>
  openPlayed(probe, { ring, queues, queueSize: NUM });

const bytes = new Uint8Array(4);

describe.each(["wasm", "ts"] as const)("%s ring", (ring) => {
  test.each([2, 3, NUM, NUM + 1, 0x8000, 0xffff])(
    "used.idx is ahead by %i with one in flight: all are rejected with EIO, by name",
    async (by) => {
      await using hostile = await open(CustomDriver.probe, ring);
      const request = rejected("EIO", hostile.driver.request(0, bytes, 4));
      await hostile.sent(1);
      hostile.used.jump(by);
      expect((await request).facts).toEqual({ cause: "VRING_E_USED_INDEX" });
      await rejected("EIO", hostile.driver.request(0, bytes, 4));
    },
  );

  // It was given back at once, handed out again, and then written to by the device.
  test("memory of requests on a broken ring is held until the device is reset", async () => {
    await using hostile = await open(CustomDriver.probe, ring);
    const { freeBytes } = hostile.guest;
    const request = rejected("EIO", hostile.driver.request(0, bytes, 4096));
    await hostile.sent(1);
    hostile.used.jump(2);
    await request;
    expect(hostile.guest.freeBytes).toBeLessThan(freeBytes);
    await hostile.driver.close();
    expect(hostile.guest.freeBytes).toBeGreaterThan(freeBytes);
  });

  test.each([NUM, 1, 0xffff_ffff])("id %i was never given: EIO for all in flight", async (head) => {
    await using hostile = await open(CustomDriver.probe, ring);
    const request = rejected("EIO", hostile.driver.request(0, bytes, 0));
    await hostile.sent(1);
    hostile.used.answer(head, 0);
    expect((await request).facts).toEqual({ cause: "VRING_E_USED_ID" });
  });

  test("an id twice: the first answers, the second is a lie", async () => {
    await using hostile = await open(CustomDriver.probe, ring);
    const first = hostile.driver.request(0, bytes, 0);
    const second = rejected("EIO", hostile.driver.request(0, bytes, 0));
    await hostile.sent(2);
    const head = hostile.used.availHead(0);
    hostile.used.answer(head, 0);
    expect(await first).toHaveLength(0);
    hostile.used.answer(head, 0);
    expect((await second).facts).toEqual({ cause: "VRING_E_USED_ID" });
  });

  test("a length above the room is cut to it", async () => {
    await using hostile = await open(CustomDriver.probe, ring);
    const request = hostile.driver.request(0, bytes, 16);
    await hostile.sent(1);
    hostile.used.answer(hostile.used.availHead(0), 0xffff_ffff);
    expect(await request).toHaveLength(16);
  });

  test("answers out of order settle the right promises", async () => {
    await using hostile = await open(CustomDriver.probe, ring);
    const requests = [1, 2, 3].map((room) => hostile.driver.request(0, bytes, room));
    await hostile.sent(3);
    for (const slot of [2, 0, 1]) hostile.used.answer(hostile.used.availHead(slot), 3 - slot);
    const lengths = (await Promise.all(requests)).map(({ length }) => length);
    expect(lengths).toEqual([1, 2, 1]); // 3, 2, 1 as claimed, cut to the room of 1, 2, 3
  });

  test("one queue that is broken leaves the other one alone", async () => {
    await using hostile = await open(CustomDriver.probe, ring);
    const other = rejected("ENODEV", hostile.driver.request(1, bytes, 4));
    const request = rejected("EIO", hostile.driver.request(0, bytes, 4));
    await hostile.sent(1);
    hostile.used.jump(2);
    await request;
    await hostile.driver.close();
    await other;
  });

  test("5.2.6: a disk's answer counts when its length takes in the status", async () => {
    await using hostile = await open(BlkDriver.probe, ring, 1);
    const { driver, used } = hostile;
    const answers: [length: number, status: number, code: string | undefined][] = [
      [1, VIRTIO_BLK_S_OK, undefined],
      [0, VIRTIO_BLK_S_OK, "EIO"],
      [1, VIRTIO_BLK_S_IOERR, "EIO"],
      [1, 2, "EOPNOTSUPP"],
      [1, 3, "EIO"],
      [1, 0xff, "EIO"],
    ];
    for (const [i, [length, status, code]] of answers.entries()) {
      using buffer = driver.alloc(512);
      const write = driver.writeFrom(0, buffer, 0);
      await hostile.sent(2 * i + 1);
      await settle(2 * i, length, status, write, code);
      const read = driver.readInto(0, buffer, 0);
      await hostile.sent(2 * i + 2);
      await settle(2 * i + 1, length, status, read, code);
    }

    async function settle(
      at: number,
      length: number,
      status: number,
      work: Promise<void>,
      code: string | undefined,
    ): Promise<void> {
      const slot = at % NUM;
      used.view.setUint8(used.lastBuffer(slot), status);
      used.answer(used.availHead(slot), length);
      if (code === undefined) await work;
      else await expect(work).rejects.toMatchObject({ code });
    }
  });
});
