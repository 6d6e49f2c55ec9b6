// A network device's pairs of queues over vhost-user: the front-end has the control queue to
// itself, and says by SET_VRING_ENABLE which pairs run.

import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { type FrontEnd, u32s } from "#dist/bench/front-end.js";
import { net } from "#dist/index.js";
import { VIRTIO_NET_F_MQ } from "#dist/spec/virtio-net.js";
import { VIRTQ_DESC_F_WRITE as WRITE } from "#dist/spec/virtio-ring.js";
import { flow } from "../helpers/net-flow-frames.js";
import { bit, VERSION_1 } from "../helpers/raw-guest.js";
import { describeVhostUser, eventually, Served } from "../helpers/vhost-user.js";
import { RawQueue } from "../helpers/vhost-user-ring.js";

/** In which nothing must happen, in milliseconds. */
const QUIET_MS = 50;
const BUFFER_BYTES = 256;

/** A queue of one descriptor a chain. */
class PacketQueue extends RawQueue {
  #offered = 0;

  /** A packet to send, or room for one to receive. */
  give(packet?: Buffer): void {
    const slot = this.#offered++ % this.num;
    const address = this.data + slot * BUFFER_BYTES;
    if (packet) this.front.shared.bytes.set(packet, address);
    const len = packet?.length ?? BUFFER_BYTES;
    this.writeDesc(slot, { addr: this.guest(address), len, flags: packet ? 0 : WRITE, next: 0 });
    this.offer(slot);
    this.kick();
  }
}

const packetOf = (frame: Buffer) => Buffer.concat([Buffer.alloc(12), frame]);

async function open(queuePairs: number) {
  const got: number[] = [];
  const onPacket = (frame: Uint8Array) => got.push(Buffer.from(frame).readUInt16BE(34));
  const nic = net({ queuePairs, queueSize: 64, onPacket });
  const served = await Served.start({ device: nic });
  const front = await served.ready(VERSION_1 | bit(VIRTIO_NET_F_MQ) | bit(30));
  const enable = (index: number, isOn: boolean) =>
    front.must("SET_VRING_ENABLE", u32s(index, isOn ? 1 : 0));
  const close = async () => {
    front.close();
    await served[Symbol.asyncDispose]();
  };
  return { nic, got, front, enable, [Symbol.asyncDispose]: close };
}

async function attach(front: FrontEnd, count: number): Promise<PacketQueue[]> {
  const queues = Array.from({ length: count }, (_, index) => new PacketQueue(front, index, 64));
  for (const { queue } of queues) await front.attach(queue);
  for (const queue of queues) queue.kick();
  return queues;
}

describeVhostUser("vhost-user network queues", () => {
  test.each([
    [1, 2n],
    [2, 2n],
    [4, 4n],
  ])("GET_QUEUE_NUM with %i pairs: pairs, two at least", async (pairs, told) => {
    await using opened = await open(pairs);
    expect((await opened.front.ask("GET_QUEUE_NUM")).getBigUint64(0, true)).toBe(told);
  });

  test("a flow comes where it was sent, while that ring is enabled", async () => {
    await using opened = await open(2);
    const [rx0, tx0, rx1, tx1] = (await attach(opened.front, 4)) as [
      PacketQueue,
      PacketQueue,
      PacketQueue,
      PacketQueue,
    ];
    for (let i = 0; i < 20; i++) for (const rx of [rx0, rx1]) rx.give();
    tx1.give(packetOf(flow(1).out));
    tx0.give(packetOf(flow(2).out));
    await eventually(() => opened.got.length === 2, "both sent");
    const come = async (one: number, other: number) => {
      const seen = () => [rx0.usedIdx, rx1.usedIdx];
      await eventually(
        () => seen().join() === [one, other].join(),
        () => `${one}, ${other}: ${seen()}`,
      );
    };
    const sendBack = () => [1, 2].map((port) => opened.nic.send(flow(port).back));
    sendBack();
    await come(1, 1);
    await opened.enable(2, false);
    sendBack();
    await come(3, 1);
    await opened.enable(2, true);
    sendBack();
    await come(4, 2);
  });

  test("what is in a ring that is disabled waits there, and the others go on", async () => {
    await using opened = await open(2);
    const [, tx0, , tx1] = (await attach(opened.front, 4)) as PacketQueue[];
    await opened.enable(3, false);
    for (let i = 0; i < 10; i++) tx1?.give(packetOf(flow(100 + i).out));
    tx0?.give(packetOf(flow(1).out));
    await eventually(() => opened.got.length === 1, "the other ring's");
    await sleep(QUIET_MS);
    expect([opened.got, tx1?.usedIdx]).toEqual([[1], 0]);
    await opened.enable(3, true);
    await eventually(() => opened.got.length === 11, "all");
    expect(opened.got.slice(1)).toEqual(Array.from({ length: 10 }, (_, i) => 100 + i));
  });
});
