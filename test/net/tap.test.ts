// A TAP at a port of a switch: frames between guests and the host's own network stack.

import { randomBytes } from "node:crypto";
import { createSocket, type RemoteInfo, type Socket } from "node:dgram";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import type { NetDriver } from "#dist/driver/net.js";
import { Kernel, net, Switch } from "#dist/index.js";
import { VIRTIO_NET_F_CSUM, VIRTIO_NET_F_GUEST_CSUM } from "#dist/spec/virtio-net.js";
import { frameOf, station } from "../helpers/net-frames.js";
import {
  arpReply,
  type Datagram,
  datagramOf,
  stationOf,
  UDP_AT,
  udpFrame,
} from "../helpers/net-ip.js";
import { bit, RawGuest, VERSION_1 } from "../helpers/raw-guest.js";
import { testWith } from "../helpers/skip.js";
import { collect, experiment, openTapLan, receiveAll, sendAll } from "../helpers/tap-lan.js";
import {
  bringUp,
  describeTaps,
  ETHERTYPE,
  hasBridges,
  ip,
  NETWORK,
  PacketSocket,
  tapName,
} from "../helpers/taps.js";

const ALL = "ff:ff:ff:ff:ff:ff";
const HOST = `${NETWORK}.1`;

/** Compared faster than bytes are. */
const texts = (frames: readonly Buffer[]) => frames.map((frame) => frame.toString("hex"));

/** A socket of the host's, and what comes to it. */
async function hostSocket(address: string) {
  const socket: Socket = createSocket("udp4");
  const got: { text: string; from: RemoteInfo }[] = [];
  socket.on("message", (bytes, from) => got.push({ text: String(bytes), from }));
  await new Promise<void>((resolve) => socket.bind(0, address, resolve));
  const port = socket.address().port;
  return { socket, got, port, [Symbol.dispose]: () => void socket.close() };
}

/** Answers for the guest's address; datagrams for it. */
function answer(driver: NetDriver, own = stationOf(NETWORK, 2)): Datagram[] {
  const got: Datagram[] = [];
  driver.onPacket = (frame) => {
    const copy = Buffer.from(frame);
    const reply = arpReply(copy, own);
    if (reply) void driver.send(reply);
    const datagram = datagramOf(copy, own);
    if (datagram) got.push(datagram);
  };
  return got;
}

