// Indirect tables. virtio 1.3, 2.7.5.3 Indirect Descriptors, 2.8.7 Indirect Flag.

import {
  VIRTQ_DESC_F_INDIRECT as INDIRECT,
  VIRTQ_DESC_F_NEXT as NEXT,
  VIRTQ_DESC_BYTES,
  VIRTQ_DESC_F_WRITE as WRITE,
} from "../../spec/virtio-ring.js";
import { TOP } from "./hostile-memory.js";
import type { HostileDesc } from "./hostile-ring.js";
import type { HostileShape } from "./hostile-shape.js";
import type { HostileStage } from "./hostile-stage.js";

const BOTH = ["split", "packed"] as const;
const SPLIT = ["split"] as const;
const PACKED = ["packed"] as const;
const INDIRECT_ON = { indirect: true } as const;
/** More than the longest chain that Linux takes (UIO_MAXIOV). */
const MANY_ENTRIES = 1025;

/** A table with a good request; its descriptor has these fields instead. */
function tableWith(fields: (stage: HostileStage) => Partial<HostileDesc>) {
  return (stage: HostileStage): void => {
    stage.add({ ...stage.table(stage.good()), ...fields(stage) });
  };
}

/** A table with a good request whose first entry has these fields instead. */
function entryWith(fields: (stage: HostileStage, table: bigint) => Partial<HostileDesc>) {
  return (stage: HostileStage): void => {
    const [first, ...others] = stage.good() as [HostileDesc, ...HostileDesc[]];
    const addr = stage.alloc((1 + others.length) * VIRTQ_DESC_BYTES);
    stage.add(stage.table([{ ...first, ...fields(stage, addr) }, ...others], addr));
  };
}

/** A good request in a table that ends where it is said. */
function tableEndingAt(end: (stage: HostileStage) => bigint) {
  return (stage: HostileStage): void => {
    const descs = stage.good();
    stage.add(stage.table(descs, end(stage) - BigInt(descs.length * VIRTQ_DESC_BYTES)));
  };
}

/** A table of more entries than a chain may have, of no bytes each. */
function manyEntries(stage: HostileStage, entry: Partial<HostileDesc> = {}): HostileDesc {
  const empty = { addr: stage.memory.startOf(1), len: 0, ...entry };
  const entries = Array.from({ length: MANY_ENTRIES }, () => empty);
  return stage.table(entries, stage.memory.startOf(1));
}

const LENGTHS = [
  [0, "no entry"],
  [8, "half an entry"],
  [24, "an entry and a half"],
  [0x10_0010, "65537 entries"],
  [0xffff_fff0, "nearly 4 GiB"],
].map(([len, what]) => ({
  name: `table-of-${len}-bytes`,
  description: `an indirect table of ${what}`,
  error: "VRING_E_INDIRECT_LENGTH",
  formats: BOTH,
  stage: tableWith(() => ({ len: len as number })),
}));

const PLACES = [
  {
    name: "table-at-address-0",
    description: "an indirect table that is in no region",
    error: "VRING_E_INDIRECT_ADDRESS",
    stage: tableWith(() => ({ addr: 0n })),
  },
  {
    name: "table-past-region",
    description: "an indirect table whose last entry is in no region, though its first ends it",
    error: "VRING_E_INDIRECT_ADDRESS",
    stage: (stage: HostileStage) => {
      const at = stage.memory.endOf(1) - 16n;
      stage.add({ ...stage.table([stage.readable(new Uint8Array(16))], at), len: 32 });
    },
  },
  {
    name: "table-past-2-64",
    description: "an indirect table that goes on at address 0",
    error: "VRING_E_ADDRESS_WRAP",
    stage: tableWith(() => ({ addr: TOP - 16n, len: 32 })),
  },
  {
    name: "entry-across-adjoining-regions",
    description: "an entry of a table of which a half lies in each of two regions",
    error: "VRING_E_INDIRECT_ADDRESS",
    stage: tableEndingAt(({ memory }) => memory.endOf(0) + 8n),
  },
].map((shape) => ({ ...shape, formats: BOTH }));

