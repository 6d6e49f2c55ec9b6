// Lists of a packed ring that break one rule each. No ring logic.

import * as e from "#dist/spec/ring-state.js";
import {
  VIRTQ_DESC_F_INDIRECT as INDIRECT,
  VIRTQ_DESC_F_NEXT as NEXT,
  VIRTQ_DESC_F_WRITE as WRITE,
} from "#dist/spec/virtio-ring.js";
import { data, endOf, TOP } from "./broken-chains.js";
import { AVAIL_1, type PackedDesc, type PackedFixture } from "./packed-fixture.js";
import type { RingShape } from "./ring-fixture.js";

/** A list of descriptors from the first of the ring on, in its first lap. */
export function writeList(f: PackedFixture, ...list: Partial<PackedDesc>[]): void {
  list.forEach(({ addr = data(f), len = 1, id = 5, flags = 0 }, i) => {
    const next = i + 1 < list.length ? NEXT : 0;
    f.writePacked(i, { addr, len, id, flags: flags | next | AVAIL_1 });
  });
}

/** A table of `count` entries of `len` bytes at the data. */
function writeTable(f: PackedFixture, count: number, len = 1): void {
  for (let i = 0; i < count; i++) f.writePackedAt(f.data + 16 * i, { addr: data(f), len });
}

/** A descriptor that names a table of `len` bytes at the data. */
export const table = (f: PackedFixture, len: number) => ({ addr: data(f), len, flags: INDIRECT });

/** A list at the first descriptor that breaks one rule. */
interface BrokenList {
  name: string;
  /** What it counts as: VRING_E_… */
  code: number;
  /** Descriptors of the list: 1 when left out. */
  count?: number;
  write: (f: PackedFixture) => void;
  /** What differs from `SHAPE`. */
  shape?: Partial<RingShape>;
}

/** A list for each check of `getDescs` that gives it back with length 0. */
export const BROKEN_LISTS: readonly BrokenList[] = [
  {
    name: "2.8.7: indirect, not negotiated",
    code: e.VRING_E_INDIRECT_UNNEGOTIATED,
    shape: { indirect: false },
    write: (f) => writeList(f, table(f, 16)),
  },
  {
    name: "2.8.7: indirect that goes on",
    code: e.VRING_E_INDIRECT_NEXT,
    count: 2,
    write: (f) => writeList(f, table(f, 0), {}),
  },
  {
    name: "2.8.7: indirect behind another",
    code: e.VRING_E_INDIRECT_NEXT,
    count: 2,
    write: (f) => writeList(f, {}, table(f, 16)),
  },
  ...[0, 8, 24, 0x10_0010, 0xffff_fff0].map((len) => ({
    name: `2.8.7: a table of ${len} bytes`,
    code: e.VRING_E_INDIRECT_LENGTH,
    write: (f: PackedFixture) => writeList(f, table(f, len)),
  })),
  {
    name: "2.8.7: a table past 2^64",
    code: e.VRING_E_ADDRESS_WRAP,
    write: (f) => writeList(f, { addr: TOP - 16n, len: 32, flags: INDIRECT }),
  },
  {
    name: "2.8.7: a table whose last byte is nobody's",
    code: e.VRING_E_INDIRECT_ADDRESS,
    write: (f) => writeList(f, { addr: endOf(f, 2) - 16n, len: 32, flags: INDIRECT }),
  },
  {
    name: "2.8.7: an entry across two regions",
    code: e.VRING_E_INDIRECT_ADDRESS,
    write: (f) => writeList(f, { addr: endOf(f, 1) - 8n, len: 16, flags: INDIRECT }),
  },
  {
    name: "2.8.7: more entries than the iovec table, though none has a length",
    code: e.VRING_E_IOV,
    write: (f) => {
      writeList(f, table(f, 16 * 17));
      writeTable(f, 17, 0);
    },
  },
  {
    name: "2.8.7: a readable entry after a writable one",
    code: e.VRING_E_ORDER,
    write: (f) => {
      writeList(f, table(f, 32));
      f.writePackedAt(f.data, { addr: data(f), len: 1, flags: WRITE });
      f.writePackedAt(f.data + 16, { addr: data(f), len: 1 });
    },
  },
  {
    name: "a buffer that is nobody's, and later ones that are bad otherwise",
    code: e.VRING_E_ADDRESS,
    count: 3,
    write: (f) =>
      writeList(f, { addr: endOf(f, 2) }, { addr: TOP - 1n, len: 2 }, { flags: INDIRECT }),
  },
  {
    name: "a buffer past 2^64",
    code: e.VRING_E_ADDRESS_WRAP,
    write: (f) => writeList(f, { addr: TOP - 8n, len: 9, flags: WRITE }),
  },
  {
    name: "2.8.17: readable after writable, of length 0",
    code: e.VRING_E_ORDER,
    count: 2,
    write: (f) => writeList(f, { len: 0, flags: WRITE }, { len: 0 }),
  },
  {
    name: "lengths add up to 2^32",
    code: e.VRING_E_LENGTH,
    count: 2,
    write: (f) => writeList(f, {}, { len: 0xffff_ffff }),
  },
  {
    name: "more pieces than the iovec table",
    code: e.VRING_E_IOV,
    count: 3,
    shape: { iovCapacity: 2 },
    write: (f) => writeList(f, {}, {}, {}),
  },
];
