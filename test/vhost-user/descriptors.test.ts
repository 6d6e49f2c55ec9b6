import { execFileSync } from "node:child_process";
import { closeSync, constants, mkdtempSync, openSync, readdirSync, readlinkSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { FrontEnd, u64s } from "#dist/bench/front-end.js";
import { makeEventfd } from "#dist/linux/eventfd.js";
import { closeFd } from "#dist/linux/libc.js";
import { describeVhostUser, eventually, sendUntilGone, useDisk } from "../helpers/vhost-user.js";
import { FdKinds, NEED_REPLY, nativeCall } from "../helpers/vhost-user-bad.js";
import { Serving } from "../helpers/vhost-user-child.js";

/** Descriptors of a program that are of that kind. */
function fdsOf(pid: number | undefined, kind: string): number {
  const folder = `/proc/${pid}/fd`;
  return readdirSync(folder).filter((fd) => {
    try {
      return readlinkSync(`${folder}/${fd}`).startsWith(kind);
    } catch {
      return false;
    }
  }).length;
}

const none = new Uint8Array(0);

describeVhostUser("vhost-user: descriptors that run out", () => {
  test("who took them is stopped, the others wait and are served", async () => {
    await using serving = await Serving.start(
      2,
      { disk: { memoryBytes: 4096, queues: 32 } },
      { fdsMax: 112 },
    );
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
    // Perhaps it was rejected before the other had gone.
    const { lines } = serving.program;
    const isRejected = () => lines.some(({ event }) => event === "rejected");
    if (!isServed) await eventually(isRejected, () => "rejected");
    await useDisk(second);
    await useDisk(first);
    serving.program.say("close");
    expect(await serving.program.end()).toBe(0);
    expect(serving.program.stderr).toBe("");
  });

  describe("a program that has none left", () => {
    let serving: Serving;
    beforeAll(async () => {
      serving = await Serving.start(1, {}, { fdsMax: 200 });
      await useDisk(serving.paths[0] as string);
      await serving.program.next("disconnected");
    });
    afterAll(() => serving?.[Symbol.asyncDispose]());

    const eat = async (left: number) => {
      serving.program.say(`eat ${left}`);
      await serving.program.next("eaten");
    };
    const feed = async () => {
      serving.program.say("feed");
      await serving.program.next("fed");
    };

    test("tells it, and serves who waited when there are some again", async () => {
      const { program } = serving;
      const [path] = serving.paths as [string];
      await eat(0);
      using waiting = new FrontEnd(path);
      waiting.send("GET_FEATURES");
      expect((await program.next("rejected")).error).toMatchObject({ code: "EMFILE" });
      await feed();
      expect((await waiting.receive())?.payload.byteLength).toBe(8);
      waiting.close();
      await program.next("disconnected");
      for (const left of [1, 2, 4, 7]) {
        await eat(left);
        const front = new FrontEnd(path);
        await program.next("rejected");
        front.close();
        await feed();
        await useDisk(path);
        await program.next("disconnected");
      }
    });

    // found by reading: what closes them needed descriptors itself
    test("keeps none that was sent to it then", async () => {
      const { program } = serving;
      const kinds = new FdKinds();
      using front = new FrontEnd(serving.paths[0] as string);
      await front.negotiate(~0n);
      const before = fdsOf(program.child.pid, "pipe:");
      const pipes = new Array(8).fill(kinds.of("pipe, to read"));
      for (let i = 0; i < 5; i++) {
        await eat(9);
        expect(await front.tell("SET_OWNER", none, pipes)).toBe(false);
        await feed();
      }
      front.close();
      kinds.close();
      await program.next("disconnected");
      await eventually(() => fdsOf(program.child.pid, "pipe:") <= before, "the pipes closed");
    });

    test("can't have one more server, and goes on; later it can", async () => {
      const { program } = serving;
      await eat(0);
      program.say("serve");
      expect((await program.next("not-serving")).message).toMatch(/EMFILE|too many open/);
      await feed();
      program.say("serve");
      await program.next("serving");
      await useDisk(serving.paths[0] as string);
      program.say("close");
      expect(await program.end()).toBe(0);
      expect(program.stderr).toBe("");
    });
  });

  test("right after a program began to serve", async () => {
    await using serving = await Serving.start(1, {}, { fdsMax: 200 });
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

  test("a first server that can't be had is an error to catch, no more", async () => {
    await using serving = await Serving.start(0, {}, { fdsMax: 116 });
    const { program } = serving;
    for (const left of [0, 2, 4, 6, 8]) {
      program.say(`eat ${left}`);
      await program.next("eaten");
      program.say("serve");
      await eventually(
        () => program.isOver || /serving/.test(program.lines.at(-1)?.event ?? ""),
        "an answer",
      );
      expect(program.stderr).toBe("");
      program.say("feed");
      await program.next("fed");
    }
    program.say("ping");
    await program.next("pong");
  });
});

/** A file of folders in folders, whose path has more than 4096 bytes. */
function openDeep(folder: string): number {
  const script = `let at = 0;
    for (process.chdir(process.argv[1]); at < 30; at++) {
      const name = "x".repeat(200);
      fs.mkdirSync(name);
      process.chdir(name);
    }
    fs.writeFileSync("file", "");`;
  execFileSync(process.execPath, ["-e", script, folder]);
  let fd = openSync(folder, constants.O_RDONLY);
  for (let at = 0; at <= 30; at++) {
    const name = at < 30 ? "x".repeat(200) : "file";
    const next = openSync(`/proc/self/fd/${fd}/${name}`, constants.O_RDONLY);
    closeSync(fd);
    fd = next;
  }
  return fd;
}

describeVhostUser("vhost-user: descriptors left behind", () => {
  // more than the program may have, were they all taken out of the socket at once
  test("in messages that were never read: all are closed, the program goes on", async () => {
    await using serving = await Serving.start(2, {}, { fdsMax: 256 });
    const { program } = serving;
    const [path, other] = serving.paths as [string, string];
    const before = fdsOf(program.child.pid, "pipe:");
    const kinds = new FdKinds();
    const pipes = new Array(100).fill(kinds.of("pipe, to read"));
    for (let i = 0; i < 3; i++) {
      const front = new FrontEnd(path);
      await front.ask("GET_FEATURES");
      sendUntilGone(() => {
        for (let sent = 0; sent < 12; sent++) front.send("SET_OWNER", none, pipes, NEED_REPLY);
      });
      while (await front.receive());
      front.close();
      await program.next("disconnected");
      await useDisk(other);
      await useDisk(path);
    }
    kinds.close();
    const isClean = () => fdsOf(program.child.pid, "pipe:") < before + 20; // threads have some
    await eventually(isClean, "the pipes closed");
    program.say("close");
    expect(await program.end()).toBe(0);
    expect(program.stderr).toBe("");
  });

  test("a file whose path is longer than can be told", async () => {
    await using serving = await Serving.start();
    const { program } = serving;
    const [path] = serving.paths as [string];
    const deep = mkdtempSync(join(tmpdir(), "vhost-wasm-test-"));
    const fd = openDeep(deep);
    const front = new FrontEnd(path);
    front.send("SET_OWNER", none, [fd, fd], NEED_REPLY);
    while (await front.receive()) {}
    front.close();
    await program.next("disconnected");
    closeSync(fd);
    execFileSync("rm", ["-rf", deep]); // which goes down folder by folder
    expect(program.stderr).toBe("");
    program.say("ping");
    await program.next("pong");
  });

  test("a socket whose closing takes long holds nobody up, nor the program's end", async () => {
    await using serving = await Serving.start();
    const [path] = serving.paths as [string];
    const lingering = await lingeringSocket();
    using front = new FrontEnd(path);
    await front.negotiate(~0n);
    front.send("SET_OWNER", none, [lingering.fd], NEED_REPLY);
    lingering.close(); // the server's is the last
    expect((await front.receive())?.payload.getBigUint64(0, true)).not.toBe(0n);
    front.close();
    await useDisk(path);
    serving.program.say("close");
    await serving.program.next("closed");
    expect(await serving.program.end()).toBe(0);
    await lingering.end();
  }, 90_000);
});

/** A connected TCP socket with bytes that nobody reads, whose last close waits 60 s for them. */
async function lingeringSocket() {
  const readers: Socket[] = [];
  const server = createServer((socket) => readers.push(socket.pause()));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", () => resolve()));
  const { port } = server.address() as { port: number };
  const fd = nativeCall("int socket(int domain, int type, int protocol)")(2, 0o2000001, 0);
  const address = new Uint8Array([
    2,
    0,
    port >> 8,
    port & 255,
    127,
    0,
    0,
    1,
    0,
    0,
    0,
    0,
    0,
    0,
    0,
    0,
  ]);
  expect(nativeCall("int connect(int fd, void *address, uint length)")(fd, address, 16)).toBe(0);
  await eventually(() => readers.length > 0, "accepted");
  const send = nativeCall("int64_t send(int fd, void *bytes, size_t length, int flags)");
  const MSG_DONTWAIT = 0x40;
  const much = new Uint8Array(1 << 16);
  for (let i = 0; i < 5; i++, await sleep(30))
    while (send(fd, much, much.length, MSG_DONTWAIT) > 0);
  const linger = Int32Array.of(1, 60);
  const set = nativeCall("int setsockopt(int fd, int level, int name, void *value, uint length)");
  expect(set(fd, 1, 13, linger, 8)).toBe(0);
  return {
    fd,
    close: () => closeFd(fd),
    end: async () => {
      for (const reader of readers) reader.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
