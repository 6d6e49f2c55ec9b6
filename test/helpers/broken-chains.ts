// Descriptor chains that break one rule each, and a ring to write them to. No ring logic.

import * as e from "#dist/spec/ring-state.js";
import {
  VIRTQ_DESC_F_INDIRECT as INDIRECT,
  VIRTQ_DESC_F_NEXT as NEXT,
  VIRTQ_DESC_F_WRITE as WRITE,
} from "#dist/spec/virtio-ring.js";
import type { RingFixture, RingShape } from "./ring-fixture.js";

/** The first address that is none: 2^64. */
export const TOP = 1n << 64n;

/** The ring's region has two neighbours; a fourth region is far away, at the very top. */
export const SHAPE: Partial<RingShape> = {
  indirect: true,
  iovCapacity: 16,
  more: [{ bytes: 256 }, { bytes: 40, skew: 1 }, { guest: TOP - 512n, bytes: 512 }],
};

/** Guest address of the first byte of data. */
export const data = (f: RingFixture): bigint => f.guestOf(f.data);

/** Guest address of the byte after a region. */
export const endOf = (f: RingFixture, region: number): bigint =>
  f.region(region).guest + BigInt(f.region(region).bytes);

/** Writes a table of `count` entries of `len` bytes, each going on at the next, at the data. */
export function writeTable(f: RingFixture, count: number, len = 1): void {
  for (let i = 0; i < count; i++) {
    const flags = i + 1 < count ? NEXT : 0;
    const next = i + 1 < count ? i + 1 : 0;
    f.writeDescAt(f.data + 16 * i, { addr: data(f), len, flags, next });
  }
}

/** Makes descriptor 0 name a table of `len` bytes at the data. */
export const indirect = (f: RingFixture, len: number, more = 0): void =>
  f.writeDesc(0, { addr: data(f), len, flags: INDIRECT | more });

/** A chain at descriptor 0 that breaks one rule. */
interface BrokenChain {
  name: string;
  /** What it counts as: VRING_E_… */
  code: number;
  write: (f: RingFixture) => void;
  /** What differs from `SHAPE`. */
  shape?: Partial<RingShape>;
}

