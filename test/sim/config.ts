// What a seed decides before anything happens.

import { SLEEP_MS } from "#dist/driver/completions.js";
import type { Random } from "#dist/fuzz/random.js";
import type { RingKind } from "#dist/ring/load.js";
import type { Policy } from "#dist/ring/state-block.js";
import { featureMask } from "#dist/spec/features.js";
import {
  VIRTIO_F_EVENT_IDX,
  VIRTIO_F_IN_ORDER,
  VIRTIO_F_INDIRECT_DESC,
  VIRTIO_F_RING_PACKED,
  VIRTIO_F_VERSION_1,
} from "#dist/spec/virtio-config.js";

/** How often faults happen: once in so many occasions, 0: never. See `wires.ts` and `owner.ts`. */
export interface Faults {
  /** Of the calls into a ring, and of the disk's I/O, that a worker makes. */
  workerDies: number;
  /** Of the calls into a ring that a driver makes. */
  driverDies: number;
  /** Of steps: the driver resets the device, and begins anew. */
  reset: number;
  /** Of steps: the owner stops all queues, and starts them again where they were. */
  stop: number;
  /** Of steps: a queue is left as it is, and goes on in a worker that knows nothing of it. */
  move: number;
  kickLost: number;
  kickLate: number;
  kickTwice: number;
  callLost: number;
  callLate: number;
  callTwice: number;
  /** Of steps: a kick, a call or a wake-up for nothing. */
  spurious: number;
  /** Of the disk's operations: it fails, or does a part. */
  ioFails: number;
  /** Of the disk's operations: it takes milliseconds. */
  ioSlow: number;
  /** Of steps: a driver's index is wrong for a while. */
  indexWrong: number;
}

/** How a worker hears of work. */
export type NotifierKind = "doorbell" | "eventfd" | "kickless";

/** What the whole run has. */
export interface SimConfig {
  queueCount: number;
  workerRing: RingKind;
  driverRing: RingKind;
  policy: Policy;
  notifier: NotifierKind;
  /** eventfd: rings are not touched before their first kick. */
  awaitsKick: boolean;
  /** How long the worker polls after the last work, in milliseconds. */
  pollMs: number;
  /** How long the driver sleeps at most: Infinity as Linux's does, or as ours. */
  driverSleepMs: number;
  /** Whether the driver publishes at once, or in a microtask. */
  isInline: boolean;
  /** How a worker that was killed goes on. */
  recovery: "redo" | "inflight";
  /** The pages that the device writes are marked. */
  hasLog: boolean;
  /** With it: those of the rings, too. */
  logsRings: boolean;
  /** The device completes requests later and in another order, where the ring allows it. */
  isOutOfOrder: boolean;
  /** A call into a ring takes so long at most. */
  callMicroseconds: number;
  /** Once in so many calls another actor does steps amid this one's. */
  nestedOnceIn: number;
  /** The driver thinks for so long at most before it submits again, in milliseconds. */
  thinkMs: number;
  faults: Faults;
}

/** What a driver negotiates each time that it comes. */
export interface RingConfig {
  isPacked: boolean;
  isInOrder: boolean;
  /** Mask of what the rings have, without the device's own features. */
  features: bigint;
  /** Entries of each queue. */
  nums: number[];
  /** How many requests a split ring is to have had already, of each queue: a u16. */
  positions: number[];
}

function chooseFaults(random: Random): Faults {
  const rate = (often: number, seldom: number) => random.pick([0, 0, often, seldom]);
  return {
    workerDies: random.pick([0, 0, 40, 150, 1500]),
    driverDies: rate(300, 3000),
    reset: rate(60, 400),
    stop: rate(30, 200),
    move: rate(10, 60),
    kickLost: rate(4, 30),
    kickLate: rate(2, 10),
    kickTwice: rate(3, 20),
    callLost: rate(4, 30),
    callLate: rate(2, 10),
    callTwice: rate(3, 20),
    spurious: rate(10, 60),
    ioFails: rate(5, 40),
    ioSlow: rate(4, 40),
    indexWrong: random.pick([0, 20, 100]),
  };
}

/** The run's configuration. */
export function chooseConfig(random: Random): SimConfig {
  const notifier = random.pick<NotifierKind>(["doorbell", "doorbell", "eventfd", "kickless"]);
  const isOutOfOrder = random.once(3);
  const policy = random.pick<Policy>(["strict", "strict", "linux"]);
  const pollMs = random.pick([0, 0.02, 0.2]);
  const faults = chooseFaults(random);
  if (policy === "linux" && pollMs === 0) faults.kickLost = 0; // nobody would look, as with Linux
  return {
    queueCount: random.between(1, 3),
    workerRing: random.pick<RingKind>(["wasm", "wasm", "ts"]),
    driverRing: random.pick<RingKind>(["wasm", "wasm", "ts"]),
    policy,
    notifier,
    awaitsKick: notifier === "eventfd" && random.once(2),
    pollMs,
    driverSleepMs: random.pick([SLEEP_MS, Number.POSITIVE_INFINITY]),
    isInline: !random.once(3),
    recovery: policy === "linux" ? "redo" : random.pick(["redo", "inflight", "inflight"]),
    hasLog: random.once(3) && !isOutOfOrder, // `addUsed` does not mark: only bursts do
    logsRings: random.once(2),
    isOutOfOrder,
    callMicroseconds: random.pick([0, 1, 20]),
    nestedOnceIn: random.pick([2, 5, 20]),
    thinkMs: random.pick([0.01, 0.5, 30]),
    faults,
  };
}

const SPLIT_NUMS = [2, 4, 4, 8, 16, 64];
const PACKED_NUMS = [2, 3, 4, 5, 7, 8, 16, 33, 64];

/** What the driver negotiates this time. */
export function chooseRings(random: Random, { queueCount, policy }: SimConfig): RingConfig {
  const isLinux = policy === "linux"; // it has neither
  const isPacked = random.once(2) && !isLinux;
  const isInOrder = random.once(3) && !isLinux;
  const bits = [
    VIRTIO_F_VERSION_1,
    ...(random.once(3) ? [] : [VIRTIO_F_EVENT_IDX]),
    ...(random.once(2) ? [] : [VIRTIO_F_INDIRECT_DESC]),
    ...(isPacked ? [VIRTIO_F_RING_PACKED] : []),
    ...(isInOrder ? [VIRTIO_F_IN_ORDER] : []),
  ];
  const nums = Array.from({ length: queueCount }, () =>
    random.pick(isPacked ? PACKED_NUMS : SPLIT_NUMS),
  );
  const isOld = !isPacked && random.once(3); // its indices soon wrap
  const positions = nums.map(() => (isOld ? random.between(0xff80, 0xffff) : 0));
  return { isPacked, isInOrder, features: featureMask(...bits), nums, positions };
}
