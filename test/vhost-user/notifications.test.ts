import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import type { FrontEnd } from "#dist/bench/front-end.js";
import { drainEventfd, signalEventfd } from "#dist/linux/eventfd.js";
import { libc } from "#dist/linux/libc.js";
import { VHOST_USER_VRING_NOFD_MASK as NOFD } from "#dist/spec/vhost-user.js";
import * as spec from "#dist/spec/virtio-blk.js";
import { EVENT_IDX } from "../helpers/raw-guest.js";
import { SleepWatch } from "../helpers/threads.js";
import { describeVhostUser, Served } from "../helpers/vhost-user.js";
import { FrontDisk } from "../helpers/vhost-user-disk.js";
import { takeCount } from "../helpers/vhost-user-ring.js";

const FLUSH = { type: spec.VIRTIO_BLK_T_FLUSH };

const flushes = (count: number) => Array.from({ length: count }, () => FLUSH);

/** A queue that runs, and a driver at it. */
async function open(front: FrontEnd, index = 0, num = 64, slots = 8, bytes = 4096) {
  return new FrontDisk(front, await front.startQueue(index, num), slots, bytes);
}

/** The thread that serves who has connected last. */
async function workerOf(served: Served): Promise<SleepWatch> {
  return new SleepWatch((await served.next("connected")).worker);
}

describeVhostUser("vhost-user notifications", () => {
  describe("sleeping and waking", () => {
    test.each([0n, EVENT_IDX])("no wake-up is lost, features %s", async (accepted) => {
      await using served = await Served.start({ pollMicroseconds: 0 });
      using front = await served.ready(~EVENT_IDX | accepted);
      const drive = await open(front);
      const worker = await workerOf(served);
      for (let round = 0; round < 5000; round++) {
        // kicks at every moment of the way to sleep
        for (let spins = (round * 7919) % 3000; spins > 0; spins--) drive.queue.tables.error;
        drive.spin([FLUSH], worker);
      }
      expect(drive.kicks).toBeGreaterThan(500);
    });

    test("two queues, one that is busy and one that sleeps", async () => {
      await using served = await Served.start({ pollMicroseconds: 0 });
      using front = await served.ready();
      const [busy, quiet] = [await open(front, 0, 256, 100), await open(front, 1)];
      const worker = await workerOf(served);
      for (let round = 0; round < 200; round++) {
        const requests = flushes(100);
        busy.offer(requests);
        quiet.spin([FLUSH], worker);
        await busy.collect(requests);
      }
    });

    test("a worker that polls asks for no kicks", async () => {
      await using served = await Served.start({ pollMicroseconds: 2_000_000 });
      using front = await served.ready();
      const drive = await open(front);
      drive.spin([FLUSH]);
      const { kicks } = drive;
      for (let i = 0; i < 1000; i++) drive.spin([FLUSH]);
      expect(drive.kicks).toBeLessThanOrEqual(kicks + 5);
    });
  });

  describe("calls", () => {
    /** The disk, with no call in its eventfd: the first one comes whatever is asked. */
    const settled = async (front: FrontEnd) => {
      const drive = await open(front);
      await drive.batch([FLUSH]);
      drive.spin([FLUSH]); // the worker has called for what was before it, and does not for this
      takeCount(drive.queue.callFd);
      return drive;
    };

    test("none are made while none are asked for, by flag", async () => {
      await using served = await Served.start();
      using front = await served.ready(~EVENT_IDX);
      const drive = await settled(front);
      drive.queue.ring.disableCall();
      for (let i = 0; i < 500; i++) drive.spin(flushes(8));
      await sleep(20);
      expect(takeCount(drive.queue.callFd)).toBe(0n);
      await drive.batch([FLUSH]);
    });

    test("one is made when the used index passes the event index, and then none", async () => {
      await using served = await Served.start();
      using front = await served.ready();
      const drive = await settled(front);
      for (let i = 0; i < 100; i++) drive.spin(flushes(4));
      await sleep(20);
      takeCount(drive.queue.callFd);
      expect(drive.queue.ring.enableCall()).toBe(false);
      for (let i = 0; i < 500; i++) drive.spin(flushes(8));
      await sleep(20);
      expect(takeCount(drive.queue.callFd)).toBe(1n);
    });

    test("a full eventfd holds nobody up", async () => {
      await using served = await Served.start();
      using front = await served.ready();
      const drive = await settled(front);
      const full = BigUint64Array.of(0xffff_ffff_ffff_fffen);
      for (const fd of [drive.queue.callFd, drive.queue.kickFd]) libc().write(fd, full, 8);
      for (let i = 0; i < 50; i++) await drive.batch([FLUSH]);
      drainEventfd(drive.queue.callFd);
      await drive.batch([FLUSH]);
    });

    test("a queue of which nothing is told at all is served", async () => {
      await using served = await Served.start();
      using front = await served.ready();
      const queue = front.makeQueue(0, 8);
      await front.attach(queue);
      const nothing = () => new Uint8Array(BigUint64Array.of(NOFD).buffer);
      await front.must("SET_VRING_CALL", nothing());
      await front.must("SET_VRING_ERR", nothing());
      await front.must("SET_VRING_KICK", nothing());
      const drive = new FrontDisk(front, queue);
      for (let i = 0; i < 300; i++) drive.spin([FLUSH]);
      signalEventfd(queue.kickFd);
      drive.spin([FLUSH]);
    });
  });
});
