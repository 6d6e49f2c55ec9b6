/**
 * What `ring.ts` says, for packed virtqueues (virtio 1.3, 2.8 Packed Virtqueues): the same calls,
 * the same state words, the same errors. Here is what differs; what is not said is as there. A
 * "position", and how it moves, is defined in `spec/ring-state.ts`; VQ_NUM need not be a power of
 * two.
 *
 * A descriptor at a position with wrap counter w is available when AVAIL = w and USED ≠ w, used
 * when AVAIL = USED = w. `flags` of the first descriptor of a list, and each event suppression
 * structure as one u32, are read and written atomically (sequentially consistent), the rest
 * plainly. Of a descriptor that is read, `flags` come first.
 */

import type { DeviceRing, DriverRing } from "./ring.js";

/** The driver's half of a packed virtqueue. One thread at a time. Linux: virtio_ring.c. */
export interface PackedDriverRing extends DriverRing {
  /**
   * Empties the ring: all descriptors and both event structures zero; free ids 0, 1, 2 …, the last
   * links to 0; shadow counts and bytes 0; every position 0x8000, VQ_KICKED 0; VQ_NUM_FREE =
   * VQ_NUM; nothing in flight, no refusal, calls wanted; VQ_STAGED_FLAGS, VQ_OLDEST, VQ_BATCH_… 0.
   * Error counts stay.
   */
  reset(): void;

  /**
   * Each chain takes the free id at VQ_FREE_HEAD and the next descriptors of the ring from
   * VQ_AVAIL_NEXT on, one for each piece, or one for its indirect table (as for a split ring;
   * table `VQ_INDIRECT + id × VQ_INDIRECT_CAPACITY × 16`). All descriptors of a chain get its id,
   * NEXT but for the last, WRITE, AVAIL and USED. Entries of a table: address, length, id 0, and
   * flags WRITE or 0; the descriptor for it: length 16 × pieces, flags INDIRECT and not WRITE.
   *
   * Something is staged while VQ_AVAIL_NEXT ≠ VQ_AVAIL_PUBLISHED. `flags` of a descriptor that
   * is added while nothing is, the first since the last `publish`, are kept in VQ_STAGED_FLAGS and
   * not written; all others are, of each chain the first descriptor after its others. Shadow entry
   * of the id: COUNT the chain's descriptors in the ring, IN_BYTES. CHAIN_HEAD: the id.
   * VQ_IN_FLIGHT counts chains, VQ_NUM_FREE descriptors. With VQ_F_IN_ORDER ids follow one another
   * (the id after VQ_NUM - 1 is 0): VQ_FREE_HEAD goes up by one, SHADOW_NEXT is not looked at.
   *
   * @returns as for a split ring: fewer when descriptors run out, -VRING_E_CHAIN for a mistake.
   * virtio 1.3, 2.8.21 Supplying Buffers to The Device. Linux: virtqueue_add_packed().
   */
  addBufs(count: number): number;

  /**
   * When something is staged, stores VQ_STAGED_FLAGS into the descriptor at VQ_AVAIL_PUBLISHED,
   * after all else; VQ_KICKED goes up by the descriptors from there to VQ_AVAIL_NEXT, to 65535 at
   * most; VQ_AVAIL_PUBLISHED = VQ_AVAIL_NEXT.
   */
  publish(): void;

  /**
   * False while VQ_KICKED is 0; else it becomes 0, and the device's event structure decides.
   * DISABLE: false. DESC, with VQ_F_EVENT_IDX: whether the last VQ_KICKED descriptors went past its
   * position: as `needEvent`, with the index of VQ_AVAIL_PUBLISHED as the new one, VQ_KICKED less
   * as the old one, and VQ_NUM taken off the event's index when its wrap counter is not that of
   * VQ_AVAIL_PUBLISHED; all modulo 2^16. All else: true. Linux: virtqueue_kick_prepare_packed().
   */
  kickNeeded(): boolean;

  /**
   * Takes used descriptors from VQ_LAST_USED on, while chains are in flight and it is used: `id`
   * and `len` are read after `flags`. Refusal VRING_E_USED_ID: id not below VQ_NUM, or its COUNT 0.
   * Without WRITE in its flags the length is 0, whatever `len` says. VQ_LAST_USED moves by COUNT,
   * which goes back to VQ_NUM_FREE; the id goes to the front of the free list.
   *
   * With VQ_F_IN_ORDER a used descriptor ends a batch: the chains in flight from VQ_OLDEST up to
   * its id, in that order; an id not in flight is refused. All but the last have their IN_BYTES as
   * used bytes, the last what the descriptor says (cut and counted when it is read). Each chain
   * moves VQ_LAST_USED by its COUNT and VQ_OLDEST by one id. VQ_BATCH_LEFT and VQ_BATCH_BYTES as
   * for a split ring: while VQ_BATCH_LEFT is not 0 no descriptor is read.
   *
   * @returns how many, or the refusal, as for a split ring; VQ_ERROR is cleared by a call that
   * meets no refusal, `max` 0 too. virtio 1.3, 2.8.22 Receiving Used Buffers From The Device.
   * Linux: virtqueue_get_buf_ctx_packed().
   */
  getBufs(max: number): number;

  /**
   * Writes the driver's event structure: with VQ_F_EVENT_IDX position VQ_LAST_USED and DESC, else 0
   * and ENABLE.
   * @returns whether a chain is in flight and the descriptor at VQ_LAST_USED is used, or
   * VQ_BATCH_LEFT is not 0.
   */
  enableCall(): boolean;

