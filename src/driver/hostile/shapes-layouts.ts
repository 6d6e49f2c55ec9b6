// Where a queue's areas lie, and how large it is: what can't be, and what can but overlaps.

import type { QueueAddresses } from "../transport.js";
import { type HostileMemory, TOP } from "./hostile-memory.js";
import type { HostileLayout, HostileShape } from "./hostile-shape.js";
import type { HostileStage } from "./hostile-stage.js";

const BOTH = ["split", "packed"] as const;
const SPLIT = ["split"] as const;
const PACKED = ["packed"] as const;
const AREAS = ["desc", "driver", "device"] as const;

/** What can't be: `change` says what is different from a good layout. */
function wrong(
  name: string,
  description: string,
  change: (good: QueueAddresses, memory: HostileMemory) => Partial<QueueAddresses>,
  more: Partial<HostileShape> = {},
): HostileShape {
  const areas: HostileLayout["areas"] = (good, memory) => ({ ...good, ...change(good, memory) });
  const layout = { areas };
  return {
    name,
    description,
    formats: BOTH,
    expect: "refused-setup",
    restarts: true,
    layout,
    ...more,
  };
}

/** The same mistake for each of the areas. */
function wrongAreas(
  name: string,
  description: string,
  place: (memory: HostileMemory, good: bigint) => bigint,
): HostileShape[] {
  return AREAS.map((area) =>
    wrong(`${area}-area-${name}`, `the ${area} area ${description}`, (good, memory) => ({
      [area]: place(memory, good[area]),
    })),
  );
}

const WRONG: readonly HostileShape[] = [
  wrong("size-0", "a queue of no entries (CVE-2026-5747: division by zero)", () => ({ num: 0 })),
  wrong("size-65536", "a queue larger than any", () => ({ num: 65536 })),
  wrong("size-no-power-of-two", "a split queue of 12 entries", () => ({ num: 12 }), {
    formats: SPLIT,
  }),
  ...wrongAreas("at-address-0", "is in no region", () => 0n),
  ...wrongAreas("at-linear-address", "has an address of the host's", (memory) =>
    BigInt(memory.regions[0].linearAddress),
  ),
  ...wrongAreas("past-region", "begins in a region and ends behind it", (memory) => {
    return memory.endOf(1) - 2n;
  }),
  ...wrongAreas("past-2-64", "ends behind the last address", () => TOP - 2n),
  ...wrongAreas("misaligned", "is at an odd address", (_, good) => good + 1n),
  {
    name: "size-after-start",
    description: "the queue's size is set again while it runs (CVE-2026-5747)",
    formats: BOTH,
    expect: "refused-setup",
    layout: { areas: (good) => ({ ...good, num: good.num >> 1 }), whileRunning: true },
  },
];

/** What can be, though areas overlap: played with the descriptors that nothing lies over. */
function overlap(
  name: string,
  description: string,
  formats: HostileShape["formats"],
  areas: (good: QueueAddresses, spare: bigint) => QueueAddresses,
): HostileShape {
  const layout: HostileLayout = {
    areas: (good, _, spare) => areas(good, spare),
    firstDesc: (num) => num - (num >> 2),
  };
  const stage = (stage: HostileStage) => stage.add(...stage.good());
  return { name, description, formats, expect: "served", restarts: true, layout, stage };
}

/** Bytes of an available ring up to its event index. */
const toEventIndex = (num: number): bigint => BigInt(4 + 2 * num);
const lastDesc = ({ num }: QueueAddresses): bigint => BigInt(16 * (num - 1));

const OVERLAPS: readonly HostileShape[] = [
  overlap(
    "used-ring-in-descriptor-table",
    "the device's used ring lies over the first descriptors",
    SPLIT,
    (good, spare) => ({ ...good, desc: spare, device: spare }),
  ),
  overlap(
    "available-ring-in-descriptor-table",
    "the available ring lies over the first descriptors",
    SPLIT,
    (good, spare) => ({ ...good, desc: spare, driver: spare }),
  ),
  overlap(
    "used-index-is-event-index",
    "the used ring's index and the available ring's event index are the same bytes",
    SPLIT,
    (good, spare) => ({
      ...good,
      driver: spare + 2n,
      device: spare + toEventIndex(good.num),
    }),
  ),
  overlap(
    "all-areas-overlap",
    "both rings lie over the first descriptors, and over one another",
    SPLIT,
    (good, spare) => ({
      ...good,
      desc: spare,
      driver: spare + 2n,
      device: spare + toEventIndex(good.num),
    }),
  ),
  overlap(
    "one-event-structure-for-both",
    "driver and device write the same event suppression structure",
    PACKED,
    (good) => ({ ...good, device: good.driver }),
  ),
  overlap(
    "event-structures-in-descriptors",
    "both event suppression structures lie over the last descriptor",
    PACKED,
    (good, spare) => ({
      ...good,
      desc: spare,
      driver: spare + lastDesc(good),
      device: spare + lastDesc(good) + 8n,
    }),
  ),
];

/** Shapes of set-up. Areas that overlap are legal for the device, which must not mind. */
export const LAYOUT_SHAPES: readonly HostileShape[] = [...OVERLAPS, ...WRONG];
