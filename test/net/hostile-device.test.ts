// A network device that lies to its driver: the test writes the used ring and the packets by hand.
// virtio 1.3, 5.1.6.4 Processing of Incoming Packets.

import { setImmediate as nextTurn } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { NetDriver } from "#dist/driver/net.js";
import { net } from "#dist/index.js";
import { GUEST_BASE } from "#dist/memory/shared-memory.js";
import { VQ_LAST_USED } from "#dist/spec/ring-state.js";
import {
  VIRTIO_NET_F_MRG_RXBUF,
  VIRTIO_NET_HDR_BYTES,
  VIRTIO_NET_HDR_NUM_BUFFERS,
} from "#dist/spec/virtio-net.js";
import { Random } from "../fuzz/random.js";
import { rejected } from "../helpers/devices.js";
import { openPlayed } from "../helpers/played-device.js";
import { seedOf } from "../helpers/seed.js";

const NUM = 8;
/** What the driver gives for a packet, with mergeable buffers. */
const BUFFER_BYTES = 1536;

/** A driver whose buffers are in the ring, and the device's hand in them. */
async function open(ring: "wasm" | "ts", isMergeable = true) {
  const played = await openPlayed(NetDriver.probe, {
    ring,
    queueSize: NUM,
    spec: net({ onPacket: () => {} }),
    withoutFeatures: isMergeable ? [] : [VIRTIO_NET_F_MRG_RXBUF],
  });
  const { driver, used, transport } = played;
  const { shared } = transport;
  const frames: Uint8Array[] = [];
  driver.onPacket = (frame) => {
    frames.push(frame.slice());
  };
  let given = 0;
  const [vq] = transport.vqs as [number];
  /** The driver has taken what was used, and given again what it wants to. */
  const taken = async () => {
    while (shared.view.getUint32(vq + VQ_LAST_USED, true) !== used.usedIdx) await nextTurn();
    await nextTurn();
  };
  /** Uses the next buffer: `written` as it says, its header with `buffers`, then `bytes`. */
  const give = async (written: number, buffers: number, bytes = new Uint8Array(0)) => {
    const head = used.availHead(given % NUM);
    const [desc] = used.chain(given % NUM);
    const at = Number((desc?.addr ?? 0n) - GUEST_BASE) + shared.guestStart;
    shared.bytes.fill(0, at, at + VIRTIO_NET_HDR_BYTES);
    shared.view.setUint16(at + VIRTIO_NET_HDR_NUM_BUFFERS, buffers, true);
    shared.bytes.set(bytes, at + VIRTIO_NET_HDR_BYTES);
    used.answer(head, written);
    given++;
    await taken();
  };
  /** Buffers that the device has: all of them, unless a packet is not whole. */
  const inRing = () => (used.availIdx - given) & 0xffff;
  const close = () => played[Symbol.asyncDispose]();
  return { ...played, frames, give, inRing, [Symbol.asyncDispose]: close };
}

describe.each(["wasm", "ts"] as const)("%s ring", (ring) => {
  test.each([0, 1, VIRTIO_NET_HDR_BYTES - 1])("%i bytes are no packet", async (written) => {
    await using hostile = await open(ring);
    await hostile.give(written, 1);
    await hostile.give(VIRTIO_NET_HDR_BYTES + 20, 1, new Uint8Array(20).fill(7));
    expect(hostile.driver.counts).toMatchObject({ received: 1, bad: 1 });
    expect(hostile.frames).toEqual([new Uint8Array(20).fill(7)]);
    expect(hostile.inRing()).toBe(NUM);
  });

  test.each([0, NUM + 1, 0xffff])("a packet in %i buffers is none", async (buffers) => {
    await using hostile = await open(ring);
    await hostile.give(100, buffers);
    expect(hostile.driver.counts).toMatchObject({ received: 0, bad: 1 });
    expect(hostile.inRing()).toBe(NUM);
  });

  test("a length above the room is cut to it", async () => {
    await using hostile = await open(ring);
    await hostile.give(0xffff_ffff, 1);
    expect(hostile.frames.map(({ length }) => length)).toEqual([
      BUFFER_BYTES - VIRTIO_NET_HDR_BYTES,
    ]);
  });

  test("without mergeable buffers, their number says nothing", async () => {
    await using hostile = await open(ring, false);
    await hostile.give(VIRTIO_NET_HDR_BYTES + 20, 0xffff);
    expect(hostile.frames.map(({ length }) => length)).toEqual([20]);
  });

  test("a packet waits for its last buffer, whatever the others hold", async () => {
    await using hostile = await open(ring);
    await hostile.give(VIRTIO_NET_HDR_BYTES, 3);
    await hostile.give(0, 1);
    expect(hostile.frames).toEqual([]);
    expect(hostile.inRing()).toBe(NUM - 2);
    await hostile.give(50, 9);
    expect(hostile.frames.map(({ length }) => length)).toEqual([50]);
    expect(hostile.inRing()).toBe(NUM);
  });

  test("one that never gets it holds buffers, and ends with the driver", async () => {
    await using hostile = await open(ring);
    const { freeBytes } = hostile.guest;
    for (let i = 0; i < NUM - 1; i++) await hostile.give(500, NUM);
    expect(hostile.inRing()).toBe(1);
    await hostile.driver.close();
    expect(hostile.guest.freeBytes).toBeGreaterThan(freeBytes);
  });

  test("a used ring that lies ends the driver, by name", async () => {
    await using hostile = await open(ring);
    hostile.used.jump(NUM + 1);
    await nextTurn();
    await rejected("EIO", hostile.driver.send(new Uint8Array(60)));
    await rejected("EIO", hostile.driver.receive());
  });

  test("anything: what is received and what is bad adds up, buffers come back", async () => {
    const seed = seedOf("hostile net device");
    const random = new Random(seed);
    await using hostile = await open(ring);
    const { driver, frames } = hostile;
    let whole = 0;
    let left = 0;
    let lies = 0;
    for (let i = 0; i < 1000; i++) {
      const written = random.once(4) ? random.below(2 ** 32) : random.below(40);
      const buffers = random.once(3) ? random.below(2 ** 16) : random.below(4);
      if (written > BUFFER_BYTES) lies++;
      if (left > 0) left--;
      else if (written < VIRTIO_NET_HDR_BYTES || buffers < 1 || buffers > NUM) whole++;
      else left = buffers - 1;
      const isEnd = left === 0;
      await hostile.give(written, buffers);
      const { received, bad } = driver.counts;
      expect(frames.length, `FC_SEED=${seed}, ${i}`).toBe(received);
      expect(bad, `FC_SEED=${seed}, ${i}`).toBe(whole);
      if (isEnd) expect(hostile.inRing(), `FC_SEED=${seed}, ${i}`).toBe(NUM);
    }
    expect(frames.every(({ length }) => length <= NUM * BUFFER_BYTES)).toBe(true);
    expect(driver.errorCounts()).toEqual([{ VRING_E_USED_LENGTH: lies }, {}, {}]);
  });
});
