import { MEMORY_BYTES_MIN } from "../memory/shared-memory.js";
import { loadRings, type Rings } from "../ring/load.js";
import type { DeviceRing } from "../ring/ring.js";
import { VhostError } from "../spec/errno.js";
import { hasFeature } from "../spec/features.js";
import { VQ_F_LINUX, VQ_FLAGS } from "../spec/ring-state.js";
import { VIRTIO_F_NOTIFICATION_DATA } from "../spec/virtio-config.js";
import type {
  QueueLeft,
  RingPosition,
  RingStart,
  ThreadSetup,
  WorkerControl,
  WorkerSetup,
} from "./control.js";
import { Counters } from "./counters.js";
import { checkDevice, type DeviceInfo, type DeviceModule, type VirtioDevice } from "./device.js";
import { IotlbQuestions } from "./ioctl/iotlb-questions.js";
import { IotlbRing } from "./ioctl/iotlb-ring.js";
import type { Notifier } from "./notifier.js";
import { Doorbell } from "./notify.js";
import { UserRing } from "./user-ring.js";
import { Virtqueue } from "./virtqueue.js";
import { WorkList } from "./work-list.js";

/** How often, at most, refused queues are looked at again without a kick. */
const REFUSED_RECHECK_MS = 10;

/** What a worker gets elsewhere, unless it is given. */
export interface WorkerParts {
  /** A clock, in milliseconds. */
  now?: () => number;
  /** The rings over its memory. */
  rings?: Rings;
  /** Whether queues that err rest, when there are others; default: they do. */
  rests?: boolean;
  /** Takes another device into the thread; without it, there is no thread to take it into. */
  adopt?: (setup: ThreadSetup) => Promise<void>;
}

/**
 * A worker of one device: a list of queues with pending work, each on it once, served in turn, by
 * an instance of the device of its own. It never waits by itself. Linux: struct vhost_worker,
 * vhost_work_queue(), vhost_worker().
 */
export class VhostWorker implements WorkerControl {
  readonly #setup: WorkerSetup;
  readonly #notifier: Notifier;
  readonly #counters: Counters;
  readonly #now: () => number;
  readonly #workList = new WorkList<Virtqueue>();
  readonly #awaitingKick = new Map<number, RingStart>();
  /** All queues that were started and not stopped. */
  #started: RingStart[] = [];
  #hasKickData = false;
  readonly #doorbell: Doorbell;
  /** None where the memory is too small for any. */
  readonly #rings: Rings | undefined;
  readonly #mayRest: boolean;
  readonly #adopt: WorkerParts["adopt"];
  #queues: Virtqueue[] = [];
  #device: VirtioDevice | undefined;
  #isDetached = false;
  #recheckAt = 0;
  #busyloopMs: number | undefined;

  /** `parts`: what a simulation brings itself. */
  constructor(setup: WorkerSetup, notifier: Notifier, parts: WorkerParts = {}) {
    this.#setup = setup;
    this.#notifier = notifier;
    this.#doorbell = new Doorbell(setup.doorbell);
    // At once: a worker that acts for its owner may not be able to read the module any more.
    const canHaveRings = setup.memory.buffer.byteLength >= MEMORY_BYTES_MIN;
    this.#rings =
      parts.rings ?? (canHaveRings ? loadRings(setup.memory, setup.ringKind) : undefined);
    this.#counters = new Counters(setup.counters);
    this.#now = parts.now ?? (() => performance.now());
    this.#mayRest = parts.rests ?? true;
    this.#adopt = parts.adopt;
  }

