// What carries a TAP's packets, with an interface that is played: no root, no thread.

import { describe, expect, test } from "vitest";
import { NetSwitchPort } from "#dist/devices/net-switch-port.js";
import { NetTapPump } from "#dist/devices/net-tap-pump.js";
import { Kernel, net, Switch, type SwitchPortOptions } from "#dist/index.js";
import { TASK_WORDS_BYTES } from "#dist/kernel/wait.js";
import { TAP_DOWN, TAP_GONE, TAP_REFUSED } from "#dist/linux/tap.js";
import {
  VIRTIO_NET_F_CSUM,
  VIRTIO_NET_F_HOST_TSO4,
  VIRTIO_NET_F_HOST_TSO6,
  VIRTIO_NET_F_HOST_USO,
} from "#dist/spec/virtio-net.js";
import { Random } from "../fuzz/random.js";
import { frameOf, station } from "../helpers/net-frames.js";
import { checkSegments, type LargeKind, largePacket } from "../helpers/net-large-frames.js";
import { bytesOf } from "../helpers/net-large-guests.js";
import { bit, type GuestRing, RawGuest, VERSION_1 } from "../helpers/raw-guest.js";
import { seedOf } from "../helpers/seed.js";

const ALL = "ff:ff:ff:ff:ff:ff";
const HEADER = Buffer.alloc(12);
const frame = frameOf(ALL, station(1), 7);

/** An interface that gives what is in `packets`, and answers each write with `answer`. */
class PlayedTap {
  readonly packets: Uint8Array[] = [];
  readonly written: Buffer[] = [];
  answer: number | undefined;
  isGone = false;

  read(into: Uint8Array): number {
    if (this.isGone) return TAP_GONE;
    const packet = this.packets.shift();
    if (!packet) return 0;
    into.set(packet);
    return packet.length;
  }

  write(packet: Uint8Array): number {
    if (this.answer !== undefined) return this.answer;
    this.written.push(Buffer.from(packet));
    return packet.length;
  }
}

/** A pump at a switch, with a guest beside it that runs in this thread. */
async function open(at: SwitchPortOptions = {}, port: SwitchPortOptions = {}, hasUso = false) {
  const lan = new Switch();
  const tapPort = lan.port(at);
  const words = new SharedArrayBuffer(TASK_WORDS_BYTES);
  const plug = lan.connect(tapPort.index, { worker: { words }, wakeFd: undefined });
  const wire = new NetSwitchPort(plug.options);
  const tap = new PlayedTap();
  const pump = new NetTapPump(wire, tap, hasUso);
  const process = new Kernel().spawn({ memoryBytes: 8 << 20 });
  const device = await process.open(net({ switch: lan.port(port) }), { run: "inline" });
  const driver = await device.driver();
  const got: Buffer[] = [];
  driver.onPacket = (frame) => got.push(Buffer.from(frame));
  /** What is not answered before the end is nobody's. */
  const post = () => void driver.send(frame).catch(() => {});
  const run = async () => {
    while (pump.pass() || device.runPending()) await new Promise(setImmediate);
    await new Promise(setImmediate);
  };
  return {
    ...{ lan, tapPort, tap, pump, device, post, got, run },
    [Symbol.asyncDispose]: async () => {
      wire.close();
      plug.close();
      await process.exit();
      lan.close();
    },
  };
}

const packet = (header: number[], bytes: Uint8Array = frame) => {
  const head = Buffer.from([...header, ...HEADER]).subarray(0, 12);
  return Buffer.concat([head, bytes]);
};

describe("from the interface", () => {
  test.each([
    ["half a header", Buffer.alloc(6)],
    ["no frame", HEADER],
    ["shorter than a frame's header", packet([], frame.subarray(0, 13))],
    ["segments of nothing", packet([1, 1])],
    ["a checksum in the addresses", packet([1, 0, 0, 0, 0, 0, 4, 0, 2, 0])],
    ["a checksum beyond its end", packet([1, 0, 0, 0, 0, 0, 50, 0, 9, 0])],
  ])("%s: counted, goes nowhere; the next one is whole", async (_, bad) => {
    await using lan = await open();
    lan.tap.packets.push(bad, packet([]));
    await lan.run();
    expect(lan.got).toEqual([frame]);
    expect(lan.tapPort.counts()).toMatchObject({ received: 2, filtered: 1, forwarded: 1 });
    expect(lan.pump.state).toBe("up");
  });

  test("a packet that the kernel can't hand over is counted; the next one is there", async () => {
    await using lan = await open();
    lan.tap.packets.push(packet([]));
    const { read } = lan.tap;
    lan.tap.read = () => {
      lan.tap.read = read;
      return TAP_REFUSED;
    };
    expect(lan.pump.pass()).toBe(true);
    await lan.run();
    expect(lan.got).toEqual([frame]);
    expect(lan.tapPort.counts()).toMatchObject({ received: 2, filtered: 1 });
    expect(lan.pump.state).toBe("up");
  });

  test("gone: the pump says so, and ends no guest", async () => {
    await using lan = await open();
    lan.tap.packets.push(packet([]));
    await lan.run();
    lan.tap.isGone = true;
    expect(lan.pump.pass()).toBe(false);
    expect(lan.pump.state).toBe("gone");
    expect(lan.got.length).toBe(1);
  });

  test("without an end: the other way has its turn", async () => {
    await using lan = await open();
    lan.tap.packets.push(...Array.from({ length: 1000 }, () => packet([])));
    lan.post();
    for (let i = 0; i < 10; i++) lan.device.runPending();
    expect(lan.pump.pass()).toBe(true);
    expect(lan.tap.written).toHaveLength(1);
    expect(lan.tap.packets.length).toBeGreaterThan(500);
  });
});

