// A guest that changes a packet while the switch looks at it: what was checked is what is sent.

import { describe, expect, test } from "vitest";
import { NetOffload } from "#dist/devices/net-offload.js";
import { NetPipe } from "#dist/devices/net-pipe.js";
import type { NetSwitchPort } from "#dist/devices/net-switch-port.js";
import { takesOf } from "#dist/devices/net-takes.js";
import type { SwitchPortOptions } from "#dist/index.js";
import { loadChecksum } from "#dist/ring/checksum.js";
import { VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_GUEST_TSO4 } from "#dist/spec/virtio-net.js";
import { ChainSide } from "#dist/vhost/chain.js";
import { frameOf, station } from "../helpers/net-frames.js";
import { largePacket } from "../helpers/net-large-frames.js";
import { HOST, KIND, mask } from "../helpers/net-large-guests.js";
import { openPorts, takeAll } from "../helpers/switch-ports.js";

const ALL = "ff:ff:ff:ff:ff:ff";
const memory = new WebAssembly.Memory({ initial: 2, maximum: 2, shared: true });
const bytes = new Uint8Array(memory.buffer);

/** A packet that is another as soon as a part of it was read. */
class Changing extends ChainSide {
  constructor(
    packet: Uint8Array,
    readonly change: () => void,
  ) {
    super(memory, { iovAddress: () => 0, iovLength: () => packet.length });
    bytes.set(packet);
    this.set(0, 1, packet.length);
  }

  override read(offset: number, target: Uint8Array, at?: number, length?: number): number {
    const done = super.read(offset, target, at, length);
    if (offset > 0) this.change(); // the frame: virtio's header alone is looked at before
    return done;
  }
}

/** A sender and a receiver. */
function open(from: SwitchPortOptions, to: SwitchPortOptions) {
  const opened = openPorts([from, to]);
  const [sender, receiver] = opened.ports as [NetSwitchPort, NetSwitchPort];
  return { ...opened, sender, receiver };
}

function send(port: NetSwitchPort, packet: ChainSide): void {
  const offload = new NetOffload(loadChecksum(memory));
  offload.accept(HOST);
  expect(offload.read(packet, packet.bytes)).toBe(true);
  port.send(packet, packet.bytes, offload);
}

describe("a trunk's frame, whose tag says another VLAN after a look", () => {
  const WAYS: [string, bigint, number][] = [
    ["in segments", mask(), 10],
    ["in segments without checksums", mask(VIRTIO_NET_F_GUEST_CSUM), 10],
    ["whole", mask(VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_GUEST_TSO4), 1],
  ];
  const toSeven = () => {
    bytes[12 + 15] = 7;
  };

  test("plain: it is of the VLAN that was looked at", () => {
    using lan = open({ trunk: [5] }, { trunk: [5, 7] });
    const frame = frameOf(ALL, station(1), 1, 5);
    send(lan.sender, new Changing(Buffer.concat([Buffer.alloc(12), frame]), toSeven));
    expect(takeAll(lan.receiver).map((packet) => packet.subarray(12))).toEqual([frame]);
  });

  test.each(WAYS)("large, %s", (_, features, count) => {
    using lan = open({ trunk: [5] }, { trunk: [5, 7] });
    lan.receiver.setTakes(takesOf(features));
    send(lan.sender, new Changing(largePacket({ ...KIND, vlan: 5 }).packet, toSeven));
    const got = takeAll(lan.receiver);
    expect(got.map((packet) => packet.readUInt16BE(26))).toEqual(Array(count).fill(5));
  });

  test.each(WAYS)("large, of another VLAN at first, %s: it goes nowhere", (_, features) => {
    using lan = open({ trunk: [5] }, { trunk: [5, 7] });
    lan.receiver.setTakes(takesOf(features));
    const toFive = () => {
      bytes[12 + 15] = 5;
    };
    send(lan.sender, new Changing(largePacket({ ...KIND, vlan: 7 }).packet, toFive));
    expect(takeAll(lan.receiver)).toEqual([]);
    expect(lan.lan.countsOf(0)).toMatchObject({ received: 1, filtered: 1 });
  });
});

test("a large packet whose headers change: it is sent with those that were checked", () => {
  using lan = open({}, {});
  lan.receiver.setTakes(takesOf(mask(VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_GUEST_TSO4)));
  const { packet, headBytes } = largePacket(KIND);
  const other = new Changing(packet, () => bytes.fill(0xff, 12, 12 + headBytes));
  send(lan.sender, other);
  expect(takeAll(lan.receiver).map((one) => one.subarray(12))).toEqual([packet.subarray(12)]);
});

describe("a checksum that is in the tag, or beyond where it can be told", () => {
  const headerOf = (start: number) => {
    const header = Buffer.alloc(12);
    header[0] = 1;
    header.writeUInt16LE(start, 6);
    return header;
  };

  test.each([
    ["in the tag", 14, 5, 0],
    ["its last byte in the tag", 17, 5, 0],
    ["behind the tag", 18, 5, 1],
    ["no tag", 14, undefined, 1],
  ] as const)("%s", (_, start, vlan, count) => {
    using lan = open({}, {});
    const frame = frameOf(ALL, station(1), 1, vlan);
    send(lan.sender, new Changing(Buffer.concat([headerOf(start), frame]), () => {}));
    expect(takeAll(lan.receiver).length).toBe(count);
    expect(lan.lan.countsOf(0).filtered).toBe(1 - count);
  });

  test.each([
    [0xfffb, 1],
    [0xfffc, 0],
  ])("begins at %i of the longest frame", (start, count) => {
    using lan = open({ vlan: 5 }, { trunk: [5] });
    lan.receiver.setTakes(takesOf(mask(VIRTIO_NET_F_GUEST_CSUM)));
    const frame = Buffer.concat([frameOf(ALL, station(1), 1).subarray(0, 14), Buffer.alloc(65535)]);
    send(lan.sender, new Changing(Buffer.concat([headerOf(start), frame]), () => {}));
    const got = takeAll(lan.receiver);
    expect(got.map((packet) => packet.readUInt16LE(6))).toEqual(Array(count).fill(start + 4));
  });
});

test("a reset ends, however fast others go on sending", () => {
  using lan = open({}, {});
  const { sender, receiver } = lan;
  const packet = Buffer.concat([Buffer.alloc(12), frameOf(ALL, station(1), 1)]);
  const post = () => send(sender, new Changing(packet, () => {}));
  const { drop } = NetPipe.prototype;
  let posted = 0;
  NetPipe.prototype.drop = function (this: NetPipe) {
    drop.call(this);
    if (posted++ < 1000) post();
  };
  try {
    for (let i = 0; i < 10; i++) post();
    receiver.reset();
    expect(posted).toBe(10);
  } finally {
    NetPipe.prototype.drop = drop;
  }
  expect(lan.lan.countsOf(1).discarded).toBe(10);
  expect(takeAll(receiver).length).toBe(10);
});
