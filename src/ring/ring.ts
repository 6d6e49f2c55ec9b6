/**
 * What every virtqueue implementation does, in exact terms: two implementations given the same
 * memory and the same calls give the same answers and leave the same bytes. The words of the state
 * block (`VQ_…`), the tables and the errors (`VRING_E_…`) are defined in `spec/ring-state.ts`.
 *
 * A "refusal" stands until the other side repairs its ring or the queue is reset: `VQ_ERROR` is set
 * to the code and, only when it was not that code before, the code's count goes up by one. A later
 * call that gets past the place clears `VQ_ERROR`. All other errors are counted each time. What
 * counts an error counts it as number 0, too: all errors together.
 *
 * Every field of the rings is read once. Index, event and flags words are read and written
 * atomically (sequentially consistent), the rest plainly. Counts and maxima are whole numbers from
 * 0.
 *
 * What is said here holds for split virtqueues; `packed-ring.ts` says what is different for packed
 * ones, `recording-ring.ts` what a device's half records besides. With VQ_F_IN_ORDER, buffers come
 * back in the order in which they were made available, and a batch of them may be used by one used
 * entry, the last one's; the others were used completely. virtio 1.3, 2.7.9 In-order use of
 * descriptors.
 */

/** The driver's half of a virtqueue. One thread at a time. Linux: virtio_ring.c. */
export interface DriverRing {
  /** Address of the state block. */
  readonly vq: number;

  /**
   * Empties the ring and forgets what was in flight: free list 0, 1, 2 …, its last link 0; shadow
   * counts and bytes 0; every index 0; writes zero to flags, idx and event word of both rings;
   * VQ_OLDEST, VQ_BATCH_LEFT and VQ_BATCH_BYTES 0. Error counts stay.
   */
  reset(): void;

  /**
   * Adds the first `count` records of the chain table; each names its pieces in the iovec table by
   * IOV_START, OUT_COUNT and IN_COUNT. Writes CHAIN_HEAD of each chain added, in order, and stages
   * it in the available ring; nothing is visible to the device before `publish`.
   *
   * One piece, or no VQ_F_INDIRECT, or more pieces than VQ_INDIRECT_CAPACITY, or VQ_INDIRECT 0: a
   * direct chain from the free list, in its order. Otherwise one descriptor (len = 16 × pieces,
   * flags INDIRECT, next 0) for table `VQ_INDIRECT + head × VQ_INDIRECT_CAPACITY × 16`, whose entry
   * i goes on at i + 1. Where NEXT is not set, `next` is written as 0. Address = linear +
   * VQ_GUEST_DELTA.
   *
   * With VQ_F_IN_ORDER descriptors are taken in ring order: VQ_FREE_HEAD goes up by as many,
   * modulo VQ_NUM, and `next` of one is the one after it; SHADOW_NEXT is not looked at.
   *
   * @returns how many were added: fewer than `count` when descriptors run out (0 is not an error);
   * or, when the first one is a mistake (no piece, pieces past VQ_IOV_CAPACITY, bytes in and out
   * together of 2^32 or more, more pieces than VQ_NUM, in a table too), -VRING_E_CHAIN. A later
   * mistake ends the burst before it. Each mistake met is counted. A chain not added changes
   * nothing else. `count` is cut to VQ_CHAIN_CAPACITY. virtio 1.3, 2.7.13 Supplying Buffers to The
   * Device. Linux: virtqueue_add_sgs().
   */
  addBufs(count: number): number;

  /**
   * Makes everything added visible: one store of avail.idx, none when nothing was added.
   * virtio 1.3, 2.7.13.3 Updating idx.
   */
  publish(): void;

  /**
   * Whether the device asked to be kicked for what was published since the last question. Side
   * effect: the question counts as answered (VQ_KICKED = VQ_AVAIL_PUBLISHED). False when nothing
   * was published. virtio 1.3, 2.7.10 Available Buffer Notification Suppression. Linux:
   * virtqueue_kick_prepare().
   */
  kickNeeded(): boolean;

