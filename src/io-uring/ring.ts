/**
 * What both implementations of io_uring's rings do, in exact terms: given the same memory and the
 * same calls they give the same answers and leave the same bytes. The words of the state blocks
 * (`IOU_…`), the shared fields and the tables are defined in `spec/io-uring.ts`.
 *
 * Both sides are hostile to one another. Every shared field is read once: heads, tails and
 * `sq_flags` atomically (sequentially consistent), the rest plainly. What a side has written it
 * never reads back; it goes by its own block. Entries and masks come from the block, too, never
 * from the shared copies. Counts and maxima are whole numbers from 0 up to 2^32 - 1; all sums are
 * modulo 2^32.
 *
 * Pairs: Q1 is the SQ's tail (submit → takeSqes), Q2 its head (takeSqes → getSqe), Q3 the CQ's tail
 * (postCqes → peekCqes), Q4 its head (advance → postCqes). Q5 is IORING_SQ_NEED_WAKEUP beside Q1: a
 * thread that is about to sleep shows it, then looks at the SQ's tail; the application stores the
 * tail, then looks whether it is shown.
 */

/** The application's half. One thread at a time. liburing: io_uring_get_sqe() and what follows. */
export interface ApplicationRing {
  /** Address of the state block. */
  readonly iou: number;

  /**
   * Forgets everything: the block's indices 0, and the words that the application writes (the SQ's
   * tail, the CQ's head). Before the kernel's side is used.
   */
  reset(): void;

  /**
   * The next SQE, all zero, to be filled in; not visible to the kernel before `submit`. The SQ's
   * head is read once. A head ahead of what is published, or more than IOU_SQ_ENTRIES behind what
   * was given out, leaves no room. @returns its address; 0: the SQ is full. liburing:
   * io_uring_get_sqe().
   */
  getSqe(): number;

  /**
   * Makes every SQE given out visible: writes its slot in the SQ array, then one store of the
   * tail; none when there is nothing new. @returns how many became visible. liburing:
   * __io_uring_flush_sq().
   */
  submit(): number;

  /**
   * Copies up to `max` CQEs (cut to IOU_TABLE_CAPACITY), the oldest first, to the table; they stay
   * in the CQ until `advance`. The CQ's tail is read once. IOU_CQ_PEEKED = the answer.
   * @returns how many; -IOU_E_CQ_TAIL, with nothing copied and IOU_CQ_PEEKED 0: the tail is more
   * than IOU_CQ_ENTRIES ahead. liburing: io_uring_peek_batch_cqe().
   */
  peekCqes(max: number): number;

  /**
   * Gives `count` CQEs (cut to IOU_CQ_PEEKED, which goes down by as many) back to the kernel: one
   * store of the head, none for 0. liburing: io_uring_cq_advance().
   */
  advance(count: number): void;
}

/** The kernel's half. One thread at a time, the owner's. Linux: io_uring.c. */
export interface KernelRing {
  /** Address of the state block. */
  readonly iou: number;

  /**
   * Begins anew: the block's indices and counts 0, and the words that the kernel writes, entries
   * and masks among them. Linux: io_allocate_scq_urings().
   */
  reset(): void;

  /**
   * Takes up to `max` SQEs (cut to IOU_TABLE_CAPACITY, and to what is pending) in the order of the
   * SQ array and copies each to a record of the table, so that nothing written later changes it.
   * The tail is read once; more than IOU_SQ_ENTRIES ahead counts as IOU_SQ_ENTRIES. SQE_ERROR is
   * SQE_EINVAL when the copy has an opcode not below IORING_OP_LAST or a flag not in IOSQE_VALID,
   * else 0. An index in the array that is not below IOU_SQ_ENTRIES ends the burst: it is passed
   * over, counted in IOU_SQ_DROPPED, and the count is shown in `sq_dropped`. The head is stored
   * once, after the last copy, when it moved.
   * @returns how many were copied. Linux: io_submit_sqes(), io_get_sqe().
   */
  takeSqes(max: number): number;

  /**
   * Posts the first `count` CQEs (cut to IOU_CQES_CAPACITY) of the private table, as many as the CQ
   * has room for: one store of the tail, none for 0. The CQ's head is read once; a head that is
   * more than IOU_CQ_ENTRIES behind, or ahead of the tail, leaves no room.
   * @returns how many were posted. Linux: io_get_cqe(), io_commit_cqring().
   */
  postCqes(count: number): number;

  /** Counts `count` CQEs that are lost, and shows the count in `cq_overflow`. */
  loseCqes(count: number): void;

  /** Shows `flags`, IORING_SQ_… bits, in `sq_flags`: one atomic store. */
  setSqFlags(flags: number): void;
}
