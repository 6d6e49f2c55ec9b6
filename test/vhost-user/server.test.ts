import { existsSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { u32s } from "#dist/bench/front-end.js";
import { blk } from "#dist/devices/blk.js";
import { VHOST_USER_REQUESTS as REQUESTS } from "#dist/spec/vhost-user.js";
import { VIRTIO_BLK_T_FLUSH } from "#dist/spec/virtio-blk.js";
import { type ServeOptions, serveVhostUser } from "#dist/vhost-user/server.js";
import { custom } from "../helpers/devices.js";
import {
  describeVhostUser,
  eventually,
  expectGivenBack,
  Served,
  warmUp,
} from "../helpers/vhost-user.js";
import { FrontDisk } from "../helpers/vhost-user-disk.js";

const device = blk({ nullBytes: 512 });
const serve = (socketPath: string, options: Partial<ServeOptions> = {}) =>
  serveVhostUser({ socketPath, device, ...options });

/** Front-ends, one after another: CYCLES=1000 npx vitest run test/vhost-user/server.test.ts */
const CYCLES = Number(process.env.CYCLES ?? 32);

describeVhostUser("vhost-user server", () => {
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
      for (let round = 0; round < 6; round++) {
        await using served = await Served.start();
        using front = await served.ready();
        const queue = await front.startQueue(0, 8);
        const region = new Uint8Array([...u32s(1, 0), ...front.region()]);
        for (let i = 0; i < 20; i++) {
          front.send("SET_MEM_TABLE", region, [front.memfd], 9);
          front.send("SET_VRING_KICK", new Uint8Array(8), [queue.kickFd], 9);
          front.send("GET_CONFIG", new Uint8Array([...u32s(0, 8, 0), ...new Uint8Array(8)]));
        }
        for (let i = 0; i < round * 5; i++) await new Promise(setImmediate);
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

    // found by reading: the listener was added after the first wait
    test("by signal, while it begins", async () => {
      const stop = new AbortController();
      const begun = Served.start({ signal: stop.signal }).catch(() => undefined);
      stop.abort();
      const served = await begun;
      const closed = served?.server.closed.then(() => true) ?? true;
      expect(await closed).toBe(true);
      await served?.[Symbol.asyncDispose]();
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
    test("the second waits until the first has gone, or until the server ends", async () => {
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

    test("many, of every kind: nothing grows", { timeout: 600_000 }, async () => {
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
      for (let i = 0; i < 8; i++) await cycle(i);
      await served.idle();
      const rss = process.memoryUsage().rss;
      for (let i = 0; i < CYCLES; i++) await cycle(i);
      await served.idle();
      await expectGivenBack(served.kernel, before);
      expect(process.memoryUsage().rss - rss).toBeLessThan(100 << 20);
      expect(served.all("refused")).toEqual([]);
      expect(served.all("rejected")).toEqual([]);
    });

    test("a front-end whose number a process of the model has: it is another one", async () => {
      await using served = await Served.start();
      served.kernel.spawn({ pid: process.pid, comm: "somebody" });
      const before = served.kernel.tasks().length;
      await served.works();
      expect(served.kernel.task(process.pid)?.comm).toBe("somebody");
      await eventually(() => served.kernel.tasks().length === before, "given back");
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

  test("a listener that throws disturbs nobody; the program sees what it threw", async () => {
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
      front.close();
      const gone = () => events.filter((event) => event === "disconnected").length;
      await eventually(() => gone() > i, "gone"); // or the next may wait, and that is told
    }
    await served[Symbol.asyncDispose]();
    process.removeAllListeners("uncaughtException");
    for (const listener of others) process.on("uncaughtException", listener);
    expect(events).toEqual(["listening", ...twice("connected", "refused", "disconnected")]);
    expect(thrown).toHaveLength(6);
  });
});

const twice = (...names: string[]) => [...names, ...names];