  /**
   * Takes up to `max` used entries (cut to VQ_CHAIN_CAPACITY); record i of the chain table gets
   * CHAIN_HEAD and CHAIN_USED_BYTES. used.idx is read once. Descriptors go back to the front of the
   * free list, each chain in its own order. A length above the chain's writable bytes is cut to
   * them and counted (VRING_E_USED_LENGTH).
   *
   * With VQ_F_IN_ORDER the entry at VQ_LAST_USED ends a batch: the chains in flight from VQ_OLDEST
   * up to its id, in that order. All but the last have their IN_BYTES as used bytes, the last what
   * the entry says (cut and counted when it is read). An id that is not in flight, or a batch of
   * more chains than are still pending, is refused: VRING_E_USED_ID. Each chain taken moves
   * VQ_LAST_USED by one and VQ_OLDEST by its descriptors; the free list is not touched.
   * VQ_BATCH_LEFT and VQ_BATCH_BYTES are set when an entry is read, whatever `max`; each chain
   * taken takes one off VQ_BATCH_LEFT, VQ_BATCH_BYTES stays. While VQ_BATCH_LEFT is not 0 no entry
   * is read, but no more is taken than is pending.
   *
   * @returns how many; 0 when there is nothing. Refusals, as the negative code when nothing was
   * taken before: VRING_E_USED_INDEX (more pending than VQ_IN_FLIGHT: nothing is taken),
   * VRING_E_USED_ID. A call that takes something and meets no refusal, or finds nothing pending,
   * clears VQ_ERROR.
   * virtio 1.3, 2.7.14 Receiving Used Buffers From The Device. Linux: virtqueue_get_buf().
   */
  getBufs(max: number): number;

  /**
   * Asks to be called for the next used entry, then looks again. With VQ_F_EVENT_IDX writes
   * used_event = VQ_LAST_USED, otherwise avail.flags = 0. VQ_NOTIFY_DISABLED = 0.
   * @returns true when used entries are pending, so that a caller must not sleep.
   * Linux: virtqueue_enable_cb().
   */
  enableCall(): boolean;

  /**
   * Asks not to be called: avail.flags = NO_INTERRUPT without VQ_F_EVENT_IDX, nothing with it (the
   * event word stays behind). VQ_NOTIFY_DISABLED = 1. A hint only. Linux: virtqueue_disable_cb().
   */
  disableCall(): void;
}

/**
 * The device's half of a virtqueue. One thread at a time, the worker's. Linux: vhost.c.
 *
 * With VQ_F_LINUX (policy "linux", split) it does what Linux 6.12 does; without it, it is
 * "strict". What is not said here is as below. An entry "fails": VQ_ERROR is set to its code, which
 * is counted each time, and the call ends. The entry stays where it is: nothing goes back,
 * VQ_LAST_AVAIL stays, and the next call begins with it.
 *
 * `start`: VQ_NOTIFY_DISABLED stays as it is; used.flags = NO_NOTIFY when it is 1, else 0.
 *
 * `getDescs`, for each entry: a burst that has a chain already ends before an entry that would
 * fail, and nothing of that one is counted or kept. VQ_AVAIL_SEEN takes avail.idx first, then it is
 * compared: an index too far ahead fails once (VRING_E_AVAIL_INDEX), and the next call goes on up
 * to it. VQ_IN_FLIGHT has no limit. A head not below VQ_NUM fails (VRING_E_HEAD), and so does a
 * chain with any of the errors that follow: no length 0 goes back for it.
 *
 * Per descriptor, first failure counts: VRING_E_NEXT and VRING_E_LOOP as below; VQ_NUM +
 * INDIRECT_ENTRIES_MAX descriptors of the chain read, tables' included: VRING_E_WALK (a limit that
 * Linux does not have). INDIRECT, negotiated or not, WRITE or not: the checks of length, wrap and
 * mapping below; then its entries from 0 one after the other, their `next` unread, up to the first
 * without NEXT: past the last entry VRING_E_LOOP; VRING_E_WALK; INDIRECT VRING_E_INDIRECT_NESTED;
 * the buffer. An entry may lie across regions. The chain then goes on where NEXT and `next` of the
 * descriptor in the ring say. All errors from the check of length up to here are a table's:
 * VRING_E_INDIRECT is counted as well.
 *
 * Each buffer: unless its length is 0, wrap, VRING_E_LENGTH (a limit that Linux does not have) and
 * its pieces as below, VQ_LINUX_IOV_MAX in a chain at most (VRING_E_IOV); then, whatever its
 * length, readable after a writable piece VRING_E_ORDER.
 *
 * `publish`: when more is published since the last question than a u16 counts (used.idx passes
 * VQ_SIGNALLED), VQ_SIGNALLED_VALID = 0, and VQ_SIGNALLED = VQ_USED_PUBLISHED as it was before.
 *
 * `enableKick`: false and nothing else while VQ_NOTIFY_DISABLED = 0. avail_event = VQ_AVAIL_SEEN;
 * then VQ_AVAIL_SEEN takes avail.idx: more than VQ_NUM ahead of VQ_LAST_AVAIL, it fails
 * (VRING_E_AVAIL_INDEX) with the answer false.
 */
