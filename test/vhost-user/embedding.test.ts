import { existsSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, describe, expect, test } from "vitest";
import { FrontEnd } from "#dist/bench/front-end.js";
import { blk } from "#dist/devices/blk.js";
import { Kernel } from "#dist/index.js";
import { closeFd } from "#dist/linux/libc.js";
import { listenUnix } from "#dist/linux/unix-socket.js";
import { PID_MAX_LIMIT } from "#dist/spec/sched.js";
import { serveVhostUser } from "#dist/vhost-user/server.js";
import { describeVhostUser, Served } from "../helpers/vhost-user.js";
import { FrontDisk } from "../helpers/vhost-user-disk.js";

const folder = mkdtempSync(join(tmpdir(), "vhost-wasm-test-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const good = { socketPath: join(folder, "socket"), device: blk({ nullBytes: 1 << 20 }) };

describeVhostUser("serveVhostUser", () => {
  describe("an option that is wrong is named", () => {
    test.each<[name: string, options: object | undefined]>([
      ["socketPath", undefined],
      ["socketPath", { device: good.device }],
      ["socketPath", { ...good, socketPath: "" }],
      ["socketPath", { ...good, socketPath: 7 }],
      ["device", { socketPath: good.socketPath }],
      ["device", { ...good, device: null }],
      ["device", { ...good, device: "disk.img" }],
      ["signal", { ...good, signal: {} }],
      ["asOwner", { ...good, asOwner: "no" }],
      ["memory", { ...good, memory: "all" }],
      ["kernel", { ...good, kernel: null }],
      ["kernel", { ...good, kernel: {} }],
      ["onEvent", { ...good, onEvent: "print" }],
      ["ring", { ...good, ring: "packed" }],
      ["pollMicroseconds", { ...good, pollMicroseconds: -1 }],
      ["pollMicroseconds", { ...good, pollMicroseconds: Number.NaN }],
      ["sockPath", { ...good, sockPath: "x" }],
    ])("%s: %o", async (name, options) => {
      const served = serveVhostUser(options as never);
      await expect(served).rejects.toMatchObject({
        code: "EINVAL",
        message: expect.stringContaining(name),
      });
    });
  });

  test("the kernel of the package may be named", async () => {
    const kernel = new Kernel({ pidMax: PID_MAX_LIMIT });
    await using served = await Served.start({ kernel });
    using front = served.connect();
    await front.ask("GET_FEATURES");
    await served.next("connected");
    expect(kernel.ps().some(({ pid }) => pid === process.pid)).toBe(true);
  });

  test("a qcow2 image is refused by name", async () => {
    const file = join(folder, "disk.qcow2");
    writeFileSync(file, Buffer.concat([Buffer.from("QFI\xfb", "latin1"), Buffer.alloc(508)]));
    for (const readOnly of [false, true]) {
      const serving = serveVhostUser({ ...good, device: blk({ file, readOnly }) });
      const message = expect.stringContaining("is a qcow2 image");
      await expect(serving).rejects.toMatchObject({ code: "EINVAL", message });
    }
  });

  test("of several servers that find a stale socket, one listens", async () => {
    const stale = join(folder, "stale");
    for (let round = 0; round < 3; round++) {
      closeFd(listenUnix(stale)); // as after a crash: the file stays
      const options = { ...good, socketPath: stale };
      const started = await Promise.allSettled([1, 2, 3].map(() => serveVhostUser(options)));
      const servers = started.flatMap((one) => (one.status === "fulfilled" ? [one.value] : []));
      const codes = started.flatMap((one) => (one.status === "rejected" ? [one.reason.code] : []));
      expect(codes).toEqual(["EADDRINUSE", "EADDRINUSE"]);
      using front = new FrontEnd(stale);
      await front.ask("GET_FEATURES");
      await servers[0]?.close();
      expect(existsSync(stale)).toBe(false);
    }
  });

  test("one that waits for longer than a moment is told of, and served then", async () => {
    await using served = await Served.start();
    const first = await served.ready();
    const second = served.connect();
    const features = second.ask("GET_FEATURES");
    await served.next("waiting");
    first.close();
    await features;
    second.close();
    const third = served.connect();
    const came = performance.now();
    await third.ask("GET_FEATURES");
    const waitedMs = performance.now() - came;
    third.close();
    await sleep(1100);
    // who came while the one before was leaving did not wait, unless that took long
    const isTold = served.all("waiting").length > 1;
    expect(isTold && waitedMs < 500, `told after ${waitedMs} ms`).toBe(false);
  });

  test("I/O that fails is told: how often, on which ring, why", async () => {
    const file = join(folder, "disk.img");
    writeFileSync(file, "");
    truncateSync(file, 1 << 20);
    await using served = await Served.start({ device: blk({ file }) });
    using front = await served.ready();
    const disk = new FrontDisk(front, await front.startQueue(0, 64));
    expect(await disk.read(0, 512)).toHaveLength(512);
    truncateSync(file, 4096);
    for (let i = 0; i < 3; i++) await disk.read(8192, 512).catch(() => {});
    let count = 0;
    while (count < 3) {
      const told = await served.next("io-error");
      expect(told).toMatchObject({ queue: 0, lastError: "EIO: i/o error" });
      count += told.count;
    }
    expect(count).toBe(3);
  });
});
