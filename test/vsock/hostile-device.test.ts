// A socket device that lies to its driver: the test writes the used rings, the packets and the
// events by hand, and never takes what the driver sends. virtio 1.3, 5.10.6 Device Operation.

import { setImmediate as nextTurn } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { VsockDriver } from "#dist/driver/vsock.js";
import { type VsockStream, vsock } from "#dist/index.js";
import { GUEST_BASE } from "#dist/memory/shared-memory.js";
import { VQ_LAST_USED } from "#dist/spec/ring-state.js";
import {
  VIRTIO_VSOCK_HEADER_BYTES,
  VIRTIO_VSOCK_OP_REQUEST,
  VIRTIO_VSOCK_QUEUE_EVENT,
  VIRTIO_VSOCK_QUEUE_RX,
  VIRTIO_VSOCK_TYPE_STREAM,
  VMADDR_CID_HOST,
} from "#dist/spec/virtio-vsock.js";
import { type VsockHeader, writeHeader } from "#dist/vsock/header.js";
import { Random } from "../fuzz/random.js";
import { openPlayed, PlayedRing } from "../helpers/played-device.js";
import { seedOf } from "../helpers/seed.js";

const NUM = 8;
const CID = 77;
const PORT = 5;
/** Replies that a driver keeps for a device that takes none, and what is in its ring. */
const REPLIES_MAX = 64 + NUM;

/** A driver that listens at PORT, and the device's hand in two of its rings. */
async function open(ring: "wasm" | "ts") {
  const spec = vsock({ cid: CID });
  const played = await openPlayed(VsockDriver.probe, { ring, queueSize: NUM, spec });
  const { driver, transport } = played;
  const { shared } = transport;
  const streams: VsockStream[] = [];
  driver.listen(PORT, (stream) => {
    streams.push(stream);
    stream.on("error", () => {});
  });
  const hand = (queue: number) => {
    const used = new PlayedRing(transport, queue);
    const vq = transport.vqs[queue] as number;
    let given = 0;
    /** Uses the next buffer, if the driver has given one: bytes there, and how many it says. */
    const give = async (bytes: Uint8Array, written = bytes.length): Promise<boolean> => {
      if (used.availIdx === (given & 0xffff)) return false;
      const [desc] = used.chain(given % NUM);
      const at = Number((desc?.addr ?? 0n) - GUEST_BASE) + shared.guestStart;
      shared.bytes.set(bytes.subarray(0, desc?.len), at);
      used.answer(used.availHead(given % NUM), written);
      given++;
      while (shared.view.getUint32(vq + VQ_LAST_USED, true) !== used.usedIdx) await nextTurn();
      await nextTurn();
      return true;
    };
    return { give, inRing: () => (used.availIdx - given) & 0xffff };
  };
  const rx = hand(VIRTIO_VSOCK_QUEUE_RX);
  const events = hand(VIRTIO_VSOCK_QUEUE_EVENT);
  const close = () => played[Symbol.asyncDispose]();
  return { ...played, rx, events, streams, [Symbol.asyncDispose]: close };
}

/** A packet: a REQUEST for the port that is listened at, unless it says something else. */
function packet(fields: Partial<VsockHeader> = {}, payloadBytes = 0): Uint8Array {
  const bytes = new Uint8Array(VIRTIO_VSOCK_HEADER_BYTES + payloadBytes);
  writeHeader(new DataView(bytes.buffer), 0, {
    ...{ srcCid: VMADDR_CID_HOST, dstCid: CID, srcPort: 9, dstPort: PORT },
    ...{ type: VIRTIO_VSOCK_TYPE_STREAM, op: VIRTIO_VSOCK_OP_REQUEST, len: payloadBytes },
    ...{ flags: 0, bufAlloc: 4096, fwdCnt: 0 },
    ...fields,
  });
  return bytes;
}

describe.each(["wasm", "ts"] as const)("%s ring", (ring) => {
  test.each([
    ["shorter than a header", packet(), 43],
    ["whose payload is longer than what was written", packet({ len: 1 }), 44],
    ["whose payload is longer than any buffer", packet({ len: 0xffff_ffff }), 0xffff_ffff],
    ["from another CID", packet({ srcCid: 3 }), 44],
    ["for another CID", packet({ dstCid: CID + 1 }), 44],
  ])("a packet %s is none", async (_, bytes, written) => {
    await using hostile = await open(ring);
    await hostile.rx.give(bytes, written);
    expect(hostile.streams).toEqual([]);
    expect(hostile.rx.inRing()).toBe(NUM);
    await hostile.rx.give(packet());
    expect(hostile.streams).toHaveLength(1);
  });

  test("who takes no replies is not listened to for ever", async () => {
    await using hostile = await open(ring);
    let taken = 0;
    for (let i = 0; i < 1000; i++) {
      if (!(await hostile.rx.give(packet({ dstPort: 1 + PORT, srcPort: i })))) break;
      taken++;
    }
    expect(taken).toBeGreaterThan(64);
    expect(taken).toBeLessThanOrEqual(REPLIES_MAX + NUM); // those that wait in buffers, too
    expect(hostile.streams).toEqual([]);
  });

  test("events of any kind: one that is none changes nothing", async () => {
    await using hostile = await open(ring);
    await hostile.rx.give(packet());
    const [stream] = hostile.streams;
    for (const [id, written] of [
      [1, 4],
      [0xffff_ffff, 4],
      [0, 3],
      [0, 0],
    ] as const) {
      const bytes = new Uint8Array(4);
      new DataView(bytes.buffer).setUint32(0, id, true);
      expect(await hostile.events.give(bytes, written)).toBe(true);
    }
    expect(stream?.destroyed).toBe(false);
    await hostile.events.give(new Uint8Array(4)); // TRANSPORT_RESET
    await nextTurn();
    expect(stream?.errored).toMatchObject({ code: "ECONNRESET" });
  });

  test("any packets: streams and memory stay in bounds, and end with the driver", async () => {
    const seed = seedOf("hostile vsock device");
    const random = new Random(seed);
    await using hostile = await open(ring);
    const u32 = () => (random.once(2) ? random.below(4) : random.below(2 ** 32));
    for (let i = 0; i < 1000; i++) {
      const fields = {
        srcPort: random.below(6),
        dstPort: PORT,
        op: random.below(9),
        type: random.once(8) ? random.below(3) : VIRTIO_VSOCK_TYPE_STREAM,
        flags: u32(),
        bufAlloc: u32(),
        fwdCnt: u32(),
      };
      const bytes = packet(fields, random.below(200));
      const written = random.once(8) ? u32() : bytes.length;
      if (!(await hostile.rx.give(bytes, written))) break;
    }
    const { driver, streams, guest } = hostile;
    const read = streams.reduce((sum, { readableLength }) => sum + readableLength, 0);
    expect(read, `FC_SEED=${seed}`).toBeLessThanOrEqual(200 * 1000);
    const { freeBytes } = guest;
    await driver.close();
    await nextTurn();
    expect(guest.freeBytes, `FC_SEED=${seed}`).toBeGreaterThan(freeBytes);
    expect(
      streams.filter(({ destroyed }) => !destroyed),
      `FC_SEED=${seed}`,
    ).toEqual([]);
  });
});