export interface DeviceRing {
  /** Address of the state block. */
  readonly vq: number;

  /**
   * Starts the ring: VQ_LAST_AVAIL = VQ_AVAIL_SEEN = `position` (u16); VQ_USED_NEXT,
   * VQ_USED_PUBLISHED and VQ_SIGNALLED take used.idx from memory; nothing in flight, no refusal,
   * first call not yet decided, kicks wanted (used.flags = 0). Error counts stay.
   * @returns 0: a split ring can go on anywhere. Linux: vhost_vq_init_access().
   */
  start(position: number): number;

  /**
   * Pops and checks a burst. At most `max` entries of the available ring (cut to VQ_CHAIN_CAPACITY)
   * are looked at, good or bad. For each:
   *
   * 1. When VQ_LAST_AVAIL = VQ_AVAIL_SEEN, avail.idx is read; ahead by more than VQ_NUM: refusal
   *    VRING_E_AVAIL_INDEX, VQ_AVAIL_SEEN stays; equal: the burst ends (VQ_ERROR is cleared).
   * 2. VQ_IN_FLIGHT = VQ_NUM: refusal VRING_E_IN_FLIGHT.
   * 3. The head is read; not below VQ_NUM: refusal VRING_E_HEAD.
   * 4. The chain is followed (below). Good: its record is written, CHAIN_USED_BYTES 0, VQ_ERROR
   *    cleared, VQ_LAST_AVAIL and VQ_IN_FLIGHT go up by one. Malformed: it is counted, VQ_ERROR
   *    cleared, VQ_LAST_AVAIL goes up, and the head is staged in the used ring with length 0.
   *    VRING_E_IOV while earlier chains of the burst use the iovec table: the burst ends before it,
   *    uncounted. (With the whole table to itself it is malformed like any other.) VQ_F_IN_ORDER,
   *    malformed, and VQ_IN_FLIGHT not 0: the burst ends before it, uncounted, for the ones before
   *    it come back first.
   * 5. When the descriptors read in this call, tables' included, are VQ_WALK_MAX or more, the burst
   *    ends.
   *
   * Following a chain, per descriptor, first failure counts: `next` ≥ VQ_NUM: VRING_E_NEXT. Already
   * VQ_NUM descriptors followed in the ring: VRING_E_LOOP. INDIRECT: not negotiated, NEXT set,
   * length (0, no multiple of 16, more than INDIRECT_ENTRIES_MAX entries), address + length past
   * 2^64 (VRING_E_ADDRESS_WRAP), table not wholly mapped (VRING_E_INDIRECT_ADDRESS), each with its
   * own code and in this order; WRITE on it is ignored; then its entries from 0: `next` not in the
   * table VRING_E_INDIRECT_INDEX; already min(entries, VQ_IOV_CAPACITY) followed: VRING_E_LOOP when
   * that is all entries, else VRING_E_IOV; an entry that lies across two regions
   * VRING_E_INDIRECT_ADDRESS; INDIRECT VRING_E_INDIRECT_NESTED. The chain ends with the table.
   *
   * Each buffer: readable after writable (by flag, whatever the length) VRING_E_ORDER; length 0: no
   * piece, no further check; address + length past 2^64 VRING_E_ADDRESS_WRAP; bytes of its
   * direction 2^32 or more VRING_E_LENGTH; then piece by piece: unmapped VRING_E_ADDRESS, table
   * full VRING_E_IOV. A range may span regions that adjoin in guest addresses: a piece for each.
   *
   * @returns good chains; when there is none and a refusal stands, its code, negative. 0 with
   * `availLen() > 0` and no refusal: call again; with VQ_F_IN_ORDER when nothing is in flight.
   * virtio 1.3, 2.7.5 The Virtqueue Descriptor Table. Linux: vhost_get_vq_desc().
   */
  getDescs(max: number): number;