/** A chain for each check of `getDescs` that gives the head back with length 0. */
export const BROKEN_CHAINS: readonly BrokenChain[] = [
  {
    name: "2.7.5: next is the queue size",
    code: e.VRING_E_NEXT,
    write: (f) => f.writeDesc(0, { addr: data(f), len: 1, flags: NEXT, next: 8 }),
  },
  {
    name: "2.7.5: two descriptors in a circle, of length 0",
    code: e.VRING_E_LOOP,
    write: (f) => {
      f.writeDesc(0, { addr: data(f), len: 0, flags: NEXT, next: 1 });
      f.writeDesc(1, { addr: data(f), len: 0, flags: NEXT, next: 0 });
    },
  },
  {
    name: "2.7.5.3: indirect, not negotiated",
    code: e.VRING_E_INDIRECT_UNNEGOTIATED,
    shape: { indirect: false },
    write: (f) => indirect(f, 16),
  },
  {
    name: "2.7.5.3: indirect that goes on",
    code: e.VRING_E_INDIRECT_NEXT,
    write: (f) => indirect(f, 0, NEXT),
  },
  {
    name: "2.7.5.3: indirect in a table",
    code: e.VRING_E_INDIRECT_NESTED,
    write: (f) => {
      indirect(f, 16);
      f.writeDescAt(f.data, { addr: data(f), len: 16, flags: INDIRECT });
    },
  },
  ...[0, 8, 24, 0x10_0010, 0xffff_fff0].map((len) => ({
    name: `2.7.5.3: a table of ${len} bytes`,
    code: e.VRING_E_INDIRECT_LENGTH,
    write: (f: RingFixture) => indirect(f, len),
  })),
  {
    name: "2.7.5.3: a table past 2^64",
    code: e.VRING_E_ADDRESS_WRAP,
    write: (f) => f.writeDesc(0, { addr: TOP - 16n, len: 32, flags: INDIRECT }),
  },
  {
    name: "2.7.5.3: a table whose last byte is nobody's, though its first entry ends the chain",
    code: e.VRING_E_INDIRECT_ADDRESS,
    write: (f) => f.writeDesc(0, { addr: endOf(f, 2) - 16n, len: 32, flags: INDIRECT }),
  },
  {
    name: "2.7.5.3: an entry across two regions",
    code: e.VRING_E_INDIRECT_ADDRESS,
    write: (f) => f.writeDesc(0, { addr: endOf(f, 1) - 8n, len: 16, flags: INDIRECT }),
  },
  {
    name: "2.7.5.3: next past the table",
    code: e.VRING_E_INDIRECT_INDEX,
    write: (f) => {
      indirect(f, 32);
      f.writeDescAt(f.data, { addr: data(f), len: 1, flags: NEXT, next: 2 });
    },
  },
  {
    name: "2.7.5.3: an entry that goes on at itself",
    code: e.VRING_E_LOOP,
    write: (f) => {
      indirect(f, 32);
      f.writeDescAt(f.data, { addr: data(f), len: 0, flags: NEXT, next: 0 });
    },
  },
  {
    name: "2.7.5.3: a circle in a table with more entries than the iovec table",
    code: e.VRING_E_IOV,
    write: (f) => {
      indirect(f, 16 * 17);
      f.writeDescAt(f.data, { addr: data(f), len: 0, flags: NEXT, next: 0 });
    },
  },
  {
    name: "a buffer that is nobody's",
    code: e.VRING_E_ADDRESS,
    write: (f) => f.writeDesc(0, { addr: endOf(f, 2), len: 1, flags: 0 }),
  },
  {
    name: "a buffer whose first byte is mapped and whose last is not",
    code: e.VRING_E_ADDRESS,
    write: (f) => f.writeDesc(0, { addr: endOf(f, 2) - 8n, len: 9, flags: 0 }),
  },
  {
    name: "a buffer one byte before the first region",
    code: e.VRING_E_ADDRESS,
    write: (f) => f.writeDesc(0, { addr: f.shape.guest - 1n, len: 2, flags: 0 }),
  },
  {
    name: "a buffer at the linear address of guest memory",
    code: e.VRING_E_ADDRESS,
    write: (f) => f.writeDesc(0, { addr: BigInt(f.data), len: 1, flags: 0 }),
  },
  {
    name: "a buffer past 2^64",
    code: e.VRING_E_ADDRESS_WRAP,
    write: (f) => f.writeDesc(0, { addr: TOP - 8n, len: 9, flags: WRITE }),
  },
  {
    name: "2.7.4.2: readable after writable, of length 0",
    code: e.VRING_E_ORDER,
    write: (f) => {
      f.writeDesc(0, { addr: data(f), len: 0, flags: WRITE | NEXT, next: 1 });
      f.writeDesc(1, { addr: data(f), len: 0, flags: 0 });
    },
  },
  {
    name: "2.7.4.2: a table's readable after the ring's writable",
    code: e.VRING_E_ORDER,
    write: (f) => {
      f.writeDesc(0, { addr: data(f), len: 1, flags: WRITE | NEXT, next: 1 });
      f.writeDesc(1, { addr: data(f), len: 16, flags: INDIRECT });
      writeTable(f, 1);
    },
  },
  {
    name: "lengths add up to 2^32",
    code: e.VRING_E_LENGTH,
    write: (f) => {
      f.writeDesc(0, { addr: data(f), len: 1, flags: NEXT, next: 1 });
      f.writeDesc(1, { addr: data(f), len: 0xffff_ffff, flags: 0 });
    },
  },
  {
    name: "more pieces than the iovec table",
    code: e.VRING_E_IOV,
    write: (f) => {
      indirect(f, 16 * 17);
      writeTable(f, 17);
    },
  },
];
