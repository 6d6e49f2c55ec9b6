// An index or a head that can't be trusted: the queue is refused, counted once, and goes on where
// it stood when the driver repairs its ring. Nobody else notices. virtio 1.3, 2.7.6 The Virtqueue
// Available Ring.

import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { blk } from "#dist/index.js";
import { deviceAreaBytes } from "#dist/memory/vring.js";
import { VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT } from "#dist/spec/virtio-blk.js";
import { VIRTQ_DESC_F_WRITE } from "#dist/spec/virtio-ring.js";
import { blkHeader, blkRequest, pattern } from "../helpers/blk-raw.js";
import { type GuestRing, MODES, RawGuest, THREADS } from "../helpers/raw-guest.js";
import { seedOf } from "../helpers/seed.js";

const NUM = 16;
/** A mask, too. */
const LIE_BYTES_MAX = 127;
const SEED = seedOf("refused rings");

/** A request whose answer is checked, so that the worker has surely made a pass. */
async function serves(ring: GuestRing): Promise<void> {
  const bytes = pattern(512, 3);
  expect((await blkRequest(ring, VIRTIO_BLK_T_OUT, 1, bytes)).status).toBe(0);
  const { data } = await blkRequest(ring, VIRTIO_BLK_T_IN, 1, undefined, 512);
  expect(data).toEqual(Buffer.from(bytes));
}

/** A good chain that reads a sector. */
const good = (guest: RawGuest) =>
  guest.ring.link([blkHeader(VIRTIO_BLK_T_IN), 512, 1].map((piece) => guest.describe(piece)));

const head = (guest: RawGuest) => guest.ring.availIdx % NUM;

describe.each(MODES)("$run, $ring ring", (mode) => {
  let guest: RawGuest;
  let neighbour: GuestRing;
  beforeAll(async () => {
    const spec = blk({ memoryBytes: 65536, queues: 2 });
    guest = await RawGuest.open(spec, { ...mode, num: NUM, queues: 2 });
    neighbour = guest.rings[1] as GuestRing;
  });
  afterAll(() => guest[Symbol.asyncDispose]());

  /** Kicks the refused queue again and again; the neighbour's answers prove that it was seen. */
  async function staysRefused(name: string, count: number): Promise<void> {
    await guest.until(() => guest.errors()[name] === count);
    const { usedIdx } = guest.ring;
    for (let i = 0; i < 5; i++) {
      guest.dev.worker.kick(0);
      await serves(neighbour);
    }
    expect(guest.errors()[name]).toBe(count);
    expect(guest.ring.usedIdx).toBe(usedIdx);
    expect(guest.errors(1)).toEqual({});
  }

  async function isServed(chain: number): Promise<void> {
    expect(await guest.ring.next()).toEqual({ head: chain, length: 513 });
    expect(guest.takeWritten().at(-1)).toBe(0);
    await serves(guest.ring);
  }

  test.each([NUM, NUM + 1, 0x8000, 0xffff])(
    "head %i: refused until it is repaired",
    async (bad) => {
      const before = guest.errors().VRING_E_HEAD ?? 0;
      const slot = head(guest);
      guest.ring.send(bad);
      await staysRefused("VRING_E_HEAD", before + 1);
      const chain = good(guest);
      guest.ring.setAvailHead(slot, chain);
      guest.dev.worker.kick(0);
      await isServed(chain);
    },
  );

  test.each([1, 2, 0x7000])(
    "avail.idx too far ahead by %i: refused until it is repaired",
    async (by) => {
      const before = guest.errors().VRING_E_AVAIL_INDEX ?? 0;
      const { availIdx } = guest.ring;
      guest.ring.availIdx = availIdx + NUM + by;
      guest.dev.worker.kick(0);
      await staysRefused("VRING_E_AVAIL_INDEX", before + 1);
      guest.ring.availIdx = availIdx;
      const chain = good(guest);
      guest.ring.send(chain);
      await isServed(chain);
    },
  );

  test("a refusal is no request: what was done is counted, and nothing taken off it", async () => {
    const before = guest.errors().VRING_E_HEAD ?? 0;
    const done = guest.dev.worker.counters.total();
    const slot = head(guest);
    guest.ring.send(NUM);
    await staysRefused("VRING_E_HEAD", before + 1);
    expect(guest.dev.worker.counters.total().requests).toBe(done.requests + 10); // the neighbour's
    const chain = good(guest);
    guest.ring.setAvailHead(slot, chain);
    guest.dev.worker.kick(0);
    await isServed(chain);
    expect(guest.dev.worker.counters.total().requests).toBe(done.requests + 13);
  });

  test("2.7.6: avail.idx that goes back is as good as far ahead", async () => {
    const before = guest.errors().VRING_E_AVAIL_INDEX ?? 0;
    const { availIdx } = guest.ring;
    guest.ring.availIdx = availIdx - 1;
    guest.dev.worker.kick(0);
    await staysRefused("VRING_E_AVAIL_INDEX", before + 1);
    guest.ring.availIdx = availIdx;
    guest.dev.worker.kick(0);
    await serves(guest.ring);
  });

  test("chains before a bad head are served, those after it wait", async () => {
    const before = guest.errors().VRING_E_HEAD ?? 0;
    const [first, second, third] = [good(guest), good(guest), good(guest)];
    guest.ring.offer(first);
    const slot = head(guest);
    guest.ring.offer(NUM);
    guest.ring.offer(third);
    guest.dev.worker.kick(0);
    expect(await guest.ring.next()).toEqual({ head: first, length: 513 });
    await staysRefused("VRING_E_HEAD", before + 1);
    guest.ring.setAvailHead(slot, second);
    guest.dev.worker.kick(0);
    expect(await guest.ring.next()).toEqual({ head: second, length: 513 });
    expect(await guest.ring.next()).toEqual({ head: third, length: 513 });
    guest.takeWritten();
  });

  test("a second mistake of another kind counts for itself", async () => {
    const before = guest.errors();
    const { availIdx } = guest.ring;
    const slot = head(guest);
    guest.ring.send(0xffff);
    await guest.until(() => guest.errors().VRING_E_HEAD === (before.VRING_E_HEAD ?? 0) + 1);
    guest.ring.setAvailHead(slot, good(guest));
    guest.takeWritten();
    guest.ring.availIdx = availIdx + 1 + NUM + 1;
    guest.dev.worker.kick(0);
    const jumps = (before.VRING_E_AVAIL_INDEX ?? 0) + 1;
    await guest.until(() => guest.errors().VRING_E_AVAIL_INDEX === jumps);
    guest.ring.availIdx = availIdx + 1;
    guest.dev.worker.kick(0);
    await guest.ring.next(); // the entry whose head was repaired: popped before the jump was seen
    await serves(guest.ring);
  });
});

