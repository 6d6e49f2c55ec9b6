// The private state of a virtqueue and its tables: what our side remembers, in memory that no guest
// address reaches. Read by both compilers. All words are little-endian u32 unless said; addresses
// are offsets in the linear memory. One block a side: a driver's block is written by the driver's
// thread alone, a device's by the worker's.
//
// A "position" of a packed ring is one u16: the index of a descriptor in bits 0 to 14, the wrap
// counter in bit 15. It moves by n: the index goes up by n; from VQ_NUM on, VQ_NUM is taken off and
// bit 15 is turned over. The first is 0x8000. Free-running u16 indices have their place in a split
// ring; the words are the same.

/** Bytes of a state block, either side; it is aligned to 8. */
export const VQ_STATE_BYTES = 320;

// ── both sides ──────────────────────────────────────────────────────────────────────────────────
/**
 * Entries of the ring, 1 to 32768; a power of two when it is split. Set up by the host, like all to
 * VQ_DEVICE.
 */
export const VQ_NUM = 0;
/** What was negotiated: VQ_F_… bits. */
export const VQ_FLAGS = 4;
/** Linear address of the descriptor table; packed: of the descriptor ring. */
export const VQ_DESC = 8;
/** Linear address of the driver area: the available ring; packed: Driver Event Suppression. */
export const VQ_DRIVER = 12;
/** Linear address of the device area: the used ring; packed: Device Event Suppression. */
export const VQ_DEVICE = 16;
/** Address of the iovec table, IOV_BYTES an entry. */
export const VQ_IOV = 20;
/** Entries of the iovec table. */
export const VQ_IOV_CAPACITY = 24;
/** Address of the chain table, CHAIN_BYTES an entry. */
export const VQ_CHAINS = 28;
/** Entries of the chain table: the largest burst. */
export const VQ_CHAIN_CAPACITY = 32;
/**
 * Chains handed over and not yet back. Device: popped, not completed; packed: their descriptors.
 * Driver: added, not got.
 */
export const VQ_IN_FLIGHT = 36;
/** The refusal that stands (VRING_E_…), 0 when there is none. See `getDescs`, `getBufs`. */
export const VQ_ERROR = 40;
/** 1 while the other side was told not to notify us. */
export const VQ_NOTIFY_DISABLED = 44;

// ── device side ─────────────────────────────────────────────────────────────────────────────────
/** Next entry of the available ring to pop; free-running u16. Packed: a position. */
export const VQ_LAST_AVAIL = 48;
/**
 * `avail.idx` as it was last read and found good; u16. Packed: the position up to which descriptors
 * were seen to be available.
 */
export const VQ_AVAIL_SEEN = 52;
/**
 * Next entry of the used ring to write; free-running u16. Ahead of USED_PUBLISHED while staged.
 * Packed: a position.
 */
export const VQ_USED_NEXT = 56;
/** `used.idx` as it was last published; u16. Packed: a position. */
export const VQ_USED_PUBLISHED = 60;
/**
 * VQ_USED_PUBLISHED at the last decision whether to call. Linux: signalled_used. Packed:
 * descriptors published since then, at most 65535.
 */
export const VQ_SIGNALLED = 64;
/** 1 when there was a decision since the start. Linux: signalled_used_valid. */
export const VQ_SIGNALLED_VALID = 68;
/** Address of the region table, REGION_BYTES an entry. */
export const VQ_REGIONS = 72;
/** Entries of the region table, which do not overlap. */
export const VQ_REGION_COUNT = 76;

// ── driver side ─────────────────────────────────────────────────────────────────────────────────
/** Next entry of the available ring to write; free-running u16. Packed: a position. */
export const VQ_AVAIL_NEXT = 48;
/** `avail.idx` as it was last published; u16. Packed: a position. */
export const VQ_AVAIL_PUBLISHED = 52;
/**
 * VQ_AVAIL_PUBLISHED at the last decision whether to kick. Packed: descriptors published since
 * then, at most 65535.
 */
export const VQ_KICKED = 56;
/** Next entry of the used ring to take; free-running u16. Packed: a position. */
export const VQ_LAST_USED = 60;
/**
 * First free descriptor; VQ_NUM or more never occurs while VQ_NUM_FREE > 0. Packed: first free id.
 */
