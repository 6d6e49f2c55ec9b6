// Several workers for one front-end: each reads the kicks of its own rings.

import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { Random } from "#dist/fuzz/random.js";
import { blk } from "#dist/index.js";
import { makeEventfd, signalEventfd } from "#dist/linux/eventfd.js";
import { closeFd } from "#dist/linux/libc.js";
import { VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_OUT } from "#dist/spec/virtio-blk.js";
import type { NotifierSpec } from "#dist/vhost/notifier.js";
import { blkHeader, pattern } from "../helpers/blk-raw.js";
import { custom } from "../helpers/devices.js";
import { type GuestRing, RawGuest } from "../helpers/raw-guest.js";
import { seedOf } from "../helpers/seed.js";
import { tempFiles } from "../helpers/temp-file.js";
import { SleepWatch } from "../helpers/threads.js";
import {
  describeVhostUser,
  expectGivenBack,
  QUEUES,
  Served,
  warmUp,
} from "../helpers/vhost-user.js";
import { FrontDisk } from "../helpers/vhost-user-disk.js";
import { describeOwners, makeImage, openFolder, serveOthers } from "../helpers/vhost-user-owner.js";

const SEED = seedOf("vhost-user workers");
const BYTES = 2 << 20;
const CHUNK = 16 << 10;
const makeFile = tempFiles();
const folder = openFolder();

/** All rings at once, each with a part of the disk. */
async function writeAll(served: Served): Promise<Buffer> {
  using front = await served.ready();
  const expected = Buffer.alloc(BYTES);
  const drives: FrontDisk[] = [];
  for (let i = 0; i < QUEUES; i++) {
    drives.push(new FrontDisk(front, await front.startQueue(i, 64), 2, CHUNK));
  }
  await Promise.all(
    drives.map(async (drive, i) => {
      for (let offset = i * CHUNK; offset < BYTES; offset += QUEUES * CHUNK) {
        const bytes = pattern(CHUNK, offset / CHUNK);
        expected.set(bytes, offset);
        await drive.write(offset, bytes);
        expect(Buffer.compare(await drive.read(offset, CHUNK), bytes)).toBe(0);
      }
      await drive.flush();
    }),
  );
  return expected;
}

describeVhostUser("vhost-user: several workers", () => {
  const ways = ["inline", "uring"] as const;

  test.each(ways)("io %s: every ring is served, all is given back", async (io) => {
    const path = makeFile(BYTES);
    const device = blk({ file: path, queues: QUEUES, queueSize: 1024, io });
    await using served = await Served.start({ device, workers: 3 });
    const before = await warmUp(served);
    for (let round = 0; round < 3; round++) {
      expect(Buffer.compare(await writeAll(served), readFileSync(path))).toBe(0);
      await served.next("disconnected");
      expect(served.events.at(-1)).not.toHaveProperty("error");
      await expectGivenBack(served.kernel, before);
    }
  });

  test("no wake-up is lost, whichever worker sleeps", async () => {
    const device = blk({ nullBytes: BYTES, queues: QUEUES });
    await using served = await Served.start({ device, workers: QUEUES, pollMicroseconds: 0 });
    using front = await served.ready();
    const drives: FrontDisk[] = [];
    for (let i = 0; i < QUEUES; i++) {
      drives.push(new FrontDisk(front, await front.startQueue(i, 64)));
    }
    const workers = new SleepWatch((await served.next("connected")).worker);
    for (let round = 0; round < 1000; round++) {
      const drive = drives[round % QUEUES] as FrontDisk;
      for (let spins = (round * 7919) % 3000; spins > 0; spins--) drive.queue.tables.error;
      drive.spin([{ type: VIRTIO_BLK_T_FLUSH }], workers);
    }
  });

  test("one dies: the session ends and says why, the next is served", async () => {
    const device = custom("fragile", { queues: 3 });
    await using served = await Served.start({ device, workers: 3 });
    using front = await served.ready();
    const drive = new FrontDisk(front, await front.startQueue(1, 64));
    drive.offer([{ type: 0, length: 512 }]);
    expect((await served.next("disconnected")).error?.message).toMatch(/worker died: a zero/);
    using again = await served.ready();
    const next = new FrontDisk(again, await again.startQueue(1, 64));
    const [answer] = await next.batch([{ type: VIRTIO_BLK_T_OUT, data: new Uint8Array(512) }]);
    expect(answer?.used).toBe(1);
  });

  test("more than the device has rings, or a device for one: told, not served", async () => {
    for (const [device, code] of [
      [blk({ nullBytes: BYTES, queues: 2 }), /EINVAL.*1 to 2 workers/],
      [custom("echo", { queues: 3 }), /EOPNOTSUPP/],
    ] as const) {
      await using served = await Served.start({ device, workers: 3 });
      using _front = served.connect();
      expect((await served.next("rejected")).error.message).toMatch(code);
    }
  });
});

