// A queue's turn: what a device may do with it, and how long it lasts.

import { describe, expect, test } from "vitest";
import { blk } from "#dist/index.js";
import { TASK_INTERRUPTIBLE } from "#dist/spec/sched.js";
import { VIRTIO_BLK_F_MQ, VIRTIO_BLK_T_IN } from "#dist/spec/virtio-blk.js";
import { VIRTIO_F_INDIRECT_DESC } from "#dist/spec/virtio-config.js";
import { VIRTQ_DESC_F_INDIRECT, VIRTQ_DESC_F_WRITE } from "#dist/spec/virtio-ring.js";
import { blkHeader } from "../helpers/blk-raw.js";
import { custom, until } from "../helpers/devices.js";
import { bit, type GuestRing, MODES, RawGuest, THREADS, VERSION_1 } from "../helpers/raw-guest.js";

describe.each(MODES)("$run, $ring ring", (mode) => {
  test("2.7.8.2: a length that a handler claims is cut to the room", async () => {
    await using guest = await RawGuest.open(custom("boasts"), mode);
    expect((await guest.ring.request([new Uint8Array(16), 5, 3])).length).toBe(8);
    expect((await guest.ring.request([new Uint8Array(16)])).length).toBe(0);
  });

  test("a queue that is full of work has turns, and others have theirs between", async () => {
    const spec = blk({ nullBytes: 1 << 30, queues: 2 });
    const features = VERSION_1 | bit(VIRTIO_F_INDIRECT_DESC) | bit(VIRTIO_BLK_F_MQ);
    await using guest = await RawGuest.open(spec, { ...mode, run: "inline", features, queues: 2 });
    guest.runAll();
    const [heavy, light] = guest.rings as [GuestRing, GuestRing];
    const header = guest.describe(blkHeader(VIRTIO_BLK_T_IN));
    const big = { addr: guest.whole.guestAddress, len: 65536, flags: VIRTQ_DESC_F_WRITE };
    const room = new Array(254).fill(big); // 16 MiB that overlap
    const { address, bytes } = heavy.table([header, ...room, guest.describe(1)]);
    const desc = { addr: guest.at(address), len: bytes, flags: VIRTQ_DESC_F_INDIRECT };
    for (let i = 0; i < 48; i++) heavy.offer(heavy.link([desc]));
    light.offer(light.link([guest.describe(blkHeader(VIRTIO_BLK_T_IN)), guest.describe(1)]));
    guest.dev.worker.kick(0);
    guest.dev.worker.kick(1);
    expect(guest.dev.runPending()).toBe(true);
    expect(light.usedIdx).toBe(1);
    expect(heavy.usedIdx).toBeGreaterThan(0);
    expect(heavy.usedIdx).toBeLessThan(24);
    guest.runAll();
    expect(heavy.usedIdx).toBe(48);
  });

  test("a turn ends after a while, and bursts are short where chains take long", async () => {
    await using guest = await RawGuest.open(custom("slow"), { ...mode, run: "inline" });
    guest.runAll();
    const { ring, dev } = guest;
    for (let i = 0; i < 40; i++) ring.offer(ring.link([guest.describe(4)]));
    const turns: number[] = [];
    for (let before = 0; ring.usedIdx < 40; before = ring.usedIdx) {
      dev.runPending();
      turns.push(ring.usedIdx - before);
    }
    expect(turns[0]).toBe(16);
    expect(Math.max(...turns.slice(1))).toBeLessThanOrEqual(2);
  });
});

describe.each(THREADS)("chains that a device leaves for later, $ring ring", (mode) => {
  test.each([0, 1_000_000])(
    "the worker runs it at the next kick, not again and again; poll %i µs",
    async (pollMicroseconds) => {
      const words = new Int32Array(new SharedArrayBuffer(8));
      const spec = custom("waits", { words: words.buffer });
      await using guest = await RawGuest.open(spec, { ...mode, pollMicroseconds });
      const { ring } = guest;
      const chain = ring.link([guest.describe(new Uint8Array(4))]);
      ring.send(chain);
      const { task } = guest.dev.worker.task;
      await until(() => task.state === TASK_INTERRUPTIBLE);
      expect(ring.unseen).toBe(0);
      expect(Atomics.load(words, 0)).toBeLessThanOrEqual(3); // the start, the kick, a last look
      Atomics.store(words, 1, 1);
      guest.dev.worker.kick(0);
      expect(await ring.next()).toEqual({ head: chain, length: 0 });
    },
  );

  test("and when more comes, without a kick while it polls", async () => {
    const words = new Int32Array(new SharedArrayBuffer(8));
    const spec = custom("waits", { words: words.buffer });
    await using guest = await RawGuest.open(spec, { ...mode, pollMicroseconds: 20_000_000 });
    const { ring } = guest;
    const [first, second] = [1, 2].map(() => ring.link([guest.describe(new Uint8Array(4))]));
    const runs = (count: number) => until(() => Atomics.load(words, 0) >= count);
    await runs(1); // the start
    ring.send(first as number);
    await runs(2); // it came, and was left in the ring
    Atomics.store(words, 1, 1);
    ring.offer(second as number); // no kick
    expect((await ring.next()).head).toBe(first);
    expect((await ring.next()).head).toBe(second);
  });
});
