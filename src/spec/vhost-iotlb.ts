// Messages about where a device's addresses lie. Linux: vhost_msg, vhost_msg_v2, vhost_iotlb_msg.

import type { VhostStruct } from "./vhost.js";

/** `type` of a message. Linux: VHOST_IOTLB_MSG. */
export const VHOST_IOTLB_MSG = 1;
/** `type` of a message that has an address space's number. Linux: VHOST_IOTLB_MSG_V2. */
export const VHOST_IOTLB_MSG_V2 = 2;
/** Bit number in back-end features: what is read are messages of version 2. */
export const VHOST_BACKEND_F_IOTLB_MSG_V2 = 1;

/** `perm`: the device may read there. */
export const VHOST_ACCESS_RO = 1;
/** `perm`: the device may write there. */
export const VHOST_ACCESS_WO = 2;
/** `perm`: both. */
export const VHOST_ACCESS_RW = 3;

/** The device asks where `iova` lies. */
export const VHOST_IOTLB_MISS = 1;
/** A range lies at `uaddr`. */
export const VHOST_IOTLB_UPDATE = 2;
/** What a range meets lies nowhere any more. */
export const VHOST_IOTLB_INVALIDATE = 3;

/** Bytes of a message as a whole, of either version, padding included. */
export const VHOST_MSG_BYTES = 72;
/** Offset of the message proper: behind the type there is a hole, or the number. */
export const VHOST_MSG_IOTLB = 8;

/** `struct vhost_iotlb_msg`: the message proper. `size` in bytes; `uaddr` a user address. */
export const VHOST_IOTLB_MSG_STRUCT: VhostStruct = {
  bytes: 32,
  fields: {
    iova: [0, "u64"],
    size: [8, "u64"],
    uaddr: [16, "u64"],
    perm: [24, "u8"],
    type: [25, "u8"],
  },
};

/** Translations that a device remembers: the oldest goes. Linux: max_iotlb_entries. */
export const VHOST_IOTLB_ENTRIES_MAX = 2048;
