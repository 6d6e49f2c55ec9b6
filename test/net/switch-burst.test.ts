// What a guest sends goes through the switch in bursts: the same packets go the same ways, and are
// counted alike, as one by one.

import { describe, expect, test, vi } from "vitest";
import { NetDevice } from "#dist/devices/net-device.js";
import { NetOffload } from "#dist/devices/net-offload.js";
import { NetPipe } from "#dist/devices/net-pipe.js";
import { NetStages } from "#dist/devices/net-stage.js";
import type { NetSwitchPort } from "#dist/devices/net-switch-port.js";
import type { SwitchPortOptions } from "#dist/index.js";
import { loadChecksum } from "#dist/ring/checksum.js";
import type { MovePackets } from "#dist/ring/packets.js";
import { RingTables } from "#dist/ring/tables.js";
import { featureMask } from "#dist/spec/features.js";
import { VQ_CHAINS, VQ_IOV } from "#dist/spec/ring-state.js";
import { VIRTIO_NET_F_MQ } from "#dist/spec/virtio-net.js";
import { onePiece } from "#dist/vhost/chain.js";
import type { Virtqueue } from "#dist/vhost/virtqueue.js";
import { Random } from "../fuzz/random.js";
import { frameOf, macBytes, station } from "../helpers/net-frames.js";
import { seedOf } from "../helpers/seed.js";
import { openPorts, takeAll, takeOne } from "../helpers/switch-ports.js";

const ALL = "ff:ff:ff:ff:ff:ff";
const HEADER = Buffer.alloc(12);
const STATIONS = 5;
const BURST_MAX = 64;

// Places in the memory of the guest that sends.
const VQ = 1024;
const CHAINS = 2048;
const IOVS = 8192;
const STAGES = { from: 1 << 16, to: 1 << 16, taken: 1 << 17 };
const BUFFERS = 1 << 18;
const BUFFER_BYTES = 2048;

const memory = new WebAssembly.Memory({ initial: 8, maximum: 8, shared: true });
const bytes = new Uint8Array(memory.buffer);
const view = new DataView(memory.buffer);
view.setUint32(VQ + VQ_CHAINS, CHAINS, true);
view.setUint32(VQ + VQ_IOV, IOVS, true);
const tables = new RingTables(memory, VQ);
const vq = {
  movePackets: (
    move: MovePackets,
    first: number,
    count: number,
    [at, end]: readonly [number, number],
    isFromGuest: boolean,
  ) => move(VQ, first, count, at, end, isFromGuest),
} as Virtqueue;

/** Compared faster than bytes are. */
const texts = (packets: readonly Buffer[]) => packets.map((packet) => packet.toString("latin1"));

/** A burst that its queue has popped. Returns how many the port has taken, and shows them. */
function take(port: NetSwitchPort, packets: readonly Buffer[], seen: Buffer[] = []): number {
  for (const [i, packet] of packets.entries()) {
    const address = BUFFERS + i * BUFFER_BYTES + (i % 7);
    bytes.set(packet, address);
    tables.setIov(i, address, packet.length);
    tables.setChain(i, i, 1, 0);
  }
  const taken = port.take({ vq, first: 0, count: packets.length }, (from, at, length) => {
    seen.push(Buffer.from(from.slice(at, at + length)));
  });
  port.flush();
  return taken;
}

const alone = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true });
const piece = onePiece(alone);
const plain = new NetOffload(loadChecksum(alone));

function sendEach(port: NetSwitchPort, packets: readonly Buffer[]): void {
  for (const packet of packets) {
    new Uint8Array(alone.buffer).set(packet);
    piece.set(0, 1, packet.length);
    expect(plain.read(piece, packet.length)).toBe(true);
    port.send(piece, packet.length, plain);
  }
  port.flush();
}

/** Bursts of between the same two, most of them; short ones, tags, groups, oneself. */
function packetsOf(random: Random): Buffer[] {
  const packets: Buffer[] = [];
  const count = random.below(BURST_MAX + 1);
  const any = () => station(random.below(STATIONS));
  let [to, from, vlan] = [any(), any(), random.pick([undefined, 5, 7, 9])];
  while (packets.length < count) {
    if (random.once(6)) [to, from] = [random.once(6) ? ALL : any(), any()];
    if (random.once(40)) from = "03:00:00:00:00:01"; // a group's
    if (random.once(12)) vlan = random.pick([undefined, 5, 7, 9]);
    const frame = frameOf(to, from, random.below(65536), vlan);
    const body = Buffer.alloc(random.once(5) ? 1400 : random.below(60), random.below(256));
    const whole = Buffer.concat([HEADER, frame, body]);
    packets.push(random.once(12) ? whole.subarray(0, 26 + random.below(8)) : whole);
  }
  return packets;
}

