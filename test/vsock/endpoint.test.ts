// The connection of a socket device, both ends of it: virtio 1.3, 5.10.6.

import { describe, expect, test } from "vitest";
import {
  VIRTIO_VSOCK_OP_CREDIT_UPDATE,
  VIRTIO_VSOCK_OP_RST,
  VIRTIO_VSOCK_OP_SHUTDOWN,
} from "#dist/spec/virtio-vsock.js";
import { Random } from "../fuzz/random.js";
import { type End, type EndOfConnection, settle, twoEnds } from "../helpers/vsock-ends.js";

const WIRE_MAX = 12;

/** What one end may do next, at random. */
function step(random: Random, end: End): void {
  const one = end.connections[random.below(Math.max(1, end.connections.length))];
  switch (random.below(12)) {
    case 0:
      if (end.connections.length < 10) end.connect(random.once(8) ? 1 : 7);
      break;
    case 1:
    case 2:
    case 3:
      if (one?.isOpen && !one.isSending && !one.hasEnded)
        one.send(random.between(1, Math.min(5000, 5 * end.peer.bufferBytes)));
      break;
    case 4:
    case 5:
      one?.take();
      break;
    case 6:
      if (one?.isOpen && !one.isSending && random.once(6)) {
        one.hasEnded = true;
        one.connection.endSending();
      }
      break;
    case 7:
    case 8:
    case 9:
      if (end.wire.length < WIRE_MAX) end.pull(random.between(1, 3000));
      break;
    default:
      end.deliver();
  }
}

/** Nothing is ever beyond what there is room for. */
function checkCredit(end: End): void {
  for (const { connection } of end.connections) {
    const { localPort, peerPort, receivedBytes } = connection;
    const coming = end.peer.bytesUnderWay(peerPort, localPort);
    if (receivedBytes + coming > end.bufferBytes) throw new Error("beyond the room");
  }
}

/** The other end of the same connection. */
function otherEnd(end: End, { connection }: EndOfConnection): EndOfConnection | undefined {
  return end.peer.connections.find(
    (other) =>
      other.connection.localPort === connection.peerPort &&
      other.connection.peerPort === connection.localPort,
  );
}

function checkWhole(host: End): void {
  for (const one of host.connections) {
    const other = otherEnd(host, one);
    if (!other) {
      expect(one.error).toMatchObject({ code: "ECONNREFUSED" });
      continue;
    }
    expect([one.error, other.error]).toEqual([undefined, undefined]);
    expect([one.taken, other.taken]).toEqual([other.sent, one.sent]);
  }
}

describe("two ends, whatever comes first", () => {
  test("every byte in order, none beyond the room, all gone at the end", {
    timeout: 60_000,
  }, () => {
    let moved = 0;
    for (let seed = 1; seed <= 40; seed++) {
      const random = new Random(seed);
      const sizes = [1, 100, 4096, 262_144];
      const [host, guest] = twoEnds(random.pick(sizes), random.pick(sizes));
      try {
        for (let i = 0; i < 1500; i++) {
          step(random, random.once(2) ? host : guest);
          if (i % 10 === 0) for (const end of [host, guest]) checkCredit(end);
        }
        settle(host, guest);
        checkWhole(host);
        for (const end of [host, guest]) for (const one of end.connections) one.connection.close();
        settle(host, guest);
        expect([host.endpoint.connectionCount, guest.endpoint.connectionCount]).toEqual([0, 0]);
        moved += host.connections.reduce((sum, { sent, taken }) => sum + sent + taken, 0);
      } catch (error) {
        throw new Error(`seed ${seed}: ${(error as Error).stack}`);
      }
    }
    expect(moved).toBeGreaterThan(200_000);
  });
});

describe("one connection", () => {
  function open() {
    const [host, guest] = twoEnds(65536, 65536);
    const one = guest.connect();
    settle(host, guest);
    return { host, guest, one, other: host.connections[0] as EndOfConnection };
  }

  test("nobody listens: refused, and nothing is left", () => {
    const [host, guest] = twoEnds(1000, 1000);
    const one = guest.connect(8);
    settle(host, guest);
    expect(one.error).toMatchObject({ code: "ECONNREFUSED" });
    expect([host.endpoint.connectionCount, guest.endpoint.connectionCount]).toEqual([0, 0]);
  });

  test("5.10.6.6: who ends sending can still receive", () => {
    const { host, guest, one, other } = open();
    one.send(10);
    settle(host, guest);
    one.connection.endSending();
    settle(host, guest);
    expect([other.taken, other.connection.isEnded]).toEqual([10, true]);
    other.send(70_000);
    settle(host, guest);
    expect([one.taken, one.connection.isEnded]).toEqual([70_000, false]);
  });

  test("5.10.6.6: SHUTDOWN of both ways is answered with RST once all is taken", () => {
    const { host, guest, one, other } = open();
    one.send(10);
    settle(host, guest, false);
    one.connection.close();
    settle(host, guest, false);
    expect([other.isOver, guest.endpoint.connectionCount]).toEqual([false, 1]);
    expect(other.take()).toBe(true);
    expect([other.isOver, other.error]).toEqual([true, undefined]);
    expect(host.pull()?.header.op).toBe(VIRTIO_VSOCK_OP_RST);
    guest.deliver();
    expect([one.error, guest.endpoint.connectionCount]).toEqual([undefined, 0]);
  });

  test("close with bytes that were not sent is a reset", () => {
    const { host, guest, one, other } = open();
    one.send(100_000);
    settle(host, guest, false);
    expect(one.isSending).toBe(true);
    one.connection.close();
    settle(host, guest, false);
    expect(other.error).toMatchObject({ code: "ECONNRESET" });
  });

  test("5.10.6.3: without credit it waits, asks once, and goes on when told", () => {
    const { host, guest, one, other } = open();
    one.send(65536 + 5);
    settle(host, guest, false);
    expect(other.connection.receivedBytes).toBe(65536);
    expect([guest.endpoint.next(1), host.endpoint.next(1)]).toEqual([undefined, undefined]);
    while (other.connection.receivedBytes > 0) other.take();
    expect(host.pull()?.header).toMatchObject({
      op: VIRTIO_VSOCK_OP_CREDIT_UPDATE,
      bufAlloc: 65536,
      fwdCnt: 65536,
    });
    guest.deliver();
    expect(guest.pull()?.payload).toHaveLength(5);
  });

  test("the sender hears when the receiver will not receive", () => {
    const { host, guest, one } = open();
    one.send(100_000);
    settle(host, guest, false);
    const { localPort, peerPort } = one.connection;
    host.wire.push({
      header: {
        ...{ srcCid: 2, dstCid: 3, srcPort: peerPort, dstPort: localPort, len: 0, type: 1 },
        ...{ op: VIRTIO_VSOCK_OP_SHUTDOWN, flags: 1, bufAlloc: 65536, fwdCnt: 0 },
      },
      payload: new Uint8Array(0),
    });
    guest.deliver();
    expect([one.lost, one.isOver]).toEqual([true, false]);
  });

  test("one that sends without end leaves the others their turns", () => {
    const { host, guest, one } = open();
    const two = guest.connect();
    settle(host, guest);
    one.send(60_000);
    two.send(60_000);
    const order = Array.from({ length: 6 }, () => guest.pull(1000)?.header.srcPort);
    const [a, b] = [one.connection.localPort, two.connection.localPort];
    expect(order).toEqual([a, b, a, b, a, b]);
  });
});
