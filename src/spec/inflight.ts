// The in-flight area that a back-end shares with its front-end, as the vhost-user document has it
// (section "Inflight I/O tracking"): a region for each queue, one behind the other. It is written
// while the rings run and read when they start; what is read then may be anything. Offsets and
// sizes in bytes; little-endian. Read by both compilers.

/** The one version there is; 0: the region was never written. */
export const INFLIGHT_VERSION = 1;
/** Each region begins at a multiple of this. */
export const INFLIGHT_REGION_ALIGN = 64;

// ── both layouts: struct QueueRegionSplit and struct QueueRegionPacked ──────────────────────────
/** u16: version. Before it a u64 of features: none is defined. */
export const INFLIGHT_REGION_VERSION = 8;
/** u16: entries: the ring's size. */
export const INFLIGHT_REGION_NUM = 10;
/** u8, at the beginning of an entry: 1 while the chain that it is the head of is in flight. */
export const INFLIGHT_DESC_INFLIGHT = 0;
/** u64, of an entry: the order in which chains were popped. */
export const INFLIGHT_DESC_COUNTER = 8;

// ── split ───────────────────────────────────────────────────────────────────────────────────────
/** u16: head of the chain that was used last, of a list through `next`. */
export const INFLIGHT_SPLIT_LAST_BATCH_HEAD = 12;
/** u16: used.idx. */
export const INFLIGHT_SPLIT_USED_IDX = 14;
/** The entries: struct DescStateSplit, one for each descriptor. */
export const INFLIGHT_SPLIT_DESCS = 16;
/** Bytes of an entry. */
export const INFLIGHT_SPLIT_DESC_BYTES = 16;
/** u16, of an entry: the head that was used before it. */
export const INFLIGHT_SPLIT_DESC_NEXT = 6;

// ── packed ──────────────────────────────────────────────────────────────────────────────────────
/** u16: the first free entry. */
export const INFLIGHT_PACKED_FREE_HEAD = 12;
/** u16: the first free entry before what is not finished. */
export const INFLIGHT_PACKED_OLD_FREE_HEAD = 14;
/** u16: index of the next used descriptor; its wrap counter is elsewhere. */
export const INFLIGHT_PACKED_USED_IDX = 16;
/** u16: the same, before what is not finished. */
export const INFLIGHT_PACKED_OLD_USED_IDX = 18;
/** u8: wrap counter of the one. */
export const INFLIGHT_PACKED_USED_WRAP = 20;
/** u8: wrap counter of the other. */
export const INFLIGHT_PACKED_OLD_USED_WRAP = 21;
/** The entries: struct DescStatePacked, one for each descriptor in flight. */
export const INFLIGHT_PACKED_DESCS = 32;
/** Bytes of an entry. */
export const INFLIGHT_PACKED_DESC_BYTES = 32;
/** u16, of an entry: the next one, of its list or of the free list. */
export const INFLIGHT_PACKED_DESC_NEXT = 2;
/** u16, of a list's first entry: its last. */
export const INFLIGHT_PACKED_DESC_LAST = 4;
/** u16, of a list's first entry: how many there are. */
export const INFLIGHT_PACKED_DESC_NUM = 6;
/** u16, of an entry: the descriptor's id. Behind it u16 flags, u32 len, u64 addr. */
export const INFLIGHT_PACKED_DESC_ID = 16;
/** u16, of an entry: the descriptor's flags. */
export const INFLIGHT_PACKED_DESC_FLAGS = 18;
/** u32, of an entry: the descriptor's length in bytes. */
export const INFLIGHT_PACKED_DESC_LEN = 20;
/** u64, of an entry: the descriptor's guest address. */
export const INFLIGHT_PACKED_DESC_ADDR = 24;