describeTaps("a TAP at a switch", () => {
  test("the host finds the guest by its address; datagrams both ways", async () => {
    await using lan = await openTapLan();
    bringUp(lan.name, `${HOST}/24`);
    const own = stationOf(NETWORK, 2);
    const got = answer(lan.driver);
    using host = await hostSocket(HOST);
    host.socket.send("hello, guest", 4242, own.address);
    await expect.poll(() => got.length).toBe(1);
    const [first] = got as [Datagram];
    expect(first).toMatchObject({ address: HOST, port: host.port, isSound: true });
    expect(String(first.payload)).toBe("hello, guest");
    const to = { ...first, port: host.port };
    await lan.driver.send(udpFrame({ ...own, port: 4242 }, to, Buffer.from("hello, host")));
    await expect.poll(() => host.got.length).toBe(1);
    expect(host.got[0]).toMatchObject({
      text: "hello, host",
      from: { address: own.address, port: 4242 },
    });
    const counts = () => lan.tapPort.counts();
    expect(counts().received).toBeGreaterThanOrEqual(2);
    // A packet is counted when the host has it.
    await expect.poll(counts).toMatchObject({ sent: 2, discarded: 0, dropped: 0 });
    expect(lan.tap.state).toBe("up");
    expect(lan.events).toEqual([]);
  });

  test("frames of any length, both ways, in order", async () => {
    await using lan = await openTapLan();
    bringUp(lan.name);
    using socket = new PacketSocket(lan.name);
    const got = collect(lan.driver);
    const payloads = Array.from({ length: 300 }, (_, i) => randomBytes((i * 7919) % 1501));
    const out = payloads.map((payload) => experiment(ALL, station(2), payload));
    await sendAll(lan.driver, out);
    expect(texts(await receiveAll(socket, out.length))).toEqual(texts(out));
    const back = payloads.map((payload) => experiment(station(2), station(1), payload));
    for (const frame of back) while (!socket.send(frame)) await sleep(1);
    await expect.poll(() => got.length).toBe(back.length);
    expect(texts(got)).toEqual(texts(back));
  });

  test("several guests and the host share it: each is found where it speaks", async () => {
    await using lan = await openTapLan();
    bringUp(lan.name);
    using socket = new PacketSocket(lan.name);
    await using process = new Kernel().spawn({ memoryBytes: 8 << 20 });
    const third = await process.open(net({ switch: lan.lan.port(), mac: station(3) }));
    const other = await third.driver();
    const [mine, others] = [collect(lan.driver), collect(other)];
    await lan.driver.send(experiment(ALL, station(2), Buffer.from("all")));
    await expect.poll(() => others.length).toBe(1);
    await receiveAll(socket, 1);
    socket.send(experiment(station(2), station(1), Buffer.from("you")));
    await expect.poll(() => mine.length).toBe(1);
    await lan.driver.send(experiment(station(1), station(2), Buffer.from("host")));
    await other.send(experiment(station(2), station(3), Buffer.from("mate")));
    const [toHost] = await receiveAll(socket, 1);
    expect(String(toHost?.subarray(14))).toBe("host");
    await expect.poll(() => mine.length).toBe(2);
    expect(others.length).toBe(1);
    const mac = station(1);
    const found = lan.lan.addresses().find((one) => one.mac === mac);
    expect(found?.port).toBe(lan.tapPort.index);
  });

  test("a frame ends the sleep of the TAP's thread, which sleeps for a second else", async () => {
    await using lan = await openTapLan();
    bringUp(lan.name);
    using socket = new PacketSocket(lan.name);
    const frame = experiment(ALL, station(2), Buffer.from("wake"));
    let quick = 0;
    for (let i = 0; i < 20; i++) {
      await sleep(10);
      const from = performance.now();
      await lan.driver.send(frame);
      await receiveAll(socket, 1);
      if (performance.now() - from < 500) quick++;
    }
    expect(quick).toBeGreaterThan(5); // others may have the cores for the rest
  });

  testWith(
    hasBridges() ? undefined : "bridges",
    "through a bridge of the host's, from one switch to another",
    async () => {
      const bridge = tapName();
      ip("link", "add", bridge, "type", "bridge");
      bringUp(bridge);
      await using first = await openTapLan();
      await using second = await openTapLan(tapName(), { mac: station(3) });
      for (const { name } of [first, second]) {
        ip("link", "set", name, "master", bridge);
        bringUp(name);
      }
      const [a, b] = [collect(first.driver), collect(second.driver)];
      const there = experiment(ALL, station(7), randomBytes(1500));
      const back = experiment(station(7), station(8), randomBytes(100));
      const isThere = async () => {
        if (b.length === 0) await first.driver.send(there); // a bridge waits before it forwards
        return b.length > 0;
      };
      await expect.poll(isThere).toBe(true);
      await second.driver.send(back);
      await expect.poll(() => a.length).toBe(1);
      expect([a[0], b[0]]).toEqual([back, there]);
    },
  );

  test("a trunk: the host's tagged frames find their VLAN", async () => {
    await using lan = await openTapLan(tapName(), { at: { trunk: [5, 6] }, port: { vlan: 5 } });
    bringUp(lan.name);
    using socket = new PacketSocket(lan.name);
    const got = collect(lan.driver);
    const tagged = (vlan: number) => {
      const frame = frameOf(ALL, station(1), vlan, vlan);
      frame.writeUInt16BE(ETHERTYPE, 16);
      return frame;
    };
    for (const vlan of [6, 7, 5]) expect(socket.send(tagged(vlan))).toBe(true);
    await expect.poll(() => got.length).toBe(1);
    expect(got[0]?.readUInt16BE(14)).toBe(5);
    expect(lan.tapPort.counts().filtered).toBeGreaterThanOrEqual(1); // 7 is not the port's
  });

  test("frames longer than either's MTU go as they are, or are counted", async () => {
    await using lan = await openTapLan(tapName(), { mtu: 9000 });
    bringUp(lan.name);
    using socket = new PacketSocket(lan.name);
    const got = collect(lan.driver);
    const long = experiment(ALL, station(2), randomBytes(9000));
    await lan.driver.send(long);
    expect(texts(await receiveAll(socket, 1))).toEqual(texts([long]));
    ip("link", "set", lan.name, "mtu", "65521");
    const longest = experiment(ALL, station(1), randomBytes(65521));
    const longer = experiment(ALL, station(1), randomBytes(9018));
    for (const frame of [longest, longer]) expect(socket.send(frame)).toBe(true);
    // Bytes of 1,536 each are enough of them: it is merged, whatever the guest's MTU says.
    await expect.poll(() => got.map(({ length }) => length)).toEqual([65535, 9032]);
    expect(texts(got)).toEqual(texts([longest, longer]));
    expect(lan.tapPort.counts().discarded).toBe(0);
  });
});

