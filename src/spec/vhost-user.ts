// The vhost-user protocol, front-end to back-end, as the document of QEMU's project has it
// ("Vhost-user Protocol", docs/interop/vhost-user.rst). All fields are in the machine's byte order:
// little-endian here. Offsets and sizes in bytes.

// ── header (section "Header") ───────────────────────────────────────────────────────────────────
/** Bytes before the payload: u32 request, u32 flags, u32 size of the payload. */
export const VHOST_USER_HEADER_BYTES = 12;
/** Mask of the version in the flags. */
export const VHOST_USER_VERSION_MASK = 0x3;
/** The one version there is. */
export const VHOST_USER_VERSION = 0x1;
/** Flag: this is a reply. */
export const VHOST_USER_REPLY = 0x4;
/** Flag: a reply is asked for (REPLY_ACK). */
export const VHOST_USER_NEED_REPLY = 0x8;
/** The largest payload that we take: SET_CONFIG has 12 + 256 bytes, SET_MEM_TABLE 8 + 8 × 32. */
export const VHOST_USER_PAYLOAD_BYTES_MAX = 4096;
/** Descriptors that one message may carry: one for each region of SET_MEM_TABLE. */
export const VHOST_USER_FDS_MAX = 8;

// ── requests (section "Front-end message types") ────────────────────────────────────────────────
/** Numbers of the requests that we take, by the document's names without VHOST_USER_. */
export const VHOST_USER_REQUESTS = {
  GET_FEATURES: 1,
  SET_FEATURES: 2,
  SET_OWNER: 3,
  RESET_OWNER: 4,
  SET_MEM_TABLE: 5,
  SET_LOG_BASE: 6,
  SET_VRING_NUM: 8,
  SET_VRING_ADDR: 9,
  SET_VRING_BASE: 10,
  GET_VRING_BASE: 11,
  SET_VRING_KICK: 12,
  SET_VRING_CALL: 13,
  SET_VRING_ERR: 14,
  GET_PROTOCOL_FEATURES: 15,
  SET_PROTOCOL_FEATURES: 16,
  GET_QUEUE_NUM: 17,
  SET_VRING_ENABLE: 18,
  SEND_RARP: 19,
  GET_CONFIG: 24,
  SET_CONFIG: 25,
  GET_INFLIGHT_FD: 31,
  SET_INFLIGHT_FD: 32,
  RESET_DEVICE: 34,
  GET_MAX_MEM_SLOTS: 36,
  ADD_MEM_REG: 37,
  REM_MEM_REG: 38,
  SET_STATUS: 39,
  GET_STATUS: 40,
} as const;

// ── features ────────────────────────────────────────────────────────────────────────────────────
/** Bit of GET_FEATURES: there are protocol features, and rings begin disabled. */
export const VHOST_USER_F_PROTOCOL_FEATURES = 30;
/** Bit of GET_FEATURES: what the device writes can be marked in a dirty log. Linux's number. */
export const VHOST_F_LOG_ALL = 26;
/** Protocol feature bit: SET_LOG_BASE comes with a descriptor of the log. */
export const VHOST_USER_PROTOCOL_F_LOG_SHMFD = 1;
/** Protocol feature bit: several queues, GET_QUEUE_NUM. */
export const VHOST_USER_PROTOCOL_F_MQ = 0;
/** Protocol feature bit: SEND_RARP. */
export const VHOST_USER_PROTOCOL_F_RARP = 2;
/** Protocol feature bit: a reply to any message, when asked for. */
export const VHOST_USER_PROTOCOL_F_REPLY_ACK = 3;
/** Protocol feature bit: GET_CONFIG, SET_CONFIG. */
export const VHOST_USER_PROTOCOL_F_CONFIG = 9;
/** Protocol feature bit: GET_INFLIGHT_FD, SET_INFLIGHT_FD. */
export const VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD = 12;
/** Protocol feature bit: RESET_DEVICE. */
export const VHOST_USER_PROTOCOL_F_RESET_DEVICE = 13;
/** Protocol feature bit: GET_MAX_MEM_SLOTS, ADD_MEM_REG, REM_MEM_REG. */
export const VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS = 15;
/** Protocol feature bit: GET_STATUS, SET_STATUS. */
export const VHOST_USER_PROTOCOL_F_STATUS = 16;

// ── payloads (section "Message payload") ────────────────────────────────────────────────────────
/** Bytes of a u64 payload. */
export const VHOST_USER_U64_BYTES = 8;
/** Bytes of a vring state: u32 index, u32 num. */
export const VHOST_USER_VRING_STATE_BYTES = 8;
/** Bytes of a vring address: u32 index, u32 flags, u64 descriptor, used, available, log. */
export const VHOST_USER_VRING_ADDR_BYTES = 40;
/** Flag of a vring address: writes to the used ring are marked at its log address. */
export const VHOST_VRING_F_LOG = 0x1;
/** Bytes of a log: u64 size, u64 mmap offset. */
export const VHOST_USER_LOG_BYTES = 16;
/** Bytes of an in-flight description: u64 size, u64 mmap offset, u16 queues, u16 queue size. */
export const VHOST_USER_INFLIGHT_BYTES = 20;
/** The same with the padding that C puts behind it, as QEMU sends it. */
export const VHOST_USER_INFLIGHT_BYTES_PADDED = 24;
/** Bits of a vring descriptor's u64 that are the ring's index. */
export const VHOST_USER_VRING_IDX_MASK = 0xffn;
/** Bit of a vring descriptor's u64: no descriptor comes with it. */
export const VHOST_USER_VRING_NOFD_MASK = 0x100n;
/** Bytes of a memory region: u64 guest address, size, user address, mmap offset. */
export const VHOST_USER_REGION_BYTES = 32;
/** Bytes before the regions of SET_MEM_TABLE (u32 count, padding) and the one of ADD_MEM_REG. */
export const VHOST_USER_REGIONS_START = 8;
/** Regions of one SET_MEM_TABLE. */
export const VHOST_USER_REGIONS_MAX = 8;
/** Bytes before the contents of a configuration payload: u32 offset, size, flags. */
export const VHOST_USER_CONFIG_START = 12;
/** Bytes of configuration space that a message may name. */
export const VHOST_USER_CONFIG_BYTES_MAX = 256;
