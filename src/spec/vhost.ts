// The ioctls of /dev/vhost-vsock, -net and -scsi: their numbers as Linux's headers have them, and
// what their arguments hold. Linux: include/uapi/linux/vhost.h, vhost_types.h.

/** _IOR, 0x00. u64: the features on offer. */
export const VHOST_GET_FEATURES = 0x8008af00;
/** _IOW, 0x00. u64: the features that the driver accepted. */
export const VHOST_SET_FEATURES = 0x4008af00;
/** _IO, 0x01. The caller's memory becomes the device's; a worker is made. */
export const VHOST_SET_OWNER = 0xaf01;
/** _IO, 0x02. Back to no owner; /dev/vhost-net alone. */
export const VHOST_RESET_OWNER = 0xaf02;
/** _IOW, 0x03. `vhost_memory` and its regions. */
export const VHOST_SET_MEM_TABLE = 0x4008af03;
/** _IOW, 0x04. u64: user address of the dirty log. */
export const VHOST_SET_LOG_BASE = 0x4008af04;
/** _IOW, 0x07. s32: an eventfd that is written when pages were logged. */
export const VHOST_SET_LOG_FD = 0x4004af07;
/** _IOR, 0x08. `vhost_worker_state`: a further worker. */
export const VHOST_NEW_WORKER = 0x8004af08;
/** _IOW, 0x09. `vhost_worker_state`: ends a worker that has no ring. */
export const VHOST_FREE_WORKER = 0x4004af09;
/** _IOW, 0x10. `vhost_vring_state`: the ring's size. */
export const VHOST_SET_VRING_NUM = 0x4008af10;
/** _IOW, 0x11. `vhost_vring_addr`: where the ring lies. */
export const VHOST_SET_VRING_ADDR = 0x4028af11;
/** _IOW, 0x12. `vhost_vring_state`: the next entry to pop. */
export const VHOST_SET_VRING_BASE = 0x4008af12;
/** _IOWR, 0x12. `vhost_vring_state`: the next entry to pop. */
export const VHOST_GET_VRING_BASE = 0xc008af12;
/** _IOW, 0x13. `vhost_vring_state`: byte order of a legacy ring. */
export const VHOST_SET_VRING_ENDIAN = 0x4008af13;
/** _IOW, 0x14. `vhost_vring_state`: byte order of a legacy ring. */
export const VHOST_GET_VRING_ENDIAN = 0x4008af14;
/** _IOW, 0x15. `vhost_vring_worker`: gives a ring to a worker. */
export const VHOST_ATTACH_VRING_WORKER = 0x4008af15;
/** _IOWR, 0x16. `vhost_vring_worker`: the worker that a ring has. */
export const VHOST_GET_VRING_WORKER = 0xc008af16;
/** _IOW, 0x20. `vhost_vring_file`: the eventfd that the driver kicks by. */
export const VHOST_SET_VRING_KICK = 0x4008af20;
/** _IOW, 0x21. `vhost_vring_file`: the eventfd that calls the driver. */
export const VHOST_SET_VRING_CALL = 0x4008af21;
/** _IOW, 0x22. `vhost_vring_file`: the eventfd that tells of errors. */
export const VHOST_SET_VRING_ERR = 0x4008af22;
/** _IOW, 0x23. `vhost_vring_state`: microseconds of polling. */
export const VHOST_SET_VRING_BUSYLOOP_TIMEOUT = 0x4008af23;
/** _IOW, 0x24. `vhost_vring_state`: microseconds of polling. */
export const VHOST_GET_VRING_BUSYLOOP_TIMEOUT = 0x4008af24;
/** _IOW, 0x25. u64: VHOST_BACKEND_F_… that the caller accepted. */
export const VHOST_SET_BACKEND_FEATURES = 0x4008af25;
/** _IOR, 0x26. u64: VHOST_BACKEND_F_… on offer. */
export const VHOST_GET_BACKEND_FEATURES = 0x8008af26;
/** _IOW, 0x30. `vhost_vring_file`: the tap or packet socket of a ring. */
export const VHOST_NET_SET_BACKEND = 0x4008af30;
/** _IOW, 0x60. u64: the guest's CID. */
export const VHOST_VSOCK_SET_GUEST_CID = 0x4008af60;
/** _IOW, 0x61. s32: 0 stops the rings, anything else starts them. */
export const VHOST_VSOCK_SET_RUNNING = 0x4004af61;
/** _IOW, 0x84. u8: 1: workers are made from the owner; 0: kernel threads. */
export const VHOST_SET_FORK_FROM_OWNER = 0x4001af84;
/** _IOR, 0x85. u8: the same. */
export const VHOST_GET_FORK_FROM_OWNER = 0x8001af85;

