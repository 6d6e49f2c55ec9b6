import { existsSync, renameSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { u32s } from "#dist/bench/front-end.js";
import { blk } from "#dist/devices/blk.js";
import { VIRTIO_BLK_T_FLUSH } from "#dist/spec/virtio-blk.js";
import { type ServeOptions, serveVhostUser } from "#dist/vhost-user/server.js";
import { custom, rejected } from "../helpers/devices.js";
import { tempFiles } from "../helpers/temp-file.js";
import {
  describeVhostUser,
  eventually,
  expectGivenBack,
  Served,
  settled,
} from "../helpers/vhost-user.js";
import { FrontDisk } from "../helpers/vhost-user-disk.js";

const makeFile = tempFiles();
const device = blk({ nullBytes: 512 });
const serve = (socketPath: string, options: Partial<ServeOptions> = {}) =>
  serveVhostUser({ socketPath, device, ...options });

describeVhostUser("vhost-user: devices that fail", () => {
  describe("a device that can't be made", () => {
    test("is said at once when that is known", async () => {
      await using served = await Served.start();
      const path = join(served.folder, "socket-2");
      for (const [file, code] of [
        [join(served.folder, "no-image"), "ENOENT"],
        [served.folder, "EINVAL"],
        [makeFile(0), "EINVAL"],
        [makeFile(511), "EINVAL"],
      ] as const) {
        await rejected(code, serve(path, { device: blk({ file }) }));
        expect(existsSync(path)).toBe(false);
      }
    });

    test("an image that goes: told, and the next finds it again", async () => {
      const file = makeFile(1 << 20);
      await using served = await Served.start({ device: blk({ file }) });
      await served.works();
      renameSync(file, `${file}-away`);
      for (let i = 0; i < 3; i++) {
        using front = served.connect();
        expect(await front.receive()).toBeUndefined();
        expect((await served.next("rejected")).error.code).toBe("ENOENT");
      }
      renameSync(`${file}-away`, file);
      await served.works();
    });

    test("an image that another server's front-end has: told, until that has gone", async () => {
      const image = blk({ file: makeFile(1 << 20) });
      await using one = await Served.start({ device: image });
      await using two = await Served.start({ device: image, kernel: one.kernel });
      using front = await one.ready();
      using other = two.connect();
      expect(await other.receive()).toBeUndefined();
      expect((await two.next("rejected")).error.code).toBe("EBUSY");
      front.close();
      await one.idle();
      await eventually(() => one.kernel.tasks().length === 2, "given back");
      await two.works();
    });

    test.each(["createThrows", "createRejects", "tooManyQueues", "noQueues"])("%s", async (how) => {
      await using served = await Served.start({ device: custom(how) });
      for (let i = 0; i < 2; i++) {
        using front = served.connect();
        expect(await front.receive()).toBeUndefined();
        expect((await served.next("rejected")).error.message).toMatch(/today|later|queue/);
      }
      expect(served.kernel.tasks()).toHaveLength(2);
    });
  });

  describe("a worker that dies", () => {
    test.each([
      ["throws", /the device met a bug of its own/],
      ["exits", /exit code 3/],
    ])("%s: the connection ends, it is told why, the next is served", async (how, why) => {
      await using served = await Served.start({ device: custom(how) });
      const die = async () => {
        using front = await served.ready();
        const queue = await front.startQueue(0, 16);
        const drive = new FrontDisk(front, queue);
        drive.offer([{ type: VIRTIO_BLK_T_FLUSH }]);
        expect(await front.receive()).toBeUndefined();
        const { error } = await served.next("disconnected");
        expect(error?.code).toBe("ENODEV");
        expect(error?.message).toMatch(why);
        await served.idle();
      };
      await die();
      const before = await settled(served.kernel);
      expect(before.tasks).toBe(2);
      for (let i = 0; i < 3; i++) await die();
      await expectGivenBack(served.kernel, before);
    });

    /** A worker that is in its device and stays there. */
    const spin = async (served: Served) => {
      const front = await served.ready();
      const drive = new FrontDisk(front, await front.startQueue(0, 16));
      drive.offer([{ type: VIRTIO_BLK_T_FLUSH }]);
      await sleep(50);
      return front;
    };

    test("one that never comes back is ended: the front-end may go, the server too", async () => {
      await using left = await Served.start({ device: custom("spins") });
      await using closed = await Served.start({ device: custom("spins") });
      const goes = async () => {
        (await spin(left)).close();
        await eventually(() => left.kernel.tasks().length === 2, "the worker gone", 15_000);
        using next = left.connect();
        await next.negotiate(0n);
      };
      const closes = async () => {
        using front = await spin(closed);
        front.send("SET_VRING_ENABLE", u32s(0, 0), [], 9); // no answer comes
        await sleep(50);
        const end = closed.server.close().then(() => true);
        expect(await Promise.race([end, sleep(15_000)])).toBe(true);
      };
      await Promise.all([goes(), closes()]);
    }, 60_000);
  });
});