describe("to the interface", () => {
  test("as it is in the queue, with a tag on a trunk", async () => {
    await using lan = await open({ trunk: [5] }, { vlan: 5 });
    lan.post();
    await lan.run();
    const tagged = frameOf(ALL, station(1), 7, 5);
    expect(lan.tap.written).toEqual([packet([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0], tagged)]);
    expect(lan.tapPort.counts()).toMatchObject({ sent: 1, sentBytes: tagged.length });
  });

  test("what it does not take is counted; down and up are seen", async () => {
    await using lan = await open();
    const states: string[] = [];
    for (const answer of [TAP_REFUSED, TAP_DOWN, TAP_DOWN, TAP_REFUSED, undefined, undefined]) {
      lan.tap.answer = answer;
      lan.post();
      await lan.run();
      states.push(lan.pump.state);
    }
    expect(states).toEqual(["up", "down", "down", "down", "up", "up"]);
    expect(lan.tapPort.counts()).toMatchObject({ sent: 2, discarded: 4 });
  });

  test("gone in the middle: it stays gone", async () => {
    await using lan = await open();
    lan.tap.answer = TAP_GONE;
    lan.post();
    await lan.run();
    lan.tap.isGone = true;
    lan.tap.answer = TAP_DOWN;
    lan.post();
    await lan.run();
    expect(lan.pump.state).toBe("gone");
    expect(lan.tapPort.counts()).toMatchObject({ sent: 0, discarded: 2 });
  });
});

describe("large packets", () => {
  const tcp: LargeKind = {
    version: 4,
    protocol: "tcp",
    sizeBytes: 1000,
    payload: bytesOf(new Random(seedOf("large packets of a TAP")), 4100),
  };
  const udp: LargeKind = { ...tcp, protocol: "udp" };
  const WAYS: [string, LargeKind, boolean, boolean][] = [
    ["TCP", tcp, true, true],
    ["TCP, where UDP is cut", tcp, false, true],
    ["UDP", udp, true, true],
    ["UDP, where it is cut", udp, false, false],
  ];

  test.each(WAYS)("of a guest, to the interface: %s", async (_, kind, hasUso, isWhole) => {
    await using lan = await open({}, {}, hasUso);
    const bits = [
      VIRTIO_NET_F_CSUM,
      VIRTIO_NET_F_HOST_TSO4,
      VIRTIO_NET_F_HOST_TSO6,
      VIRTIO_NET_F_HOST_USO,
    ];
    const features = bits.reduce((all, one) => all | bit(one), VERSION_1);
    const nic = net({ switch: lan.lan.port() });
    const guest = await RawGuest.open(nic, { features, queues: 2, memoryBytes: 64 << 20 });
    const { packet } = largePacket(kind);
    await (guest.rings[1] as GuestRing).request([packet]);
    await lan.run();
    const frames = lan.tap.written.map((one) => one.subarray(12));
    if (isWhole) expect(frames).toEqual([packet.subarray(12)]);
    else expect(checkSegments(kind, frames, { isPartial: true })).toEqual(kind.payload);
    const heads = lan.tap.written.map((one) => [one[0], one[1]]);
    expect(heads[0]).toEqual(isWhole ? [packet[0], packet[1]] : [1, 0]);
    await guest[Symbol.asyncDispose]();
  });

  test("of the host, to a guest that takes none: cut", async () => {
    await using lan = await open({}, {}, true);
    for (const kind of [tcp, udp]) {
      lan.got.length = 0;
      lan.tap.packets.push(largePacket(kind).packet);
      await lan.run();
      expect(checkSegments(kind, lan.got)).toEqual(kind.payload);
    }
  });

  test("of the host, of UDP, where that was not agreed upon: refused", async () => {
    await using lan = await open();
    lan.tap.packets.push(largePacket(udp).packet, packet([]));
    await lan.run();
    expect(lan.got).toEqual([frame]);
    expect(lan.tapPort.counts().filtered).toBe(1);
  });
});
