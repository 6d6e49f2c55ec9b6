import { allocDeviceState, type StateBlock } from "../../ring/state-block.js";
import { RingTables } from "../../ring/tables.js";
import { VhostError } from "../../spec/errno.js";
import { hasFeature } from "../../spec/features.js";
import {
  CHAIN_OUT_BYTES,
  VQ_AVAIL_SEEN,
  VQ_CHAINS,
  VQ_IN_FLIGHT,
  VQ_LAST_AVAIL,
  VQ_NOTIFY_DISABLED,
  VQ_SIGNALLED,
  VQ_SIGNALLED_VALID,
  VQ_USED_NEXT,
  VQ_USED_PUBLISHED,
  VRING_E_AVAIL_INDEX,
  VRING_E_HEAD,
  VRING_E_INDIRECT,
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
import type { Iotlb } from "./iotlb.js";
import { type Area, IotlbAreas } from "./iotlb-areas.js";
import { logRing, logWritten } from "./iotlb-log.js";
import { IotlbSpace, type Piece, type Stop } from "./iotlb-space.js";
import { type WalkedChain, walkChain } from "./iotlb-walk.js";
import { BROKEN, EMPTY, type LiveMemory, type LiveRing, type LiveSetup } from "./live-ring.js";

/** A chain is there that is not wholly known yet: somebody was asked, the ring is as it was. */
export const AGAIN = -3;

/** What a running ring needs of its device's translations. */
export interface IotlbAccess {
  readonly table: Iotlb;
  /** Asks where an address is, that is wanted for VHOST_ACCESS_…. */
  miss(iova: bigint, perm: number): void;
}

/** A ring that runs, of either kind. */
export type RunningRing = Omit<Pick<LiveRing, keyof LiveRing>, "handOver">;

/**
 * A ring that runs where addresses are to be translated, its own areas' among them: as `LiveRing`,
 * by the policy "linux", but every look at memory goes by the table of the moment, piece by piece.
 * What it was told not to translate any more it does not touch again. The state is that of every
 * device's ring, in the owner's memory.
 */
export class IotlbRing implements RunningRing {
  readonly #memory: LiveMemory;
  readonly #num: number;
  readonly #state: StateBlock;
  readonly #tables: RingTables;
  readonly #chain: Chain;
  #access: IotlbAccess;
  #setup: LiveSetup;
  #space: IotlbSpace;
  #areas: IotlbAreas;
  /** Writable pieces of the chain that was popped last. */
  #popped: readonly Piece[] = [];

  /** Goes on with the state of another ring, or is to be started. Looks at no memory yet. */
  constructor(memory: LiveMemory, setup: LiveSetup, access: IotlbAccess, state: StateBlock) {
    this.#memory = memory;
    this.#num = setup.num;
    this.#state = state;
    this.#tables = new RingTables(memory.shared.memory, this.#state.vq);
    this.#chain = new Chain(memory.shared.memory, this.#tables);
    this.#setup = setup;
    this.#access = access;
    this.#space = this.#makeSpace();
    this.#areas = this.#makeAreas();
  }

  #makeSpace(): IotlbSpace {
    const { shared, user } = this.#memory;
    return new IotlbSpace(shared.memory, user, this.#access.table);
  }

  #makeAreas(): IotlbAreas {
    const { areas, features } = this.#setup;
    return new IotlbAreas(this.#memory.shared.memory, this.#space, areas, this.#num, features);
  }

  /**
   * Begins at `position`. EFAULT: the head of the used ring is not known, which is asked for, or
   * can't be written; `err` tells of it. Linux: vhost_vq_init_access().
   */
  start(position: number, isNotifyDisabled: boolean, err: () => void): void {
    this.#set(VQ_NOTIFY_DISABLED, isNotifyDisabled ? 1 : 0);
    const isWritten = this.#store("used", VIRTQ_RING_FLAGS, this.#usedFlags);
    const used = isWritten ? this.#load("used", VIRTQ_RING_IDX) : undefined;
    if (used === undefined) {
      err();
      if (isWritten) err(); // of the index, Linux tells twice
      throw new VhostError("EFAULT", "the used ring's head can't be reached: send an update first");
    }
    for (const word of [VQ_LAST_AVAIL, VQ_AVAIL_SEEN]) this.#set(word, position & 0xffff);
    for (const word of [VQ_USED_NEXT, VQ_USED_PUBLISHED, VQ_SIGNALLED]) this.#set(word, used);
    this.#logUsed(VIRTQ_RING_FLAGS, 2);
  }

  #set(offset: number, value: number): void {
    this.#memory.shared.view.setUint32(this.#state.vq + offset, value, true);
  }

  #word(offset: number): number {
    return this.#tables.word(offset);
  }

  /** As `LiveRing.update`; the translations may be others, too. */
  update(setup: LiveSetup, access = this.#access): void {
    this.#setup = setup;
    this.#access = access;
    this.#space = this.#makeSpace();
    this.#areas = this.#makeAreas();
  }

  get position(): number {
    return this.#word(VQ_LAST_AVAIL);
  }

  get isNotifyDisabled(): boolean {
    return this.#word(VQ_NOTIFY_DISABLED) !== 0;
  }

  get errorTotal(): number {
    return this.#tables.errorTotal;
  }

  get #usedFlags(): number {
    return this.isNotifyDisabled ? VIRTQ_USED_F_NO_NOTIFY : 0;
  }

  get #hasEventIdx(): boolean {
    return hasFeature(this.#setup.features, VIRTIO_F_EVENT_IDX);
  }

  readonly #readDesc = (index: number, into: DataView<ArrayBuffer>): boolean =>
    this.#areas.readDesc(index, into);

  readonly #missed = (stop: Stop): void => {
    if (stop.miss !== undefined) this.#access.miss(stop.miss, stop.perm);
  };

  #load(area: Area, offset: number): number | undefined {
    return this.#areas.load16(area, offset, this.#missed);
  }

  #store(area: Area, offset: number, value: number): boolean {
    return this.#areas.store16(area, offset, value, this.#missed);
  }

  #logUsed(offset: number, bytes: number): void {
    logRing(this.#memory, this.#setup, this.#space, offset, bytes);
  }

  /**
   * Whether the ring's areas are known, so that it can be worked on. False: somebody was asked, or
   * an area is known for less than the ring needs, which is told nobody, as in Linux.
   */
  prefetch(): boolean {
    const stop = this.#areas.prefetch();
    if (stop) this.#missed(stop);
    return stop === undefined;
  }

  disableKick(): boolean {
    if (this.isNotifyDisabled) return true;
    this.#set(VQ_NOTIFY_DISABLED, 1);
    return this.#hasEventIdx || this.#writeUsedFlags();
  }

  #writeUsedFlags(): boolean {
    const isWritten = this.#store("used", VIRTQ_RING_FLAGS, this.#usedFlags);
    if (isWritten) this.#logUsed(VIRTQ_RING_FLAGS, 2);
    return isWritten;
  }

  #writeAvailEvent(): boolean {
    const offset = VIRTQ_RING_ELEMENTS + this.#num * VIRTQ_USED_ELEM_BYTES;
    const isWritten = this.#store("used", offset, this.#word(VQ_AVAIL_SEEN));
    if (isWritten) this.#logUsed(offset, 2);
    return isWritten;
  }

  /** Asks, then looks: both are sequentially consistent, so that one of the two sides sees it. */
  enableKick(): boolean | undefined {
    if (!this.isNotifyDisabled) return false;
    this.#set(VQ_NOTIFY_DISABLED, 0);
    const isTold = this.#hasEventIdx ? this.#writeAvailEvent() : this.#writeUsedFlags();
    const pending = isTold ? this.#takeIndex() : undefined;
    return pending === undefined ? undefined : pending > 0;
  }

  /** Entries to pop by the driver's index, which is believed first; -1: that is too far ahead. */
  #takeIndex(): number | undefined {
    const index = this.#load("avail", VIRTQ_RING_IDX);
    if (index === undefined) return undefined;
    this.#set(VQ_AVAIL_SEEN, index);
    const pending = (index - this.position) & 0xffff;
    if (pending <= this.#num) return pending;
    this.#tables.countError(VRING_E_AVAIL_INDEX);
    return -1;
  }

  /** As `LiveRing.getDesc`; AGAIN, too. */
  getDesc(): number | undefined {
    if (this.#word(VQ_AVAIL_SEEN) === this.position) {
      const pending = this.#takeIndex();
      if (pending === undefined) return undefined;
      if (pending <= 0) return pending === 0 ? EMPTY : BROKEN;
    }
    const slot = this.position & (this.#num - 1);
    const head = this.#load("avail", VIRTQ_RING_ELEMENTS + slot * VIRTQ_AVAIL_ELEM_BYTES);
    if (head === undefined) return undefined;
    if (head >= this.#num) return this.#stopped({ code: VRING_E_HEAD });
    const walked = walkChain(this.#space, this.#num, head, this.#readDesc);
    return "out" in walked ? this.#pop(head, walked) : this.#stopped(walked);
  }

  #stopped(stop: Stop): number {
    this.#missed(stop);
    if (stop.miss !== undefined) return AGAIN;
    this.#tables.countError(stop.code);
    if (stop.isInTable) this.#tables.countError(VRING_E_INDIRECT);
    return BROKEN;
  }

  #pop(head: number, chain: WalkedChain): number {
    const pieces = [...chain.out, ...chain.in];
    for (const [i, { uaddr, bytes }] of pieces.entries()) {
      this.#tables.setIov(i, Number(uaddr), bytes);
    }
    const counts = { outCount: chain.out.length, inCount: chain.in.length, inBytes: chain.inBytes };
    this.#tables.setUsed(0, 0, { head, ...counts });
    const record = this.#word(VQ_CHAINS);
    this.#memory.shared.view.setUint32(record + CHAIN_OUT_BYTES, chain.outBytes, true);
    this.#set(VQ_LAST_AVAIL, (this.position + 1) & 0xffff);
    this.#set(VQ_IN_FLIGHT, this.#tables.inFlight + 1);
    this.#popped = chain.in;
    return head;
  }

  discard(): void {
    this.#set(VQ_LAST_AVAIL, (this.position - 1) & 0xffff);
    this.#set(VQ_IN_FLIGHT, this.#tables.inFlight - 1);
  }

  get chain(): Chain {
    return this.#chain.show(0);
  }

  addUsed(bytes: number): boolean {
    const next = this.#word(VQ_USED_NEXT);
    const slot = next & (this.#num - 1);
    logWritten(this.#memory, this.#setup, this.#popped, bytes);
    if (!this.#areas.writeUsed(slot, this.#tables.head(0), bytes)) return false;
    this.#logUsed(VIRTQ_RING_ELEMENTS + slot * VIRTQ_USED_ELEM_BYTES, VIRTQ_USED_ELEM_BYTES);
    const index = (next + 1) & 0xffff;
    this.#set(VQ_USED_NEXT, index);
    this.#set(VQ_USED_PUBLISHED, index);
    this.#set(VQ_IN_FLIGHT, this.#tables.inFlight - 1);
    if (this.#word(VQ_SIGNALLED) === index) {
      this.#set(VQ_SIGNALLED_VALID, 0); // once around: what was last decided is no measure any more
      this.#set(VQ_SIGNALLED, next);
    }
    if (!this.#store("used", VIRTQ_RING_IDX, index)) return false;
    this.#logUsed(VIRTQ_RING_IDX, 2);
    return true;
  }

  callNeeded(): boolean {
    const isEmpty = this.#word(VQ_AVAIL_SEEN) === this.position;
    if (isEmpty && hasFeature(this.#setup.features, VIRTIO_F_NOTIFY_ON_EMPTY)) return true;
    const now = this.#word(VQ_USED_NEXT);
    const since = (now - this.#word(VQ_SIGNALLED)) & 0xffff;
    const isKnown = this.#word(VQ_SIGNALLED_VALID) !== 0;
    if (since === 0) return false;
    this.#set(VQ_SIGNALLED, now);
    this.#set(VQ_SIGNALLED_VALID, 1);
    if (!this.#hasEventIdx) {
      const flags = this.#load("avail", VIRTQ_RING_FLAGS) ?? 0;
      return (flags & VIRTQ_AVAIL_F_NO_INTERRUPT) === 0;
    }
    if (!isKnown) return true;
    const offset = VIRTQ_RING_ELEMENTS + this.#num * VIRTQ_AVAIL_ELEM_BYTES;
    const event = this.#load("avail", offset);
    return event === undefined || ((now - event - 1) & 0xffff) < since;
  }

  release(): void {
    this.#state.release();
  }
}

/** What `startIotlbRing` begins with, beside what the ring goes by. */
export interface IotlbStart {
  readonly position: number;
  readonly isNotifyDisabled: boolean;
  /** Tells of an error. */
  readonly err: () => void;
}

/** A ring that has begun. As `IotlbRing.start`; ENOMEM: there is no room for its state. */
export function startIotlbRing(
  memory: LiveMemory,
  setup: LiveSetup,
  access: IotlbAccess,
  { position, isNotifyDisabled, err }: IotlbStart,
): IotlbRing {
  const { num, features } = setup;
  const nowhere = { num, desc: 0, driver: 0, device: 0, features };
  const state = allocDeviceState(memory.shared, { ...nowhere, policy: "linux" }, 0, 0);
  const ring = new IotlbRing(memory, setup, access, state);
  try {
    ring.start(position, isNotifyDisabled, err);
  } catch (error) {
    ring.release();
    throw error;
  }
  return ring;
}