  async attach(
    module: string,
    options: unknown,
    claims: string[],
    shared?: unknown,
  ): Promise<DeviceInfo> {
    const { createDevice } = (await import(module)) as Partial<DeviceModule>;
    if (!createDevice) throw new VhostError("EINVAL", `${module} exports no createDevice`);
    this.#notifier.actForOwner?.();
    return this.take(await createDevice(options, { memory: this.#setup.memory, claims, shared }));
  }

  /** As `attach`, for a device that was made. Throws EINVAL for none; ENODEV: it was closed. */
  take(device: VirtioDevice): DeviceInfo {
    if (this.#isDetached) {
      device.close?.();
      throw new VhostError("ENODEV", "the device was closed while it was being made");
    }
    checkDevice(device);
    const { deviceId, features, queueCount, queueSizeMax, answersLater = false } = device;
    Doorbell.checkQueueCount(queueCount);
    this.#device = device;
    const canAnnounce = device.announce !== undefined;
    const shape = { deviceId, features, queueCount, queueSizeMax, answersLater, canAnnounce };
    return { ...shape, shared: device.shared };
  }

  async adopt(setup: ThreadSetup): Promise<void> {
    await this.#adopt?.(setup);
  }

  /** Whether its device was closed. */
  get isDetached(): boolean {
    return this.#isDetached;
  }

  /**
   * Each driver is called, too: a worker before this one may have been killed when it had published
   * and not called yet, and the driver sleeps.
   */
  async start(features: bigint, rings: RingStart[]): Promise<void> {
    this.#device?.start?.(features);
    this.#hasKickData = hasFeature(features, VIRTIO_F_NOTIFICATION_DATA);
    this.#setStarted(rings);
    for (const ring of rings) {
      this.#notifier.call(ring.index);
      this.#admit(ring);
    }
  }

  /** It begins at once, or with its first kick. */
  #admit(ring: RingStart): void {
    if (ring.awaitsKick) this.#awaitingKick.set(ring.index, ring);
    else this.#begin(ring);
  }

  #setStarted(rings: RingStart[]): void {
    this.#started = rings;
    this.#setBusyloop();
    this.#notifier.setQueues(rings);
  }

  async startQueue(ring: RingStart): Promise<void> {
    this.#takeKicks(true); // of the other queues: the notifier begins anew
    this.#setStarted([...this.#started, ring]);
    this.#admit(ring);
  }

  async stopQueue(index: number): Promise<void> {
    this.#takeKicks(true); // of the other queues, too: they are not forgotten
    const settled = this.#device?.settle?.("drop", index);
    if (settled) await settled;
    this.#leave(index);
    this.#device?.resetQueue?.(index);
  }

  /** It takes nothing new from here on; what it holds is answered, by the queue as it was. */
  async takeQueue(index: number): Promise<QueueLeft> {
    this.#takeKicks(true);
    const awaitsKick = this.#awaitingKick.has(index);
    const isHeldUp = this.#queues.some((queue) => queue.index === index && queue.isHeldUp);
    const isDue = this.#leave(index) || isHeldUp;
    const settled = this.#device?.settle?.("finish", index);
    if (settled) await settled;
    return { awaitsKick, isDue };
  }

  /** Without a thread: goes on with a queue as it is, by what `start` says of its ring. */
  updateQueue(start: RingStart): void {
    const queue = this.#queues.find(({ index }) => index === start.index);
    if (queue) queue.ring = this.#makeRing(start);
  }

  /** Whether a turn was due to it. */
  #leave(index: number): boolean {
    const others = <T extends { index: number }>(list: T[]) =>
      list.filter((one) => one.index !== index);
    this.#queues = others(this.#queues);
    this.#awaitingKick.delete(index);
    this.#setStarted(others(this.#started));
    return this.#workList.remove(index);
  }

