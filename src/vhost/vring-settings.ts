import { checkQueueSize } from "../memory/vring.js";
import { VhostError } from "../spec/errno.js";
import { hasFeature } from "../spec/features.js";
import { VIRTIO_F_RING_PACKED } from "../spec/virtio-config.js";
import type { LiveRing } from "./live-ring.js";

/** Where a packed ring begins: both positions 0x8000. */
export const PACKED_BASE = 0x8000_8000;

/** Whether the rings under `features` are packed. */
export const isPacked = (features: bigint) => hasFeature(features, VIRTIO_F_RING_PACKED);

/** Throws EOPNOTSUPP for bits that are not among `offered`. Linux: VHOST_SET_FEATURES. */
export function mustBeOffered(features: bigint, offered: bigint): void {
  const foreign = features & ~offered;
  if (foreign === 0n) return;
  throw new VhostError("EOPNOTSUPP", `features 0x${foreign.toString(16)} were not offered`);
}

/**
 * What a ring is set to, and what its worker finds while it is active; whoever sets it: a program
 * by ioctl, a front-end by message, the owner by call. Each has conditions of its own for when it
 * may; what a value may be is said here. Owner's thread. Linux: vhost_virtqueue.
 */
export class VringSettings<Live extends LiveRing = LiveRing> {
  #num: number;
  #base: number | undefined;
  /** Laid out, while it is active. */
  protected live: Live | undefined;
  /** How long its worker looks at it before it sleeps; `undefined`: nothing was said. */
  busyloopMicroseconds: number | undefined;

  /** `num`: its size until that is set. */
  constructor(num: number) {
    this.#num = num;
  }

  /** Whether it runs, or is laid out to. Linux: private_data. */
  get isActive(): boolean {
    return this.live !== undefined;
  }

  /** Throws EBUSY: it is active. */
  mustBeIdle(): void {
    if (!this.isActive) return;
    throw new VhostError("EBUSY", "the queue runs: stop the device, or reset the queue, first");
  }

  /** The size. */
  get num(): number {
    return this.#num;
  }

  /** Sets the size. EINVAL: no ring under `features` has it. Linux: VHOST_SET_VRING_NUM. */
  setNum(num: number, features: bigint): void {
    checkQueueSize(num, isPacked(features));
    this.#num = num;
  }

  /** Where the queue goes on when it starts: what `DeviceRing.start` takes. */
  base(features: bigint): number {
    return this.#base ?? (isPacked(features) ? PACKED_BASE : 0);
  }

  /** Sets it: u16, or for a packed ring two positions. EINVAL. Linux: VHOST_SET_VRING_BASE. */
  setBase(base: number, features: bigint): void {
    const most = isPacked(features) ? 0xffff_ffff : 0xffff;
    if (!Number.isInteger(base) || base < 0 || base > most) {
      throw new VhostError("EINVAL", `a ring's base is 0 to ${most}`, { base });
    }
    this.#base = base;
  }

  /** The next entry to pop: as of now while it is active. Linux: VHOST_GET_VRING_BASE. */
  position(features: bigint): number {
    return this.live?.position ?? this.base(features);
  }

  /** As at first, with this size. */
  protected forget(num: number): void {
    this.#num = num;
    this.#base = undefined;
    this.busyloopMicroseconds = undefined;
  }
}
