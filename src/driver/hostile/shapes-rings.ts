// What is wrong with a ring and not with a chain: indexes, heads, wrap counters, event indexes, and
// rings that are buffers at the same time.

import { VIRTQ_DESC_F_NEXT as NEXT, RING_EVENT_FLAGS_DESC } from "../../spec/virtio-ring.js";
import type { HostileShape } from "./hostile-shape.js";
import type { HostileStage } from "./hostile-stage.js";

const SPLIT = ["split"] as const;
const PACKED = ["packed"] as const;
/** Neither an index that is near, nor marks of a packed descriptor. */
const SCRIBBLE = 0x5a5a;

const INDEXES = [
  {
    name: "index-one-too-far",
    description: "avail.idx says one entry more than the ring has",
    ahead: (num: number) => num + 1,
  },
  {
    name: "index-half-way-round",
    description: "avail.idx jumps by 32768",
    ahead: () => 0x8000,
  },
  {
    name: "index-goes-back",
    description: "avail.idx goes back by one: an unsigned difference is 65535 (DPDK: underflow)",
    ahead: () => 0xffff,
  },
].map(({ ahead, ...shape }) => ({
  ...shape,
  formats: SPLIT,
  error: "VRING_E_AVAIL_INDEX",
  stage: ({ split }: HostileStage) => split.runAhead(ahead(split.num)),
}));

const HEADS = [
  {
    name: "head-is-queue-size",
    description: "the available ring names the first descriptor that is none",
    head: (num: number) => num,
  },
  {
    name: "head-is-65535",
    description: "the available ring names a descriptor far behind the table (CVE-2020-10723)",
    head: () => 0xffff,
  },
].map(({ head, ...shape }) => ({
  ...shape,
  formats: SPLIT,
  error: "VRING_E_HEAD",
  stage: ({ split }: HostileStage) => split.offer(head(split.num)),
}));

const LISTS = [
  {
    name: "list-without-end",
    description: "every descriptor of the ring is available and goes on (SPDK: looped for ever)",
    formats: PACKED,
    error: "VRING_E_LOOP",
    stage: (stage: HostileStage) => {
      const { num } = stage.ring;
      const one = stage.readable(new Uint8Array(16));
      stage.add(...Array.from({ length: num }, () => ({ ...one, flags: NEXT })));
    },
  },
  {
    name: "list-goes-on-at-nothing",
    description: "a list goes on at a descriptor that was never made available",
    formats: PACKED,
    error: "VRING_E_UNAVAILABLE",
    stage: (stage: HostileStage) => {
      stage.add({ ...stage.readable(stage.request.readable), flags: NEXT });
    },
  },
  {
    name: "list-with-wrong-wrap-counter",
    description: "the last descriptor of a list has the marks of another lap",
    formats: PACKED,
    error: "VRING_E_UNAVAILABLE",
    stage: (stage: HostileStage) => {
      stage.add(...stage.good());
      stage.packed.spoilLast();
    },
  },
];

const REFUSED: readonly HostileShape[] = [...INDEXES, ...HEADS, ...LISTS].map((shape) => ({
  ...shape,
  expect: "refused-queue" as const,
}));