export const VQ_FREE_HEAD = 64;
/** Free descriptors. */
export const VQ_NUM_FREE = 68;
/** Address of the shadow table, SHADOW_BYTES for each descriptor; packed: for each id. */
export const VQ_SHADOW = 72;
/** Linear address of the indirect tables, one for each head (id), or 0 when there are none. */
export const VQ_INDIRECT = 76;
/** Descriptors that one indirect table holds. */
export const VQ_INDIRECT_CAPACITY = 80;
/** u64: guest address minus linear address, modulo 2^64, of the one region the driver lives in. */
export const VQ_GUEST_DELTA = 88;

// ── both sides again ────────────────────────────────────────────────────────────────────────────
/** Packed: flags, u16, of the first descriptor that is staged: `publish` writes them, last. */
export const VQ_STAGED_FLAGS = 84;
/**
 * u32[VRING_E_COUNT]: how often each error happened, and, as number 0, all of them; they wrap. Room
 * for 32.
 */
export const VQ_ERROR_COUNTS = 96;
/** Driver, IN_ORDER: head (packed: id) of the chain that was added first of those in flight. */
export const VQ_OLDEST = 224;
/** Driver, IN_ORDER: chains of the batch that is being taken which are still to be taken. */
export const VQ_BATCH_LEFT = 228;
/** Driver, IN_ORDER: used bytes of the last chain of that batch. */
export const VQ_BATCH_BYTES = 232;

// ── device side: what is recorded besides ───────────────────────────────────────────────────────
/** Linear address of the dirty log: a bit for each page of guest memory, from address 0 on. */
export const VQ_LOG = 240;
/** Bytes of the dirty log. */
export const VQ_LOG_BYTES = 244;
/** u64: guest address at which writes to the device area are logged. */
export const VQ_LOG_USED = 248;
/** u64, packed: guest address at which writes to the descriptor ring are logged. */
export const VQ_LOG_DESC = 256;
/** Linear address of the queue's part of the in-flight area (`spec/inflight.ts`). */
export const VQ_INFLIGHT = 264;
/** Address of our own side of it: INFLIGHT_TABLE_… */
export const VQ_INFLIGHT_TABLE = 268;
/** u64: the counter that the next chain gets. */
export const VQ_INFLIGHT_COUNTER = 272;
/** Split: the head that was staged last. Packed: the first free entry; VQ_NUM when none is. */
export const VQ_INFLIGHT_HEAD = 280;
/** Packed: VQ_INFLIGHT_HEAD as of the last `publish` or list popped. */
export const VQ_INFLIGHT_OLD = 284;
/**
 * Address of what is to be popped before the ring: split: heads, u16, all below VQ_NUM. Packed:
 * descriptors, as a ring with wrap counter 1 has them: all available, whole lists.
 */
export const VQ_RESUBMIT = 288;
/** Heads there; packed: descriptors, 32768 at most. */
export const VQ_RESUBMIT_COUNT = 292;
/** The next of them to pop. */
export const VQ_RESUBMIT_NEXT = 296;
/** Policy linux: what is the matter with where the owner has put the ring: VQ_USER_… bits. */
export const VQ_USER = 300;

// ── VQ_USER ─────────────────────────────────────────────────────────────────────────────────────
/** Descriptor table or driver area are not mapped: the ring can't be looked at. */
export const VQ_USER_UNREADABLE = 1;
/** The device area can't be written. */
export const VQ_USER_UNWRITABLE = 2;
/** VIRTIO_F_NOTIFY_ON_EMPTY was accepted: a ring that was emptied is reason enough to call. */
export const VQ_USER_NOTIFY_ON_EMPTY = 4;

