// Chains that break a rule, written by hand, through the whole path: a real worker, a real disk.
// Each comes back with length 0 and is counted once under its name; nobody else notices.

import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { blk } from "#dist/index.js";
import { GUEST_BASE, type SharedMemory } from "#dist/memory/shared-memory.js";
import {
  VIRTIO_BLK_F_MQ,
  VIRTIO_BLK_T_GET_ID,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
} from "#dist/spec/virtio-blk.js";
import { VIRTIO_F_INDIRECT_DESC } from "#dist/spec/virtio-config.js";
import {
  VIRTQ_DESC_F_INDIRECT as INDIRECT,
  VIRTQ_DESC_F_NEXT as NEXT,
  VIRTQ_DESC_F_WRITE as WRITE,
} from "#dist/spec/virtio-ring.js";
import { blkHeader, blkRequest, pattern } from "../helpers/blk-raw.js";
import {
  bit,
  type GuestRing,
  RawGuest,
  THREADS,
  type Used,
  VERSION_1,
} from "../helpers/raw-guest.js";

const NUM = 16;
const TOP = 1n << 64n;
const TAIL_BYTES = 65536;

/** All but the last page at GUEST_BASE, that page at the very top of the addresses. */
function regions({ guestStart, guestBytes }: SharedMemory) {
  const first = guestBytes - TAIL_BYTES;
  return [
    { guestAddress: GUEST_BASE, sizeBytes: BigInt(first), linearAddress: guestStart },
    {
      guestAddress: TOP - BigInt(TAIL_BYTES),
      sizeBytes: BigInt(TAIL_BYTES),
      linearAddress: guestStart + first,
    },
  ];
}

/** The byte after the first region. */
const endOf = ({ shared }: RawGuest) => GUEST_BASE + BigInt(shared.guestBytes - TAIL_BYTES);

/** Writes a chain and gives its head. */
type Write = (ring: GuestRing, guest: RawGuest) => number;

const header = blkHeader(VIRTIO_BLK_T_IN, 0);
const one = (guest: RawGuest) => guest.describe(header);

/** One descriptor with these fields, over a buffer that is good. */
const single =
  (
    fields: (guest: RawGuest) => { addr?: bigint; len?: number; flags?: number; next?: number },
  ): Write =>
  (ring, guest) =>
    ring.link([{ ...one(guest), ...fields(guest) }]);

/** An indirect descriptor over a good table of header, data and status. */
function indirect(
  change: (table: { addr: bigint; len: number; flags: number }, guest: RawGuest) => object,
): Write {
  return (ring, guest) => {
    const { address, bytes } = ring.table([one(guest), guest.describe(512), guest.describe(1)]);
    const desc = { addr: guest.at(address), len: bytes, flags: INDIRECT };
    return ring.link([{ ...desc, ...change(desc, guest) }]);
  };
}

/** An indirect table with one descriptor of its own making in the middle. */
const tableWith =
  (fields: { flags?: number; next?: number; addr?: bigint }): Write =>
  (ring, guest) => {
    const odd = { ...guest.describe(16), ...fields };
    const { address, bytes } = ring.table([one(guest), odd, guest.describe(1)]);
    return ring.link([{ addr: guest.at(address), len: bytes, flags: INDIRECT }]);
  };

