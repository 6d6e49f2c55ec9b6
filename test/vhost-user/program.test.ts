import { existsSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { FrontEnd, u64s } from "#dist/bench/front-end.js";
import { makeEventfd } from "#dist/linux/eventfd.js";
import { closeFd } from "#dist/linux/libc.js";
import { describeVhostUser, Served, useDisk } from "../helpers/vhost-user.js";
import { Program, Serving } from "../helpers/vhost-user-child.js";

describeVhostUser("a program that serves over vhost-user", () => {
  describe("ends promptly by process.exit", () => {
    test("with nobody connected", async () => {
      await using serving = await Serving.start(2);
      serving.program.say("exit");
      expect(await serving.program.end(3000)).toBe(7);
    });

    test("while a worker sleeps", async () => {
      await using serving = await Serving.start(2);
      using front = new FrontEnd(serving.paths[0] as string);
      await front.negotiate(~0n);
      await front.setMemory();
      await front.startQueue(0, 8);
      await sleep(100);
      const before = performance.now();
      serving.program.say("exit");
      expect(await serving.program.end()).toBe(7);
      expect(performance.now() - before).toBeLessThan(3000);
      expect(await front.receive()).toBeUndefined();
    });

    test("while a worker works", async () => {
      await using serving = await Serving.start(1, { pollMicroseconds: 1_000_000 });
      using front = new FrontEnd(serving.paths[0] as string);
      await front.negotiate(~0n);
      await front.setMemory();
      await front.startQueue(0, 8);
      serving.program.say("exit");
      expect(await serving.program.end(5000)).toBe(7);
    });
  });

  test("ends by itself when its servers are closed", async () => {
    await using serving = await Serving.start(3);
    await useDisk(serving.paths[1] as string);
    serving.program.say("close");
    expect(await serving.program.end(5000)).toBe(0);
    expect(serving.paths.some((path) => existsSync(path))).toBe(false);
    expect(serving.program.stderr).toBe("");
  });

  test("that is killed leaves a socket that the next one takes", async () => {
    await using serving = await Serving.start();
    const [path] = serving.paths as [string];
    serving.program.child.kill("SIGKILL");
    await serving.program.end();
    expect(existsSync(path)).toBe(true);
    await using next = Program.script("vhost-user-program.mjs", ["{}", path]);
    await next.next("listening");
    await useDisk(path);
  });

  // found by reading: the loop went on as long as there was a message
  test("is not held up by a front-end that never stops talking", async () => {
    await using served = await Served.start();
    await using child = Program.script("vhost-user-front.mjs", []);
    await child.next("ready");
    child.say(`flood ${served.path} 4000`);
    await served.next("connected");
    let longest = 0;
    for (let i = 0; i < 50; i++) {
      const before = performance.now();
      await sleep(5);
      longest = Math.max(longest, performance.now() - before);
    }
    expect(longest).toBeLessThan(1000);
    expect(served.all("disconnected")).toEqual([]);
    const before = performance.now();
    await served.server.close();
    expect(performance.now() - before).toBeLessThan(2000);
  });

  describe("that runs out of descriptors", () => {
    test("goes on: who took them is sent away, the others wait and are served", async () => {
      await using serving = await Serving.start(2, { disk: { memoryBytes: 4096, queues: 32 } }, 96);
      const [first, second] = serving.paths as [string, string];
      const greedy = new FrontEnd(first);
      await greedy.negotiate(~0n);
      let taken = 0;
      for (const kind of ["SET_VRING_KICK", "SET_VRING_CALL", "SET_VRING_ERR"] as const) {
        for (let index = 0; index < 32; index++) {
          const fd = makeEventfd();
          const isTaken = await greedy.tell(kind, u64s(index), [fd]).catch(() => undefined);
          closeFd(fd);
          if (isTaken) taken++;
          else break;
        }
      }
      expect(taken).toBeGreaterThan(10);
      expect(taken).toBeLessThan(96);
      using waiting = new FrontEnd(second);
      waiting.send("GET_FEATURES");
      await sleep(300);
      greedy.close();
      await serving.program.next("disconnected");
      const isServed = (await waiting.receive()) !== undefined;
      waiting.close();
      if (!isServed) await serving.program.next("rejected");
      await useDisk(second);
      await useDisk(first);
      serving.program.say("close");
      expect(await serving.program.end()).toBe(0);
      expect(serving.program.stderr).toBe("");
    });

    test("tells it, and serves who waited when there are some again", async () => {
      await using serving = await Serving.start(1, {}, 200);
      const { program } = serving;
      const [path] = serving.paths as [string];
      await useDisk(path);
      await program.next("disconnected");
      await sleep(100);
      program.say("eat 0");
      await program.next("eaten");
      using waiting = new FrontEnd(path);
      waiting.send("GET_FEATURES");
      expect((await program.next("rejected")).error).toMatchObject({ code: "EMFILE" });
      program.say("feed");
      expect((await waiting.receive())?.payload.byteLength).toBe(8);
      waiting.close();
      await program.next("disconnected");
      for (const left of [1, 2, 4, 7]) {
        await sleep(150); // what the last session held is given back
        program.say(`eat ${left}`);
        await program.next("eaten");
        const front = new FrontEnd(path);
        await program.next("rejected");
        front.close();
        program.say("feed");
        await program.next("fed");
        await useDisk(path);
        await program.next("disconnected");
      }
      program.say("close");
      expect(await program.end()).toBe(0);
      expect(program.stderr).toBe("");
    });

    // the thread that waits for sockets is not up yet when the server says that it listens
    test("right after it began", async () => {
      await using serving = await Serving.start(1, {}, 200);
      const { program } = serving;
      program.say("eat 0");
      await program.next("eaten");
      await sleep(300);
      program.say("feed");
      await program.next("fed");
      await useDisk(serving.paths[0] as string);
      program.say("close");
      expect(await program.end()).toBe(0);
    });
  });
});
