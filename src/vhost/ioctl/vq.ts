import type { EventFd } from "../../kernel/eventfd.js";
import { VhostError } from "../../spec/errno.js";
import { hasFeature } from "../../spec/features.js";
import { VHOST_F_LOG_ALL } from "../../spec/vhost.js";
import type { Chain } from "../chain.js";
import { VringSettings } from "../vring-settings.js";
import { type VqAreas, type VqLog, vqAccessOk, vqLogAccessOk } from "./access.js";
import type { DeviceIotlb } from "./device-iotlb.js";
import { type IotlbAccess, IotlbRing, type RunningRing, startIotlbRing } from "./iotlb-ring.js";
import { BROKEN, EMPTY, type LiveMemory, LiveRing } from "./live-ring.js";
import type { UserRegion } from "./memory-table.js";
import { type VhostWork, type VhostWorkerState, vhostWork } from "./workers.js";

/** What all rings of a device have in common. */
export interface VqShared {
  readonly features: bigint;
  readonly backendFeatures: bigint;
  /** Translations of the rings' addresses, if it has any. */
  readonly iotlb: DeviceIotlb;
  readonly regions: readonly UserRegion[] | undefined;
  /** The owner's memory, for rings; made when it is needed. Only while there is an owner. */
  readonly live: LiveMemory;
}

/** Which of a ring's eventfds. */
export type VqEvent = "kick" | "call" | "err";

/** The size that a ring has until it is set. */
const NUM_AT_FIRST = 1;
const NO_AREAS: VqAreas = { desc: 0n, avail: 0n, used: 0n };
const NO_LOG: VqLog = { base: 0n, used: undefined };

/** A ring as its owner has set it up, and as a device works on it. Linux: vhost_virtqueue. */
export class Vq extends VringSettings {
  areas = NO_AREAS;
  log = NO_LOG;
  /** Microseconds. */
  busyloopTimeout = 0;
  worker: VhostWorkerState | null = null;
  /** What the device works for, of its own kind: it is active while there is any. */
  backend: unknown = null;
  /** What is to be done when it was kicked. */
  readonly poll: VhostWork;
  readonly #shared: VqShared;
  readonly #events: Record<VqEvent, EventFd | null> = { kick: null, call: null, err: null };
  /** Has the ring's worker look at it. */
  readonly kicked: () => void;
  #isNotifyDisabled = false;
  #live: RunningRing | undefined;

  /** `handleKick` is the device's; `queue` has the ring's worker do it. */
  constructor(shared: VqShared, handleKick: () => void, queue: (vq: Vq) => void) {
    super(NUM_AT_FIRST);
    this.#shared = shared;
    this.poll = vhostWork(handleKick);
    this.kicked = () => queue(this);
  }

  /** Linux: private_data. */
  get isActive(): boolean {
    return this.#live !== undefined;
  }

  /** EBUSY: it is active. */
  mustBeIdle(): void {
    if (this.isActive) throw new VhostError("EBUSY", "the ring has a back-end: stop it first");
  }

  /** The next entry to pop. Linux: last_avail_idx. */
  get lastAvail(): number {
    return this.#live?.position ?? this.base(this.#shared.features);
  }

  /** One of its eventfds. */
  event(which: VqEvent): EventFd | null {
    return this.#events[which];
  }

  /** Refers to `file` from now on, in place of what there was. Returns whether it is another. */
  setEvent(which: VqEvent, file: EventFd | null): boolean {
    const old = this.#events[which];
    if (old === file) return false;
    if (file) file.count++;
    this.#events[which] = file;
    if (which === "kick") {
      old?.offWrite(this.kicked);
      file?.onWrite(this.kicked);
    }
    old?.put();
    if (which === "kick" && file !== null && file.value > 0n) this.kicked();
    return true;
  }

  /** Whether it may start. Linux: vhost_vq_access_ok(). */
  get isAccessible(): boolean {
    return this.isLogAccessible(this.log) && this.areAccessible(this.areas);
  }

  /** Its addresses are the device's own: where they lie is asked when it is worked on. */
  get isTranslated(): boolean {
    return this.#shared.iotlb.table !== undefined;
  }

  /** Whether the areas can be the program's. */
  areAccessible(areas: VqAreas): boolean {
    return this.isTranslated || vqAccessOk(areas, this.num);
  }