  /** Writes 0 and DISABLE, with VQ_F_EVENT_IDX too. */
  disableCall(): void;
}

/** The device's half of a packed virtqueue. One thread at a time, the worker's. */
export interface PackedDeviceRing extends DeviceRing {
  /**
   * `position`: that of the next available descriptor in the lower half, of the next used one in
   * the upper half, as vhost-user's SET_VRING_BASE has them. VQ_LAST_AVAIL = VQ_AVAIL_SEEN = the
   * lower; VQ_USED_NEXT = VQ_USED_PUBLISHED = the upper; VQ_SIGNALLED, VQ_SIGNALLED_VALID,
   * VQ_STAGED_FLAGS and VQ_ERROR 0; VQ_IN_FLIGHT = the descriptors between used and available;
   * kicks wanted (0 and ENABLE are written).
   * @returns 0; or, with nothing but the count changed, -VRING_E_POSITION: an index not below
   * VQ_NUM, or more than VQ_NUM descriptors from used to available.
   */
  start(position: number): number;

  /**
   * At most `max` lists are looked at. For each:
   *
   * 1. VQ_IN_FLIGHT = VQ_NUM: the burst ends (what is there is not the driver's); VQ_ERROR cleared.
   * 2. The descriptor at VQ_LAST_AVAIL is not available: the burst ends, VQ_AVAIL_SEEN =
   *    VQ_LAST_AVAIL, VQ_ERROR cleared.
   * 3. The list is followed through the ring in its order, by NEXT. Already VQ_NUM - VQ_IN_FLIGHT
   *    descriptors followed: refusal VRING_E_LOOP. One after the first that is not available (with
   *    the wrap counter of its own position): refusal VRING_E_UNAVAILABLE. The id is that of the
   *    last. What is wrong with a buffer is remembered, the first of it, and the list followed to
   *    its end.
   * 4. Good: its record is written, CHAIN_HEAD = id + count × 2^16. VQ_LAST_AVAIL moves by count,
   *    VQ_IN_FLIGHT goes up by count, VQ_ERROR is cleared. Malformed: as well, and it is counted
   *    and staged as used with length 0. VRING_E_IOV while earlier chains of the burst use the
   *    iovec table: the burst ends before it, uncounted. VQ_F_IN_ORDER, malformed, and VQ_IN_FLIGHT
   *    not 0: the burst ends before it, uncounted, for the ones before it come back first.
   * 5. As for a split ring, VQ_WALK_MAX ends the burst. When VQ_AVAIL_SEEN was less than count
   *    descriptors after the old VQ_LAST_AVAIL, it is set to the new one.
   *
   * INDIRECT, each with its own code and in this order: not negotiated; NEXT set, or not the first
   * of its list: VRING_E_INDIRECT_NEXT; length; address. Its entries are taken one after another,
   * all of them: `flags` but for WRITE are ignored, `id` too. More entries than VQ_IOV_CAPACITY
   * followed: VRING_E_IOV; one across two regions: VRING_E_INDIRECT_ADDRESS. Buffers as for a split
   * ring. virtio 1.3, 2.8.6 and 2.8.7.
   */
  getDescs(max: number): number;

  /**
   * `head`: as CHAIN_HEAD. Writes `id` and `len` = `usedBytes` of the descriptor at VQ_USED_NEXT,
   * and its flags: AVAIL and USED as the wrap counter, WRITE when `usedBytes` is not 0. While
   * VQ_USED_NEXT = VQ_USED_PUBLISHED, nothing is staged: the flags go to VQ_STAGED_FLAGS instead.
   * VQ_USED_NEXT moves by count, VQ_IN_FLIGHT goes down by it.
   * @returns 0, or -VRING_E_COMPLETION, counted: count 0 or above VQ_IN_FLIGHT.
   */
  addUsed(head: number, usedBytes: number): number;

  /**
   * With VQ_F_IN_ORDER, of records that follow one another and have CHAIN_USED_BYTES =
   * CHAIN_IN_BYTES only the last is written (and any record ends such a run, as its last): at the
   * place of the first, with the counts of all.
   */
  addUsedN(count: number): number;

  /** As the driver's: VQ_STAGED_FLAGS go to the descriptor at VQ_USED_PUBLISHED; VQ_SIGNALLED. */
  publish(): void;

  /**
   * As `kickNeeded`, by VQ_SIGNALLED, VQ_USED_PUBLISHED and the driver's event structure; DESC with
   * VQ_F_EVENT_IDX while VQ_SIGNALLED_VALID was 0: true. A decision sets that to 1.
   */
  callNeeded(): boolean;

  /**
   * Writes the device's event structure: with VQ_F_EVENT_IDX DESC at VQ_AVAIL_SEEN after
   * `availLen`, else 0 and ENABLE. @returns whether `availLen` then is not 0.
   */
  enableKick(): boolean;

  /** Writes 0 and DISABLE, with VQ_F_EVENT_IDX too; nothing while VQ_NOTIFY_DISABLED = 1. */
  disableKick(): void;

  /**
   * Descriptors from VQ_LAST_AVAIL to VQ_AVAIL_SEEN, after that has moved past all that are
   * available, so far as VQ_NUM - VQ_IN_FLIGHT allow.
   */
  availLen(): number;

  /** More than a u16, or an index not below VQ_NUM: -VRING_E_KICK, counted. */
  kicked(position: number): number;
}
