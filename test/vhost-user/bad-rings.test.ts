import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { u32s, u64s } from "#dist/bench/front-end.js";
import { Random } from "#dist/fuzz/random.js";
import { VIRTIO_F_INDIRECT_DESC } from "#dist/spec/virtio-config.js";
import {
  VIRTQ_DESC_F_INDIRECT as INDIRECT,
  VIRTQ_DESC_F_NEXT as NEXT,
  VIRTQ_DESC_F_WRITE as WRITE,
} from "#dist/spec/virtio-ring.js";
import { bit } from "../helpers/raw-guest.js";
import { seedOf } from "../helpers/seed.js";
import { describeVhostUser, eventually, joined } from "../helpers/vhost-user.js";
import { Tried } from "../helpers/vhost-user-bad.js";
import { RawQueue, takeCount } from "../helpers/vhost-user-ring.js";

const TOP = 1n << 64n;

/** Each writes a chain at descriptor 0; by what it counts as. */
const CHAINS: [string, (ring: RawQueue) => void][] = [
  ["NEXT", (r) => r.writeDesc(0, { addr: r.guest(r.data), len: 1, flags: NEXT, next: 8 })],
  ["NEXT", (r) => r.writeDesc(0, { addr: r.guest(r.data), len: 1, flags: NEXT, next: 0xffff })],
  ["LOOP", (r) => r.writeDesc(0, { addr: r.guest(r.data), len: 0, flags: NEXT, next: 0 })],
  [
    "LOOP",
    (r) => {
      r.writeDesc(0, { addr: r.guest(r.data), len: 4096, flags: NEXT, next: 1 });
      r.writeDesc(1, { addr: r.guest(r.data), len: 4096, flags: NEXT, next: 0 });
    },
  ],
  ["ADDRESS", (r) => r.writeDesc(0, { addr: 0n, len: 16, flags: 0 })],
  ["ADDRESS", (r) => r.writeDesc(0, { addr: BigInt(r.data), len: 16, flags: 0 })],
  ["ADDRESS", (r) => r.writeDesc(0, { addr: endOf(r) - 8n, len: 16, flags: 0 })],
  ["ADDRESS", (r) => r.writeDesc(0, { addr: endOf(r), len: 1, flags: WRITE })],
  ["ADDRESS", (r) => r.writeDesc(0, { addr: startOf(r) - 1n, len: 2, flags: WRITE })],
  ["ADDRESS_WRAP", (r) => r.writeDesc(0, { addr: TOP - 8n, len: 9, flags: WRITE })],
  ["ADDRESS_WRAP", (r) => r.writeDesc(0, { addr: TOP - 1n, len: 0xffffffff, flags: 0 })],
  ["ADDRESS", (r) => r.writeDesc(0, { addr: startOf(r), len: 0xffffffff, flags: 0 })],
  [
    "ORDER",
    (r) => {
      r.writeDesc(0, { addr: r.guest(r.data), len: 16, flags: WRITE | NEXT, next: 1 });
      r.writeDesc(1, { addr: r.guest(r.data), len: 16, flags: 0 });
    },
  ],
  ["INDIRECT_NEXT", (r) => indirect(r, 16, NEXT)],
  ["INDIRECT_LENGTH", (r) => indirect(r, 0)],
  ["INDIRECT_LENGTH", (r) => indirect(r, 24)],
  ["INDIRECT_ADDRESS", (r) => r.writeDesc(0, { addr: endOf(r), len: 16, flags: INDIRECT })],
  ["INDIRECT_ADDRESS", (r) => r.writeDesc(0, { addr: endOf(r) - 16n, len: 32, flags: INDIRECT })],
  [
    "INDIRECT_NESTED", // the table's entry is the table
    (r) => {
      indirect(r, 16);
      r.writeDescAt(r.data, { addr: r.guest(r.data), len: 16, flags: INDIRECT });
    },
  ],
  [
    "LOOP",
    (r) => {
      indirect(r, 32);
      r.writeDescAt(r.data, { addr: r.guest(r.data), len: 0, flags: NEXT, next: 0 });
    },
  ],
  ["REQUEST", (r) => r.writeDesc(0, { addr: r.guest(r.data), len: 15, flags: 0 })],
  ["REQUEST", (r) => r.writeDesc(0, { addr: r.guest(r.data), len: 16, flags: 0 })],
  ["REQUEST", (r) => r.writeDesc(0, { addr: r.guest(r.data), len: 16, flags: WRITE })],
];