  /** It gets a turn at once, for what was made available before, unless it waits for a kick. */
  #begin(start: RingStart): void {
    const { index, position, goesOn = false, waits = false } = start;
    const ring = this.#makeRing(start);
    if (!goesOn) ring.start(position); // one that it can't have is counted, the ring stays empty
    const queue = new Virtqueue(index, ring, this.#setup.memory, {
      call: (called) => this.#notifier.call(called),
      error: (failed, errors) => this.#notifier.error(failed, errors),
      count: (requests, bytes) => this.#counters.add(index, requests, bytes),
      fail: (errno) => this.#counters.fail(index, errno),
      now: this.#now,
      polls: () => this.#polls(index),
    });
    this.#queues.push(queue);
    if (!waits) this.#workList.add(queue);
  }

  #makeRing({ index, vq, iotlb }: RingStart): DeviceRing {
    const { memory } = this.#setup;
    if (iotlb) {
      const questions = new IotlbQuestions(iotlb.questions);
      return new IotlbRing(memory, vq, iotlb, (iova, perm, seen) => {
        questions.add({ index, iova, perm, seen });
        this.#doorbell.ringDriver();
      });
    }
    const ring = (this.#rings as Rings).device(vq); // its state lies in that memory
    const flags = new DataView(memory.buffer).getUint32(vq + VQ_FLAGS, true);
    return (flags & VQ_F_LINUX) === 0 ? ring : new UserRing(memory, ring);
  }

  #polls(index: number): boolean {
    const isForATime = (this.#busyloopMs ?? this.#setup.pollMicroseconds) > 0;
    return isForATime || this.#notifier.isKickless?.(index) === true;
  }

  /** A first kick that was taken from its eventfd, and not acted on yet, is not forgotten. */
  async stop(): Promise<RingPosition[]> {
    const settled = this.#device?.settle?.("finish");
    if (settled) await settled;
    return this.#halt();
  }

  #halt(): RingPosition[] {
    this.#startKicked(this.#notifier.takeKicks(true));
    const positions = this.#queues.map(({ index, position }) => ({
      index,
      position,
      awaitsKick: false,
    }));
    this.#queues = [];
    this.#workList.clear();
    this.#awaitingKick.clear();
    this.#setStarted([]);
    return positions;
  }

  async reset(): Promise<void> {
    await this.#device?.settle?.("drop");
    await this.stop();
    this.#device?.reset?.();
  }

  async renew(): Promise<void> {
    this.#device?.renew?.();
  }

  async announce(mac: Uint8Array): Promise<void> {
    this.#device?.announce?.(mac);
  }

  async readConfig(): Promise<Uint8Array> {
    return this.#device?.readConfig() ?? new Uint8Array(0);
  }

  async writeConfig(offset: number, bytes: Uint8Array): Promise<void> {
    this.#device?.writeConfig?.(offset, bytes);
  }

  async setBusyloopTimeout(index: number, microseconds: number | undefined): Promise<void> {
    for (const ring of this.#started) {
      if (ring.index === index) ring.busyloopMicroseconds = microseconds;
    }
    this.#setBusyloop();
  }

  /** The longest of its queues' counts. */
  #setBusyloop(): void {
    const all = this.#started.map((ring) => ring.busyloopMicroseconds);
    const set = all.filter((microseconds) => microseconds !== undefined);
    this.#busyloopMs = set.length > 0 ? Math.max(...set) / 1000 : undefined;
  }

  /**
   * How long it is to look at its rings before it sleeps, in milliseconds, where that was said of
   * one of its queues. Linux: busyloop_timeout.
   */
  get busyloopMs(): number | undefined {
    return this.#busyloopMs;
  }

  /** Whether it has a device. */
  get hasDevice(): boolean {
    return this.#device !== undefined;
  }

  /** Where the device holds nothing, it is gone when this returns. */
  async detach(): Promise<void> {
    this.#isDetached = true;
    const settled = this.#device?.settle?.("drop");
    if (settled) await settled;
    this.#halt();
    this.#notifier.close?.();
    this.#device?.close?.();
    this.#device = undefined;
  }

  /**
   * One pass: takes the kicks, looks at the rings, runs each queue on the list once, oldest first;
   * a queue that reached its limit goes to the end, one that rests stays on the list. Returns
   * whether any was run. A flush that was asked for before it is done with it.
   */
  runWorkList(): boolean {
    const flush = this.#doorbell.pendingFlush;
    const isAsked = flush !== undefined;
    this.#takeKicks(isAsked);
    const hasWorked = this.#runQueues(!isAsked);
    if (isAsked) this.#doorbell.flushed(flush);
    return hasWorked;
  }

  #runQueues(mayRest: boolean): boolean {
    let hasWorked = this.#device?.poll?.() ?? false;
    for (const queue of this.#queues) if (queue.hasWork()) this.#workList.add(queue);
    if (this.#workList.length === 0) return hasWorked;
    const rests = mayRest && this.#mayRest && this.#queues.length > 1;
    for (const queue of this.#workList.take()) {
      if (rests && queue.isResting) {
        this.#workList.add(queue);
        continue;
      }
      hasWorked = true;
      queue.begin();
      this.#handleKick(queue);
      if (queue.settle()) this.#workList.add(queue);
    }
    return hasWorked;
  }

  /** Throws TypeError for one that answers by a promise: nobody would wait for it. */
  #handleKick(queue: Virtqueue): void {
    const answer: unknown = this.#device?.handleKick(queue);
    if (answer instanceof Promise) throw new TypeError("handleKick() must be done when it returns");
  }

  /** Queues that were kicked get a turn, or start. */
  #takeKicks(all = false): void {
    const kicks = this.#notifier.takeKicks(all);
    if (kicks === 0) return;
    if (this.#awaitingKick.size > 0) this.#startKicked(kicks);
    for (const queue of this.#queues) {
      if ((kicks & (1 << queue.index)) === 0) continue;
      if (this.#hasKickData) this.#checkKick(queue);
      this.#workList.add(queue);
    }
  }

  #checkKick(queue: Virtqueue): void {
    const data = this.#notifier.kickData?.(queue.index);
    if (data !== undefined) queue.kicked(data);
  }

  #startKicked(kicks: number): void {
    for (const [index, ring] of this.#awaitingKick) {
      if ((kicks & (1 << index)) === 0) continue;
      this.#awaitingKick.delete(index);
      this.#begin(ring);
    }
  }

  /** Asks for kicks on every queue. Returns true when there is work after all: do not sleep. */
  enableKicks(): boolean {
    let hasWork = this.#workList.length > 0 || this.#doorbell.pendingFlush !== undefined;
    for (const queue of this.#queues) if (queue.enableKick()) hasWork = true;
    return hasWork || this.#notifier.hasKicks();
  }

  /** Whether a queue waits for its driver to repair it. */
  get hasRefused(): boolean {
    return this.#queues.some((queue) => queue.awaitsRepair);
  }

  /** The longest that it may sleep, in milliseconds: Infinity unless something is to be seen to. */
  get sleepMsMax(): number {
    const deviceMs = this.#device?.sleepMsMax?.() ?? Number.POSITIVE_INFINITY;
    return this.hasRefused ? Math.min(REFUSED_RECHECK_MS, deviceMs) : deviceMs;
  }

  /** At times, looks at refused queues again: they may have been repaired without a kick. */
  recheckRefused(now: number): void {
    if (now < this.#recheckAt || !this.hasRefused) return;
    this.#recheckAt = now + REFUSED_RECHECK_MS;
    for (const queue of this.#queues) if (queue.awaitsRepair) this.#workList.add(queue);
  }
}