describeOwners("vhost-user: several workers", () => {
  test("each opens the image as the front-end's user", async () => {
    const path = makeImage(folder, "disk", 0o666);
    const device = blk({ file: path, queues: QUEUES });
    await using served = await serveOthers({ device, workers: 2, asOwner: true });
    await served.works();
  });
});

describeVhostUser("rings that are moved, by eventfds", () => {
  const COMM = "vhost-test";
  const nextOf = (guest: RawGuest, index: number) => (guest.rings[index] as GuestRing).next();

  /** Two workers with a wake-up eventfd each; queues whose kicks are eventfds. */
  async function open(awaitsKick: boolean) {
    const fds: number[] = [];
    const make = () => {
      fds.push(makeEventfd());
      return fds.at(-1) as number;
    };
    const module = new URL("../../dist/vhost-user/eventfd-notifier.js", import.meta.url).href;
    const notifier = (): NotifierSpec => {
      const wakeFd = make();
      const options = { wakeFd, comm: COMM };
      return { module, options, wake: () => signalEventfd(wakeFd), wakeFd, another: notifier };
    };
    const spec = blk({ memoryBytes: 1 << 20, queues: 2 });
    const options = { queues: 2, notifier: notifier(), pollMicroseconds: 0 };
    const guest = await RawGuest.open(spec, options);
    await guest.dev.stop();
    const kicks = [make(), make()];
    for (const [index, kickFd] of kicks.entries()) {
      guest.dev.setVringNotify(index, { kickFd, awaitsKick });
    }
    await guest.dev.start();
    await guest.dev.newWorker();
    const send = (index: number) => {
      const header = guest.describe(blkHeader(VIRTIO_BLK_T_FLUSH));
      const ring = guest.rings[index];
      ring?.offer(ring.link([header, guest.describe(1)]));
      signalEventfd(kicks[index] as number);
    };
    const close = async () => {
      await guest[Symbol.asyncDispose]();
      for (const fd of fds) closeFd(fd);
    };
    return { guest, send, [Symbol.asyncDispose]: close };
  }

  test(`no kick is lost, at any moment of a move, FC_SEED=${SEED}`, async () => {
    await using opened = await open(false);
    const { guest, send } = opened;
    const random = new Random(SEED);
    const workers = new SleepWatch(COMM);
    for (let round = 0; round < 200; round++) {
      const moved = guest.dev.attachVringWorker(round % 2, random.below(2));
      for (let spins = random.below(40); spins > 0; spins--) await null;
      if (random.once(3)) await sleep(1);
      send(round % 2);
      await workers.during(nextOf(guest, round % 2));
      await moved;
    }
    expect(guest.dev.errorCounts()).toEqual({});
  });

  describe("one that waits for its first kick", () => {
    test("goes on waiting with the other worker", async () => {
      await using opened = await open(true);
      const { guest, send } = opened;
      const ring = guest.rings[1];
      await guest.dev.attachVringWorker(1, 1);
      ring?.offer(ring.link([guest.describe(blkHeader(VIRTIO_BLK_T_FLUSH)), guest.describe(1)]));
      await guest.dev.flush();
      await sleep(20);
      expect(ring?.unseen).toBe(0);
      send(1);
      await ring?.next();
      await ring?.next();
    });

    test("is not forgotten when the kick comes just before, or another is moved", async () => {
      for (let round = 0; round < 12; round++) {
        await using opened = await open(true);
        const { guest, send } = opened;
        const [isThere, moved] = [round % 3 === 2, round % 3 === 0 ? 1 : 0];
        if (isThere) await guest.dev.attachVringWorker(1, 1);
        send(1);
        if (round % 2 === 0) await sleep(1);
        await guest.dev.attachVringWorker(moved, 1);
        const workers = new SleepWatch(COMM);
        await workers.during(nextOf(guest, 1));
      }
    });
  });
});