const CASES: [name: string, error: string, write: Write][] = [
  ["next is the queue size", "NEXT", single(() => ({ flags: NEXT, next: NUM }))],
  ["next is 65535", "NEXT", single(() => ({ flags: NEXT, next: 0xffff }))],
  [
    "a descriptor that follows itself",
    "LOOP",
    (ring, guest) => {
      const at = ring.takeDesc();
      ring.writeDesc(at, { ...one(guest), flags: NEXT, next: at });
      return at;
    },
  ],
  [
    "two descriptors in a circle, of no bytes",
    "LOOP",
    (ring, guest) => {
      const [a, b] = [ring.takeDesc(), ring.takeDesc()];
      ring.writeDesc(a, { ...one(guest), len: 0, flags: NEXT, next: b });
      ring.writeDesc(b, { ...one(guest), len: 0, flags: NEXT, next: a });
      return a;
    },
  ],
  ["2.7.5.3: a table of no bytes", "INDIRECT_LENGTH", indirect(() => ({ len: 0 }))],
  ["2.7.5.3: a table of 47 bytes", "INDIRECT_LENGTH", indirect(({ len }) => ({ len: len - 1 }))],
  ["2.7.5.3: a table of 4 GiB", "INDIRECT_LENGTH", indirect(() => ({ len: 0xffff_fff0 }))],
  ["2.7.5.3: INDIRECT with NEXT", "INDIRECT_NEXT", indirect(() => ({ flags: INDIRECT | NEXT }))],
  ["2.7.5.3: a table in a table", "INDIRECT_NESTED", tableWith({ flags: INDIRECT })],
  ["a table that is nowhere", "INDIRECT_ADDRESS", indirect(() => ({ addr: 0x1000n }))],
  [
    "a table that runs past its region",
    "INDIRECT_ADDRESS",
    indirect((_, guest) => ({ addr: endOf(guest) - 32n })),
  ],
  ["a table past 2^64", "ADDRESS_WRAP", indirect(() => ({ addr: TOP - 16n }))],
  ["next past the table", "INDIRECT_INDEX", tableWith({ flags: NEXT, next: 3 })],
  ["an entry that follows itself", "LOOP", tableWith({ flags: NEXT, next: 1 })],
  ["a buffer in a table that is nowhere", "ADDRESS", tableWith({ flags: NEXT, next: 2, addr: 0n })],
  ["an address of zero", "ADDRESS", single(() => ({ addr: 0n }))],
  [
    "a linear address, never translated",
    "ADDRESS",
    single(({ shared }) => ({ addr: BigInt(shared.guestStart) })),
  ],
  ["an address of the host's part", "ADDRESS", single(() => ({ addr: GUEST_BASE - 16n, len: 16 }))],
  ["the byte after a region", "ADDRESS", single((guest) => ({ addr: endOf(guest), len: 1 }))],
  [
    "the first byte mapped, the last not",
    "ADDRESS",
    single((guest) => ({ addr: endOf(guest) - 15n, len: 16 })),
  ],
  ["address and length past 2^64", "ADDRESS_WRAP", single(() => ({ addr: TOP - 8n, len: 9 }))],
  [
    "the top address, 4 GiB long",
    "ADDRESS_WRAP",
    single(() => ({ addr: TOP - 1n, len: 0xffff_ffff })),
  ],
  [
    "2.7.4.2: readable after writable",
    "ORDER",
    (ring, guest) => ring.link([one(guest), guest.describe(1), one(guest)]),
  ],
  [
    "2.7.4.2: writable of no bytes before readable",
    "ORDER",
    (ring, guest) =>
      ring.link([{ ...one(guest), len: 0, flags: WRITE }, one(guest), guest.describe(1)]),
  ],
];

