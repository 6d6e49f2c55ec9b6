import type { EventFd } from "../../kernel/eventfd.js";
import { VhostError } from "../../spec/errno.js";
import { hasFeature } from "../../spec/features.js";
import { VHOST_F_LOG_ALL } from "../../spec/vhost.js";
import type { QueueLeft, RingStart, WorkerControl } from "../control.js";
import { passQueue } from "../pass-queue.js";
import { VringSettings } from "../vring-settings.js";
import { type VqAreas, type VqLog, vqAccessOk, vqLogAccessOk } from "./access.js";
import type { DeviceIotlb } from "./device-iotlb.js";
import type { IotlbQuestion } from "./iotlb-questions.js";
import { IotlbRing, type IotlbSetup } from "./iotlb-ring.js";
import type { UserRegion } from "./memory-table.js";
import { type LiveMemory, UserLiveRing } from "./user-live-ring.js";
import type { Attachable, VhostWorkerState } from "./workers.js";

/** What all rings of a device have in common. */
export interface VqShared {
  readonly features: bigint;
  readonly backendFeatures: bigint;
  /** Translations of the rings' addresses, if it has any. */
  readonly iotlb: DeviceIotlb;
  readonly regions: readonly UserRegion[] | undefined;
  /** The owner's memory, for rings; made when it is needed. Only while there is an owner. */
  readonly live: LiveMemory;
  /** A ring's worker; `undefined`: it has none. */
  workerOf(vq: Attachable): VhostWorkerState | undefined;
  /** What a worker is asked for: whoever waits for the workers waits for it, too. */
  ask(asked: Promise<void>): void;
}

/** Which of a ring's eventfds. */
export type VqEvent = "kick" | "call" | "err";

/** The size that a ring has until it is set. */
const NUM_AT_FIRST = 1;
const NO_AREAS: VqAreas = { desc: 0n, avail: 0n, used: 0n };
const NO_LOG: VqLog = { base: 0n, used: undefined };

/**
 * A ring as its owner has set it up, and as its worker works on it. Where that is a thread, what is
 * done to a ring that runs is done when the worker has left it. Linux: vhost_virtqueue.
 */
export class Vq extends VringSettings<UserLiveRing> implements Attachable {
  readonly index: number;
  areas = NO_AREAS;
  log = NO_LOG;
  isKicked = false;
  /** What the device works for, of its own kind: it is active while there is any. */
  backend: unknown = null;
  readonly #shared: VqShared;
  readonly #events: Record<VqEvent, EventFd | null> = { kick: null, call: null, err: null };
  /** Has the ring's worker look at it. */
  readonly kicked: () => void;
  #isNotifyDisabled = false;
  /** The last of what its worker is to do about it, one after the other. */
  #asked: Promise<void> = Promise.resolve();
  /** How often it was reset. */
  #resets = 0;

  /** `queue` has the ring's worker look at it. */
  constructor(index: number, shared: VqShared, queue: (vq: Vq) => void) {
    super(NUM_AT_FIRST);
    this.index = index;
    this.#shared = shared;
    this.kicked = () => queue(this);
  }

  get #worker(): VhostWorkerState | undefined {
    return this.#shared.workerOf(this);
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
    const { user } = this.#shared.live;
    const iotlb = this.#iotlb;
    if (!iotlb && !user.isWritable(this.areas.used, 4n)) {
      throw new VhostError("EFAULT", "no used ring there");
    }
    const live = new UserLiveRing(this.#shared.live, this.#setup, this.#isNotifyDisabled);
    live.position = this.base(this.#shared.features);
    if (iotlb) this.#startTranslated(live, iotlb);
    this.live = live;
    this.backend = backend;
    const goesOn = iotlb !== undefined; // it has begun here
    this.isKicked = false;
    this.#work(async (control) => {
      await control.startQueue({ ...this.#start(live), goesOn });
      this.#kickAgain();
    });
  }

  /** Begins a ring that no worker is at. EFAULT, told of, and the ring is given back. */
  #startTranslated(live: UserLiveRing, iotlb: IotlbSetup): void {
    const { index } = this;
    const { memory } = this.#shared.live.shared;
    const ring = new IotlbRing(memory, live.vq, iotlb, (iova, perm, seen) =>
      this.missed({ index, iova, perm, seen }),
    );
    if (ring.start(live.position) === 0) return;
    this.#tellErrors(live);
    live.release();
    throw new VhostError("EFAULT", "the used ring's head can't be reached: send an update first");
  }

