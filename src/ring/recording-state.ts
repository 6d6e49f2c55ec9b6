import type { SharedMemory } from "../memory/shared-memory.js";
import { inflightRegionBytes } from "../memory/vring.js";
import { hasFeature } from "../spec/features.js";
import {
  VQ_F_INFLIGHT,
  VQ_F_LOG,
  VQ_F_LOG_USED,
  VQ_FLAGS,
  VQ_INFLIGHT,
  VQ_INFLIGHT_COUNTER,
  VQ_INFLIGHT_HEAD,
  VQ_INFLIGHT_OLD,
  VQ_INFLIGHT_TABLE,
  VQ_LOG,
  VQ_LOG_BYTES,
  VQ_LOG_DESC,
  VQ_LOG_USED,
  VQ_RESUBMIT,
  VQ_RESUBMIT_COUNT,
} from "../spec/ring-state.js";
import { VIRTIO_F_RING_PACKED } from "../spec/virtio-config.js";
import { PVIRTQ_DESC_FLAGS, VIRTQ_DESC_BYTES, VIRTQ_RING_IDX } from "../spec/virtio-ring.js";
import type { Recovery } from "./inflight.js";
import { type DescFlags, recoverPacked } from "./packed-recovery.js";
import { recoverSplit } from "./split-recovery.js";
import type { RingSetup } from "./state-block.js";

/** A dirty log: a bit for each page of guest memory, in memory that the front-end shares. */
export interface DirtyLog {
  /** Linear address of its first byte. */
  address: number;
  bytes: number;
  /** Guest addresses at which writes to the ring itself are marked; without them, they are not. */
  ring?: { desc: bigint; device: bigint } | undefined;
}

/**
 * Where the ring goes on: `position`, or what its region of the in-flight area says, at the linear
 * address `region`, which is aligned to 8. Side effect: the region is mended or begun. Throws
 * EINVAL for one that can't be gone on from. The ring must not run. Of a packed ring, descriptors
 * in flight are marked available.
 */
export function recover(
  shared: SharedMemory,
  setup: RingSetup,
  region: number,
  position: number,
): Recovery {
  const { num, desc, device, features } = setup;
  const { view } = shared;
  const isPacked = hasFeature(features, VIRTIO_F_RING_PACKED);
  const area = new DataView(view.buffer, region, inflightRegionBytes(num, isPacked));
  if (!isPacked) {
    return recoverSplit(area, num, view.getUint16(device + VIRTQ_RING_IDX, true), position);
  }
  const at = (index: number) => desc + index * VIRTQ_DESC_BYTES + PVIRTQ_DESC_FLAGS;
  const flags: DescFlags = {
    get: (index) => view.getUint16(at(index), true),
    set: (index, value) => view.setUint16(at(index), value, true),
  };
  return recoverPacked(area, num, flags, position);
}

function addFlags({ view }: SharedMemory, vq: number, flags: number): void {
  view.setUint32(vq + VQ_FLAGS, view.getUint32(vq + VQ_FLAGS, true) | flags, true);
}

/** Sets a device's state block up to mark what it writes in `log`. */
export function setLog(shared: SharedMemory, vq: number, { address, bytes, ring }: DirtyLog): void {
  const { view } = shared;
  view.setUint32(vq + VQ_LOG, address, true);
  view.setUint32(vq + VQ_LOG_BYTES, bytes, true);
  view.setBigUint64(vq + VQ_LOG_USED, ring?.device ?? 0n, true);
  view.setBigUint64(vq + VQ_LOG_DESC, ring?.desc ?? 0n, true);
  addFlags(shared, vq, ring ? VQ_F_LOG | VQ_F_LOG_USED : VQ_F_LOG);
}

/**
 * Sets a device's state block up to record what is in flight in the region at `region`, and first
 * to do again what `recovery` says. Pushes what it allocates to `parts`. Throws ENOMEM.
 */
export function setInflight(
  shared: SharedMemory,
  vq: number,
  region: number,
  recovery: Recovery,
  parts: number[],
): void {
  const copy = (bytes: Uint8Array) => {
    const address = shared.allocHost(Math.max(bytes.length, 8));
    parts.push(address);
    shared.bytes.set(bytes, address);
    return address;
  };
  const { view } = shared;
  view.setUint32(vq + VQ_INFLIGHT, region, true);
  view.setUint32(vq + VQ_INFLIGHT_TABLE, copy(recovery.table), true);
  view.setBigUint64(vq + VQ_INFLIGHT_COUNTER, recovery.counter, true);
  view.setUint32(vq + VQ_INFLIGHT_HEAD, recovery.head, true);
  view.setUint32(vq + VQ_INFLIGHT_OLD, recovery.head, true);
  view.setUint32(vq + VQ_RESUBMIT, copy(recovery.resubmit), true);
  view.setUint32(vq + VQ_RESUBMIT_COUNT, recovery.resubmitCount, true);
  addFlags(shared, vq, VQ_F_INFLIGHT);
}
