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
/** u16: I/O priority; must be 0 here. */
export const SQE_IOPRIO = 2;
/** i32: descriptor in the table of the owner. */
export const SQE_FD = 4;
/** u64: position in the file; all ones: the file's own. */
export const SQE_OFF = 8;
/** u64: address of the buffer, the iovecs or the path. */
export const SQE_ADDR = 16;
/** Bytes of the buffer, number of iovecs, or mode of a new file. */
export const SQE_LEN = 24;
/** The opcode's own flags: rw_flags, fsync_flags, open_flags, cancel_flags. */
export const SQE_OP_FLAGS = 28;
/** u64: comes back in the CQE, unread. */
export const SQE_USER_DATA = 32;
/** u16: index of a registered buffer; must be 0 here. */
export const SQE_BUF_INDEX = 40;
/** Index of a registered file. */
export const SQE_FILE_INDEX = 44;

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

/** Bit of IO_RINGS_SQ_FLAGS: the thread that looks at the SQ sleeps, and must be woken. */
export const IORING_SQ_NEED_WAKEUP = 1;
/** Bit of IO_RINGS_SQ_FLAGS: CQEs wait for room in the CQ. */
export const IORING_SQ_CQ_OVERFLOW = 2;
/** Most SQ entries. Linux: IORING_MAX_ENTRIES. */
export const IORING_MAX_ENTRIES = 32768;
/** Most CQ entries. Linux: IORING_MAX_CQ_ENTRIES. */
export const IORING_MAX_CQ_ENTRIES = 65536;

// ── opcodes and flags ───────────────────────────────────────────────────────────────────────────
/** Does nothing, result 0. */
export const IORING_OP_NOP = 0;
/** preadv(2). */
export const IORING_OP_READV = 1;
/** pwritev(2). */
export const IORING_OP_WRITEV = 2;
/** fsync(2), fdatasync(2). */
export const IORING_OP_FSYNC = 3;
/** Cancels the request whose user data is SQE_ADDR. */
export const IORING_OP_ASYNC_CANCEL = 14;
/** fallocate(2): SQE_LEN is the mode, SQE_ADDR the length. */
export const IORING_OP_FALLOCATE = 17;
/** openat(2). */
export const IORING_OP_OPENAT = 18;
/** close(2). */
export const IORING_OP_CLOSE = 19;
/** pread(2). */
export const IORING_OP_READ = 22;
/** pwrite(2). */
export const IORING_OP_WRITE = 23;
/** The first number that is no opcode of 6.12. */
export const IORING_OP_LAST = 58;

/** SQE_FD is the index of a registered file. */
export const IOSQE_FIXED_FILE = 1;
/** Begins when all before it are done; none after it begins before it is done. */
export const IOSQE_IO_DRAIN = 2;
/** The next SQE begins when this one is done, and not at all when it fails. */
export const IOSQE_IO_LINK = 4;
/** The next SQE begins when this one is done, well or not. */
export const IOSQE_IO_HARDLINK = 8;
/** Straight to an io worker, with no try before. */
export const IOSQE_ASYNC = 16;
/** The buffer comes from a group of provided ones. */
export const IOSQE_BUFFER_SELECT = 32;
/** No CQE when it goes well. */
export const IOSQE_CQE_SKIP_SUCCESS = 64;
/** Every flag that an SQE may have. Linux: SQE_VALID_FLAGS. */
export const IOSQE_VALID = 127;

/** Mode of FALLOCATE: the file's size stays. */
export const FALLOC_FL_KEEP_SIZE = 0x01;
/** Mode of FALLOCATE, with KEEP_SIZE: the space is given back, and reads as zeroes. */
export const FALLOC_FL_PUNCH_HOLE = 0x02;
/** Mode of FALLOCATE: it reads as zeroes. */
export const FALLOC_FL_ZERO_RANGE = 0x10;

/** Flag of FSYNC: fdatasync(2). */
export const IORING_FSYNC_DATASYNC = 1;
/** SQE_FD of OPENAT: the path counts from the working directory. */
export const AT_FDCWD = -100;
/** Bytes of a path with its NUL, at most. */
export const PATH_MAX = 4096;
/** Iovecs of a request, at most. */
export const UIO_MAXIOV = 1024;
/** Bytes of struct iovec: u64 base, u64 length. */
export const IOVEC_BYTES = 16;
/** Bytes that one request moves, at most. */
export const MAX_RW_COUNT = 0x7ffff000;

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