  /** The device's translations, for the ring in its worker. */
  get #iotlb(): IotlbSetup | undefined {
    const { iotlb, live } = this.#shared;
    const table = iotlb.table?.buffer;
    return table && { table, ring: this.#setup, changes: live.user.changes };
  }

  /** No turn before its first kick. */
  #start({ vq, position }: UserLiveRing): RingStart {
    const { index, busyloopMicroseconds } = this;
    const worker = this.#worker;
    const iotlb = this.#iotlb;
    return {
      ...{ index, vq, position, awaitsKick: false, waits: true, busyloopMicroseconds },
      iotlb: worker && iotlb ? { ...iotlb, questions: worker.questions.buffer } : undefined,
    };
  }

  /**
   * Has its worker do something; `then` comes after it, also when the worker is dead. Without a
   * thread, both are done when this returns.
   */
  #work(work: (control: WorkerControl) => Promise<unknown>, then = () => {}): void {
    const handle = this.#worker?.handle;
    if (!handle || handle.inline) {
      if (handle && !handle.isDead) void work(handle.control);
      then();
      return;
    }
    this.#asked = this.#asked.then(() => work(handle.control)).then(then, then);
    this.#shared.ask(this.#asked);
  }

  get #setup() {
    const { num, areas, log } = this;
    const { features, regions = [] } = this.#shared;
    return { num, areas, log, features, regions };
  }

  /** Goes by what is set now, if it is active. */
  update(): void {
    const live = this.live;
    if (!live) return;
    this.pause(() => {
      live.update(this.#setup);
      if (this.isTranslated) this.#worker?.handle.inline?.updateQueue(this.#start(live));
    });
  }

  /**
   * Calls `then` when no worker is at it and all that was asked before is done; then it goes on: at
   * once, without a thread.
   */
  pause(then: () => void): void {
    const live = this.live;
    if (live && this.#worker && !this.#worker.handle.inline) this.#leaveFor(live, then);
    else this.#work(async () => {}, then);
  }

  /** A kick that came meanwhile may have found nobody at the ring; without a thread, it has not. */
  #kickAgain(): void {
    if (this.isKicked && !this.#worker?.handle.inline) this.kicked();
  }

  #leaveFor(live: UserLiveRing, then: () => void): void {
    const goesOn = (left: QueueLeft | undefined) => {
      then();
      if (!left || this.live !== live) return undefined; // stopped: it has left it for good
      // To the guest, something may have come meanwhile.
      const waits = !left.isDue && this.index > 0;
      return { ...this.#start(live), waits };
    };
    this.#work(async (control) => {
      this.isKicked = false;
      await passQueue(control, this.index, goesOn);
      this.#kickAgain();
    });
  }

  /** What was said of polling since it began. */
  setBusyloopTimeout(microseconds: number | undefined): void {
    this.busyloopMicroseconds = microseconds;
    if (!this.isActive) return;
    this.#work((control) => control.setBusyloopTimeout(this.index, microseconds));
  }

  /** Is not active any more, and remembers where it goes on. */
  stop(): void {
    const live = this.live;
    this.backend = null;
    if (!live) return;
    const { features } = this.#shared;
    const resets = this.#resets;
    const leave = (control: WorkerControl) => control.takeQueue(this.index);
    this.#work(leave, () => {
      if (resets === this.#resets) {
        this.setBase(live.position, features);
        this.#isNotifyDisabled = live.isNotifyDisabled;
      }
      live.release();
    });
    this.live = undefined;
  }

  /** As it was at first. Linux: vhost_vq_reset(). */
  reset(): void {
    this.stop();
    this.#resets++;
    for (const which of ["kick", "call", "err"] as const) this.setEvent(which, null);
    this.forget(NUM_AT_FIRST);
    Object.assign(this, { areas: NO_AREAS, log: NO_LOG });
    this.#isNotifyDisabled = false;
  }

  /** Tells of an error. Linux: vq_err(). */
  vqErr(): void {
    this.#events.err?.signal();
  }

  notify(isCalled: boolean): void {
    if (this.live) this.#tellErrors(this.live);
    if (isCalled) this.#events.call?.signal();
  }

  #tellErrors(live: UserLiveRing): void {
    for (let left = live.takeErrors(); left > 0; left--) this.vqErr();
  }

  missed(question: IotlbQuestion): void {
    this.#shared.iotlb.miss(question, this.#shared.backendFeatures, this.kicked);
  }
}