describeTaps("checksums", () => {
  /** A guest that has answered for its address, with those features. */
  async function rawGuest(lan: Switch, features: bigint) {
    const guest = await RawGuest.open(net({ switch: lan.port() }), {
      features: VERSION_1 | features,
      queues: 2,
    });
    const [rx, tx] = guest.rings;
    if (!rx || !tx) throw new Error("two rings");
    /** The next frame that is for UDP, after answers to what comes before. */
    const receive = async (own: ReturnType<typeof stationOf>) => {
      for (;;) {
        const { length, written } = await rx.request([2000]);
        const header = Buffer.from(written.subarray(0, 12));
        const frame = Buffer.from(written.subarray(12, length));
        const reply = arpReply(frame, own);
        if (reply) await tx.request([Buffer.alloc(12), reply]);
        const datagram = datagramOf(frame, own);
        if (datagram) return { header, datagram };
      }
    };
    return { guest, tx, receive };
  }

  const ways: [string, bigint, number][] = [
    ["left to a guest that makes them", bit(VIRTIO_NET_F_GUEST_CSUM), 1],
    ["made for one that does not", 0n, 0],
  ];
  test.each(ways)("the host leaves them: %s", async (_, features, flags) => {
    const name = tapName();
    const lan = new Switch();
    await using tap = lan.port().tap(name);
    bringUp(tap.name, `${HOST}/24`);
    const { guest, receive } = await rawGuest(lan, features);
    using host = await hostSocket(HOST);
    const own = stationOf(NETWORK, 2);
    host.socket.send("the host leaves its checksums", 4242, own.address);
    const { header, datagram } = await receive(own);
    expect(String(datagram.payload)).toBe("the host leaves its checksums");
    expect(header[0]).toBe(flags);
    const place = [header.readUInt16LE(6), header.readUInt16LE(8)];
    expect(place).toEqual(flags === 1 ? [UDP_AT, 6] : [0, 0]);
    expect(datagram.isSound).toBe(flags === 0);
    await guest[Symbol.asyncDispose]();
  });

  test("the guest leaves them: the host takes what it would refuse with a wrong one", async () => {
    const name = tapName();
    const lan = new Switch();
    await using tap = lan.port().tap(name);
    bringUp(tap.name, `${HOST}/24`);
    const { guest, tx } = await rawGuest(lan, bit(VIRTIO_NET_F_CSUM));
    using host = await hostSocket(HOST);
    const hostMac = /link\/ether (\S+)/.exec(ip("-o", "link", "show", "dev", name))?.[1] ?? "";
    const from = { ...stationOf(NETWORK, 2), port: 4242 };
    const to = { mac: hostMac, address: HOST, port: host.port };
    const left = Buffer.alloc(12);
    left[0] = 1;
    left.writeUInt16LE(UDP_AT, 6);
    left.writeUInt16LE(6, 8);
    const send = (header: Buffer, text: string) =>
      tx.request([header, udpFrame(from, to, Buffer.from(text), "left")]);
    await send(Buffer.alloc(12), "not made by anybody");
    await send(left, "made by the host");
    await expect.poll(() => host.got.map(({ text }) => text)).toEqual(["made by the host"]);
    using socket = new PacketSocket(name); // sees packets before their checksums are made
    const frame = experiment(ALL, station(2), Buffer.alloc(40, 0xab));
    await tx.request([left, frame]);
    expect(texts(await receiveAll(socket, 1))).toEqual(texts([frame]));
    await guest[Symbol.asyncDispose]();
  });
});
