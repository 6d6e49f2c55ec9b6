import type { DeviceRing } from "../../ring/ring.js";
import { RingTables } from "../../ring/tables.js";
import { hasFeature } from "../../spec/features.js";
import {
  VQ_AVAIL_SEEN,
  VQ_CHAIN_CAPACITY,
  VQ_ERROR,
  VQ_IN_FLIGHT,
  VQ_IOV_CAPACITY,
  VQ_LAST_AVAIL,
  VQ_NOTIFY_DISABLED,
  VQ_SIGNALLED,
  VQ_SIGNALLED_VALID,
  VQ_USED_NEXT,
  VQ_USED_PUBLISHED,
  VQ_WALK_MAX,
  VRING_E_AVAIL_INDEX,
  VRING_E_COMPLETION,
  VRING_E_HEAD,
  VRING_E_INDIRECT,
  VRING_E_KICK,
  VRING_E_MAPPING,
} from "../../spec/ring-state.js";
import { VIRTIO_F_EVENT_IDX, VIRTIO_F_NOTIFY_ON_EMPTY } from "../../spec/virtio-config.js";
import {
  VIRTQ_AVAIL_ELEM_BYTES,
  VIRTQ_AVAIL_F_NO_INTERRUPT,
  VIRTQ_RING_ELEMENTS,
  VIRTQ_RING_FLAGS,
  VIRTQ_RING_IDX,
  VIRTQ_USED_ELEM_BYTES,
  VIRTQ_USED_F_NO_NOTIFY,
} from "../../spec/virtio-ring.js";
import { Chain } from "../chain.js";
import { type MappingChange, UserMemory } from "../user-access.js";
import { IotlbView } from "./iotlb.js";
import { IotlbAreas } from "./iotlb-areas.js";
import { IotlbLog, type Written } from "./iotlb-log.js";
import { IotlbSpace, type Stop } from "./iotlb-space.js";
import { type WalkedChain, walkChain } from "./iotlb-walk.js";
import type { LiveSetup } from "./user-live-ring.js";

/** What a ring that translates goes by; structured-cloneable. It is made anew when this changes. */
export interface IotlbSetup {
  readonly ring: LiveSetup;
  /** The device's table: see `IotlbView`. */
  readonly table: SharedArrayBuffer;
  /** What of the owner's memory is not mapped any more. */
  readonly changes: readonly MappingChange[];
}

/** Asks where `iova` is, for VHOST_ACCESS_…; `seen`: see `IotlbView`. */
export type IotlbAsk = (iova: bigint, perm: number, seen: number) => void;

/** A chain that was followed, and its head. */
type Found = WalkedChain & { readonly head: number };

/**
 * A ring that runs where addresses are to be translated, its own areas' among them: the policy
 * "linux" and `UserRing` in one, but every look at memory goes by the table of the moment, piece by
 * piece. All state is in the state block. Worker's thread.
 *
 * What is not known is asked for. The ring is as it was then, and *stalls*: kicks are not asked
 * for, and there is nothing in it, until the next `disableKick`, with which a turn begins: the
 * answer's kick brings that about.
 *
 * Where a chain and the ring's areas are is gone by from when it is popped until the next look for
 * chains or kicks: what the device is told meanwhile counts after that. So every chain that was
 * popped is given back, and who waits for the end of the worker's turn knows that nothing of before
 * is in use.
 */
export class IotlbRing implements DeviceRing {
  readonly vq: number;
  readonly #num: number;
  readonly #tables: RingTables;
  readonly #chain: Chain;
  readonly #space: IotlbSpace;
  readonly #areas: IotlbAreas;
  readonly #log: IotlbLog;
  readonly #ask: IotlbAsk;
  readonly #hasEventIdx: boolean;
  readonly #notifiesOnEmpty: boolean;
  #isStalled = false;
  /** Something was used since the last question whether to call. */
  #hasUsed = false;

  /** Over the state block at `vq`, of policy linux. Looks at no memory yet. */
  constructor(memory: WebAssembly.Memory, vq: number, setup: IotlbSetup, ask: IotlbAsk) {
    const { ring, table, changes } = setup;
    const user = new UserMemory(memory, changes);
    this.vq = vq;
    this.#num = ring.num;
    this.#tables = new RingTables(memory, vq);
    this.#chain = new Chain(memory, this.#tables);
    this.#space = new IotlbSpace(memory, user, new IotlbView(table));
    this.#areas = new IotlbAreas(memory, this.#space, ring);
    this.#log = new IotlbLog(memory, user, ring);
    this.#ask = ask;
    this.#hasEventIdx = hasFeature(ring.features, VIRTIO_F_EVENT_IDX);
    this.#notifiesOnEmpty = hasFeature(ring.features, VIRTIO_F_NOTIFY_ON_EMPTY);
  }

