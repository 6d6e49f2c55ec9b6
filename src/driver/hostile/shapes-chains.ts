// Chains and lists whose descriptors are wrong, or right in a way that was not expected.

import { VIRTQ_DESC_F_NEXT as NEXT, VIRTQ_DESC_F_WRITE as WRITE } from "../../spec/virtio-ring.js";
import { TOP } from "./hostile-memory.js";
import type { HostileDesc } from "./hostile-ring.js";
import type { HostileShape } from "./hostile-shape.js";
import type { HostileStage } from "./hostile-stage.js";

/** Below every region. */
const NOWHERE = 0x1000n;
const BOTH = ["split", "packed"] as const;
const SPLIT = ["split"] as const;

/** A good request whose first descriptor has these fields instead. */
function firstWith(fields: (stage: HostileStage) => Partial<HostileDesc>) {
  return (stage: HostileStage): void => {
    const [first, ...others] = stage.good() as [HostileDesc, ...HostileDesc[]];
    stage.add({ ...first, ...fields(stage) }, ...others);
  };
}

/** Offers descriptors of a split ring that go on at one another in a circle. Its head. */
function circle(stage: HostileStage, count: number, lengthBytes: number): number {
  const { split } = stage;
  const at = Array.from({ length: count }, () => split.takeDesc());
  const addr = stage.alloc(16);
  for (const [i, index] of at.entries()) {
    const next = at[(i + 1) % count] as number;
    split.writeDesc(index, { addr, len: lengthBytes, flags: NEXT, next });
  }
  split.offer(at[0] as number);
  return at[0] as number;
}

const LINKS: readonly HostileShape[] = [
  {
    name: "next-is-queue-size",
    description: "a chain goes on at the first descriptor that is none",
    error: "VRING_E_NEXT",
    stage: (stage: HostileStage) =>
      stage.add({ ...stage.readable(stage.request.readable), flags: NEXT, next: stage.ring.num }),
  },
  {
    name: "next-is-65535",
    description: "a chain goes on far behind the table",
    error: "VRING_E_NEXT",
    stage: (stage: HostileStage) =>
      stage.add({ ...stage.readable(stage.request.readable), flags: NEXT, next: 0xffff }),
  },
  {
    name: "descriptor-follows-itself",
    description: "a chain of one descriptor that goes on at itself (SPDK, v86: spun for ever)",
    error: "VRING_E_LOOP",
    stage: (stage: HostileStage) => void circle(stage, 1, 16),
  },
  {
    name: "two-in-a-circle",
    description: "two descriptors that go on at one another (SPDK, v86)",
    error: "VRING_E_LOOP",
    stage: (stage: HostileStage) => void circle(stage, 2, 16),
  },
  {
    name: "whole-table-in-a-circle-of-no-bytes",
    description: "all descriptors in a circle, of length 0 (CVE-2020-10725, CVE-2023-5158)",
    error: "VRING_E_LOOP",
    stage: (stage: HostileStage) => void circle(stage, stage.ring.num, 0),
  },
  {
    name: "every-entry-a-circle",
    description: "every entry names such a circle (CVE-2019-3900: one guest kept the worker)",
    error: "VRING_E_LOOP",
    isInEachEntry: true,
    stage: (stage: HostileStage) => {
      const head = circle(stage, stage.ring.num, 0);
      for (let i = 1; i < stage.ring.num; i++) stage.split.offer(head);
    },
  },
].map((shape) => ({ ...shape, formats: SPLIT, expect: "refused-chain" as const }));

const ADDRESSES: readonly HostileShape[] = [
  {
    name: "buffer-at-address-0",
    description: "a buffer that is in no region",
    error: "VRING_E_ADDRESS",
    stage: firstWith(() => ({ addr: 0n })),
  },
  {
    name: "buffer-at-linear-address",
    description: "an address of the host's own, which a device may not take untranslated",
    error: "VRING_E_ADDRESS",
    stage: firstWith(({ ring }) => ({ addr: BigInt(ring.areas.desc.address) })),
  },
  {
    name: "buffer-before-first-region",
    description: "a buffer whose last byte alone is in a region",
    error: "VRING_E_ADDRESS",
    stage: firstWith(({ memory }) => ({ addr: memory.startOf(0) - 15n, len: 16 })),
  },
  {
    name: "buffer-past-region",
    description: "the first bytes are in a region, the last is not (CVE-2018-1059)",
    error: "VRING_E_ADDRESS",
    stage: firstWith(({ memory }) => ({ addr: memory.endOf(1) - 15n, len: 16 })),
  },
  {
    name: "buffer-at-end-of-region",
    description: "the byte after a region",
    error: "VRING_E_ADDRESS",
    stage: firstWith(({ memory }) => ({ addr: memory.endOf(1), len: 1 })),
  },
  {
    name: "room-past-region",
    description: "room to write, of which the last byte is in no region (CVE-2018-1059)",
    error: "VRING_E_ADDRESS",
    stage: (stage: HostileStage) => {
      const addr = stage.memory.endOf(1) - 512n;
      stage.add(...stage.good(), { addr, len: 513, flags: WRITE });
    },
  },
  {
    name: "buffer-past-2-64",
    description: "address and length past 2^64, begun in a region (openvmm)",
    error: "VRING_E_ADDRESS_WRAP",
    stage: firstWith(() => ({ addr: TOP - 8n, len: 9 })),
  },
  {
    name: "buffer-of-4-gib-at-the-top",
    description: "the last address there is, and the largest length (openvmm)",
    error: "VRING_E_ADDRESS_WRAP",
    stage: firstWith(() => ({ addr: TOP - 1n, len: 0xffff_ffff })),
  },
  {
    name: "buffer-of-4-gib",
    description: "a good address, and the largest length",
    error: "VRING_E_ADDRESS",
    stage: firstWith(() => ({ len: 0xffff_ffff })),
  },
].map((shape) => ({ ...shape, formats: BOTH, expect: "refused-chain" as const }));

