// The control queue of a network device: virtio 1.3, 5.1.6.5. What a driver's commands do, by the
// driver of the product; and what bad ones do not, by a raw guest.

import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { NET_FILTER_MACS_MAX } from "#dist/devices/net-filter.js";
import { Kernel, type NetDriver, net, Switch } from "#dist/index.js";
import {
  VIRTIO_NET_F_CTRL_MAC_ADDR,
  VIRTIO_NET_F_CTRL_RX,
  VIRTIO_NET_F_CTRL_VLAN,
  VIRTIO_NET_F_CTRL_VQ,
  VIRTIO_NET_F_GUEST_ANNOUNCE,
  VIRTIO_NET_F_MQ,
} from "#dist/spec/virtio-net.js";
import { Random } from "../fuzz/random.js";
import { rejected } from "../helpers/devices.js";
import { frameOf, macBytes, station } from "../helpers/net-frames.js";
import { keepPumping } from "../helpers/pump.js";
import { bit, RawGuest, type RawPiece, VERSION_1, WAYS } from "../helpers/raw-guest.js";
import { seedOf } from "../helpers/seed.js";

const ALL = "ff:ff:ff:ff:ff:ff";
const GROUP = "01:00:5e:00:00:01";
const OTHER_GROUP = "33:33:00:00:00:01";
const ME = station(1);

/** A driver at a switch and a neighbour that sends it frames; which of them it has got. */
async function open(mode: object, queuePairs = 1) {
  const lan = new Switch();
  const kernel = new Kernel();
  const [process, other] = [0, 1].map(() => kernel.spawn({ memoryBytes: 8 << 20 }));
  if (!process || !other) throw new Error("two processes");
  const port = lan.port();
  const nic = net({ switch: port, mac: ME, queuePairs });
  const device = await process.open(nic, mode);
  const driver = await device.driver();
  const stopPump = keepPumping(device, mode);
  const neighbour = await (await other.open(net({ switch: lan.port() }))).driver();
  let got: number[] = [];
  const listen = (to: NetDriver) => {
    to.onPacket = (frame) => got.push(Buffer.from(frame).readUInt16BE(frame.length - 46));
  };
  listen(driver);
  /** Which of these it takes, by their numbers; the last one, to all, is the end. */
  const taken = async (...frames: Buffer[]) => {
    got = [];
    const before = port.counts();
    const seen = () => {
      const { sent, refused } = port.counts();
      return sent + refused - before.sent - before.refused;
    };
    for (const frame of frames) await neighbour.send(frame);
    await expect.poll(seen).toBe(frames.length);
    await expect.poll(() => got.length).toBe(port.counts().sent - before.sent);
    return got;
  };
  return {
    ...{ driver, device, nic, port, taken, listen },
    [Symbol.asyncDispose]: async () => {
      await stopPump();
      await process.exit();
      await other.exit();
      lan.close();
    },
  };
}

const to = (mac: string, body: number, vlan?: number) => frameOf(mac, station(9), body, vlan);
/** One of each kind: for all, a group, another, itself, a stranger. */
const KINDS = [to(ALL, 0), to(GROUP, 1), to(OTHER_GROUP, 2), to(ME, 3), to(station(5), 4)] as const;

