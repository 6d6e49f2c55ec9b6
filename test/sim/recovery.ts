// How a worker goes on after one that was killed at any point.

import type { SharedMemory } from "#dist/memory/shared-memory.js";
import { inflightRegionBytes } from "#dist/memory/vring.js";
import { recoverPacked } from "#dist/ring/packed-recovery.js";
import { recoverSplit } from "#dist/ring/split-recovery.js";
import type { RingSetup } from "#dist/ring/state-block.js";
import { hasFeature } from "#dist/spec/features.js";
import * as s from "#dist/spec/ring-state.js";
import { VIRTIO_F_RING_PACKED } from "#dist/spec/virtio-config.js";
import { PVIRTQ_DESC_FLAGS, VIRTQ_DESC_BYTES, VIRTQ_RING_IDX } from "#dist/spec/virtio-ring.js";
import { must } from "./world.js";

/** A queue that is started: its number, where it lies, its state block. */
export interface StartedRing {
  index: number;
  setup: RingSetup;
  vq: number;
  /** Where it was to start. */
  saved: number;
  /** The worker has begun with it: at once, or at its first kick. */
  isTouched: boolean;
}

/** A way to go on. One for all queues of a device, for as long as the device is there. */
export interface Recovery {
  /** The linear address of the queue's region of an in-flight area, if there is one. */
  region(index: number, setup: RingSetup): number | undefined;
  /**
   * The ring's worker was killed; its state block is there still, but nothing of what the worker
   * knew. The base at which a new one is to start, or undefined: nothing helps but a reset.
   */
  base(ring: StartedRing): number | undefined;
  /** The device was reset. */
  forget(): void;
  /** Nothing is pending in the ring: what must hold then. */
  checkIdle(ring: StartedRing): void;
}

const isPacked = (features: bigint) => hasFeature(features, VIRTIO_F_RING_PACKED);

/** The base at which nothing is in flight: what was published last. */
function usedBase({ view }: SharedMemory, { setup, vq }: StartedRing): number {
  if (!isPacked(setup.features)) return view.getUint16(setup.device + VIRTQ_RING_IDX, true);
  const published = view.getUint32(vq + s.VQ_USED_PUBLISHED, true);
  return published + published * 0x1_0000;
}

/**
 * Without any record: everything that was not published is done again. That needs a device that
 * completes in order. A split ring goes on at used.idx. A packed one goes on where its state block,
 * which outlives a thread, says that it was published last; but what was staged there has already
 * overwritten descriptors of requests: then only a reset helps.
 */
export class RedoRecovery implements Recovery {
  readonly #shared: SharedMemory;
  readonly #isInOrder: () => boolean;

  constructor(shared: SharedMemory, isInOrder: () => boolean) {
    this.#shared = shared;
    this.#isInOrder = isInOrder;
  }

  region(): undefined {}

  base(ring: StartedRing): number | undefined {
    if (!this.#isInOrder()) return undefined;
    const { setup, vq } = ring;
    const { view } = this.#shared;
    const next = view.getUint32(vq + s.VQ_USED_NEXT, true);
    const isStaged = next !== view.getUint32(vq + s.VQ_USED_PUBLISHED, true);
    return isPacked(setup.features) && isStaged ? undefined : usedBase(this.#shared, ring);
  }

  forget(): void {}

  checkIdle(): void {}
}

/**
 * By the in-flight area of vhost-user: exactly what was not completed is done again, whatever was
 * completed before it, and in the order in which it came.
 */
export class InflightRecovery implements Recovery {
  readonly #shared: SharedMemory;
  readonly #regions = new Map<number, number>();

  constructor(shared: SharedMemory) {
    this.#shared = shared;
  }

  region(index: number, { num, features }: RingSetup): number {
    let region = this.#regions.get(index);
    if (region === undefined) {
      region = this.#shared.allocGuest(inflightRegionBytes(num, isPacked(features)), 64);
      this.#regions.set(index, region);
    }
    return region;
  }

  /** As a front-end has it; the region knows better. */
  base(ring: StartedRing): number {
    return usedBase(this.#shared, ring);
  }

  forget(): void {
    for (const region of this.#regions.values()) this.#shared.guest.free(region);
    this.#regions.clear();
  }

  /** A restart would find nothing to do again. (It is tried on a copy: it changes the region.) */
  checkIdle({ index, setup }: StartedRing): void {
    const { num, desc, device, features } = setup;
    const { view, bytes } = this.#shared;
    const start = this.#regions.get(index) as number;
    const end = start + inflightRegionBytes(num, isPacked(features));
    const copy = new DataView(new Uint8Array(bytes.subarray(start, end)).buffer);
    const place = (at: number) => desc + at * VIRTQ_DESC_BYTES + PVIRTQ_DESC_FLAGS;
    const flags = {
      get: (at: number) => view.getUint16(place(at), true),
      // What would be made available again is counted below; the ring itself stays as it is.
      set: () => undefined,
    };
    const found = isPacked(features)
      ? recoverPacked(copy, num, flags, 0)
      : recoverSplit(copy, num, view.getUint16(device + VIRTQ_RING_IDX, true), 0);
    const count = found.resubmitCount;
    must(count === 0, `queue ${index}: ${count} are in the in-flight area, and nothing is open`);
  }
}