const SPLIT_SERVED = [
  {
    name: "same-head-all-over",
    description: "one chain in every entry of the available ring (CVE-2016-5403: no bound)",
    stage: (stage: HostileStage) => {
      const head = stage.split.link(stage.good());
      for (let i = 0; i < stage.ring.num; i++) stage.split.offer(head);
    },
  },
  {
    name: "chains-share-descriptors",
    description: "two heads whose chains have the same end",
    stage: (stage: HostileStage) => {
      const { split } = stage;
      const [first, ...others] = stage.good();
      if (!first) return;
      const next = others.length > 0 ? split.link(others) : undefined;
      const flags = (first.flags ?? 0) | (next === undefined ? 0 : NEXT);
      for (let i = 0; i < 2; i++) split.offer(split.link([{ ...first, flags, next: next ?? 0 }]));
    },
  },
  {
    name: "used-ring-written-by-driver",
    description: "the driver writes over the whole used ring, index and event index too",
    stage: (stage: HostileStage) => {
      stage.split.scribbleUsed(SCRIBBLE);
      stage.add(...stage.good());
    },
  },
  {
    name: "available-flags-reserved",
    description: "all bits of the available ring's flags are set, the reserved ones too",
    stage: (stage: HostileStage) => {
      stage.split.setFlags(0xffff);
      stage.add(...stage.good());
    },
  },
  ...[0x8000, 0xffff, 1].map((jump) => ({
    name: `event-index-jumps-by-${jump}`,
    description: "used_event is where no entry will be for long, or never was",
    needs: { eventIdx: true },
    stage: (stage: HostileStage) => {
      stage.split.setUsedEvent(jump);
      stage.add(...stage.good());
    },
  })),
  {
    name: "used-ring-is-a-buffer",
    description: "the device's answer goes over the used ring",
    stage: (stage: HostileStage) => stage.add(...stage.writeOver(stage.ring.areas.device)),
  },
  {
    name: "available-ring-is-a-buffer",
    description: "the device's answer goes over the available ring, whose index jumps then",
    error: "VRING_E_AVAIL_INDEX",
    isRacy: true,
    stage: (stage: HostileStage) => stage.add(...stage.writeOver(stage.ring.areas.driver)),
  },
].map((shape) => ({ ...shape, formats: SPLIT }));

const PACKED_SERVED = [
  {
    name: "same-id-all-over",
    description: "one id, and one table, in every descriptor of the ring (CVE-2016-5403)",
    needs: { indirect: true },
    stage: (stage: HostileStage) => {
      const table = stage.table(stage.good());
      for (let i = 0; i < stage.ring.num; i++) stage.packed.add([table], 3);
    },
  },
  {
    name: "id-is-65535",
    description: "a buffer id that is no index of anything: it is the driver's own",
    stage: (stage: HostileStage) => stage.packed.add(stage.good(), 0xffff),
  },
  {
    name: "event-index-out-of-ring",
    description: "the driver wants to be called at a descriptor that is none",
    needs: { eventIdx: true },
    stage: (stage: HostileStage) => {
      stage.packed.setEvent("driver", 0x7fff, RING_EVENT_FLAGS_DESC);
      stage.add(...stage.good());
    },
  },
  {
    name: "event-flags-reserved",
    description: "event suppression flags that are reserved, all bits set",
    stage: (stage: HostileStage) => {
      stage.packed.setEvent("driver", 0xffff, 0xffff);
      stage.add(...stage.good());
    },
  },
  {
    name: "device-event-written-by-driver",
    description: "the driver writes the device's event suppression structure",
    stage: (stage: HostileStage) => {
      stage.packed.setEvent("device", SCRIBBLE, SCRIBBLE);
      stage.add(...stage.good());
    },
  },
  {
    name: "event-structures-are-buffers",
    description: "the device's answer goes over both event suppression structures",
    stage: (stage: HostileStage) => {
      stage.add(...stage.writeOver(stage.ring.areas.driver));
      stage.add(...stage.writeOver(stage.ring.areas.device));
    },
  },
].map((shape) => ({ ...shape, formats: PACKED }));

const SERVED: readonly HostileShape[] = [
  ...SPLIT_SERVED,
  ...PACKED_SERVED,
  {
    name: "descriptors-are-a-buffer",
    description: "the device's answer goes over all descriptors, its own too",
    formats: ["split", "packed"] as const,
    restarts: true,
    stage: (stage: HostileStage) => stage.add(...stage.writeOver(stage.ring.areas.desc)),
  },
].map((shape) => ({ ...shape, expect: "served" as const }));

const RESET: HostileShape = {
  name: "reset-in-flight",
  description: "the driver resets the device with chains in flight (CVE-2026-45782)",
  formats: ["split", "packed"],
  expect: "reset",
  restarts: true,
  resetsInFlight: true,
  stage: (stage: HostileStage) => {
    for (let i = 0; i < 4; i++) stage.add(...stage.good());
  },
};

/** Shapes of rings. */
export const RING_SHAPES: readonly HostileShape[] = [...SERVED, ...REFUSED, RESET];