describe.each(WAYS)("$run, $ring ring", (mode) => {
  test("5.1.6.5.1: which packets are given", async () => {
    await using both = await open(mode);
    const { driver, taken } = both;
    expect(await taken(...KINDS)).toEqual([0, 1, 2, 3, 4]);
    await driver.setReceiveMode({ promiscuous: false });
    expect(await taken(...KINDS)).toEqual([0, 3]);
    await driver.setReceiveMode({ allMulticast: true });
    expect(await taken(...KINDS)).toEqual([0, 1, 2, 3]);
    await driver.setReceiveMode({ noMulticast: true, allUnicast: true });
    expect(await taken(...KINDS)).toEqual([0, 3, 4]);
    await driver.setReceiveMode({ noBroadcast: true, noUnicast: true });
    expect(await taken(...KINDS)).toEqual([]);
    await driver.setReceiveMode({ promiscuous: true });
    expect(await taken(...KINDS)).toEqual([0, 1, 2, 3, 4]);
    await rejected("EINVAL", driver.setReceiveMode({ promiscuos: true } as never));
  });

  test("5.1.6.5.2: addresses; more than there is room for are all", async () => {
    await using both = await open(mode);
    const { driver, taken } = both;
    await driver.setReceiveMode({ promiscuous: false });
    await driver.setAddresses([macBytes(station(5))], [macBytes(GROUP)]);
    expect(await taken(...KINDS)).toEqual([0, 1, 3, 4]);
    const many = (count: number) => Array.from({ length: count }, (_, i) => macBytes(station(i)));
    await driver.setAddresses(many(NET_FILTER_MACS_MAX), []);
    expect(await taken(...KINDS, to(station(0x999), 5))).toEqual([0, 3, 4]);
    await driver.setAddresses(many(NET_FILTER_MACS_MAX + 1), []);
    expect(await taken(...KINDS, to(station(0x999), 5))).toEqual([0, 3, 4, 5]);
    await driver.setAddresses([], [...many(5000)]);
    expect(await taken(...KINDS)).toEqual([0, 1, 2, 3]);
    await driver.setAddresses([]);
    expect(await taken(...KINDS)).toEqual([0, 3]);
    await rejected("EINVAL", driver.setAddresses([new Uint8Array(5)]));
  });

  test("5.1.6.5.2: the driver's own address", async () => {
    await using both = await open(mode);
    const { driver, device, taken } = both;
    await driver.setReceiveMode({ promiscuous: false });
    await driver.setMac(macBytes(station(5)));
    expect(await taken(...KINDS)).toEqual([0, 4]);
    expect(driver.mac).toEqual(macBytes(station(5)));
    await rejected("EIO", driver.setMac(macBytes(GROUP)));
    expect(driver.mac).toEqual(macBytes(station(5)));
    await driver.close();
    const next = await device.driver();
    expect(next.mac).toEqual(macBytes(ME)); // a reset brings it back
  });

  test("5.1.6.5.3: VLANs", async () => {
    await using both = await open(mode);
    const { driver, taken } = both;
    const frames = [to(ALL, 0), to(ALL, 1, 1), to(ALL, 2, 4095)];
    expect(await taken(...frames)).toEqual([0, 1, 2]);
    await driver.setReceiveMode({ promiscuous: false });
    expect(await taken(...frames)).toEqual([0]);
    await driver.setVlan(4095);
    await driver.setVlan(1);
    expect(await taken(...frames)).toEqual([0, 1, 2]);
    await driver.setVlan(4095, false);
    expect(await taken(...frames)).toEqual([0, 1]);
    await rejected("EIO", driver.setVlan(4096));
    for (const none of [-1, 1.5, 0x10005]) await rejected("EINVAL", driver.setVlan(none));
  });

  test("without a control queue there are no commands; a reset forgets them", async () => {
    await using both = await open(mode);
    await both.driver.setReceiveMode({ promiscuous: false, noBroadcast: true });
    await both.driver.close();
    const plain = await both.device.driver({ withoutFeatures: [VIRTIO_NET_F_CTRL_VQ] });
    both.listen(plain);
    expect(await both.taken(...KINDS)).toEqual([0, 1, 2, 3, 4]);
    await rejected("EOPNOTSUPP", plain.setReceiveMode({ promiscuous: false }));
    await rejected("EOPNOTSUPP", plain.setMac(macBytes(ME)));
  });
});