describe.each(THREADS)("$ring ring", (mode) => {
  let guest: RawGuest;
  let other: RawGuest;
  const features = VERSION_1 | bit(VIRTIO_F_INDIRECT_DESC) | bit(VIRTIO_BLK_F_MQ);
  beforeAll(async () => {
    const memoryBytes = 4 << 20;
    const spec = blk({ memoryBytes: 65536, queues: 2 });
    guest = await RawGuest.open(spec, {
      ...mode,
      features,
      num: NUM,
      queues: 2,
      regions,
      memoryBytes,
    });
    const { process } = guest;
    other = await RawGuest.open(blk({ memoryBytes: 65536 }), { ...mode, process, num: NUM });
  });
  afterAll(async () => {
    await other.dev.close();
    await guest[Symbol.asyncDispose]();
  });

  /** The queue itself, its neighbour and another device of the process all serve. */
  afterEach(async () => {
    const bytes = pattern(512, 7);
    for (const ring of [guest.ring, guest.rings[1] as GuestRing, other.ring]) {
      expect((await blkRequest(ring, VIRTIO_BLK_T_OUT, 5, bytes)).status).toBe(0);
      const { status, data } = await blkRequest(ring, VIRTIO_BLK_T_IN, 5, undefined, 512);
      expect({ status, data }).toEqual({ status: 0, data: Buffer.from(bytes) });
    }
    expect(guest.errors(1)).toEqual({});
    expect(other.errors()).toEqual({});
    expect(guest.dev.worker.death).toBeUndefined();
  });

  test.each(CASES)("%s", async (_, error, write) => {
    const before = guest.errors();
    const { ring } = guest;
    const head = write(ring, guest);
    ring.send(head);
    expect(await ring.next()).toEqual({ head, length: 0 });
    expect(guest.takeWritten().every((byte) => byte === 0xaa)).toBe(true);
    const name = `VRING_E_${error}`;
    expect(guest.errors()).toEqual({ ...before, [name]: (before[name] ?? 0) + 1 });
  });

  test("bad and good chains mixed: each comes back once, the bad ones empty", async () => {
    const { ring } = guest;
    const bad = CASES[0]?.[2] as Write;
    const good = () =>
      ring.link([guest.describe(blkHeader(VIRTIO_BLK_T_GET_ID)), guest.describe(21)]);
    for (let round = 0; round < 20; round++) {
      const heads = [bad(ring, guest), good(), bad(ring, guest), bad(ring, guest), good()];
      for (const head of heads) ring.offer(head);
      guest.dev.worker.kick(0);
      const expected = heads.map((head, i) => ({ head, length: [0, 21, 0, 0, 21][i] }));
      const used: Used[] = [];
      while (used.length < heads.length) used.push(await ring.next());
      const byHead = (a: Pick<Used, "head">, b: Pick<Used, "head">) => a.head - b.head;
      expect(used.sort(byHead)).toEqual(expected.sort(byHead));
      guest.takeWritten();
    }
  });

  test("a good chain in a table, WRITE on its descriptor being ignored, is served", async () => {
    const { ring } = guest;
    const table = indirect(() => ({ flags: INDIRECT | WRITE }));
    const before = guest.errors();
    ring.send(table(ring, guest));
    expect((await ring.next()).length).toBe(513);
    expect(guest.takeWritten().at(-1)).toBe(0);
    expect(guest.errors()).toEqual(before);
  });

  test("a buffer that ends with its region is good to the last byte", async () => {
    const { ring } = guest;
    const last = { addr: TOP - 513n, len: 513, flags: WRITE };
    ring.send(ring.link([one(guest), last]));
    expect((await ring.next()).length).toBe(513);
  });
});

test.each(THREADS)("2.7.5.3: INDIRECT that was not negotiated, $ring ring", async (mode) => {
  await using guest = await RawGuest.open(blk({ memoryBytes: 512 }), mode);
  const { ring } = guest;
  const head = indirect(() => ({}))(ring, guest);
  ring.send(head);
  expect(await ring.next()).toEqual({ head, length: 0 });
  expect(guest.errors()).toEqual({ VRING_E_INDIRECT_UNNEGOTIATED: 1 });
  guest.takeWritten();
  expect((await blkRequest(ring, VIRTIO_BLK_T_IN, 0, undefined, 512)).status).toBe(0);
});

// A walk round a large table costs more than a good request: a ring full of them held up the
// worker's other queues for the 2 ms of a turn, again and again.
test.each(["wasm", "ts"] as const)(
  "a full ring of them: 16 at first, then one a turn, %s ring",
  async (ring) => {
    const spec = blk({ memoryBytes: 512, queues: 2 });
    await using guest = await RawGuest.open(spec, { run: "inline", ring, num: 64, queues: 2 });
    const [bad, good] = guest.rings as [GuestRing, GuestRing];
    guest.runAll();
    bad.writeDesc(0, { addr: 0n, len: 16, flags: 0 });
    for (let i = 0; i < 64; i++) bad.offer(0);
    const pieces = [guest.describe(header), guest.describe(512), guest.describe(1)];
    good.send(good.link(pieces));
    guest.dev.worker.kick(0);
    expect(guest.dev.runPending()).toBe(true);
    expect(guest.errors()).toEqual({ VRING_E_ADDRESS: 16 });
    expect(good.unseen).toBe(1);
    expect(guest.dev.runPending()).toBe(true);
    expect(guest.errors()).toEqual({ VRING_E_ADDRESS: 17 });
    guest.runAll();
    expect(guest.errors()).toEqual({ VRING_E_ADDRESS: 64 });
    expect(bad.unseen).toBe(64);
  },
);
