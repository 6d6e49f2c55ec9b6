// A TAP under load: whatever a guest sends to it, and whatever is done to the interface meanwhile.

import { setTimeout as sleep } from "node:timers/promises";
import fc from "fast-check";
import { expect, test } from "vitest";
import { net, Switch, type TapEvent } from "#dist/index.js";
import { Random } from "../fuzz/random.js";
import { threadCount } from "../helpers/devices.js";
import { damages, kinds, packetOf, piecesOf, SENDS } from "../helpers/net-damage.js";
import { station } from "../helpers/net-frames.js";
import { largePacket } from "../helpers/net-large-frames.js";
import { NetPeer, RINGS, until } from "../helpers/net-peer.js";
import { framesOf } from "../helpers/net-reference.js";
import { collect, experiment, openTapLan, receiveAll } from "../helpers/tap-lan.js";
import { bringUp, describeTaps, fdCount, ip, PacketSocket, tapName } from "../helpers/taps.js";

const ALL = "ff:ff:ff:ff:ff:ff";
const SEED = Number(process.env.FC_SEED ?? Date.now() % 0x8000_0000);

describeTaps("a TAP under load", () => {
  test.each(RINGS)("any packets of a guest, $ring ring, packed: $packed", async (rings) => {
    console.log(`packets to a TAP: FC_SEED=${SEED}`);
    const lan = new Switch();
    const [tapPort, port] = [lan.port(), lan.port()];
    const events: TapEvent[] = [];
    const tap = tapPort.tap(tapName(), { onEvent: (event) => events.push(event) });
    bringUp(tap.name);
    using socket = new PacketSocket(tap.name);
    const guest = await NetPeer.open(net({ switch: port }), { ...rings, features: SENDS });
    const hello = experiment(ALL, station(1), Buffer.from("hello"));
    await guest.send([Buffer.alloc(12), hello]);
    await receiveAll(socket, 1); // all threads are there
    const [fds, threads] = [fdCount(), threadCount()];
    const property = fc.asyncProperty(kinds, damages, async (kind, damage) => {
      await guest.send(piecesOf(packetOf(kind, damage), damage));
      const { forwarded } = port.counts();
      const taken = () => {
        const { sent, discarded } = tapPort.counts();
        return sent + discarded;
      };
      await until(() => taken() === forwarded);
    });
    await fc.assert(property, { seed: SEED, numRuns: 150 });
    expect(port.counts().dropped).toBe(0);
    expect(tapPort.counts().sent).toBeGreaterThan(5);
    const last = experiment(ALL, station(1), Buffer.from("still here"));
    await guest.send([Buffer.alloc(12), last]);
    expect((await receiveAll(socket, 1))[0]).toEqual(last);
    expect(fdCount()).toBeLessThanOrEqual(fds); // what was before may end meanwhile
    expect(threadCount()).toBe(threads);
    expect(events).toEqual([]);
    await guest[Symbol.asyncDispose]();
    await tap.close();
    lan.close();
  });

  test("sound packets of a guest: the host takes all of them", async () => {
    console.log(`sound packets to a TAP: FC_SEED=${SEED}`);
    using lan = new Switch();
    const [tapPort, port] = [lan.port(), lan.port()];
    await using tap = tapPort.tap(tapName());
    bringUp(tap.name);
    await using guest = await NetPeer.open(net({ switch: port }), { features: SENDS });
    const property = fc.asyncProperty(kinds, async (kind) => {
      const { packet } = largePacket(kind);
      fc.pre(framesOf(packet) !== undefined);
      await guest.send([packet]);
      await until(() => tapPort.counts().sent === port.counts().forwarded);
    });
    await fc.assert(property, { seed: SEED, numRuns: 150 });
    expect(tapPort.counts()).toMatchObject({ discarded: 0, missed: 0 });
  });

  test("down, up, longer, renamed, deleted and made anew, while both sides send", async () => {
    console.log(`an interface that changes: FC_SEED=${SEED}`);
    const random = new Random(SEED);
    const name = tapName();
    const other = tapName();
    ip("tuntap", "add", "dev", name, "mode", "tap");
    await using lan = await openTapLan(name);
    bringUp(name);
    const got = collect(lan.driver);
    const to = experiment(ALL, station(2), Buffer.alloc(1000));
    const from = experiment(ALL, station(1), Buffer.alloc(1000));
    let socket = new PacketSocket(name);
    let isOver = false;
    const sending = (async () => {
      while (!isOver) {
        for (let i = 0; i < 20 && lan.driver.room > 0; i++) lan.driver.send(to).catch(() => {});
        for (let i = 0; i < 20; i++) socket.send(from);
        await sleep(1);
      }
    })();
    await expect.poll(() => got.length).toBeGreaterThan(0);
    const makeAnew = async () => {
      ip("link", "del", name);
      await sleep(random.below(3) * 20);
      ip("tuntap", "add", "dev", name, "mode", "tap");
      socket[Symbol.dispose]();
      socket = new PacketSocket(name);
    };
    const isUp = async () => {
      bringUp(name);
      await until(() => lan.tap.state === "up", `FC_SEED=${SEED}`);
      const { sent, received } = lan.tapPort.counts(); // it goes on, both ways
      await until(() => lan.tapPort.counts().sent > sent + 50, `FC_SEED=${SEED}`);
      await until(() => lan.tapPort.counts().received > received + 50, `FC_SEED=${SEED}`);
    };
    await makeAnew(); // what is made once is there then
    await expect.poll(() => lan.tap.state).not.toBe("up");
    await isUp();
    const before = [fdCount(), threadCount()];
    const actions: (() => unknown)[] = [
      () => ip("link", "set", name, "down"),
      () => ip("link", "set", name, "mtu", String(random.between(68, 65_521))),
      async () => {
        ip("link", "set", name, "down");
        ip("link", "set", name, "name", other);
        ip("link", "set", other, "up");
        await sleep(random.below(50));
        ip("link", "set", other, "down");
        ip("link", "set", other, "name", name);
      },
      makeAnew,
    ];
    for (let round = 0; round < 25; round++) {
      await random.pick(actions)();
      await sleep(random.below(20));
      if (random.once(2)) bringUp(name);
    }
    ip("link", "set", name, "mtu", "1500");
    await isUp();
    isOver = true;
    await sending;
    socket[Symbol.dispose]();
    using last = new PacketSocket(name);
    const words = Buffer.from("both ways");
    const isSaid = (frame: Buffer | undefined) => frame?.subarray(14).equals(words) ?? false;
    await lan.driver.send(experiment(ALL, station(2), words));
    await until(() => isSaid(last.receive()), `FC_SEED=${SEED}`);
    await until(() => last.send(experiment(ALL, station(1), words)));
    await until(() => isSaid(got.at(-1)));
    await expect.poll(() => [fdCount(), threadCount()]).toEqual(before);
    for (const [index, { state }] of lan.events.entries()) {
      expect(state).not.toBe(lan.events[index - 1]?.state ?? "up"); // each is told once
    }
  });
});