const CONTROL =
  VERSION_1 |
  bit(VIRTIO_NET_F_CTRL_VQ) |
  bit(VIRTIO_NET_F_CTRL_RX) |
  bit(VIRTIO_NET_F_CTRL_VLAN) |
  bit(VIRTIO_NET_F_GUEST_ANNOUNCE) |
  bit(VIRTIO_NET_F_CTRL_MAC_ADDR);
const MQ = CONTROL | bit(VIRTIO_NET_F_MQ);

const le32 = (value: number) => [...new Uint8Array(Uint32Array.of(value).buffer)];

/** Commands that are wrong, with what the device is to answer: 1. */
const BAD: [string, number[]][] = [
  ["of no class", [9, 0, 1]],
  ["no command of its class", [0, 9, 1]],
  ["one that needs another feature", [0, 2, 1]],
  ["without its data", [0, 0]],
  ["with more data than it has", [0, 0, 1, 1]],
  ["neither on nor off", [0, 0, 2]],
  ["an address cut short", [1, 1, 2, 0, 0, 0, 0]],
  ["a group's address", [1, 1, 1, 0, 0x5e, 0, 0, 1]],
  ["a table cut short", [1, 0, 1, 0, 0]],
  ["a table of fewer than it says", [1, 0, ...le32(2), 2, 0, 0, 0, 0, 1, ...le32(0)]],
  ["a table of as many as numbers go", [1, 0, ...le32(0xffff_ffff), ...le32(0)]],
  ["no second table", [1, 0, ...le32(0)]],
  ["bytes behind the tables", [1, 0, ...le32(0), ...le32(0), 0]],
  ["a second table of fewer than it says", [1, 0, ...le32(0), ...le32(1), 3, 0, 0, 0, 0]],
  ["a VLAN cut short", [2, 0, 1]],
  ["no VLAN", [2, 0, 0, 0x10]],
  ["no command for VLANs", [2, 2, 1, 0]],
  ["an acknowledgement with data", [3, 0, 0]],
  ["no command for announcements", [3, 1]],
  ["no pairs of queues", [4, 0, 0, 0]],
  ["more pairs than there are", [4, 0, 3, 0]],
  ["as many pairs as numbers go", [4, 0, 0xff, 0xff]],
  ["pairs cut short", [4, 0, 1]],
  ["offloads cut short", [5, 0, 0, 0]],
  ["offloads that were not accepted", [5, 0, 2, 0, 0, 0, 0, 0, 0, 0]],
];