const ENTRIES = [
  {
    name: "table-with-next",
    description: "INDIRECT together with NEXT (CVE-2026-16457: spun for ever)",
    error: "VRING_E_INDIRECT_NEXT",
    formats: BOTH,
    stage: (stage: HostileStage) => stage.add(stage.table(stage.good()), stage.writable(1)),
  },
  {
    name: "table-behind-a-buffer",
    description: "packed: a table that is not the first of its list",
    error: "VRING_E_INDIRECT_NEXT",
    formats: PACKED,
    stage: (stage: HostileStage) => {
      stage.add(stage.readable(new Uint8Array(16)), stage.table(stage.good()));
    },
  },
  {
    name: "table-in-a-table",
    description: "an entry of an indirect table that names another one",
    error: "VRING_E_INDIRECT_NESTED",
    formats: SPLIT,
    stage: (stage: HostileStage) => stage.add(stage.table([stage.table(stage.good())])),
  },
  {
    name: "table-in-itself",
    description: "an entry of an indirect table that names its own table (SPDK, v86)",
    error: "VRING_E_INDIRECT_NESTED",
    formats: SPLIT,
    stage: entryWith((_, addr) => ({ addr, len: 16, flags: INDIRECT })),
  },
  {
    name: "entry-next-past-table",
    description: "an entry goes on behind its table",
    error: "VRING_E_INDIRECT_INDEX",
    formats: SPLIT,
    stage: entryWith(() => ({ next: 0xffff })),
  },
  {
    name: "entry-follows-itself",
    description: "an entry of a table that goes on at itself (SPDK, v86)",
    error: "VRING_E_LOOP",
    formats: SPLIT,
    stage: entryWith(() => ({ next: 0 })),
  },
  {
    name: "long-table-in-a-circle",
    description: "a circle of no bytes in a table of more entries than a chain may have",
    error: "VRING_E_IOV",
    formats: SPLIT,
    stage: (stage: HostileStage) => stage.add(manyEntries(stage, { next: 0 })),
  },
  {
    name: "long-table-of-no-bytes",
    description: "more entries than a chain may have, of length 0 (CVE-2020-10725)",
    error: "VRING_E_IOV",
    formats: BOTH,
    stage: (stage: HostileStage) => stage.add(manyEntries(stage)),
  },
  {
    name: "every-entry-a-long-table",
    description: "the whole ring full of such tables (CVE-2019-3900: one guest kept the worker)",
    error: "VRING_E_IOV",
    isInEachEntry: true,
    formats: BOTH,
    stage: (stage: HostileStage) => {
      const table = manyEntries(stage);
      for (let i = 0; i < stage.ring.num; i++) stage.add(table);
    },
  },
  {
    name: "entry-at-address-0",
    description: "a buffer in a table that is in no region",
    error: "VRING_E_ADDRESS",
    formats: BOTH,
    stage: entryWith(() => ({ addr: 0n })),
  },
  {
    name: "entries-past-2-32",
    description: "lengths in a table that add up to 2^32",
    error: "VRING_E_LENGTH",
    formats: BOTH,
    stage: (stage: HostileStage) => {
      const one = stage.readable(new Uint8Array(16));
      stage.add(stage.table([one, { ...one, len: 0xffff_fff0 }, stage.writable(1)]));
    },
  },
];

const REFUSED: readonly HostileShape[] = [...LENGTHS, ...PLACES, ...ENTRIES].map((shape) => ({
  ...shape,
  needs: INDIRECT_ON,
  expect: "refused-chain" as const,
}));

const SERVED: readonly HostileShape[] = [
  {
    name: "table",
    description: "legal: a good request in an indirect table",
    formats: BOTH,
    stage: (stage: HostileStage) => stage.add(stage.table(stage.good())),
  },
  {
    name: "table-at-very-end-of-region",
    description: "legal: the table's last byte is the region's last",
    formats: BOTH,
    stage: tableEndingAt(({ memory }) => memory.endOf(1)),
  },
  {
    name: "table-at-very-end-of-addresses",
    description: "legal: the table ends at 2^64",
    formats: BOTH,
    stage: tableEndingAt(() => TOP),
  },
  {
    name: "table-across-adjoining-regions",
    description: "legal: entries of one table in two regions",
    formats: BOTH,
    stage: tableEndingAt(({ memory }) => memory.endOf(0) + 16n),
  },
  {
    name: "table-at-odd-address",
    description: "legal: a table needs no alignment",
    formats: BOTH,
    stage: (stage: HostileStage) => {
      stage.add(stage.table(stage.good(), stage.alloc(80) + 5n));
    },
  },
  {
    name: "table-with-write",
    description: "WRITE on a descriptor that names a table: the device ignores it",
    formats: BOTH,
    stage: tableWith(() => ({ flags: INDIRECT | WRITE })),
  },
  {
    name: "table-after-a-buffer",
    description: "legal in a split ring: a buffer, then a table with the rest",
    formats: SPLIT,
    stage: (stage: HostileStage) => {
      const [first, ...others] = stage.good() as [HostileDesc, ...HostileDesc[]];
      stage.add(first, stage.table(others));
    },
  },
  {
    name: "entries-with-flags",
    description: "packed: flags of an entry but for WRITE, and its id, are reserved and ignored",
    formats: PACKED,
    stage: (stage: HostileStage) => {
      const odd = stage.good().map(({ flags = 0, ...desc }) => {
        return { ...desc, flags: flags | NEXT | INDIRECT | 0x8080 };
      });
      stage.add(stage.table(odd));
    },
  },
  {
    name: "table-is-its-own-buffer",
    description: "the device's answer goes over the table that names it",
    isAnswer: () => true,
    formats: BOTH,
    stage: (stage: HostileStage) => {
      const { readable, writableBytes } = stage.request;
      const addr = stage.alloc(Math.max(writableBytes, 2 * VIRTQ_DESC_BYTES));
      const room = { addr, len: writableBytes, flags: WRITE };
      stage.add(stage.table([stage.readable(readable), room], addr));
    },
  },
].map((shape) => ({ ...shape, needs: INDIRECT_ON, expect: "served" as const }));

const NOT_NEGOTIATED: HostileShape = {
  name: "table-not-negotiated",
  description: "INDIRECT without VIRTIO_F_INDIRECT_DESC",
  formats: BOTH,
  needs: { indirect: false },
  expect: "refused-chain",
  error: "VRING_E_INDIRECT_UNNEGOTIATED",
  stage: (stage: HostileStage) => stage.add(stage.table(stage.good())),
};

/** Shapes with indirect tables. */
export const TABLE_SHAPES: readonly HostileShape[] = [...SERVED, ...REFUSED, NOT_NEGOTIATED];