  /** Whether the memory and its log can. Linux: vq_log_access_ok(). */
  isLogAccessible(log: VqLog, isLogged = this.isLogged): boolean {
    const used = this.isTranslated ? undefined : log.used;
    return vqLogAccessOk(this.#shared.regions, { ...log, used }, isLogged, this.num);
  }

  /** VHOST_F_LOG_ALL was accepted. */
  get isLogged(): boolean {
    return hasFeature(this.#shared.features, VHOST_F_LOG_ALL);
  }

  /**
   * Becomes active. EFAULT: its used ring can't be written; ENOMEM: there is no room for its state.
   * Nothing is changed then, but that somebody may be asked where the used ring is. Linux:
   * vhost_vq_init_access().
   */
  start(backend: unknown): void {
    const iotlb = this.#iotlb;
    this.#live = iotlb ? this.#startTranslated(iotlb) : this.#startInPlace();
    this.backend = backend;
  }

  #startInPlace(): LiveRing {
    const { user } = this.#shared.live;
    if (!user.isWritable(this.areas.used, 4n)) throw new VhostError("EFAULT", "no used ring there");
    return new LiveRing(this.#shared.live, this.#setup, this.lastAvail, this.#isNotifyDisabled);
  }

  #startTranslated(iotlb: IotlbAccess): IotlbRing {
    return startIotlbRing(this.#shared.live, this.#setup, iotlb, {
      position: this.lastAvail,
      isNotifyDisabled: this.#isNotifyDisabled,
      err: () => this.vqErr(),
    });
  }

  /** The device's translations, as this ring asks for them. */
  get #iotlb(): IotlbAccess | undefined {
    const { iotlb } = this.#shared;
    const miss = (iova: bigint, perm: number) =>
      iotlb.miss(iova, perm, this.#shared.backendFeatures, this.kicked);
    return iotlb.table && { table: iotlb.table, miss };
  }

  get #setup() {
    const { num, areas, log } = this;
    const { features, regions = [] } = this.#shared;
    return { num, areas, log, features, regions };
  }

  /** Goes by what is set now, if it is active. */
  update(): void {
    const live = this.#live;
    const iotlb = this.#iotlb;
    if (live instanceof IotlbRing) live.update(this.#setup, iotlb);
    else if (live instanceof LiveRing && iotlb) {
      this.#live = new IotlbRing(this.#shared.live, this.#setup, iotlb, live.handOver());
    } else live?.update(this.#setup);
  }

  /** Whether it can be worked on now: where its areas are is known. Linux: vq_meta_prefetch(). */
  prefetch(): boolean {
    return !(this.#live instanceof IotlbRing) || this.#live.prefetch();
  }

  /** Is not active any more, and remembers where it goes on. */
  stop(): void {
    const live = this.#live;
    this.backend = null;
    if (!live) return;
    this.setBase(live.position, this.#shared.features);
    this.#isNotifyDisabled = live.isNotifyDisabled;
    this.#live = undefined;
    live.release();
  }

  /** As it was at first. Linux: vhost_vq_reset(). */
  reset(): void {
    this.stop();
    for (const which of ["kick", "call", "err"] as const) this.setEvent(which, null);
    this.forget(NUM_AT_FIRST);
    Object.assign(this, { areas: NO_AREAS, log: NO_LOG, busyloopTimeout: 0 });
    this.#isNotifyDisabled = false;
  }

  /** Tells of an error. Linux: vq_err(). */
  vqErr(): void {
    this.#events.err?.signal();
  }

  /** Asks the driver not to kick. */
  disableNotify(): void {
    if (this.#live?.disableKick() === false) this.vqErr();
  }

  /** Asks for kicks; true: something has come meanwhile. Errors of the ring are told. */
  enableNotify(): boolean {
    return this.#telling((live) => live.enableKick()) ?? false;
  }

  /**
   * The next chain's head; below 0 when there is none, kicks being asked for then, or when it can't
   * be followed, which is told of, or not yet, for which somebody was asked: kicks stay off. Linux:
   * what every handle_kick does.
   */
  nextDesc(): number {
    for (;;) {
      const head = this.#getVqDesc();
      if (head !== EMPTY || !this.enableNotify()) return head;
      this.disableNotify(); // something has come meanwhile
    }
  }

  /** The next chain's head, or EMPTY, BROKEN, which is told of. Linux: vhost_get_vq_desc(). */
  #getVqDesc(): number {
    return this.#telling((live) => live.getDesc()) ?? BROKEN;
  }

  /** Every error that the ring counts meanwhile is told of. */
  #telling<T>(look: (live: RunningRing) => T | undefined): T | undefined {
    const live = this.#live;
    if (!live) return undefined;
    const before = live.errorTotal;
    const seen = look(live);
    if (seen === undefined) this.vqErr();
    for (let left = live.errorTotal - before; left > 0; left--) this.vqErr();
    return seen;
  }

  /** Has `nextDesc` give again what it gave last. Linux: vhost_discard_vq_desc(). */
  discardDesc(): void {
    this.#live?.discard();
  }

  /** The chain that `nextDesc` gave last. */
  get chain(): Chain | undefined {
    return this.#live?.chain;
  }

  /** The chain that was popped last goes back, `bytes` written. Linux: vhost_add_used(). */
  addUsed(bytes: number): void {
    if (this.#live?.addUsed(bytes) === false) this.vqErr();
  }

  /** Calls the driver if it asked. Linux: vhost_signal(). */
  signal(): void {
    if (this.#live?.callNeeded()) this.#events.call?.signal();
  }
}