describe.each(THREADS)("without a kick, $ring ring", (mode) => {
  test("a ring that was repaired is looked at again", async () => {
    await using guest = await RawGuest.open(blk({ memoryBytes: 65536 }), { ...mode, num: NUM });
    for (let i = 0; i < 3; i++) {
      const slot = head(guest);
      guest.ring.send(NUM);
      await guest.until(() => guest.errors().VRING_E_HEAD === i + 1);
      const chain = good(guest);
      guest.ring.setAvailHead(slot, chain);
      expect(await guest.ring.next()).toEqual({ head: chain, length: 513 });
      guest.takeWritten();
    }
  });

  test("also while another queue keeps the worker busy", async () => {
    const spec = blk({ memoryBytes: 65536, queues: 2 });
    const pollMicroseconds = 1_000_000; // it never sleeps
    const options = { ...mode, num: NUM, queues: 2, pollMicroseconds };
    await using guest = await RawGuest.open(spec, options);
    const neighbour = guest.rings[1] as GuestRing;
    const slot = head(guest);
    guest.ring.send(NUM);
    await guest.until(() => guest.errors().VRING_E_HEAD === 1);
    guest.ring.setAvailHead(slot, good(guest));
    let isOver = false;
    onTestFinished(() => {
      isOver = true; // if it never is
    });
    while (guest.ring.unseen === 0 && !isOver) await blkRequest(neighbour, VIRTIO_BLK_T_IN, 0);
    expect(guest.ring.unseen).toBe(1);
  });
});

describe.each(THREADS)(`random bytes in the rings, FC_SEED=${SEED}, $ring ring`, (mode) => {
  test("neighbours are served, the worker lives, a new start repairs", async () => {
    const spec = blk({ memoryBytes: 65536, queues: 2 });
    await using guest = await RawGuest.open(spec, { ...mode, num: NUM, queues: 2 });
    const { ring } = guest;
    const neighbour = guest.rings[1] as GuestRing;
    const bytes = fc.uint8Array({ minLength: NUM * 16, maxLength: NUM * 16 });
    const garbage = fc.tuple(bytes, fc.uint8Array({ minLength: 38, maxLength: 38 }));
    const run = async ([table, avail]: [Uint8Array, Uint8Array]) => {
      guest.shared.bytes.set(table, ring.desc);
      guest.shared.bytes.set(avail, ring.avail);
      guest.dev.worker.kick(0);
      await serves(neighbour);
      // small lies get further: heads and next up to 16, buffers that lie on the ring itself; not
      // those to be written on its descriptors, which could then name the neighbour's ring
      const view = new DataView(table.slice().buffer);
      for (let at = 0; at < view.byteLength; at += 16) {
        const flags = view.getUint8(at + 12) & 7;
        const from = flags & VIRTQ_DESC_F_WRITE ? ring.avail : ring.desc;
        const room = ring.used + deviceAreaBytes(NUM) - from - LIE_BYTES_MAX;
        view.setBigUint64(at, guest.at(from + (view.getUint16(at, true) % room)), true);
        view.setUint32(at + 8, view.getUint8(at + 8) & LIE_BYTES_MAX, true);
        view.setUint16(at + 12, flags, true);
        view.setUint16(at + 14, view.getUint8(at + 14) % (NUM + 1), true);
      }
      guest.shared.bytes.set(new Uint8Array(view.buffer), ring.desc);
      for (let slot = 0; slot < NUM; slot++)
        ring.setAvailHead(slot, (avail[slot] ?? 0) % (NUM + 1));
      ring.availIdx = ring.usedIdx + ((avail[20] ?? 0) % (NUM + 2));
      guest.dev.worker.kick(0);
      await serves(neighbour);
      expect(guest.dev.worker.death).toBeUndefined();
    };
    await fc.assert(fc.asyncProperty(garbage, run), {
      numRuns: 100,
      seed: SEED,
      endOnFailure: true,
    });
    expect(guest.errors(1)).toEqual({});
    expect(Object.keys(guest.errors()).length).toBeGreaterThan(4); // many kinds of wrong were met
    await guest.dev.stop();
    guest.shared.bytes.fill(0, ring.avail, ring.avail + 38);
    guest.dev.setVringBase(0, 0);
    ring.usedIdx = 0;
    ring.forget(0);
    await guest.dev.start();
    await serves(ring);
  });
});