  #set(offset: number, value: number): void {
    this.#tables.setWord(offset, value);
  }

  #word(offset: number): number {
    return this.#tables.word(offset);
  }

  #count(code: number): number {
    this.#tables.countError(code);
    return -code;
  }

  /** An entry fails: it stays, and is counted at each try. */
  #fail(code: number): number {
    this.#set(VQ_ERROR, code);
    return this.#count(code);
  }

  readonly #missed = (stop: Stop): void => {
    if (stop.miss !== undefined) this.#ask(stop.miss, stop.perm, this.#space.table.seen);
  };

  #stall(stop: Stop): void {
    this.#missed(stop);
    this.#isStalled = true;
  }

  /**
   * Whether the ring can be worked on: where its areas are is known. Else it stalls; where an area
   * is known for less than the ring needs, that is told nobody, as in Linux.
   */
  #prefetch(): boolean {
    if (this.#isStalled) return false;
    const stop = this.#areas.prefetch();
    if (stop) this.#stall(stop);
    return stop === undefined;
  }

  #logUsed(offset: number, bytes: number): void {
    if (this.#log.hasUsed) this.#log.mark(this.#areas.usedPieces(offset, bytes));
  }

  /**
   * As `DeviceRing.start`, of the policy; or -VRING_E_MAPPING, counted as often as Linux tells of
   * it: the head of the used ring is not known, which is asked for, or can't be written.
   */
  start(position: number): number {
    const areas = this.#areas;
    const isWritten = areas.store16("used", VIRTQ_RING_FLAGS, this.#usedFlags, this.#missed);
    const used = isWritten ? areas.load16("used", VIRTQ_RING_IDX, this.#missed) : undefined;
    if (used === undefined) {
      if (isWritten) this.#count(VRING_E_MAPPING); // of the index, Linux tells twice
      return this.#count(VRING_E_MAPPING);
    }
    for (const word of [VQ_LAST_AVAIL, VQ_AVAIL_SEEN]) this.#set(word, position & 0xffff);
    for (const word of [VQ_USED_NEXT, VQ_USED_PUBLISHED, VQ_SIGNALLED]) this.#set(word, used);
    for (const word of [VQ_SIGNALLED_VALID, VQ_IN_FLIGHT, VQ_ERROR]) this.#set(word, 0);
    this.#logUsed(VIRTQ_RING_FLAGS, 2);
    return 0;
  }

  get #isKickDisabled(): boolean {
    return this.#word(VQ_NOTIFY_DISABLED) !== 0;
  }

  get #usedFlags(): number {
    return this.#isKickDisabled ? VIRTQ_USED_F_NO_NOTIFY : 0;
  }

  /** A turn begins: the ring does not stall any more. */
  disableKick(): void {
    this.#isStalled = false;
    if (!this.#prefetch() || this.#isKickDisabled) return;
    this.#set(VQ_NOTIFY_DISABLED, 1);
    if (!this.#hasEventIdx && !this.#writeUsedFlags()) this.#count(VRING_E_MAPPING);
  }

  #writeUsedFlags(): boolean {
    const isWritten = this.#areas.store16("used", VIRTQ_RING_FLAGS, this.#usedFlags);
    if (isWritten) this.#logUsed(VIRTQ_RING_FLAGS, 2);
    return isWritten;
  }

  #writeAvailEvent(): boolean {
    const offset = VIRTQ_RING_ELEMENTS + this.#num * VIRTQ_USED_ELEM_BYTES;
    const isWritten = this.#areas.store16("used", offset, this.#word(VQ_AVAIL_SEEN));
    if (isWritten) this.#logUsed(offset, 2);
    return isWritten;
  }

  /** Asks, then looks: both are sequentially consistent, so that one of the two sides sees it. */
  enableKick(): boolean {
    if (!this.#isKickDisabled || !this.#prefetch()) return false;
    this.#set(VQ_NOTIFY_DISABLED, 0);
    const isTold = this.#hasEventIdx ? this.#writeAvailEvent() : this.#writeUsedFlags();
    if (isTold) return this.#takeIndex() > 0;
    this.#count(VRING_E_MAPPING);
    return false;
  }

  #loadIndex(): number | undefined {
    return this.#areas.load16("avail", VIRTQ_RING_IDX);
  }

  /** Entries to pop if the driver's index is this. */
  #pending(index: number): number {
    return (index - this.#word(VQ_LAST_AVAIL)) & 0xffff;
  }

  /** Entries to pop by the driver's index, which is believed first; negative: it is wrong. */
  #takeIndex(): number {
    const index = this.#loadIndex();
    if (index === undefined) return this.#fail(VRING_E_MAPPING);
    this.#set(VQ_AVAIL_SEEN, index);
    const pending = this.#pending(index);
    return pending <= this.#num ? pending : this.#fail(VRING_E_AVAIL_INDEX);
  }

  /** None while it stalls. */
  availLen(): number {
    const index = this.#prefetch() ? this.#loadIndex() : undefined;
    return index === undefined ? 0 : this.#pending(index);
  }

  /** As `DeviceRing.getDescs`, of the policy; 0, too, where it stalls. */
  getDescs(max: number): number {
    if (!this.#prefetch()) return 0;
    const limit = Math.min(max, this.#word(VQ_CHAIN_CAPACITY));
    let count = 0;
    let iov = 0;
    let read = 0;
    while (count < limit && read < VQ_WALK_MAX && this.#hasMore(count)) {
      const chain = this.#nextChain(count);
      const end = chain ? iov + chain.out.length + chain.in.length : 0;
      if (!chain || end > this.#word(VQ_IOV_CAPACITY)) break; // it may fit when the table is empty
      this.#pop(count++, iov, chain);
      iov = end;
      read += chain.readCount;
    }
    const error = this.#word(VQ_ERROR);
    return count > 0 || this.#isStalled || error === 0 ? count : -error;
  }

  /** Whether an entry is there to pop. `count`: chains of the burst so far. */
  #hasMore(count: number): boolean {
    if (this.#word(VQ_AVAIL_SEEN) !== this.#word(VQ_LAST_AVAIL)) return true;
    if (count === 0) {
      const pending = this.#takeIndex();
      if (pending === 0) this.#set(VQ_ERROR, 0);
      return pending > 0;
    }
    // Look, and leave alone what the next call must find for itself.
    const index = this.#loadIndex();
    if (index === undefined || this.#pending(index) > this.#num) return false;
    this.#set(VQ_AVAIL_SEEN, index);
    return this.#pending(index) > 0;
  }

  /** The next chain; none where it can't be followed, which the first of a burst tells. */
  #nextChain(count: number): Found | undefined {
    const slot = this.#word(VQ_LAST_AVAIL) & (this.#num - 1);
    const offset = VIRTQ_RING_ELEMENTS + slot * VIRTQ_AVAIL_ELEM_BYTES;
    const head = this.#areas.load16("avail", offset);
    const walked = head === undefined ? { code: VRING_E_MAPPING } : this.#walk(head);
    if ("out" in walked) return Object.assign(walked, { head: head as number });
    if (count > 0) return undefined;
    if (walked.miss !== undefined) {
      this.#stall(walked);
      return undefined;
    }
    this.#fail(walked.code);
    if (walked.isInTable) this.#count(VRING_E_INDIRECT);
    return undefined;
  }

  readonly #readDesc = (index: number, into: DataView<ArrayBuffer>): boolean =>
    this.#areas.readDesc(index, into);

  #walk(head: number): WalkedChain | Stop {
    if (head >= this.#num) return { code: VRING_E_HEAD };
    return walkChain(this.#space, this.#num, head, this.#readDesc);
  }

  #pop(record: number, iov: number, { head, out, outBytes, inBytes, in: writable }: Found): void {
    const tables = this.#tables;
    let at = iov;
    for (const { uaddr, bytes } of out) tables.setIov(at++, Number(uaddr), bytes);
    for (const { uaddr, bytes } of writable) tables.setIov(at++, Number(uaddr), bytes);
    const counts = { outCount: out.length, inCount: writable.length };
    tables.setUsed(record, iov, { head, inBytes, ...counts });
    tables.setOutBytes(record, outBytes);
    tables.setUsedBytes(record, 0);
    this.#set(VQ_LAST_AVAIL, (this.#word(VQ_LAST_AVAIL) + 1) & 0xffff);
    this.#set(VQ_IN_FLIGHT, tables.inFlight + 1);
    this.#set(VQ_ERROR, 0);
  }

  /** As `DeviceRing.addUsed`; or -VRING_E_MAPPING, counted: the used ring can't be written. */
  addUsed(head: number, usedBytes: number): number {
    const tables = this.#tables;
    this.#hasUsed = true;
    if (tables.inFlight === 0 || head < 0 || head >= this.#num) {
      return this.#count(VRING_E_COMPLETION);
    }
    const next = this.#word(VQ_USED_NEXT);
    if (!this.#areas.writeUsed(next & (this.#num - 1), head, usedBytes)) {
      return this.#count(VRING_E_MAPPING);
    }
    this.#set(VQ_IN_FLIGHT, tables.inFlight - 1);
    this.#set(VQ_USED_NEXT, (next + 1) & 0xffff);
    return 0;
  }

  addUsedN(count: number): number {
    const tables = this.#tables;
    for (let i = 0; i < count; i++) {
      if (this.#log.isOn) this.#log.mark(this.#written(i));
      const answer = this.addUsed(tables.head(i), tables.usedBytes(i));
      if (answer === -VRING_E_COMPLETION) return answer;
    }
    return 0;
  }

  /** Where the device has written, of a record. */
  #written(record: number): Written[] {
    const pieces: Written[] = [];
    const { writable } = this.#chain.show(record);
    writable.forEach(0, this.#tables.usedBytes(record), (address, bytes) => {
      pieces.push({ uaddr: BigInt(address), bytes });
    });
    return pieces;
  }

  publish(): void {
    const next = this.#word(VQ_USED_NEXT);
    const before = this.#word(VQ_USED_PUBLISHED);
    if (next === before) return;
    // Publish U1: the elements above must be visible first. Pairs with U1 in TsSplitDriver.getBufs.
    const isWritten = this.#areas.store16("used", VIRTQ_RING_IDX, next);
    this.#set(VQ_USED_PUBLISHED, next);
    const count = (next - before) & 0xffff;
    if (((next - this.#word(VQ_SIGNALLED)) & 0xffff) < count) {
      this.#set(VQ_SIGNALLED_VALID, 0); // once around: what was last decided is no measure any more
      this.#set(VQ_SIGNALLED, before);
    }
    if (isWritten) this.#logElements(before, count);
    else this.#count(VRING_E_MAPPING);
  }

  #logElements(before: number, count: number): void {
    if (!this.#log.hasUsed) return;
    for (let i = 0; i < Math.min(count, this.#num); i++) {
      const slot = (before + i) & (this.#num - 1);
      this.#logUsed(VIRTQ_RING_ELEMENTS + slot * VIRTQ_USED_ELEM_BYTES, VIRTQ_USED_ELEM_BYTES);
    }
    this.#logUsed(VIRTQ_RING_IDX, 2);
  }

  /** Also for what could not be put in the used ring; and where that is not known any more. */
  callNeeded(): boolean {
    const hasUsed = this.#hasUsed;
    this.#hasUsed = false;
    if (!hasUsed) return false;
    const isEmpty = this.#word(VQ_AVAIL_SEEN) === this.#word(VQ_LAST_AVAIL);
    if (isEmpty && this.#notifiesOnEmpty) return true;
    const published = this.#word(VQ_USED_PUBLISHED);
    const since = (published - this.#word(VQ_SIGNALLED)) & 0xffff;
    const isKnown = this.#word(VQ_SIGNALLED_VALID) !== 0;
    this.#set(VQ_SIGNALLED, published);
    this.#set(VQ_SIGNALLED_VALID, 1);
    if (!this.#hasEventIdx) {
      const flags = this.#areas.load16("avail", VIRTQ_RING_FLAGS) ?? 0;
      return (flags & VIRTQ_AVAIL_F_NO_INTERRUPT) === 0;
    }
    if (since === 0 || !isKnown) return since !== 0;
    const offset = VIRTQ_RING_ELEMENTS + this.#num * VIRTQ_AVAIL_ELEM_BYTES;
    const event = this.#areas.load16("avail", offset);
    return event === undefined || ((published - event - 1) & 0xffff) < since;
  }

  /** As `DeviceRing.kicked`. */
  kicked(position: number): number {
    return position <= 0xffff ? 0 : this.#count(VRING_E_KICK);
  }
}
