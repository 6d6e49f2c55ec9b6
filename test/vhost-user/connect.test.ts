// Front-ends that listen: the back-end connects to them, and again whenever one was gone.

import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, expect, test } from "vitest";
import { FrontEnd } from "#dist/bench/front-end.js";
import { closeFd } from "#dist/linux/libc.js";
import { acceptUnix, listenUnix } from "#dist/linux/unix-socket.js";
import { rejected } from "../helpers/devices.js";
import {
  describeVhostUser,
  eventually,
  expectGivenBack,
  Served,
  settled,
} from "../helpers/vhost-user.js";
import { Program } from "../helpers/vhost-user-child.js";
import { FrontDisk } from "../helpers/vhost-user-disk.js";

const folder = mkdtempSync(join(tmpdir(), "vhost-wasm-test-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
let count = 0;

/** A socket that listens, for back-ends. */
class Listener implements Disposable {
  readonly path: string;
  readonly #fd: number;

  constructor(path = join(folder, `front-${count++}`)) {
    this.path = path;
    this.#fd = listenUnix(path);
  }

  /** The next back-end. */
  async accept(): Promise<number> {
    let connection: number | undefined;
    await eventually(() => {
      connection = acceptUnix(this.#fd);
      return connection !== undefined;
    }, "a back-end");
    return connection as number;
  }

  /** How many come and are hung up on within so long. */
  async refuse(ms: number): Promise<number> {
    let refused = 0;
    for (const end = performance.now() + ms; performance.now() < end; await sleep(2)) {
      const connection = acceptUnix(this.#fd);
      if (connection === undefined) continue;
      refused++;
      closeFd(connection);
    }
    return refused;
  }

  /** As when the program has ended. */
  [Symbol.dispose](): void {
    closeFd(this.#fd);
    rmSync(this.path);
  }
}

/** A front-end that writes, reads what it wrote, and goes. */
async function useDisk(connection: number): Promise<void> {
  using front = new FrontEnd(connection);
  await front.negotiate(~0n);
  await front.setMemory();
  const drive = new FrontDisk(front, await front.startQueue(0, 64));
  const bytes = new Uint8Array(512).map(() => Math.random() * 256);
  await drive.write(0, bytes);
  expect(await drive.read(0, 512)).toEqual(bytes);
}

describeVhostUser("vhost-user: the front-end listens", () => {
  test("served, and the next one at the same path, and the next", async () => {
    const path = join(folder, "again");
    await using served = await Served.start({ connect: true, socketPath: path });
    expect(served.events).toEqual([{ event: "connecting", socketPath: path }]);
    for (let i = 0; i < 3; i++) {
      using listener = new Listener(path);
      await useDisk(await listener.accept());
      const { requests, error } = await served.next("disconnected");
      expect({ requests, error }).toEqual({ requests: 2, error: undefined });
    }
    expect(served.all("connected")).toHaveLength(3);
    expect(served.all("rejected")).toEqual([]);
  });

  test("the same one, which stays: connected again after each session", async () => {
    using listener = new Listener();
    await using served = await Served.start({ connect: true, socketPath: listener.path });
    for (let i = 0; i < 3; i++) await useDisk(await listener.accept());
    await served.idle();
    await served.server.close();
    expect(existsSync(listener.path)).toBe(true); // it is not ours
  });

  test("one that hangs up at once is asked less and less often", async () => {
    using listener = new Listener();
    await using _ = await Served.start({ connect: true, socketPath: listener.path });
    expect(await listener.refuse(2000)).toBeLessThanOrEqual(7); // 0, 50, 150, 350, 750, 1550
    await useDisk(await listener.accept());
  });

  test("given back, whether it waits, connects or serves when it ends", async () => {
    const path = join(folder, "ends");
    await (await Served.start({ connect: true, socketPath: path }))[Symbol.asyncDispose]();
    const { kernel } = new Served();
    const before = await settled(kernel);
    for (const state of ["waits", "was refused", "connected", "serves"]) {
      const options = { connect: true, socketPath: path, kernel };
      if (state === "waits") {
        await using _ = await Served.start(options);
        await sleep(100);
        continue;
      }
      using listener = new Listener(path);
      const served = await Served.start(options);
      if (state === "was refused") await listener.refuse(120);
      else if (state === "serves") {
        using front = new FrontEnd(await listener.accept());
        await front.negotiate(~0n);
        await served.server.close();
        expect(await front.receive()).toBeUndefined();
      }
      await served[Symbol.asyncDispose]();
    }
    await expectGivenBack(kernel, before);
  });

  test("a path that can't be one is refused at once; one that turns bad is told", async () => {
    const start = (socketPath: string) => Served.start({ connect: true, socketPath });
    await rejected("ENAMETOOLONG", start(join(folder, "x".repeat(108))));
    const file = join(folder, "file");
    writeFileSync(file, "");
    await rejected("EIO", start(join(file, "socket")));
    const turns = join(folder, "turns");
    await using served = await start(join(turns, "socket"));
    await sleep(60);
    writeFileSync(turns, "");
    expect((await served.next("rejected")).error.code).toBe("EIO");
    await sleep(1500);
    expect(served.all("rejected")).toHaveLength(1);
  });

  test.each(["blk --null 1M", "rng", "net", "vsock --cid 91 --unix U", "console --unix U"])(
    "serve %s --connect",
    async (words) => {
      const socket = join(folder, `cli-${count++}`);
      const args = words.replace("U", `${socket}.unix`).split(" ");
      const at = ["--socket", socket];
      const program = Program.cli("serve", ...args, "--connect", "--log", "json", ...at);
      try {
        await program.next("connecting");
        for (let i = 0; i < 2; i++) {
          using listener = new Listener(socket);
          using front = new FrontEnd(await listener.accept());
          await front.negotiate(0n);
        }
      } finally {
        program.child.kill("SIGTERM");
      }
      expect(await program.outcome()).toMatchObject({ code: 0, stderr: "" });
    },
  );
});