/** In place of a descriptor: none from now on. */
export const VHOST_FILE_UNBIND = -1;
/** Bit of `vhost_vring_addr.flags`: what is written to the used ring is logged. */
export const VHOST_VRING_F_LOG = 1;
/** Feature bit number: the pages that are written are marked in the dirty log. */
export const VHOST_F_LOG_ALL = 26;
/** Back-end feature, a mask: messages of version 2. Linux: 1 << VHOST_BACKEND_F_IOTLB_MSG_V2. */
export const VHOST_BACKEND_FEATURES = 0x2n;
/** Bytes of memory that a bit of the dirty log stands for. */
export const VHOST_PAGE_SIZE = 0x1000;
/** Regions that a memory table has at most. Linux: max_mem_regions. */
export const VHOST_MEMORY_MAX_NREGIONS = 64;

/** Features on offer, a mask: /dev/vhost-vsock. */
export const VHOST_VSOCK_FEATURES = 0x33d000002n;
/** Features on offer, a mask: /dev/vhost-net. */
export const VHOST_NET_FEATURES = 0x1033d008000n;
/** Features on offer, a mask: /dev/vhost-scsi. */
export const VHOST_SCSI_FEATURES = 0x13d00000an;

/** The types that fields of the structs have. */
export type VhostFieldType = "u8" | "u32" | "s32" | "u64";

/** A struct: bytes, and its fields by name: offset, type. Little-endian. */
export interface VhostStruct {
  readonly bytes: number;
  readonly fields: Readonly<Record<string, readonly [offset: number, type: VhostFieldType]>>;
}

/** `struct vhost_vring_state`. */
export const VHOST_VRING_STATE: VhostStruct = {
  bytes: 8,
  fields: { index: [0, "u32"], num: [4, "u32"] },
};

/** `struct vhost_vring_file`. */
export const VHOST_VRING_FILE: VhostStruct = {
  bytes: 8,
  fields: { index: [0, "u32"], fd: [4, "s32"] },
};
const U64: VhostStruct = { bytes: 8, fields: { value: [0, "u64"] } };
const S32: VhostStruct = { bytes: 4, fields: { value: [0, "s32"] } };
const U8: VhostStruct = { bytes: 1, fields: { value: [0, "u8"] } };

/** `struct vhost_worker_state`. */
export const VHOST_WORKER_STATE: VhostStruct = { bytes: 4, fields: { worker_id: [0, "u32"] } };
/** `struct vhost_vring_worker`. */
export const VHOST_VRING_WORKER: VhostStruct = {
  bytes: 8,
  fields: { index: [0, "u32"], worker_id: [4, "u32"] },
};

/** `struct vhost_vring_addr`: user addresses, and the guest address that is logged. */
export const VHOST_VRING_ADDR: VhostStruct = {
  bytes: 40,
  fields: {
    index: [0, "u32"],
    flags: [4, "u32"],
    desc_user_addr: [8, "u64"],
    used_user_addr: [16, "u64"],
    avail_user_addr: [24, "u64"],
    log_guest_addr: [32, "u64"],
  },
};

/** `struct vhost_memory`, without its regions. */
export const VHOST_MEMORY: VhostStruct = {
  bytes: 8,
  fields: { nregions: [0, "u32"], padding: [4, "u32"] },
};

/** `struct vhost_memory_region`. */
export const VHOST_MEMORY_REGION: VhostStruct = {
  bytes: 32,
  fields: {
    guest_phys_addr: [0, "u64"],
    memory_size: [8, "u64"],
    userspace_addr: [16, "u64"],
    flags_padding: [24, "u64"],
  },
};

/** One ioctl. */
export interface VhostRequest {
  readonly name: string;
  readonly request: number;
  /** What the argument points to; without one, it is not looked at. */
  readonly struct?: VhostStruct;
}

