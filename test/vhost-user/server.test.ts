import { existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { u32s } from "#dist/bench/front-end.js";
import { blk } from "#dist/devices/blk.js";
import { closeFd } from "#dist/linux/libc.js";
import { listenUnix } from "#dist/linux/unix-socket.js";
import { VHOST_USER_REQUESTS as REQUESTS } from "#dist/spec/vhost-user.js";
import { VIRTIO_BLK_T_FLUSH } from "#dist/spec/virtio-blk.js";
import { type ServeOptions, serveVhostUser } from "#dist/vhost-user/server.js";
import { custom, rejected } from "../helpers/devices.js";
import { tempFiles } from "../helpers/temp-file.js";
import {
  describeVhostUser,
  eventually,
  expectGivenBack,
  held,
  Served,
  warmUp,
} from "../helpers/vhost-user.js";
import { FrontDisk } from "../helpers/vhost-user-disk.js";

const makeFile = tempFiles();
const device = blk({ nullBytes: 512 });
const serve = (socketPath: string, options: Partial<ServeOptions> = {}) =>
  serveVhostUser({ socketPath, device, ...options });

describeVhostUser("vhost-user server", () => {
  describe("its socket", () => {
    test("takes the place of one that nobody listens at", async () => {
      await using served = await Served.start();
      const path = join(served.folder, "stale");
      closeFd(listenUnix(path));
      expect(existsSync(path)).toBe(true);
      await (await serve(path)).close();
      expect(existsSync(path)).toBe(false);
    });

    test("is not taken from whoever listens: EADDRINUSE, and that one goes on", async () => {
      await using served = await Served.start();
      const before = await warmUp(served);
      for (let i = 0; i < 10; i++) await rejected("EADDRINUSE", serve(served.path));
      await served.works();
      await expectGivenBack(served.kernel, before);
      const path = join(served.folder, "node");
      const other = createServer().listen(path);
      await eventually(() => other.listening, "listening");
      await rejected("EADDRINUSE", serve(path));
      expect(existsSync(path)).toBe(true);
      await new Promise((resolve) => other.close(resolve));
    });

    test("does not take the place of what is no socket", async () => {
      await using served = await Served.start();
      for (const [name, make] of [
        ["file", (path: string) => writeFileSync(path, "mine")],
        ["folder", (path: string) => mkdirSync(path)],
      ] as const) {
        const path = join(served.folder, name);
        make(path);
        await rejected("EADDRINUSE", serve(path));
        expect(existsSync(path)).toBe(true);
      }
    });

    test("has a path of at most 107 bytes", async () => {
      await using served = await Served.start();
      const before = await warmUp(served);
      const longest = join(served.folder, "x".repeat(107 - served.folder.length - 1));
      const server = await serve(longest);
      expect(existsSync(longest)).toBe(true);
      await server.close();
      await rejected("ENAMETOOLONG", serve(`${longest}x`));
      await rejected("ENAMETOOLONG", serve(`${longest.slice(0, -1)}ü`));
      await rejected("ENAMETOOLONG", serve("/x".repeat(5000)));
      await rejected("ENOENT", serve(join(served.folder, "nowhere/socket")));
      await expectGivenBack(served.kernel, before);
    });

    test("is removed at the end, unless it is somebody else's by then", async () => {
      await using served = await Served.start();
      const path = join(served.folder, "other");
      const first = await serve(path);
      rmSync(path);
      const second = await serve(path);
      await first.close();
      expect(existsSync(path)).toBe(true);
      renameSync(path, `${path}-moved`);
      await second.close();
      expect(existsSync(`${path}-moved`)).toBe(true);
      await served.server.close();
      expect(existsSync(served.path)).toBe(false);
    });

    test("removed with its folder, at the end too", async () => {
      const served = await Served.start();
      rmSync(served.folder, { recursive: true });
      await served[Symbol.asyncDispose]();
    });
  });

  describe("close()", () => {
    test("with nobody connected; any number of times", async () => {
      const served = await Served.start();
      await Promise.all([served.server.close(), served.server.close(), served.server.closed]);
      await served[Symbol.asyncDispose]();
      expect(served.events).toEqual([{ event: "listening", socketPath: served.path }]);
    });

    test.each([
      ["idle", 0],
      ["in the middle of a header", 5],
      ["in the middle of a payload", 20],
    ])("with a front-end that is %s: it is sent away", async (_name, bytes) => {
      await using served = await Served.start();
      using front = await served.ready();
      await front.startQueue(0, 8);
      const message = new Uint8Array([
        ...u32s(REQUESTS.SET_MEM_TABLE, 1, 40),
        ...new Uint8Array(40),
      ]);
      front.socket.send(message.subarray(0, bytes), bytes > 0 ? [front.memfd] : []);
      await front.eventfd();
      await served.server.close();
      expect(await front.receive()).toBeUndefined();
      expect(await served.next("disconnected")).not.toHaveProperty("error");
    });

    test("while messages are worked on, at every moment of it", async () => {
      for (let round = 0; round < 10; round++) {
        await using served = await Served.start();
        using front = await served.ready();
        const queue = await front.startQueue(0, 8);
        const region = new Uint8Array([...u32s(1, 0), ...front.region()]);
        for (let i = 0; i < 20; i++) {
          front.send("SET_MEM_TABLE", region, [front.memfd], 9);
          front.send("SET_VRING_KICK", new Uint8Array(8), [queue.kickFd], 9);
          front.send("GET_CONFIG", new Uint8Array([...u32s(0, 8, 0), ...new Uint8Array(8)]));
        }
        for (let i = 0; i < round * 3; i++) await new Promise(setImmediate);
        await served.server.close();
        const names = served.events.map(({ event }) => event);
        expect(names).toEqual(["listening", "connected", "disconnected"]);
        expect(served.events.at(-1)).not.toHaveProperty("error");
        while (await front.receive());
      }
    });

    test("in its own listener", async () => {
      const closing: Promise<void>[] = [];
      const served: Served = await Served.start({
        onEvent: ({ event }) => {
          if (event === "connected") closing.push(served.server.close());
        },
      });
      using front = served.connect();
      await served.server.closed;
      expect(closing).toHaveLength(1);
      expect(await front.receive()).toBeUndefined();
      await served[Symbol.asyncDispose]();
    });

    test("while a device is made that never will be", async () => {
      await using served = await Served.start({ device: custom("createNeverResolves") });
      const before = performance.now();
      using front = served.connect();
      await eventually(() => served.kernel.tasks().length > 2, "a worker");
      await served.server.close();
      expect(performance.now() - before).toBeLessThan(15_000);
      expect(await front.receive()).toBeUndefined();
      expect(served.kernel.tasks()).toHaveLength(2);
    });

    test("by signal; one that is aborted already rejects", async () => {
      const stop = new AbortController();
      await using served = await Served.start({ signal: stop.signal });
      using front = await served.ready();
      stop.abort();
      await served.server.closed;
      expect(await front.receive()).toBeUndefined();
      await expect(serve(served.path, { signal: stop.signal })).rejects.toThrow("abort");
      expect(existsSync(served.path)).toBe(false);
    });
  });

  describe("one after another", () => {
    test("the second waits until the first has gone; who waits at the end is sent away", async () => {
      await using served = await Served.start();
      using first = await served.ready();
      using second = served.connect();
      using third = served.connect();
      second.send("GET_FEATURES");
      third.send("GET_FEATURES");
      await first.ask("GET_FEATURES");
      await sleep(20);
      expect(served.all("connected")).toHaveLength(1);
      first.close();
      expect((await second.receive())?.payload.byteLength).toBe(8);
      expect(served.all("connected")).toHaveLength(2);
      await served.server.close();
      expect(await second.receive()).toBeUndefined();
      expect(await third.receive()).toBeUndefined();
    });

    test("a hundred, of every kind: nothing grows", { timeout: 120_000 }, async () => {
      await using served = await Served.start();
      const before = await warmUp(served);
      const cycle = async (i: number) => {
        using front = served.connect(2 << 20);
        if (i % 4 === 0) return; // it goes at once
        await front.negotiate(~0n);
        if (i % 4 === 1) return;
        await front.setMemory();
        const drive = new FrontDisk(front, await front.startQueue(0, 16), 1, 512);
        if (i % 4 === 2) drive.offer([{ type: VIRTIO_BLK_T_FLUSH }]);
        else await drive.flush();
      };
      for (let i = 0; i < 16; i++) await cycle(i);
      await served.idle();
      const rss = process.memoryUsage().rss;
      for (let i = 0; i < 100; i++) await cycle(i);
      await served.idle();
      await expectGivenBack(served.kernel, before);
      expect(process.memoryUsage().rss - rss).toBeLessThan(150 << 20);
      expect(served.all("refused")).toEqual([]);
      expect(served.all("rejected")).toEqual([]);
    });

    test("two servers in one program: neither waits for the other", async () => {
      await using one = await Served.start();
      await using two = await Served.start({ kernel: one.kernel });
      using front = await one.ready();
      await two.works();
      await front.startQueue(0, 8);
      await one.server.close();
      await two.works();
    });
  });

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
      const before = held(served.kernel);
      for (let i = 0; i < 2; i++) {
        using front = await served.ready();
        const queue = await front.startQueue(0, 16);
        const drive = new FrontDisk(front, queue);
        drive.offer([{ type: VIRTIO_BLK_T_FLUSH }]);
        expect(await front.receive()).toBeUndefined();
        const { error } = await served.next("disconnected");
        expect(error?.code).toBe("ENODEV");
        expect(error?.message).toMatch(why);
        await served.idle();
      }
      expect(served.kernel.tasks()).toHaveLength(2);
      await eventually(() => held(served.kernel).maps === before.maps, "unmapped");
      expect(held(served.kernel).fds["anon_inode eventfd"]).toBe(before.fds["anon_inode eventfd"]);
    });

    test("one that never comes back is ended when its front-end goes", async () => {
      await using served = await Served.start({ device: custom("spins") });
      const front = await served.ready();
      const drive = new FrontDisk(front, await front.startQueue(0, 16));
      drive.offer([{ type: VIRTIO_BLK_T_FLUSH }]);
      await sleep(50);
      front.close();
      await eventually(() => served.kernel.tasks().length === 2, "the worker gone", 15_000);
      using next = served.connect();
      await next.negotiate(0n);
    });

    test("one that never comes back, with a message under way: the server can be closed", async () => {
      await using served = await Served.start({ device: custom("spins") });
      using front = await served.ready();
      const drive = new FrontDisk(front, await front.startQueue(0, 16));
      drive.offer([{ type: VIRTIO_BLK_T_FLUSH }]);
      await sleep(50);
      front.send("SET_VRING_ENABLE", u32s(0, 0), [], 9);
      await sleep(50);
      const closed = served.server.close().then(() => true);
      expect(await Promise.race([closed, sleep(15_000)])).toBe(true);
    }, 60_000);
  });

  test("a listener that throws disturbs nobody; what it threw is the program's to see", async () => {
    const others = process.listeners("uncaughtException");
    const thrown: unknown[] = [];
    process.removeAllListeners("uncaughtException");
    process.on("uncaughtException", (error) => thrown.push(error));
    const events: string[] = [];
    const served = await Served.start({
      onEvent: ({ event }) => {
        events.push(event);
        if (event !== "listening") throw new Error("from the listener");
      },
    });
    for (let i = 0; i < 2; i++) {
      using front = await served.ready();
      expect(await front.tell("SET_VRING_NUM", u32s(0, 3))).toBe(false);
      await front.ask("GET_FEATURES");
    }
    await served[Symbol.asyncDispose]();
    process.removeAllListeners("uncaughtException");
    for (const listener of others) process.on("uncaughtException", listener);
    expect(events).toEqual(["listening", ...twice("connected", "refused", "disconnected")]);
    expect(thrown).toHaveLength(6);
  });
});

const twice = (...names: string[]) => [...names, ...names];