describe.each(WAYS)("bad commands, $run, $ring ring", (mode) => {
  const openRaw = async () => {
    const nic = net({ onPacket: () => {}, queuePairs: 2, mac: ME });
    const guest = await RawGuest.open(nic, { ...mode, features: MQ, queues: 5 });
    const [rx, , , , control] = guest.rings;
    if (!rx || !control) throw new Error("rings");
    const ack = async (pieces: RawPiece[]) => {
      const { length, written } = await control.request(pieces);
      return [length, ...written];
    };
    const close = () => guest[Symbol.asyncDispose]();
    return { nic, guest, rx, control, ack, [Symbol.asyncDispose]: close };
  };

  test("are answered by an error, and change nothing", async () => {
    await using raw = await openRaw();
    expect(await raw.ack([Buffer.from([0, 0, 0]), 1])).toEqual([1, 0]); // not promiscuous
    for (const [what, bytes] of BAD) {
      expect([what, await raw.ack([Buffer.from(bytes), 1])]).toEqual([what, [1, 1]]);
    }
    const asked = raw.rx.request([100]);
    raw.nic.send(to(station(5), 1));
    raw.nic.send(to(ALL, 2, 3));
    raw.nic.send(to(ME, 4));
    const { length, written } = await asked;
    expect([length, written[12 + 15]]).toEqual([72, 4]);
    expect(raw.guest.dev.errorCounts()).toEqual({});
    const config = await raw.guest.dev.readConfig();
    expect(config.subarray(0, 6)).toEqual(macBytes(ME));
  });

  test("5.1.6.5.4: an announcement's acknowledgement is taken", async () => {
    await using raw = await openRaw();
    expect(await raw.ack([Buffer.from([3, 0]), 1])).toEqual([1, 0]);
  });

  test("any bytes as commands: each is answered, the device serves on", async () => {
    const seed = seedOf("hostile commands");
    const random = new Random(seed);
    await using raw = await openRaw();
    let answered = 0;
    let refused = 0;
    for (let i = 0; i < 400; i++) {
      const [, good] = BAD[random.below(BAD.length)] as [string, number[]];
      const bytes = [...good, ...Array.from({ length: random.below(3) }, () => random.below(256))];
      if (random.once(2)) bytes[random.below(bytes.length)] = random.below(256);
      const at = random.below(bytes.length + 1);
      const parts = [bytes.slice(0, at), bytes.slice(at)].filter(({ length }) => length > 0);
      const room = random.below(3);
      const answer = await raw.ack([
        ...parts.map((part) => Buffer.from(part)),
        ...(room ? [room] : []),
      ]);
      expect(answer[0], `FC_SEED=${seed}, ${i}`).toBe(room > 0 && bytes.length > 1 ? 1 : 0);
      if (answer[0] === 1) answered++;
      else refused++;
    }
    expect(answered).toBeGreaterThan(100);
    expect(raw.guest.errors(4)).toEqual({ VRING_E_REQUEST: refused });
    expect(await raw.ack([Buffer.from([0, 0, 1]), 1])).toEqual([1, 0]);
    expect(await raw.ack([Buffer.from([4, 0, 1, 0]), 1])).toEqual([1, 0]);
    const asked = raw.rx.request([100]);
    raw.nic.send(to(station(5), 1));
    expect((await asked).length).toBe(72);
  });

  test("no room for the answer, or no command: not done, used and counted", async () => {
    await using raw = await openRaw();
    const off = Buffer.from([0, 0, 0]);
    expect(await raw.ack([off])).toEqual([0]);
    expect(await raw.ack([1])).toEqual([0, 0xaa]);
    expect(await raw.ack([Buffer.from([0]), 1])).toEqual([0, 0xaa]);
    expect(raw.guest.dev.errorCounts()).toEqual({ 4: { VRING_E_REQUEST: 3 } });
    const asked = raw.rx.request([100]);
    raw.nic.send(to(station(5), 1)); // still promiscuous
    expect((await asked).length).toBe(72);
  });

  test("over many descriptors, each byte in one of its own", async () => {
    await using raw = await openRaw();
    const one = (bytes: number[]) => bytes.map((byte) => Buffer.from([byte]));
    expect(await raw.ack([...one([0, 0, 0]), 1, 5])).toEqual([1, 0, ...Array(5).fill(0xaa)]);
    const table = [1, 0, ...le32(1), 2, 0, 0, 0, 0, 5, ...le32(0)];
    expect(await raw.ack([...one(table), 1])).toEqual([1, 0]);
    const asked = raw.rx.request([100]);
    raw.nic.send(to(station(6), 1));
    raw.nic.send(to(station(5), 2));
    expect((await asked).written[12 + 15]).toBe(2);
  });
});

test("5.1.2: without MQ, the control queue is the third, whatever the device has", async () => {
  const nic = net({ onPacket: () => {}, queuePairs: 4 });
  await using guest = await RawGuest.open(nic, { features: CONTROL, queues: 5 });
  const [, , control, , no] = guest.rings;
  const command = [Buffer.from([0, 0, 0]), 1];
  expect((await control?.request(command))?.written).toEqual(Buffer.from([0]));
  const pairs = [Buffer.from([4, 0, 1, 0]), 1];
  expect((await control?.request(pairs))?.written).toEqual(Buffer.from([1])); // not negotiated
  no?.send(no.link([guest.describe(Buffer.from([0, 0, 0])), guest.describe(1)]));
  await sleep(20);
  expect(no?.unseen).toBe(0);
});