/** All of them. */
export const VHOST_REQUESTS: readonly VhostRequest[] = [
  { name: "VHOST_GET_FEATURES", request: VHOST_GET_FEATURES, struct: U64 },
  { name: "VHOST_SET_FEATURES", request: VHOST_SET_FEATURES, struct: U64 },
  { name: "VHOST_SET_OWNER", request: VHOST_SET_OWNER },
  { name: "VHOST_RESET_OWNER", request: VHOST_RESET_OWNER },
  { name: "VHOST_SET_MEM_TABLE", request: VHOST_SET_MEM_TABLE, struct: VHOST_MEMORY },
  { name: "VHOST_SET_LOG_BASE", request: VHOST_SET_LOG_BASE, struct: U64 },
  { name: "VHOST_SET_LOG_FD", request: VHOST_SET_LOG_FD, struct: S32 },
  { name: "VHOST_NEW_WORKER", request: VHOST_NEW_WORKER, struct: VHOST_WORKER_STATE },
  { name: "VHOST_FREE_WORKER", request: VHOST_FREE_WORKER, struct: VHOST_WORKER_STATE },
  { name: "VHOST_SET_VRING_NUM", request: VHOST_SET_VRING_NUM, struct: VHOST_VRING_STATE },
  { name: "VHOST_SET_VRING_ADDR", request: VHOST_SET_VRING_ADDR, struct: VHOST_VRING_ADDR },
  { name: "VHOST_SET_VRING_BASE", request: VHOST_SET_VRING_BASE, struct: VHOST_VRING_STATE },
  { name: "VHOST_GET_VRING_BASE", request: VHOST_GET_VRING_BASE, struct: VHOST_VRING_STATE },
  { name: "VHOST_SET_VRING_ENDIAN", request: VHOST_SET_VRING_ENDIAN, struct: VHOST_VRING_STATE },
  { name: "VHOST_GET_VRING_ENDIAN", request: VHOST_GET_VRING_ENDIAN, struct: VHOST_VRING_STATE },
  {
    name: "VHOST_ATTACH_VRING_WORKER",
    request: VHOST_ATTACH_VRING_WORKER,
    struct: VHOST_VRING_WORKER,
  },
  { name: "VHOST_GET_VRING_WORKER", request: VHOST_GET_VRING_WORKER, struct: VHOST_VRING_WORKER },
  { name: "VHOST_SET_VRING_KICK", request: VHOST_SET_VRING_KICK, struct: VHOST_VRING_FILE },
  { name: "VHOST_SET_VRING_CALL", request: VHOST_SET_VRING_CALL, struct: VHOST_VRING_FILE },
  { name: "VHOST_SET_VRING_ERR", request: VHOST_SET_VRING_ERR, struct: VHOST_VRING_FILE },
  {
    name: "VHOST_SET_VRING_BUSYLOOP_TIMEOUT",
    request: VHOST_SET_VRING_BUSYLOOP_TIMEOUT,
    struct: VHOST_VRING_STATE,
  },
  {
    name: "VHOST_GET_VRING_BUSYLOOP_TIMEOUT",
    request: VHOST_GET_VRING_BUSYLOOP_TIMEOUT,
    struct: VHOST_VRING_STATE,
  },
  { name: "VHOST_SET_BACKEND_FEATURES", request: VHOST_SET_BACKEND_FEATURES, struct: U64 },
  { name: "VHOST_GET_BACKEND_FEATURES", request: VHOST_GET_BACKEND_FEATURES, struct: U64 },
  { name: "VHOST_NET_SET_BACKEND", request: VHOST_NET_SET_BACKEND, struct: VHOST_VRING_FILE },
  { name: "VHOST_VSOCK_SET_GUEST_CID", request: VHOST_VSOCK_SET_GUEST_CID, struct: U64 },
  { name: "VHOST_VSOCK_SET_RUNNING", request: VHOST_VSOCK_SET_RUNNING, struct: S32 },
  { name: "VHOST_SET_FORK_FROM_OWNER", request: VHOST_SET_FORK_FROM_OWNER, struct: U8 },
  { name: "VHOST_GET_FORK_FROM_OWNER", request: VHOST_GET_FORK_FROM_OWNER, struct: U8 },
];
