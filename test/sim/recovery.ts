// How a worker goes on after one that was killed at any point.

import type { SharedMemory } from "#dist/memory/shared-memory.js";
import { inflightRegionBytes } from "#dist/ring/inflight.js";
import { recoverPacked } from "#dist/ring/packed-recovery.js";
import { recoverSplit } from "#dist/ring/split-recovery.js";
import type { RingSetup } from "#dist/ring/state-block.js";
import { hasFeature } from "#dist/spec/features.js";
import * as s from "#dist/spec/ring-state.js";
import { VIRTIO_F_RING_PACKED } from "#dist/spec/virtio-config.js";
import { PVIRTQ_DESC_FLAGS, VIRTQ_DESC_BYTES } from "#dist/spec/virtio-ring.js";
import { must } from "./world.js";

/** A queue that is started: its number, where it lies, its state block. */
export interface StartedRing {
  index: number;
  setup: RingSetup;
  vq: number;
}

/** A way to go on. One for all queues of a device, for as long as the device is there. */
export interface Recovery {
  /**
   * The ring's worker was killed; its state block is there still, but nothing of what the worker
   * knew. Where a new one is to start, or undefined: nothing helps but a reset.
   */
  position(ring: StartedRing): number | undefined;
  /** A new state block was laid out, to start at `position`; where it really starts. */
  install(ring: StartedRing, position: number): number;
  /** The device was reset. */
  forget(): void;
  /** Nothing is pending in the ring: what must hold then. */
  checkIdle(ring: StartedRing): void;
}

const isPacked = ({ setup }: StartedRing) => hasFeature(setup.features, VIRTIO_F_RING_PACKED);
const usedIdx = (shared: SharedMemory, { setup }: StartedRing) =>
  shared.view.getUint16(setup.device + 2, true);

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

  position(ring: StartedRing): number | undefined {
    if (!this.#isInOrder()) return undefined;
    if (!isPacked(ring)) return usedIdx(this.#shared, ring);
    const { view } = this.#shared;
    const published = view.getUint32(ring.vq + s.VQ_USED_PUBLISHED, true);
    if (view.getUint32(ring.vq + s.VQ_USED_NEXT, true) !== published) return undefined;
    return published + published * 0x1_0000;
  }

  install(_ring: StartedRing, position: number): number {
    return position;
  }

  forget(): void {}

  checkIdle(): void {}
}

interface Area {
  address: number;
  bytes: number;
  /** Host memory that the present state block names. */
  tables: number[];
}

/**
 * By the in-flight area of vhost-user: exactly what was not completed is done again, whatever was
 * completed before it, and in the order in which it came.
 */
export class InflightRecovery implements Recovery {
  readonly #shared: SharedMemory;
  readonly #areas = new Map<number, Area>();

  constructor(shared: SharedMemory) {
    this.#shared = shared;
  }

  position(ring: StartedRing): number {
    return isPacked(ring) ? 0x8000_8000 : 0; // not looked at: the area knows
  }

  #area({ index, setup }: StartedRing, packed: boolean): Area {
    let area = this.#areas.get(index);
    if (!area) {
      const bytes = inflightRegionBytes(setup.num, packed);
      area = { address: this.#shared.allocGuest(bytes, 64), bytes, tables: [] };
      this.#areas.set(index, area);
    }
    for (const table of area.tables.splice(0)) this.#shared.host.free(table);
    return area;
  }

  #table(area: Area, content: Uint8Array): number {
    const address = this.#shared.allocHost(Math.max(content.length, 8));
    this.#shared.bytes.set(content, address);
    area.tables.push(address);
    return address;
  }

  install(ring: StartedRing, position: number): number {
    const { view } = this.#shared;
    const { vq, setup } = ring;
    const packed = isPacked(ring);
    const area = this.#area(ring, packed);
    const region = new DataView(view.buffer, area.address, area.bytes);
    const flagsAt = (index: number) =>
      view.getUint16(setup.desc + index * VIRTQ_DESC_BYTES + PVIRTQ_DESC_FLAGS, true);
    const found = packed
      ? recoverPacked(region, setup.num, flagsAt, position)
      : recoverSplit(region, setup.num, usedIdx(this.#shared, ring), position);
    const set = (word: number, value: number) => view.setUint32(vq + word, value, true);
    set(s.VQ_FLAGS, view.getUint32(vq + s.VQ_FLAGS, true) | s.VQ_F_INFLIGHT);
    set(s.VQ_INFLIGHT, area.address);
    set(s.VQ_INFLIGHT_TABLE, this.#table(area, found.table));
    view.setBigUint64(vq + s.VQ_INFLIGHT_COUNTER, found.counter, true);
    set(s.VQ_INFLIGHT_HEAD, found.head);
    set(s.VQ_INFLIGHT_OLD, found.head);
    set(s.VQ_RESUBMIT, this.#table(area, found.resubmit));
    set(s.VQ_RESUBMIT_COUNT, found.resubmitCount);
    return found.position;
  }

  forget(): void {
    for (const { address, tables } of this.#areas.values()) {
      for (const table of tables) this.#shared.host.free(table);
      this.#shared.guest.free(address);
    }
    this.#areas.clear();
  }

  checkIdle(ring: StartedRing): void {
    const area = this.#areas.get(ring.index) as Area;
    const region = new DataView(this.#shared.view.buffer, area.address, area.bytes);
    const position = isPacked(ring) ? 0x8000_8000 : 0;
    // The same that a restart would do; it must find nothing to do again.
    const copy = new DataView(
      new Uint8Array(region.buffer, area.address, area.bytes).slice().buffer,
    );
    const { setup } = ring;
    const flagsAt = (index: number) =>
      this.#shared.view.getUint16(setup.desc + index * VIRTQ_DESC_BYTES + PVIRTQ_DESC_FLAGS, true);
    const { resubmitCount } = isPacked(ring)
      ? recoverPacked(copy, setup.num, flagsAt, position)
      : recoverSplit(copy, setup.num, usedIdx(this.#shared, ring), position);
    must(resubmitCount === 0, `queue ${ring.index}: ${resubmitCount} in the in-flight area`);
  }
}