  /**
   * Stages one used entry; not visible before `publish`. @returns 0, or -VRING_E_COMPLETION,
   * counted, when `head` is not below VQ_NUM or nothing is in flight. Linux: vhost_add_used().
   */
  addUsed(head: number, usedBytes: number): number;

  /**
   * Stages CHAIN_HEAD and CHAIN_USED_BYTES of the first `count` records (cut to VQ_CHAIN_CAPACITY),
   * in order. With VQ_F_IN_ORDER, of records that follow one another and have CHAIN_USED_BYTES =
   * CHAIN_IN_BYTES only the last is written (and any record ends such a run, as its last): at the
   * place of the first; VQ_USED_NEXT goes up by all. @returns 0 or, at the first record that
   * `addUsed` refuses, its answer (with VQ_F_IN_ORDER, what its run had is not staged and stays in
   * flight, though it counted as used when the record was judged). Linux: vhost_add_used_n().
   */
  addUsedN(count: number): number;

  /** Makes everything staged visible: one store of used.idx, none when nothing is staged. */
  publish(): void;

  /**
   * Whether the driver asked to be called for what was published since the last question; false,
   * with no side effect, when nothing was (VQ_SIGNALLED = VQ_USED_PUBLISHED). Otherwise the
   * question counts as answered: VQ_SIGNALLED = VQ_USED_PUBLISHED, VQ_SIGNALLED_VALID = 1. With
   * VQ_F_EVENT_IDX: true while VQ_SIGNALLED_VALID was 0, else by used_event; without: by
   * avail.flags. virtio 1.3, 2.7.7 Used Buffer Notification Suppression. Linux: vhost_notify().
   */
  callNeeded(): boolean;

  /**
   * Asks to be kicked for the next available entry, then looks again. With VQ_F_EVENT_IDX writes
   * avail_event = avail.idx (also past entries that were left in the ring), else used.flags = 0.
   * VQ_NOTIFY_DISABLED = 0.
   * @returns true when avail.idx ≠ VQ_LAST_AVAIL, so that a caller must not sleep (unless a refusal
   * stands). Linux: vhost_enable_notify().
   */
  enableKick(): boolean;

  /**
   * Asks not to be kicked: used.flags = NO_NOTIFY without VQ_F_EVENT_IDX, nothing with it.
   * VQ_NOTIFY_DISABLED = 1; nothing at all while it is, so that the driver's copy of a cache line
   * stays good. A hint only. Linux: vhost_disable_notify().
   */
  disableKick(): void;

  /** avail.idx - VQ_LAST_AVAIL modulo 2^16: what a driver claims, above VQ_NUM when it lies. */
  availLen(): number;

  /**
   * Looks at what a kick said with VIRTIO_F_NOTIFICATION_DATA: the position up to which the driver
   * has published, a u16. It is checked and not gone by: the ring says what is available, and a
   * kick may come when the device has long been past it.
   * @returns 0, or -VRING_E_KICK, counted: the ring can never be there; a split ring, when it is
   * more than a u16. virtio 1.3, 2.9 Driver Notifications.
   */
  kicked(position: number): number;
}