// ── VQ_FLAGS ────────────────────────────────────────────────────────────────────────────────────
/** VIRTIO_F_EVENT_IDX was negotiated. */
export const VQ_F_EVENT_IDX = 1;
/** VIRTIO_F_INDIRECT_DESC was negotiated. */
export const VQ_F_INDIRECT = 2;
/** VIRTIO_F_IN_ORDER was negotiated. */
export const VQ_F_IN_ORDER = 4;
/** Device side, split: the policy is "linux": what Linux's vhost does, where it differs. */
export const VQ_F_LINUX = 8;
/** VIRTIO_F_RING_PACKED was negotiated: says the host which functions the block is for. */
export const VQ_F_PACKED = 16;
/** Device side: VHOST_F_LOG_ALL was accepted: pages of buffers are marked in the dirty log. */
export const VQ_F_LOG = 32;
/** Device side: VHOST_VRING_F_LOG: pages of the ring that the device writes are marked, too. */
export const VQ_F_LOG_USED = 64;
/** Device side, not with VQ_F_LINUX: chains in flight are recorded in shared memory. */
export const VQ_F_INFLIGHT = 128;

// ── iovec table ─────────────────────────────────────────────────────────────────────────────────
/** Bytes of an iovec: linear address, length in bytes. */
export const IOV_BYTES = 8;
/** Offset of the length. */
export const IOV_LENGTH = 4;

// ── chain table ─────────────────────────────────────────────────────────────────────────────────
/** Bytes of a chain record. */
export const CHAIN_BYTES = 32;
/**
 * The chain's head: index of its first descriptor. Packed: its id; on the device's side with the
 * number of its descriptors in the ring in the upper half.
 */
export const CHAIN_HEAD = 0;
/** Index in the iovec table of the chain's first piece; readable pieces first, then writable. */
export const CHAIN_IOV_START = 4;
/** Device-readable pieces. */
export const CHAIN_OUT_COUNT = 8;
/** Device-writable pieces. */
export const CHAIN_IN_COUNT = 12;
/** Bytes of all device-readable pieces. */
export const CHAIN_OUT_BYTES = 16;
/** Bytes of all device-writable pieces. */
export const CHAIN_IN_BYTES = 20;
/** Bytes the device has written: read by `addUsedN`, given by `getBufs`. */
export const CHAIN_USED_BYTES = 24;

// ── region table (device side) ──────────────────────────────────────────────────────────────────
/** Bytes of a region: u64 guest address, u64 size in bytes, u32 linear address, u32 zero. */
export const REGION_BYTES = 24;
/** Offset of the guest address, u64. */
export const REGION_GUEST = 0;
/** Offset of the size in bytes, u64; never 0. */
export const REGION_SIZE = 8;
/** Offset of the linear address, u32. */
export const REGION_LINEAR = 16;

// ── shadow table (driver side) ──────────────────────────────────────────────────────────────────
/** Bytes of a shadow entry, one for each descriptor. */
export const SHADOW_BYTES = 8;
/** u16: the next descriptor, of the chain or of the free list. Packed: the next free id. */
export const SHADOW_NEXT = 0;
/** u16: ring descriptors of the chain that starts here; 0 when none does. */
export const SHADOW_COUNT = 2;
/** u32: bytes that the device may write to the chain that starts here. */
export const SHADOW_IN_BYTES = 4;

// ── our side of the in-flight area ──────────────────────────────────────────────────────────────
// Split: u16 for each head: the head staged before it. Packed: for each entry INFLIGHT_ENTRY_BYTES,
// and behind all VQ_NUM of them a u16 for each id: the entry, plus one, of the list in flight that
// was popped last with it; 0: none.
/** Bytes of a packed ring's entry in our table. */
export const INFLIGHT_ENTRY_BYTES = 8;
/** u16: the next entry of the list, or of the free list. */
export const INFLIGHT_ENTRY_NEXT = 0;
/** u16, of the first entry of a list: its last. */
export const INFLIGHT_ENTRY_LAST = 2;
/** u16, likewise: the entry, plus one, of the list in flight that had the id before; 0: none. */
export const INFLIGHT_ENTRY_OLDER = 4;
/** u16, likewise: how many entries, which is how many descriptors. */
export const INFLIGHT_ENTRY_COUNT = 6;

// ── dirty log ───────────────────────────────────────────────────────────────────────────────────
/** Page n of guest memory is bit n % 8 of byte n / 8; a page has 2^12 bytes. Linux: VHOST_PAGE. */
export const LOG_PAGE_SHIFT = 12;

