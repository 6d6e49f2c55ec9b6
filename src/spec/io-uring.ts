// Numbers and layouts of io_uring, as Linux 6.12's <linux/io_uring.h> has them, and the private
// state of our two sides. Read by both compilers. All words are little-endian u32 unless said;
// addresses are offsets in the linear memory. Indices run freely and wrap at 2^32: an entry's slot
// is its index modulo the entries.

// ── struct io_uring_sqe: what the application wants ─────────────────────────────────────────────
/** Bytes of a submission queue entry. */
export const IO_URING_SQE_BYTES = 64;
/** u8: IORING_OP_… */
export const SQE_OPCODE = 0;
/** u8: IOSQE_… bits. */
export const SQE_FLAGS = 1;
/** u64: comes back in the CQE, unread. */
export const SQE_USER_DATA = 32;

// ── struct io_uring_cqe: what became of it ──────────────────────────────────────────────────────
/** Bytes of a completion queue entry. */
export const IO_URING_CQE_BYTES = 16;
/** u64: the SQE's. */
export const CQE_USER_DATA = 0;
/** i32: result, or an error number, negative. */
export const CQE_RES = 8;
/** IORING_CQE_F_… bits: none here. */
export const CQE_FLAGS = 12;

// ── struct io_rings: what both sides share ──────────────────────────────────────────────────────
/** Next SQE that the kernel will take. Written by the kernel. */
export const IO_RINGS_SQ_HEAD = 0;
/** One past the last SQE submitted. Written by the application. */
export const IO_RINGS_SQ_TAIL = 4;
/** Next CQE that the application will take. Written by the application. */
export const IO_RINGS_CQ_HEAD = 8;
/** One past the last CQE posted. Written by the kernel. */
export const IO_RINGS_CQ_TAIL = 12;
/** SQ entries less 1, for the application to read. */
export const IO_RINGS_SQ_RING_MASK = 16;
/** CQ entries less 1. */
export const IO_RINGS_CQ_RING_MASK = 20;
/** SQ entries. */
export const IO_RINGS_SQ_RING_ENTRIES = 24;
/** CQ entries. */
export const IO_RINGS_CQ_RING_ENTRIES = 28;
/** SQEs not taken, for their index in the array was none. Written by the kernel. */
export const IO_RINGS_SQ_DROPPED = 32;
/** IORING_SQ_… bits. Written by the kernel. */
export const IO_RINGS_SQ_FLAGS = 36;
/** CQEs lost. Written by the kernel. */
export const IO_RINGS_CQ_OVERFLOW = 44;
/** First CQE. The SQ array, u32 each, follows the last. */
export const IO_RINGS_CQES = 64;

/** Bit of IO_RINGS_SQ_FLAGS: CQEs wait for room in the CQ. */
export const IORING_SQ_CQ_OVERFLOW = 2;
/** Most SQ entries. Linux: IORING_MAX_ENTRIES. */
export const IORING_MAX_ENTRIES = 32768;
/** Most CQ entries. Linux: IORING_MAX_CQ_ENTRIES. */
export const IORING_MAX_CQ_ENTRIES = 65536;

// ── opcodes and flags ───────────────────────────────────────────────────────────────────────────
/** Does nothing, result 0. */
export const IORING_OP_NOP = 0;
/** The first number that is no opcode of 6.12. */
export const IORING_OP_LAST = 58;

/** Every flag that an SQE may have. Linux: SQE_VALID_FLAGS. */
export const IOSQE_VALID = 127;

// ── our sides ───────────────────────────────────────────────────────────────────────────────────
/** Bytes of a state block, either side; it is aligned to 8. */
export const IOU_STATE_BYTES = 64;
/** SQ entries, a power of two. Set up by the host, like all to IOU_TABLE_CAPACITY. */
export const IOU_SQ_ENTRIES = 0;
/** CQ entries, a power of two. */
export const IOU_CQ_ENTRIES = 4;
/** Address of struct io_rings, which is shared, like the next two. */
export const IOU_RINGS = 8;
/** Address of the SQ array. */
export const IOU_SQ_ARRAY = 12;
/** Address of the SQEs. */
export const IOU_SQES = 16;
/** Address of a private table: SQE_RECORD_BYTES an entry (kernel), or CQEs (application). */
export const IOU_TABLE = 20;
/** Entries of that table: the largest burst. */
export const IOU_TABLE_CAPACITY = 24;

/** Kernel: next SQE to take; its own copy of the SQ's head. Linux: cached_sq_head. */
export const IOU_SQ_HEAD = 28;
/** Kernel: next CQE to post; its own copy of the CQ's tail. Linux: cached_cq_tail. */
export const IOU_CQ_TAIL = 32;
/** Kernel: SQEs dropped. */
export const IOU_SQ_DROPPED = 36;
/** Kernel: CQEs lost. */
export const IOU_CQ_OVERFLOW = 40;
/** Kernel: address of the private table of CQEs to post. */
export const IOU_CQES = 44;
/** Kernel: entries of that table. */
export const IOU_CQES_CAPACITY = 48;

/** Application: next SQE to give out. liburing: sqe_tail. */
export const IOU_SQ_TAIL = 28;
/** Application: the SQ's tail as it was last published. liburing: sqe_head. */
export const IOU_SQ_PUBLISHED = 32;
/** Application: next CQE to take. */
export const IOU_CQ_HEAD = 36;
/** Application: CQEs peeked at and not advanced past. */
export const IOU_CQ_PEEKED = 40;

/** Bytes of a record that `takeSqes` writes: the SQE as it was read, then SQE_ERROR; 4 are free. */
export const SQE_RECORD_BYTES = 72;
/** 0, or the number of the error that the SQE is refused with. */
export const SQE_ERROR = 64;
/** The number of EINVAL: what an SQE with an unknown opcode or flag is refused with. */
export const SQE_EINVAL = 22;

/** `peekCqes` refuses the CQ's tail: more entries than the CQ has. */
export const IOU_E_CQ_TAIL = 1;