const LANS: [string, SwitchPortOptions[]][] = [
  ["no VLANs", [{}, {}, {}, {}]],
  ["from a port of one VLAN", [{ vlan: 5 }, { vlan: 5 }, { trunk: [5, 7] }, { vlan: 7 }]],
  ["from a trunk", [{ trunk: [5, 7] }, { vlan: 5 }, { trunk: [5] }, { trunk: [7, 9] }, {}]],
];

describe.each(LANS)("%s", (name, options) => {
  test("packets go where they go one by one, and are counted alike", () => {
    const seed = seedOf(`switch burst, ${name}`);
    const random = new Random(seed);
    using one = openPorts(options);
    using many = openPorts(options, {}, new NetStages(memory, STAGES));
    let got = 0;
    for (let step = 0; step < 300; step++) {
      const where = `FC_SEED=${seed}, step ${step}`;
      // Somebody is heard somewhere, so that there are ways to one port.
      const heard = [Buffer.concat([HEADER, frameOf(ALL, station(random.below(STATIONS)), step)])];
      const at = 1 + random.below(options.length - 1);
      for (const { ports } of [one, many]) sendEach(ports[at] as NetSwitchPort, heard);
      const packets = packetsOf(random);
      sendEach(one.ports[0] as NetSwitchPort, packets);
      const seen: Buffer[] = [];
      expect(take(many.ports[0] as NetSwitchPort, packets, seen), where).toBe(packets.length);
      expect(texts(seen), where).toEqual(texts(packets.map(withBuffers)));
      for (const [index, port] of one.ports.entries()) {
        const expected = takeAll(port);
        const burst = takeAll(many.ports[index] as NetSwitchPort);
        expect(texts(burst), where).toEqual(texts(expected));
        got += expected.length;
        expect(many.lan.countsOf(index), where).toEqual(one.lan.countsOf(index));
      }
    }
    const known = ({ lan }: typeof one) =>
      lan.addresses().map(({ mac, vlan, port }) => `${mac} ${vlan} ${port}`);
    expect(known(many).sort()).toEqual(known(one).sort());
    expect(got).toBeGreaterThan(400);
  });
});

test("what a queue has no room for is counted, and the rest is in order", () => {
  using lan = openPorts([{}, {}, {}], { queueBytes: 1 << 18 }, new NetStages(memory, STAGES));
  const [sender, receiver] = lan.ports as [NetSwitchPort, NetSwitchPort];
  const burst = Array.from({ length: BURST_MAX }, (_, i) =>
    Buffer.concat([HEADER, frameOf(station(1), station(0), i), Buffer.alloc(1000)]),
  );
  for (let i = 0; i < 10; i++) expect(take(sender, burst)).toBe(BURST_MAX);
  const { received, forwarded, dropped } = lan.lan.countsOf(0);
  const got = takeAll(receiver);
  expect(received).toBe(10 * BURST_MAX);
  expect(got.length).toBeGreaterThan(3 * BURST_MAX);
  const expected = Array.from(got, (_, i) => withBuffers(burst[i % BURST_MAX] as Buffer));
  expect(texts(got)).toEqual(texts(expected));
  expect({ forwarded, dropped }).toEqual({
    forwarded: 2 * got.length,
    dropped: 2 * (received - got.length),
  });
});

/** As it is delivered: in one buffer. */
function withBuffers(packet: Buffer): Buffer {
  const delivered = Buffer.from(packet);
  delivered[10] = 1;
  return delivered;
}

test("where a long packet finds no room, a short one behind it does, as one by one", () => {
  const packet = (length: number) =>
    Buffer.concat([HEADER, frameOf(station(1), station(0), 0), Buffer.alloc(length - 72)]);
  const [long, short] = [packet(1900), packet(80)];
  const counts = [undefined, new NetStages(memory, STAGES)].map((stages) => {
    using lan = openPorts([{}, {}], { queueBytes: 1 << 18 }, stages);
    const [sender] = lan.ports as [NetSwitchPort];
    const send = (packets: Buffer[]) =>
      stages ? take(sender, packets) : sendEach(sender, packets);
    for (let left = 136; left > 0; left--) send([long]);
    send([...Array(5).fill(long), ...Array(20).fill(short), long]);
    return lan.lan.countsOf(0);
  });
  expect(counts[0]).toEqual(counts[1]);
  expect(counts[0]?.dropped).toBeGreaterThan(1);
  expect(counts[0]?.forwarded).toBe(136 + 1 + 2); // one that is long, two that are short
});

test("a packet that asks for something ends a burst, and those before it are sent", () => {
  using lan = openPorts([{}, {}], {}, new NetStages(memory, STAGES));
  const [sender, receiver] = lan.ports as [NetSwitchPort, NetSwitchPort];
  const packets = [0, 1, 2, 3].map((i) =>
    Buffer.concat([HEADER, frameOf(station(1), station(0), i)]),
  );
  (packets[2] as Buffer)[0] = 1; // NEEDS_CSUM
  expect(take(sender, packets)).toBe(2);
  expect(takeAll(receiver)).toEqual(packets.slice(0, 2).map(withBuffers));
  expect(lan.lan.countsOf(0)).toMatchObject({ received: 2, forwarded: 2 });
});

