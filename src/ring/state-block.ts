import type { SharedMemory } from "../memory/shared-memory.js";
import { hasFeature } from "../spec/features.js";
import {
  CHAIN_BYTES,
  IOV_BYTES,
  SHADOW_BYTES,
  VQ_CHAIN_CAPACITY,
  VQ_CHAINS,
  VQ_DESC,
  VQ_DEVICE,
  VQ_DRIVER,
  VQ_F_EVENT_IDX,
  VQ_F_IN_ORDER,
  VQ_F_INDIRECT,
  VQ_F_LINUX,
  VQ_F_PACKED,
  VQ_FLAGS,
  VQ_GUEST_DELTA,
  VQ_INDIRECT,
  VQ_INDIRECT_CAPACITY,
  VQ_IOV,
  VQ_IOV_CAPACITY,
  VQ_NUM,
  VQ_REGION_COUNT,
  VQ_REGIONS,
  VQ_SHADOW,
  VQ_STATE_BYTES,
} from "../spec/ring-state.js";
import {
  VIRTIO_F_EVENT_IDX,
  VIRTIO_F_IN_ORDER,
  VIRTIO_F_INDIRECT_DESC,
  VIRTIO_F_RING_PACKED,
} from "../spec/virtio-config.js";
import type { Recovery } from "./inflight.js";
import { type DirtyLog, setInflight, setLog } from "./recording-state.js";

/** Largest burst of `getDescs`, `addBufs` and `getBufs`. */
export const BURST_MAX = 128;
/** Pieces of the longest chain, unless the queue itself is longer. Linux: UIO_MAXIOV. */
const IOV_CAPACITY_MIN = 1024;

/** Where a queue's three areas lie (linear addresses), its size, and what was negotiated. */
export interface RingSetup {
  num: number;
  desc: number;
  driver: number;
  device: number;
  /** Negotiated feature bits, as a mask. */
  features: bigint;
  /** "strict" when left out, and always when the ring is packed. */
  policy?: Policy;
  /** Where to mark the pages that the device writes; only a device's. */
  log?: DirtyLog | undefined;
  /** Where to record what is in flight, and what to do again first; only a device's. */
  inflight?: { region: number; recovery: Recovery } | undefined;
}

/** How a device's ring takes what the specification does not allow: see `DeviceRing`. */
export type Policy = "strict" | "linux";

/** A state block with its tables in host memory. */
export interface StateBlock {
  /** Address of the block, for `Rings.driver` or `Rings.device`. */
  readonly vq: number;
  /** Gives its memory back. Nothing may use the ring after it. */
  release(): void;
}

/** The VQ_F_… bits for a feature mask. */
export function ringFlags(features: bigint): number {
  return (
    (hasFeature(features, VIRTIO_F_EVENT_IDX) ? VQ_F_EVENT_IDX : 0) |
    (hasFeature(features, VIRTIO_F_INDIRECT_DESC) ? VQ_F_INDIRECT : 0) |
    (hasFeature(features, VIRTIO_F_IN_ORDER) ? VQ_F_IN_ORDER : 0) |
    (hasFeature(features, VIRTIO_F_RING_PACKED) ? VQ_F_PACKED : 0)
  );
}

function allocCommon(shared: SharedMemory, setup: RingSetup): { vq: number; parts: number[] } {
  const iovCapacity = Math.max(IOV_CAPACITY_MIN, setup.num);
  const vq = shared.allocHost(VQ_STATE_BYTES);
  const parts = [vq];
  try {
    const iovs = shared.allocHost(iovCapacity * IOV_BYTES);
    parts.push(iovs);
    const chains = shared.allocHost(BURST_MAX * CHAIN_BYTES);
    parts.push(chains);
    const { view } = shared;
    view.setUint32(vq + VQ_NUM, setup.num, true);
    view.setUint32(vq + VQ_FLAGS, ringFlags(setup.features), true);
    view.setUint32(vq + VQ_DESC, setup.desc, true);
    view.setUint32(vq + VQ_DRIVER, setup.driver, true);
    view.setUint32(vq + VQ_DEVICE, setup.device, true);
    view.setUint32(vq + VQ_IOV, iovs, true);
    view.setUint32(vq + VQ_IOV_CAPACITY, iovCapacity, true);
    view.setUint32(vq + VQ_CHAINS, chains, true);
    view.setUint32(vq + VQ_CHAIN_CAPACITY, BURST_MAX, true);
  } catch (error) {
    releaseAll(shared, parts);
    throw error;
  }
  return { vq, parts };
}

function releaseAll(shared: SharedMemory, parts: readonly number[]): void {
  for (const part of parts) shared.host.free(part);
}

/**
 * State for the device's half. `regions` is the address of a region table that outlives it. Throws
 * ENOMEM, with nothing kept.
 */
export function allocDeviceState(
  shared: SharedMemory,
  setup: RingSetup,
  regions: number,
  regionCount: number,
): StateBlock {
  const { vq, parts } = allocCommon(shared, setup);
  const policy = setup.policy === "linux" ? VQ_F_LINUX : 0;
  shared.view.setUint32(vq + VQ_FLAGS, ringFlags(setup.features) | policy, true);
  shared.view.setUint32(vq + VQ_REGIONS, regions, true);
  shared.view.setUint32(vq + VQ_REGION_COUNT, regionCount, true);
  const { log, inflight } = setup;
  if (log) setLog(shared, vq, log);
  try {
    if (inflight) setInflight(shared, vq, inflight.region, inflight.recovery, parts);
  } catch (error) {
    releaseAll(shared, parts);
    throw error;
  }
  return { vq, release: () => releaseAll(shared, parts) };
}

/** Indirect tables in guest memory: one for each head, `capacity` descriptors long. */
export interface IndirectTables {
  address: number;
  capacity: number;
}

/** State for the driver's half. Without `indirect`, every chain is direct. Throws ENOMEM. */
export function allocDriverState(
  shared: SharedMemory,
  setup: RingSetup,
  indirect?: IndirectTables,
): StateBlock {
  const { vq, parts } = allocCommon(shared, setup);
  try {
    const shadow = shared.allocHost(setup.num * SHADOW_BYTES);
    parts.push(shadow);
    shared.view.setUint32(vq + VQ_SHADOW, shadow, true);
  } catch (error) {
    releaseAll(shared, parts);
    throw error;
  }
  shared.view.setUint32(vq + VQ_INDIRECT, indirect?.address ?? 0, true);
  shared.view.setUint32(vq + VQ_INDIRECT_CAPACITY, indirect?.capacity ?? 0, true);
  shared.view.setBigUint64(vq + VQ_GUEST_DELTA, BigInt.asUintN(64, shared.toGuest(0)), true);
  return { vq, release: () => releaseAll(shared, parts) };
}