const SUMS: readonly HostileShape[] = [
  {
    name: "readable-lengths-past-2-32",
    description: "lengths to read that add up to 2^32 (rust-vmm/vm-virtio#236)",
    error: "VRING_E_LENGTH",
    stage: (stage: HostileStage) => {
      const one = stage.readable(new Uint8Array(16));
      stage.add(one, { ...one, len: 0xffff_fff0 }, stage.writable(1));
    },
  },
  {
    name: "writable-lengths-past-2-32",
    description: "lengths to write that add up to 2^32 and 15 (rust-vmm/vm-virtio#236)",
    error: "VRING_E_LENGTH",
    stage: (stage: HostileStage) => {
      const one = stage.writable(16);
      stage.add(stage.readable(stage.request.readable), one, { ...one, len: 0xffff_ffff });
    },
  },
  {
    name: "readable-after-writable",
    description: "a buffer to read behind one to write (2.7.4.2, 2.8.17)",
    error: "VRING_E_ORDER",
    stage: (stage: HostileStage) => {
      const room = stage.writable(16);
      stage.add(room, stage.readable(stage.request.readable), stage.writable(1));
    },
  },
  {
    name: "readable-after-writable-of-no-bytes",
    description: "the same, where the one to write has length 0",
    error: "VRING_E_ORDER",
    stage: (stage: HostileStage) => {
      stage.add({ addr: NOWHERE, len: 0, flags: WRITE }, ...stage.good());
    },
  },
].map((shape) => ({ ...shape, formats: BOTH, expect: "refused-chain" as const }));

const GOOD: readonly HostileShape[] = [
  {
    name: "good-request",
    description: "nothing is wrong with it: what all others are compared with",
    stage: (stage: HostileStage) => stage.add(...stage.good()),
  },
  {
    name: "no-bytes-at-no-address",
    description: "length 0 at an address that is nobody's, before and behind (CVE-2020-10725)",
    stage: (stage: HostileStage) => {
      const [first, ...others] = stage.good() as [HostileDesc, ...HostileDesc[]];
      const empty = { addr: NOWHERE, len: 0 };
      stage.add(empty, first, empty, ...others, { ...empty, addr: TOP - 1n, flags: WRITE });
    },
  },
  {
    name: "reserved-flags",
    description: "flag bits that the specification reserves",
    stage: firstWith(() => ({ flags: 0x3f78 })),
  },
  {
    name: "buffer-across-adjoining-regions",
    description: "legal: one range of guest addresses, two places (CVE-2018-1059)",
    stage: (stage: HostileStage) => {
      const { request, memory } = stage;
      const over = BigInt(request.writableBytes >> 1);
      const room = stage.writable(request.writableBytes, memory.endOf(0) - over);
      stage.add(stage.readable(request.readable), room);
    },
  },
  {
    name: "readable-across-adjoining-regions",
    description: "the same of what the device reads: a device's header in two pieces",
    stage: (stage: HostileStage) => {
      const { request, memory } = stage;
      const out = stage.readable(request.readable, memory.endOf(0) - 5n);
      stage.add(out, stage.writable(request.writableBytes));
    },
  },
  {
    name: "buffer-at-very-end-of-region",
    description: "legal: the last byte is the region's last",
    stage: (stage: HostileStage) => {
      const { request, memory } = stage;
      const at = memory.endOf(1) - BigInt(request.writableBytes);
      stage.add(stage.readable(request.readable), stage.writable(request.writableBytes, at));
    },
  },
  {
    name: "buffer-at-very-end-of-addresses",
    description: "legal: address and length are 2^64 together",
    stage: (stage: HostileStage) => {
      const { request } = stage;
      const at = TOP - BigInt(request.writableBytes);
      stage.add(stage.readable(request.readable), stage.writable(request.writableBytes, at));
    },
  },
  {
    name: "readable-in-many-pieces",
    description: "what the device reads, over eight descriptors (CVE-2022-2132)",
    stage: (stage: HostileStage) => {
      const { readable, writableBytes } = stage.request;
      const bytes = Math.ceil(readable.length / 8);
      const pieces = Array.from({ length: 8 }, (_, i) =>
        stage.readable(readable.slice(i * bytes, (i + 1) * bytes)),
      );
      stage.add(...pieces, stage.writable(writableBytes));
    },
  },
  {
    name: "buffers-are-one-another",
    description: "the same bytes to read and to write, twice",
    isAnswer: () => true,
    stage: (stage: HostileStage) => {
      const { readable, writableBytes } = stage.request;
      const addr = stage.alloc(Math.max(readable.length, writableBytes));
      const room = { addr, len: writableBytes, flags: WRITE };
      stage.add(stage.readable(readable, addr), room);
    },
  },
].map((shape) => ({ ...shape, formats: BOTH, expect: "served" as const }));

/** Shapes of single chains without a table. */
export const CHAIN_SHAPES: readonly HostileShape[] = [...GOOD, ...LINKS, ...ADDRESSES, ...SUMS];
