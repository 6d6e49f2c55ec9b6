import { VIRTQ_SIZE_MAX } from "../spec/virtio-ring.js";

// What a ring can be set to, whoever sets it: an ioctl, a front-end, a program.

/** Whether a ring can have so many entries. virtio 1.3, 2.7 and 2.8. Linux: VHOST_SET_VRING_NUM. */
export function isVringNum(num: number, isPacked: boolean): boolean {
  const isSize = Number.isInteger(num) && num >= 1 && num <= VIRTQ_SIZE_MAX;
  return isSize && (isPacked || (num & (num - 1)) === 0);
}

/**
 * Whether a ring can go on there: a u16, or of a packed ring two positions. Linux:
 * VHOST_SET_VRING_BASE.
 */
export function isVringBase(base: number, isPacked: boolean): boolean {
  return Number.isInteger(base) && base >= 0 && base <= (isPacked ? 0xffff_ffff : 0xffff);
}

/** Bits of `features` that are not among `offered`. Linux: VHOST_SET_FEATURES. */
export const foreignFeatures = (features: bigint, offered: bigint): bigint => features & ~offered;