/** Puts what waits for a port in so many buffers of its guest's. Returns the packets. */
function put(port: NetSwitchPort, buffers: number): Buffer[] {
  for (let i = 0; i < buffers; i++) {
    tables.setIov(i, BUFFERS + i * BUFFER_BYTES, BUFFER_BYTES);
    tables.setChain(i, i, 0, 1);
  }
  const done = port.put({ vq, first: 0, count: buffers });
  port.flush();
  return Array.from({ length: done }, (_, i) => {
    const address = BUFFERS + i * BUFFER_BYTES;
    return Buffer.from(bytes.slice(address, address + tables.usedBytes(i)));
  });
}

test("several senders take turns, a burst each; each one's packets come in their order", () => {
  const seed = seedOf("switch burst, several senders");
  const random = new Random(seed);
  using lan = openPorts([{}, {}, {}, {}], {}, new NetStages(memory, STAGES));
  const [receiver, ...senders] = lan.ports as [NetSwitchPort, ...NetSwitchPort[]];
  const sent = senders.map(() => 0);
  const got = senders.map(() => 0);
  let fulls = 0;
  const take = (packet: Buffer, where: string) => {
    const from = packet.readUInt8(12 + 11) - 1;
    expect(packet.readUInt16BE(12 + 14), where).toBe((got[from] as number)++);
  };
  for (let step = 0; step < 2000; step++) {
    const where = `FC_SEED=${seed}, step ${step}`;
    const from = random.below(senders.length);
    const packets = Array.from({ length: random.below(step % 500 < 250 ? 60 : 4) }, () => {
      const frame = frameOf(station(0), station(1 + from), (sent[from] as number)++);
      return Buffer.concat([HEADER, frame, Buffer.alloc(random.below(900))]);
    });
    sendEach(senders[from] as NetSwitchPort, packets);
    const alone = random.once(10) ? takeOne(receiver) : undefined;
    if (alone) take(alone, where);
    const isFull = senders.every((_, i) => (sent[i] as number) - (got[i] as number) > BURST_MAX);
    const before = [...got];
    const buffers = step % 500 < 250 ? 16 : BURST_MAX;
    for (let turn = 0; turn < senders.length; turn++) {
      for (const packet of put(receiver, 1 + random.below(buffers))) take(packet, where);
    }
    const waited = got.some((count, i) => count === before[i]);
    expect(isFull && waited, where).toBe(false);
    if (isFull) fulls++;
  }
  for (let left = true; left; ) {
    const packets = [...put(receiver, BURST_MAX), ...takeAll(receiver)];
    for (const packet of packets) take(packet, `FC_SEED=${seed}, at the end`);
    left = packets.length > 0;
  }
  expect(got).toEqual(sent);
  expect(fulls).toBeGreaterThan(0);
  const total = sent.reduce((sum, count) => sum + count, 0);
  expect(lan.lan.countsOf(0)).toMatchObject({ sent: total });
});

test("what comes while a port is reset is counted once", () => {
  using lan = openPorts([{}, {}], {}, new NetStages(memory, STAGES));
  const [receiver, sender] = lan.ports as [NetSwitchPort, NetSwitchPort];
  const packet = Buffer.concat([HEADER, frameOf(station(0), station(1), 1)]);
  sendEach(sender, Array(20).fill(packet));
  const { count } = NetPipe.prototype;
  const counting = vi.spyOn(NetPipe.prototype, "count").mockImplementationOnce(function (
    this: NetPipe,
    max,
  ) {
    const packets = count.call(this, max);
    sendEach(sender, Array(9).fill(packet)); // between the count and the first look
    return packets;
  });
  receiver.reset();
  counting.mockRestore();
  expect(lan.lan.countsOf(0)).toMatchObject({ discarded: 20 });
  receiver.reset();
  expect(lan.lan.countsOf(0)).toMatchObject({ discarded: 29 });
  expect(takeAll(receiver)).toEqual([]);
});

test("what a device of two pairs had sorted is counted when it closes", () => {
  using lan = openPorts([{}, {}]);
  const [receiver, sender] = lan.ports as [NetSwitchPort, NetSwitchPort];
  const settings = { mac: macBytes(station(0)), mtu: 1500, queueSize: 64, queuePairs: 2 };
  const device = new NetDevice(settings, receiver, loadChecksum(alone));
  device.start(featureMask(VIRTIO_NET_F_MQ));
  device.handleKick({ index: 0, hasChains: false } as Virtqueue); // its first queue runs
  const packet = Buffer.concat([HEADER, frameOf(station(0), station(1), 1)]);
  sendEach(sender, Array(20).fill(packet));
  device.poll();
  expect(lan.lan.countsOf(0)).toMatchObject({ discarded: 0 });
  device.close();
  expect(lan.lan.countsOf(0)).toMatchObject({ discarded: 20 });
});
