import { existsSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { FrontEnd } from "#dist/bench/front-end.js";
import { describeVhostUser, Served, useDisk } from "../helpers/vhost-user.js";
import { Program, Serving } from "../helpers/vhost-user-child.js";

describeVhostUser("a program that serves over vhost-user", () => {
  describe("ends promptly by process.exit", () => {
    test("with nobody connected", async () => {
      await using serving = await Serving.start(2);
      serving.program.say("exit");
      expect(await serving.program.end()).toBe(7);
    });

    test("while a worker sleeps", async () => {
      await using serving = await Serving.start(2);
      using front = new FrontEnd(serving.paths[0] as string);
      await front.negotiate(~0n);
      await front.setMemory();
      await front.startQueue(0, 8);
      await sleep(100);
      serving.program.say("exit");
      expect(await serving.program.end()).toBe(7);
      expect(await front.receive()).toBeUndefined();
    });

    test("while a worker works", async () => {
      await using serving = await Serving.start(1, { pollMicroseconds: 1_000_000 });
      using front = new FrontEnd(serving.paths[0] as string);
      await front.negotiate(~0n);
      await front.setMemory();
      await front.startQueue(0, 8);
      serving.program.say("exit");
      expect(await serving.program.end()).toBe(7);
    });
  });

  test("ends by itself when its servers are closed", async () => {
    await using serving = await Serving.start(3);
    await useDisk(serving.paths[1] as string);
    serving.program.say("close");
    expect(await serving.program.end()).toBe(0);
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
    child.say(`flood ${served.path} 40000`); // longer than the test may take
    await served.next("connected");
    for (let i = 0; i < 50; i++) await sleep(5);
    expect(served.all("disconnected")).toEqual([]);
    await served.server.close();
  });
});