// ── limits ──────────────────────────────────────────────────────────────────────────────────────
/** A `getDescs` that has followed so many descriptors ends its burst with the chain it is at. */
export const VQ_WALK_MAX = 4096;
/** Entries of the largest indirect table: `next` is a u16. */
export const INDIRECT_ENTRIES_MAX = 65536;
/** Policy linux: pieces of the longest chain. Linux: UIO_MAXIOV. */
export const VQ_LINUX_IOV_MAX = 1024;

// ── errors: one for each check ──────────────────────────────────────────────────────────────────
/** Refusal, device side: `avail.idx` runs ahead by more than the ring holds. */
export const VRING_E_AVAIL_INDEX = 1;
/** Refusal, device side: a head in the available ring is not below the queue size. */
export const VRING_E_HEAD = 2;
/** Refusal, device side: more chains in flight than the ring has entries. */
export const VRING_E_IN_FLIGHT = 3;
/** `next` is not below the queue size. */
export const VRING_E_NEXT = 4;
/** More descriptors than the table holds: a loop. Packed: a refusal; a list that does not end. */
export const VRING_E_LOOP = 5;
/** INDIRECT without VIRTIO_F_INDIRECT_DESC. */
export const VRING_E_INDIRECT_UNNEGOTIATED = 6;
/** INDIRECT together with NEXT. */
export const VRING_E_INDIRECT_NEXT = 7;
/** INDIRECT inside an indirect table. */
export const VRING_E_INDIRECT_NESTED = 8;
/** An indirect table of 0 bytes, of no multiple of 16, or of more than 65536 entries. */
export const VRING_E_INDIRECT_LENGTH = 9;
/** An indirect table that is not wholly in guest memory. */
export const VRING_E_INDIRECT_ADDRESS = 10;
/** `next` in an indirect table is not below its number of entries. */
export const VRING_E_INDIRECT_INDEX = 11;
/** A buffer that is not wholly in guest memory. */
export const VRING_E_ADDRESS = 12;
/** Address plus length goes past 2^64, of a buffer or of an indirect table. */
export const VRING_E_ADDRESS_WRAP = 13;
/** A device-readable buffer after a device-writable one. */
export const VRING_E_ORDER = 14;
/** Readable or writable bytes of a chain add up to 2^32 or more. */
export const VRING_E_LENGTH = 15;
/** More pieces than the iovec table holds. */
export const VRING_E_IOV = 16;
/** `addUsed` of a head that is out of range, or when nothing is in flight: a mistake of ours. */
export const VRING_E_COMPLETION = 17;
/** Refusal, driver side: `used.idx` runs ahead by more than is in flight. */
export const VRING_E_USED_INDEX = 18;
/** Refusal, driver side: a used id that is out of range or not in flight. */
export const VRING_E_USED_ID = 19;
/** Driver side: the device claims more bytes than the chain can hold; the length is cut. */
export const VRING_E_USED_LENGTH = 20;
/** Driver side: `addBufs` of a chain with no piece, or one that the queue can never hold. */
export const VRING_E_CHAIN = 21;
/**
 * Device side, counted by the device's own code: a chain whose request can't be read or answered.
 */
export const VRING_E_REQUEST = 22;
/** Refusal, device side, packed: a list goes on at a descriptor that is not available. */
export const VRING_E_UNAVAILABLE = 23;
/** Device side: a saved position that the ring can't have. */
export const VRING_E_POSITION = 24;
/** Policy linux: an indirect table could not be followed; counted beside the error found there. */
export const VRING_E_INDIRECT = 25;
/** Policy linux: more than VQ_NUM + INDIRECT_ENTRIES_MAX descriptors in a chain and its tables. */
export const VRING_E_WALK = 26;
/** Device side: a page was written that lies beyond the dirty log. */
export const VRING_E_LOG = 27;
/** Device side: a kick names a position at which the ring can't be. */
export const VRING_E_KICK = 28;
/** Policy linux: the ring's own areas are not mapped, or can't be written. */
export const VRING_E_MAPPING = 29;
/** Errors, and number 0: all of them. */
export const VRING_E_COUNT = 30;
