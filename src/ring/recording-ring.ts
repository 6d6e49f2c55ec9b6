/**
 * What a device's half records besides, in exact terms: the dirty log (VQ_F_LOG, VQ_F_LOG_USED) and
 * the chains in flight (VQ_F_INFLIGHT, never with VQ_F_LINUX). What is not said is as in `ring.ts`
 * and `packed-ring.ts`; without these flags nothing here happens. Both records lie in memory that
 * the front-end shares: it is written, and never read while the ring runs.
 *
 * **Marking** `bytes` bytes (0: nothing) from a guest address: for each page that they touch, from
 * the first to the last, its bit in the log is set by an atomic OR of its byte (always, also when
 * it is set: the OR is what orders the write before it against who clears the bit). A page beyond
 * VQ_LOG_BYTES: VRING_E_LOG is counted, and that marking ends.
 *
 * **In flight** by the vhost-user document, section "Inflight I/O tracking"; `spec/inflight.ts` has
 * its words, here with their C names. u8 and u16 words of the area are stored atomically, in the
 * order in which they are named here; the others plainly. Before the ring starts, the host has
 * written the region, our own table, and what is to be resubmitted (`inflight.ts`).
 *
 * "To be resubmitted" are VQ_RESUBMIT_COUNT - VQ_RESUBMIT_NEXT: chains (heads) of a split ring,
 * descriptors of a packed one.
 */

import type { DeviceRing } from "./ring.js";

/** The device's half of a virtqueue that is recorded. One thread at a time, the worker's. */
export interface RecordingDeviceRing extends DeviceRing {
  /**
   * VQ_F_LOG_USED: after all else the first 4 bytes of the device area are marked (at VQ_LOG_USED).
   *
   * VQ_F_INFLIGHT: VQ_RESUBMIT_NEXT = 0. Split: VQ_IN_FLIGHT = VQ_RESUBMIT_COUNT.
   */
  start(position: number): number;

  /**
   * VQ_F_INFLIGHT. While there is something to be resubmitted, a burst's next entry is that:
   *
   * - Split: the head at VQ_RESUBMIT + 2 × VQ_RESUBMIT_NEXT; steps 1 to 3 are left out.
   * - Packed: the list that begins at descriptor VQ_RESUBMIT_NEXT of the table at VQ_RESUBMIT, as
   *   in a ring of VQ_RESUBMIT_COUNT with wrap counter 1; steps 1 and 2 are left out.
   *
   * Step 4 is as for others, but VQ_RESUBMIT_NEXT goes up (by one, or by the list's count) instead
   * of VQ_LAST_AVAIL, VQ_AVAIL_SEEN and VQ_IN_FLIGHT, and nothing is recorded. For VQ_F_IN_ORDER
   * what is to be resubmitted still, this entry included, does not count as in flight.
   *
   * All other entries, good and malformed (before these are staged), are recorded in step 4:
   *
   * - Split: desc[head].counter = VQ_INFLIGHT_COUNTER, which goes up by one; desc[head].inflight
   *   = 1.
   * - Packed: of the entry e = VQ_INFLIGHT_HEAD num = 0, counter = VQ_INFLIGHT_COUNTER, which goes
   *   up by one, inflight = 1. Then, from e on by NEXT of our table, each descriptor of the list is
   *   copied to an entry: addr, len, flags, id (read once more, for nothing but this). Then LAST
   *   and COUNT of e in our table, desc[e].last and desc[e].num; OLDER of e = the word of the
   *   list's id in our table, which becomes e + 1. VQ_INFLIGHT_HEAD = VQ_INFLIGHT_OLD = NEXT of the
   *   last; free_head, old_free_head.
   *
   * Packed: when something is staged where a list would be recorded, `publish` comes first.
   */
  getDescs(max: number): number;

  /**
   * VQ_F_INFLIGHT, when the chain is staged:
   *
   * - Split: desc[head].next = VQ_INFLIGHT_HEAD, and so is the head's word of our table;
   *   VQ_INFLIGHT_HEAD = last_batch_head = head.
   * - Packed: e is the entry of the id. None, or COUNT of e is not the count: refused as well,
   *   -VRING_E_COMPLETION. Else NEXT of LAST of e = VQ_INFLIGHT_HEAD in our table and in desc[];
   *   VQ_INFLIGHT_HEAD = free_head = e; the id's word = OLDER of e.
   */
  addUsed(head: number, usedBytes: number): number;

  /**
   * VQ_F_LOG: first of all, of each of the records, in order, the writable pieces are marked, each
   * by each region, in order, in which it begins: as far as it lies in it, at its guest address.
   * (All of them, for a device may have written more than it says.)
   *
   * VQ_F_INFLIGHT: as `addUsed` for each record. With VQ_F_IN_ORDER: split, all records of a run,
   * in order, when it is staged; packed, each record when it is judged.
   */
  addUsedN(count: number): number;

  /**
   * Only when something is staged. VQ_F_INFLIGHT, packed, before all else: used_idx and
   * used_wrap_counter = the position that is published. After the store that publishes:
   *
   * - VQ_F_INFLIGHT, split: of as many heads as are published, from VQ_INFLIGHT_HEAD on by our
   *   table, inflight = 0; used_idx. Packed: of the entries from VQ_INFLIGHT_HEAD up to
   *   VQ_INFLIGHT_OLD, each followed by NEXT of its LAST, at most VQ_NUM, inflight = 0;
   *   VQ_INFLIGHT_OLD = VQ_INFLIGHT_HEAD; old_free_head, old_used_idx, old_used_wrap_counter.
   * - VQ_F_LOG_USED, then: split: the elements from the old used.idx to the new one (VQ_NUM at
   *   most; those up to the ring's end, then those from its beginning), then the area's first 4
   *   bytes, at VQ_LOG_USED. Packed: likewise the descriptors, at VQ_LOG_DESC, and nothing more.
   */
  publish(): void;

  /**
   * VQ_F_LOG_USED: what it writes is marked after it: avail_event (2 bytes); without VQ_F_EVENT_IDX
   * the first 4 bytes of the device area; packed: those, always.
   * VQ_F_INFLIGHT: true, too, while there is something to be resubmitted.
   */
  enableKick(): boolean;

  /** VQ_F_LOG_USED: when it writes, the first 4 bytes of the device area are marked after it. */
  disableKick(): void;

  /** VQ_F_INFLIGHT: what is to be resubmitted is added. */
  availLen(): number;
}