const indirect = (r: RawQueue, len: number, more = 0) =>
  r.writeDesc(0, { addr: r.guest(r.data), len, flags: INDIRECT | more });
const startOf = (r: RawQueue) => r.guest(r.front.shared.guestStart);
const endOf = (r: RawQueue) => startOf(r) + BigInt(r.front.shared.guestBytes);

describeVhostUser("vhost-user: bad rings", () => {
  let tried: Tried;
  beforeAll(async () => {
    tried = await Tried.start();
  });
  afterEach(() => tried?.isWell());
  afterAll(() => tried?.close());

  /** Ring errors that were told, by name. */
  const told = (from: number) =>
    tried.served.events.slice(from).flatMap((one) => (one.event === "ring-error" ? [one] : []));

  const ready = async (features?: bigint) => {
    await tried.served.idle();
    const front = await tried.served.ready(features);
    return { front, [Symbol.dispose]: () => front.close() };
  };

  test("each malformed chain comes back empty and is told; the next is served", async () => {
    using opened = await ready();
    const ring = new RawQueue(opened.front);
    await opened.front.attach(ring.queue);
    expect(await ring.isServed()).toBe(true);
    const before = tried.served.events.length;
    const expected: Record<string, number> = {};
    for (const [i, [name, write]] of CHAINS.entries()) {
      ring.front.shared.bytes.fill(0xee, ring.data, ring.data + 512);
      write(ring);
      ring.offer(0);
      ring.kick();
      expect(await ring.next(), `${i}: ${name}`).toEqual([0, 0]);
      expect(await ring.isServed(), `${i}: ${name}`).toBe(true);
      await eventually(() => takeCount(ring.queue.errFd) > 0n, `${name}: the error eventfd`);
      expected[`VRING_E_${name}`] = (expected[`VRING_E_${name}`] ?? 0) + 1;
    }
    const count = () => told(before).flatMap(({ errors }) => Object.entries(errors));
    const sum = () => count().reduce((total, [, number]) => total + number, 0);
    await eventually(() => sum() >= CHAINS.length, "all errors told");
    const totals: Record<string, number> = {};
    for (const [name, number] of count()) totals[name] = (totals[name] ?? 0) + number;
    expect(totals).toEqual(expected);
    expect(takeCount(ring.queue.errFd)).toBe(0n);
  });

  test("an indirect table that was not negotiated", async () => {
    using opened = await ready(~bit(VIRTIO_F_INDIRECT_DESC));
    const ring = new RawQueue(opened.front);
    await opened.front.attach(ring.queue);
    indirect(ring, 16);
    ring.offer(0);
    ring.kick();
    expect(await ring.next()).toEqual([0, 0]);
    expect(await ring.isServed()).toBe(true);
    const { errors } = await tried.served.next("ring-error");
    expect(errors).toEqual({ VRING_E_INDIRECT_UNNEGOTIATED: 1 });
  });

  describe("indices that can't be: the ring waits until it is repaired", () => {
    test.each([8, 9, 0x7fff, 0xffff])("head %i", async (head) => {
      using opened = await ready();
      const ring = new RawQueue(opened.front);
      await opened.front.attach(ring.queue);
      ring.offer(head);
      ring.kick();
      expect((await tried.served.next("ring-error")).errors).toEqual({ VRING_E_HEAD: 1 });
      await eventually(() => takeCount(ring.queue.errFd) > 0n, "the error eventfd");
      expect(ring.usedIdx).toBe(0);
      ring.availIdx = 0;
      expect(await ring.isServed()).toBe(true);
    });

    test.each([9, 0x8000, 0xffff])("%i entries ahead", async (ahead) => {
      using opened = await ready();
      const ring = new RawQueue(opened.front);
      await opened.front.attach(ring.queue);
      ring.availIdx = ahead;
      ring.kick();
      expect((await tried.served.next("ring-error")).errors).toEqual({ VRING_E_AVAIL_INDEX: 1 });
      expect(ring.usedIdx).toBe(0);
      ring.availIdx = 0;
      expect(await ring.isServed()).toBe(true);
    });
  });

  test("areas that lie nowhere, across an end, or crooked: not run, told once", async () => {
    using opened = await ready();
    const { front } = opened;
    const { guestBytes } = front.shared;
    const ring = new RawQueue(front);
    await front.attach(ring.queue);
    const user = (linear: number) => front.toUser(linear);
    const [desc, used, avail] = [ring.desc, ring.used, ring.avail].map(user) as [
      bigint,
      bigint,
      bigint,
    ];
    const end = user(front.shared.guestStart + guestBytes);
    const address = (...areas: bigint[]) => joined(u32s(0, 0), u64s(...areas, 0));
    for (const [areas, code] of [
      [[desc + 8n, used, avail], "EINVAL"],
      [[desc, used + 2n, avail], "EINVAL"],
      [[desc, used, avail + 1n], "EINVAL"],
      [[end - 64n, used, avail], "EFAULT"],
      [[desc, end - 16n, avail], "EFAULT"],
      [[desc, used, end - 16n], "EFAULT"],
    ] as const) {
      const before = tried.served.events.length;
      await front.must("SET_VRING_ADDR", address(...areas));
      await front.setMemory();
      expect(tried.served.events.slice(before)).toMatchObject([
        { event: "ring-unusable", queue: 0, error: { code } },
      ]);
    }
    for (const areas of [
      [0n, used, avail],
      [desc, 0n, avail],
      [desc, used, end],
      [desc, used, TOP - 2n],
      [TOP - 16n, used, avail],
      [BigInt(ring.desc), BigInt(ring.used), BigInt(ring.avail)], // linear ones
    ]) {
      expect(await tried.refused(front, "SET_VRING_ADDR", address(...areas))).toBe("EFAULT");
    }
    await front.must("SET_VRING_ADDR", address(desc, used, avail));
    expect(await ring.isServed()).toBe(true);
  });

  test("an area over another, or over the buffers: no harm beyond the ring", async () => {
    using opened = await ready();
    const { front } = opened;
    const ring = new RawQueue(front);
    await front.attach(ring.queue);
    const at = front.toUser(ring.data);
    front.shared.bytes.fill(0x01, ring.data, ring.data + 4096);
    await front.must("SET_VRING_ADDR", joined(u32s(0, 0), u64s(at, at, at, 0)));
    ring.kick();
    const other = new RawQueue(front, 1);
    await front.attach(other.queue);
    for (let i = 0; i < 20; i++) expect(await other.isServed()).toBe(true);
  });

  test("rings of random bytes: the worker lives, and serves the next", {
    timeout: 60_000,
  }, async () => {
    using opened = await ready();
    const { front } = opened;
    const ring = new RawQueue(front, 0, 64);
    const random = new Random(seedOf("rings of random bytes"));
    for (let round = 0; round < 100; round++) {
      const { bytes } = front.shared;
      for (const [start, length] of [
        [ring.desc, 1024],
        [ring.avail, 134],
        [ring.used, 518],
        [ring.data, 32768],
      ] as const) {
        for (let i = 0; i < length; i++) bytes[start + i] = random.below(256);
      }
      // half of them nearly right: addresses of ours, flags that exist, an index within reach
      if (round % 2) {
        for (let i = 0; i < 64; i++) {
          const addr = ring.guest(ring.data + random.below(40_000));
          const flags = random.below(8);
          const next = random.below(66);
          ring.writeDesc(i, { addr, len: random.below(2000), flags, next });
          ring.setAvailHead(i, random.below(64));
        }
        ring.availIdx = random.below(64);
      }
      await front.attach(ring.queue);
      ring.kick();
      await new Promise(setImmediate);
      await front.ask("GET_VRING_BASE", u32s(0, 0));
      ring.clear();
      await front.attach(ring.queue);
      ring.kick();
      expect(await ring.isServed(), `round ${round}`).toBe(true);
      await front.must("RESET_DEVICE");
    }
  });
});
