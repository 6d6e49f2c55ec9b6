// What may go wrong with a TAP: nobody stops, it is counted and told, and nothing is left.

import { spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { cpSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { Kernel, net, Switch, type VhostError } from "#dist/index.js";
import { closeFd, libc } from "#dist/linux/libc.js";
import { openTap } from "#dist/linux/tap.js";
import { VIRTIO_NET_HDR_BYTES } from "#dist/spec/virtio-net.js";
import { threadCount } from "../helpers/devices.js";
import { station } from "../helpers/net-frames.js";
import { testWith } from "../helpers/skip.js";
import { ROOT } from "../helpers/source.js";
import { collect, experiment, openTapLan, receiveAll, sendAll } from "../helpers/tap-lan.js";
import {
  bringUp,
  describeTaps,
  fdCount,
  hasInterface,
  ip,
  PacketSocket,
  tapName,
} from "../helpers/taps.js";

const ALL = "ff:ff:ff:ff:ff:ff";
/** Linux: include/uapi/linux/if_tun.h. */
const TUNSETPERSIST = 0x400454cb;

describeTaps("what may go wrong", () => {
  test("the host floods a guest that takes nothing: dropped, counted, nobody stops", async () => {
    await using lan = await openTapLan();
    bringUp(lan.name);
    using socket = new PacketSocket(lan.name);
    await lan.driver.close(); // no buffers any more
    const frame = experiment(ALL, station(1), Buffer.alloc(1000));
    const flood = async (least: number) => {
      const { missed } = lan.guestPort.counts();
      for (let i = 0; lan.guestPort.counts().missed < missed + least; i++) {
        socket.send(frame);
        if (i % 256 === 0) await sleep(0);
      }
    };
    await flood(100);
    const [fds, threads] = [fdCount(), threadCount()];
    await flood(1000);
    expect(fdCount()).toBeLessThanOrEqual(fds); // what was before may end meanwhile
    expect(threadCount()).toBe(threads);
    const again = await lan.device.driver();
    const got = collect(again);
    await again.send(experiment(station(1), station(2), Buffer.from("still here")));
    expect(await receiveAll(socket, 1)).toHaveLength(1);
    // What waits is the guest's yet; behind it there is room again.
    const last = experiment(station(2), station(1), Buffer.from("at last"));
    const isLast = () => {
      if (got.at(-1)?.equals(last)) return true;
      socket.send(last);
      return false;
    };
    await expect.poll(isLast).toBe(true);
    expect(lan.events).toEqual([]);
  });

  test("a guest floods the host: what is not taken is counted, nothing is kept", async () => {
    await using lan = await openTapLan();
    bringUp(lan.name);
    const frames = Array.from({ length: 3000 }, () => experiment(ALL, station(2), randomBytes(64)));
    await sendAll(lan.driver, frames);
    const all = () => {
      const { sent, discarded, missed } = lan.tapPort.counts();
      return sent + discarded + missed;
    };
    await expect.poll(all).toBe(frames.length);
    expect(lan.tapPort.counts().discarded).toBe(0);
  });

  test("an interface that is down takes nothing: told once, counted; and up again", async () => {
    await using lan = await openTapLan();
    const frame = experiment(ALL, station(2), Buffer.from("hello"));
    for (let i = 0; i < 5; i++) await lan.driver.send(frame);
    await expect.poll(() => lan.tapPort.counts().discarded).toBe(5);
    await expect.poll(() => lan.events).toEqual([{ tap: lan.name, state: "down" }]);
    expect(lan.tap.state).toBe("down");
    bringUp(lan.name);
    using socket = new PacketSocket(lan.name);
    await lan.driver.send(frame);
    expect(await receiveAll(socket, 1)).toEqual([frame]);
    await expect.poll(() => lan.events.map(({ state }) => state)).toEqual(["down", "up"]);
  });

  test("deleted: told once, the guests go on; an interface made anew is taken", async () => {
    const name = tapName();
    await using lan = await openTapLan(name);
    bringUp(name);
    await using process = new Kernel().spawn({ memoryBytes: 8 << 20 });
    const third = await process.open(net({ switch: lan.lan.port(), mac: station(3) }));
    const got = collect(await third.driver());
    const frame = experiment(ALL, station(2), Buffer.from("hello"));
    await lan.driver.send(frame);
    await expect.poll(() => lan.tapPort.counts().sent).toBe(1); // all of it is up
    const before = [fdCount(), threadCount()];
    ip("link", "del", name);
    await expect.poll(() => lan.tap.state).toBe("gone");
    for (let i = 0; i < 20; i++) await lan.driver.send(frame);
    await expect.poll(() => got.length).toBe(21);
    await expect.poll(threadCount).toBe((before[1] as number) - 1);
    expect(fdCount()).toBeLessThan(before[0] as number);
    await sleep(1500); // it has looked
    expect(hasInterface(name)).toBe(false); // it is not for us to make it again
    ip("tuntap", "add", "dev", name, "mode", "tap");
    await expect.poll(() => lan.events.map(({ state }) => state)).toEqual(["gone", "down"]);
    expect(lan.tap.state).toBe("down"); // nobody has brought it up
    await expect.poll(threadCount).toBe(before[1]);
    await lan.driver.send(frame);
    await expect.poll(() => lan.tapPort.counts().discarded).toBe(1);
    bringUp(name);
    using socket = new PacketSocket(name);
    await lan.driver.send(frame);
    expect(await receiveAll(socket, 1)).toEqual([frame]);
    await expect.poll(() => lan.events.map(({ state }) => state)).toEqual(["gone", "down", "up"]);
  });

  test("made anew, and up before it is looked at: told as what it is", async () => {
    const name = tapName();
    await using lan = await openTapLan(name);
    ip("link", "del", name);
    await expect.poll(() => lan.tap.state).toBe("gone");
    const { fd } = openTap(name, VIRTIO_NET_HDR_BYTES); // nobody else has it as long as we do
    bringUp(name);
    expect(libc().ioctl(fd, TUNSETPERSIST, 1)).toBe(0);
    closeFd(fd);
    await expect.poll(() => lan.events.map(({ state }) => state)).toEqual(["gone", "up"]);
    using socket = new PacketSocket(name);
    const frame = experiment(ALL, station(2), Buffer.from("hello"));
    await lan.driver.send(frame);
    expect(await receiveAll(socket, 1)).toEqual([frame]);
  });

  test("deleted amid a flood from both sides", async () => {
    const name = tapName();
    await using lan = await openTapLan(name);
    bringUp(name);
    using socket = new PacketSocket(name);
    const frame = experiment(ALL, station(2), randomBytes(1400));
    const frames = Array.from({ length: 2000 }, () => frame);
    const sending = sendAll(lan.driver, frames);
    for (let i = 0; i < 500; i++) socket.send(experiment(ALL, station(1), randomBytes(1400)));
    ip("link", "del", name);
    await sending;
    await expect.poll(() => lan.events.map(({ state }) => state).at(-1)).toBe("gone");
    expect(lan.events.filter(({ state }) => state === "gone")).toHaveLength(1);
    await expect.poll(() => lan.driver.room).toBeGreaterThan(0);
    await lan.driver.send(frame);
  });

  test("it is open once; its port is one thing's; nothing is left of it", async () => {
    const before = [fdCount(), threadCount()];
    const name = tapName();
    const lan = new Switch();
    const port = lan.port();
    const tap = port.tap(name);
    expect(hasInterface(name)).toBe(true);
    expect(() => lan.port().tap(name)).toThrow(/^EBUSY: .*another program/);
    expect(() => port.tap(tapName())).toThrow(/^EBUSY: port 0/);
    expect(() => lan.close()).toThrow(/^EBUSY: .*TAP/);
    await using process = new Kernel().spawn();
    const opened = process.open(net({ switch: port })).catch((error: VhostError) => error.code);
    expect(await opened).toBe("EBUSY");
    await Promise.all([tap.close(), tap.close()]);
    expect(hasInterface(name)).toBe(false);
    await using device = await process.open(net({ switch: port }));
    expect(() => port.tap(name)).toThrow(/^EBUSY/);
    await device.close();
    lan.close();
    expect(() => port.tap(name)).toThrow(/^ENODEV/);
    expect(hasInterface(name)).toBe(false);
    await process.exit();
    await expect.poll(() => [fdCount(), threadCount()]).toEqual(before);
  });

  test("an interface of another kind is refused in words", () => {
    const lan = new Switch();
    expect(() => lan.port().tap("lo")).toThrow(/^EINVAL: .*another kind.*ip tuntap add/);
    const tun = tapName();
    ip("tuntap", "add", "dev", tun, "mode", "tun");
    expect(() => lan.port().tap(tun)).toThrow(/^EINVAL: .*another kind/);
    const queues = tapName();
    ip("tuntap", "add", "dev", queues, "mode", "tap", "multi_queue");
    expect(() => lan.port().tap(queues)).toThrow(/^EINVAL: .*another kind/);
  });

  /** Opens a TAP in a program of its own, and prints what it throws. */
  const opening = (name: string, more = "", home = ROOT) => `
    const { Switch } = await import(${JSON.stringify(`${home}/dist/index.js`)});
    const lan = new Switch();
    const events = [];
    const onEvent = ({ state, error }) => {
      events.push(state);
      console.log(state + (error ? " " + error.message : ""));
    };
    try {
      const tap = lan.port().tap(${JSON.stringify(name)}, { onEvent });
      console.log("open");
      ${more}
    } catch (error) {
      console.log(error.message);
    }`;
  const NODE = ["--input-type=module", "-e"];
  const nobody = { uid: 65534, gid: 65533, cwd: "/", encoding: "utf8" as const };
  const reads = spawnSync(process.execPath, [...NODE, opening("/")], nobody);
  const unreadable = /EINVAL/.test(reads.stdout) ? undefined : "that others may read this package";

  test("a thread that dies is told, with the reason; another takes its place", () => {
    const home = mkdtempSync(join(tmpdir(), "vhost-wasm-test-"));
    try {
      const filter = (path: string) => !/dist\/(bench|conformance|fuzz|sim|readme-)/.test(path);
      cpSync(join(ROOT, "dist"), join(home, "dist"), { recursive: true, filter });
      for (const name of ["node_modules", "package.json"]) {
        symlinkSync(join(ROOT, name), join(home, name));
      }
      writeFileSync(join(home, "dist/devices/net-tap-thread.js"), 'throw new Error("mine");');
      const name = tapName();
      ip("tuntap", "add", "dev", name, "mode", "tap");
      const more = `
        while (events.length < 3) await new Promise((go) => setTimeout(go, 20));
        process.exit();`;
      const args = [...NODE, opening(name, more, home)];
      const { stdout, status } = spawnSync(process.execPath, args, { encoding: "utf8" });
      const lines = stdout.split("\n").slice(0, 4);
      expect([status, lines]).toEqual([0, ["open", "gone mine", "down", "gone mine"]]);
    } finally {
      rmSync(home, { recursive: true });
    }
  });

  testWith(unreadable, "another user: its own interface, and no other", () => {
    const name = tapName();
    const none = spawnSync(process.execPath, [...NODE, opening(name)], nobody);
    expect(none.stdout).toMatch(/^EPERM: .*CAP_NET_ADMIN, or root to make it.*user NAME/);
    ip("tuntap", "add", "dev", name, "mode", "tap", "user", "65534");
    const own = spawnSync(process.execPath, [...NODE, opening(name)], nobody);
    expect([own.stdout, own.stderr, own.status]).toEqual(["open\n", "", 0]);
    expect(hasInterface(name)).toBe(true);
  });

  test("it does not keep the program alive; an end with it open is quick", () => {
    for (const more of ["", "await new Promise((go) => setTimeout(go, 300)); process.exit(3);"]) {
      const name = tapName();
      const from = performance.now();
      const { stdout, status } = spawnSync(process.execPath, [...NODE, opening(name, more)], {
        encoding: "utf8",
        timeout: 20_000,
      });
      expect([stdout, status]).toEqual(["open\n", more === "" ? 0 : 3]);
      expect(performance.now() - from).toBeLessThan(10_000);
      expect(hasInterface(name)).toBe(false);
    }
  });
});

describe("misuse is refused by name", () => {
  test.each([
    "",
    ".",
    "..",
    "a/b",
    "tap%d",
    "a b",
    "tap\0",
    "tap:1",
    "a-name-of-16-byt",
    7 as never,
  ])("%j is no interface's name", (name) => {
    expect(() => new Switch().port().tap(name)).toThrow(/^EINVAL: .*1 to 15 bytes/);
  });

  test("options", () => {
    const port = new Switch().port();
    expect(() => port.tap("tap0", { colour: 1 } as never)).toThrow(/colour/);
    expect(() => port.tap("tap0", { onEvent: 1 as never })).toThrow(/onEvent is a function/);
  });
});
