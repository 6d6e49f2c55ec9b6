import type { Kernel } from "../kernel/kernel.js";
import type { Task } from "../kernel/task.js";
import { GuestMemory, type MemoryRegion } from "../memory/guest-memory.js";
import { SharedMemory } from "../memory/shared-memory.js";
import type { Policy } from "../ring/state-block.js";
import { VhostError } from "../spec/errno.js";
import { asVhostError } from "./control.js";
import { DevOwner } from "./dev-owner.js";
import { DevWorkers } from "./dev-workers.js";
import type { DeviceInfo, DeviceSpec } from "./device.js";
import { checkPolicy, offeredFeatures, withPolicy } from "./policy.js";
import { RingSet } from "./ring-set.js";
import { Turns } from "./turns.js";
import type { DirtyLogRange, Vring, VringAddresses } from "./vring.js";
import { VringCalls } from "./vring-calls.js";
import { mustBeOffered } from "./vring-settings.js";
import type { WorkerCallParts } from "./worker-calls.js";
import type { WorkerHandle, WorkerOptions } from "./worker-handle.js";

/** How a device is run. */
export interface DevOptions extends WorkerOptions {
  /** What its rings do where a driver breaks the specification. Default "strict". */
  policy?: Policy;
}

/** In what memory the device works, and by which workers; fixed with its owner. */
interface Owned {
  shared: SharedMemory;
  workers: DevWorkers;
}

/**
 * The control side of one device, in its owner's thread: who owns it, what was negotiated, where
 * its memory and its rings are; the worker does the rest. Methods reject or throw `VhostError` and
 * leave the state as it was. Linux: struct vhost_dev and vhost_dev_ioctl().
 */
export class VhostDev extends VringCalls {
  readonly #kernel: Kernel;
  readonly #options: WorkerOptions;
  readonly #policy: Policy;
  #log: DirtyLogRange | undefined;
  readonly #owner = new DevOwner();
  #owned: Owned | undefined;
  #info: DeviceInfo | undefined;
  #memory: GuestMemory | undefined;
  #features = 0n;
  #rings = new RingSet(0, 0);
  #isAttaching = false;
  readonly #turns = new Turns();

  constructor(kernel: Kernel, options: DevOptions = {}) {
    super();
    this.#kernel = kernel;
    this.#policy = checkPolicy(options.policy);
    this.#options = withPolicy(options, this.#policy);
  }

  /**
   * Makes `owner` the owner for good, and a worker `vhost-<pid>` from it. Throws EBUSY when there
   * is an owner, and what copyProcess throws (EAGAIN at a limit), with nothing kept. Linux:
   * vhost_dev_set_owner(), which reports ENOMEM for any failure to make the worker.
   */
  setOwner(owner: Task): void {
    this.#owned = this.#owner.set(owner, ({ memory }) => {
      const shared = SharedMemory.of(memory);
      return { shared, workers: new DevWorkers(this.#kernel, owner, shared, this.#options) };
    });
  }

  /** What it has. Throws EPERM when there is no owner, ENODEV when the first worker died. */
  get #alive(): Owned {
    const owned = this.#mustBeOwned;
    if (owned.workers.death) throw owned.workers.death;
    return owned;
  }

  get #mustBeOwned(): Owned {
    if (this.#owned) return this.#owned;
    throw new VhostError("EPERM", "the device has no owner yet: setOwner first");
  }

  /** The first worker. Throws EPERM when there is no owner. */
  get worker(): WorkerHandle {
    return this.#mustBeOwned.workers.first;
  }

  /** All of them: to kick a queue's, to hear of a death. Throws EPERM when there is no owner. */
  get workers(): Pick<DevWorkers, "kick" | "death" | "onDeath" | "onQueueDeath" | "tasks"> {
    return this.#mustBeOwned.workers;
  }

  /** The owner's memory. Throws EPERM when there is no owner. */
  get sharedMemory(): SharedMemory {
    return this.#alive.shared;
  }

  protected get parts(): WorkerCallParts {
    return { workers: this.#alive.workers, rings: this.#rings };
  }

  protected inTurn<T>(work: () => Promise<T>): Promise<T> {
    return this.#turns.take(work);
  }

  /**
   * Makes the device in the worker. Rejects with EBUSY when there is one, and with its own error.
   */
  async setBackend(spec: DeviceSpec): Promise<void> {
    const { workers } = this.#alive;
    if (this.#info || this.#isAttaching) {
      throw new VhostError("EBUSY", "the device has a back-end already");
    }
    this.#isAttaching = true;
    try {
      const info = await workers.setBackend(spec);
      this.#info = info;
      this.#rings = new RingSet(info.queueCount, info.queueSizeMax);
    } catch (error) {
      throw asVhostError(error);
    } finally {
      this.#isAttaching = false;
    }
  }

  /** What the device is. Throws ENODEV before `setBackend`. */
  get info(): DeviceInfo {
    if (!this.#info) throw new VhostError("ENODEV", "the device has no back-end yet");
    return this.#info;
  }

  /** Features on offer. Linux: VHOST_GET_FEATURES. */
  get offeredFeatures(): bigint {
    return offeredFeatures(this.info, this.#policy, this.#options.notifier !== undefined);
  }

  /** Accepts `features`. Throws EOPNOTSUPP for a bit not offered, EBUSY while started. */
  setFeatures(features: bigint): void {
    this.#mustBeStopped();
    mustBeOffered(features, this.offeredFeatures);
    this.#features = features;
  }

  /** Features that were accepted. */
  get features(): bigint {
    return this.#features;
  }

  /** What its rings do where a driver breaks the specification. */
  get policy(): Policy {
    return this.#policy;
  }

  /** Throws EBUSY while started, or while an operation that was called before is under way. */
  #mustBeStopped(): void {
    this.#mustBeIdle();
    this.#mustNotRun();
  }

  #mustBeIdle(): void {
    if (this.#turns.isIdle) return;
    throw new VhostError("EBUSY", "an operation on the device is under way: await it first");
  }

  #mustNotRun(): void {
    if (!this.#rings.isStarted) return;
    throw new VhostError("EBUSY", "the device is started: stop or reset it first");
  }

  protected get vrings(): RingSet {
    return this.#rings;
  }

  protected stoppedVring(index: number): Vring {
    this.#mustBeIdle();
    const vring = this.#rings.at(index);
    vring.mustBeIdle();
    return vring;
  }

  /** Sets the memory table. Throws EBUSY while started, and what `GuestMemory` throws. */
  setMemTable(regions: readonly MemoryRegion[]): void {
    this.#mustBeStopped();
    this.#memory = this.#memoryOf(regions);
  }

  #memoryOf(regions: readonly MemoryRegion[]): GuestMemory {
    const { guestStart, guestBytes } = this.sharedMemory;
    return new GuestMemory(regions, guestStart, guestStart + guestBytes);
  }

  /**
   * Sets the memory table, also while started: each ring is left by its worker, which answers what
   * it holds of it, and goes on by the new table. When this resolves, nothing goes by the old one.
   * Rejects as `setMemTable`, but for EBUSY; with EFAULT when the areas of a ring that runs are not
   * in it, and ENOMEM: all stays as it was then; with what the device's `settle` throws: that ring
   * is served no more, the others go by the new table. Linux: VHOST_SET_MEM_TABLE.
   */
  updateMemTable(regions: readonly MemoryRegion[]): Promise<void> {
    return this.#turns.take(async () => {
      const { workers } = this.#alive;
      const memory = this.#memoryOf(regions);
      await this.#rings.remap(memory, (index) => workers.controlOf(index));
      this.#memory = memory;
    });
  }

  /**
   * Throws what `start` would for the queue's areas, which are set: EFAULT, EINVAL. `isNewBase`: it
   * may say a base of 0 where the ring is further on, and that counts: whether it is so.
   */
  checkVring(index: number, isNewBase = false): boolean {
    const memory = this.#mustHaveMemory;
    return this.#rings.at(index).check(this.sharedMemory, memory, this.#features, isNewBase);
  }

  /**
   * Where the pages that the device writes are marked: linear address of a bitmap that lies in no
   * memory table, and its bytes; or nowhere. Throws EBUSY. Linux: VHOST_SET_LOG_BASE, and
   * VHOST_F_LOG_ALL.
   */
  setLog(log: DirtyLogRange | undefined): void {
    this.#mustBeStopped();
    this.#log = log;
  }

  /**
   * Starts every queue whose addresses are set. Rejects with EINVAL when there is no memory table,
   * EFAULT when an area is not in it, EINVAL when one is misaligned, ENOMEM; nothing is kept then.
   */
  start(): Promise<void> {
    return this.#turns.take(() => this.#start());
  }

  get #mustHaveMemory(): GuestMemory {
    if (this.#memory) return this.#memory;
    throw new VhostError("EINVAL", "the memory table is not set");
  }

  async #start(): Promise<void> {
    const { shared, workers } = this.#alive;
    this.#mustNotRun();
    const setup = {
      shared,
      memory: this.#mustHaveMemory,
      features: this.#features,
      policy: this.#policy,
      log: this.#log,
    };
    const rings = this.#rings.layOut(setup);
    try {
      await workers.start(this.#features, rings);
    } catch (error) {
      this.#rings.release();
      throw error;
    }
  }

  /**
   * Resets one queue while the others go on: the worker leaves it, and what was said of it is
   * forgotten, where it is logged and recorded, too (errors stay counted). Requests that it had are
   * over, without an answer. Rejects with ENOBUFS; EINVAL when VIRTIO_F_RING_RESET was not
   * accepted, or the device is not started. virtio 1.3, 2.6.1 Virtqueue Reset.
   */
  resetVring(index: number): Promise<void> {
    return this.#turns.take(async () => {
      this.#rings.at(index);
      await this.#rings.resetOne(index, await this.#alive.workers.controlOf(index));
    });
  }

  /**
   * Starts one queue of a started device, which was reset: by `setup`, or as it was set up since.
   * Rejects with ENOBUFS; EBUSY when it runs; EINVAL when it was not set up, and as `resetVring`;
   * and as `start`. virtio 1.3, 2.6.1.2 Virtqueue Re-enable.
   */
  startVring(index: number, setup?: VringAddresses & { num: number }): Promise<void> {
    return this.#turns.take(async () => {
      this.#rings.at(index);
      await this.#rings.startOne(index, await this.#alive.workers.controlOf(index), setup);
    });
  }

  /** Stops every queue, and remembers where each goes on. No request is in flight after it. */
  stop(): Promise<void> {
    return this.#turns.take(async () => {
      const { workers } = this.#alive;
      if (!this.#rings.isStarted) return;
      this.#rings.stopped(await workers.stopQueues(), this.#features);
    });
  }

  /** Back to before the driver came: queues, features, memory table forgotten; counts stay. */
  reset(): Promise<void> {
    return this.#turns.take(async () => {
      const { workers } = this.#alive;
      try {
        await workers.reset();
      } finally {
        this.#rings.release(); // also when the device's own reset threw: its queues are stopped
        this.#features = 0n;
        this.#memory = undefined;
        this.#log = undefined;
        this.#rings.reset();
      }
    });
  }

  /** Tells the stopped device that a driver begins anew: see `VirtioDevice.renew`. */
  renew(): Promise<void> {
    return this.#turns.take(() => this.#alive.workers.renew());
  }

  /** See `VirtioDevice.announce`; nothing where the device has none. */
  announce(mac: Uint8Array): Promise<void> {
    return this.#turns.take(() => this.#alive.workers.announce(mac));
  }

  /** The configuration space. */
  async readConfig(): Promise<Uint8Array> {
    return this.#alive.workers.readConfig();
  }

  /** A write to the configuration space. */
  async writeConfig(offset: number, bytes: Uint8Array): Promise<void> {
    return this.#alive.workers.writeConfig(offset, bytes);
  }

  /**
   * Without a thread: does all that is pending, in this thread. See `WorkerHandle.runPending`.
   * Throws ENODEV when the worker has died.
   */
  runPending(): boolean {
    return this.#alive.workers.runPending();
  }

  /** How often each ring error happened, by queue and name; queues without errors are left out. */
  errorCounts(): Record<number, Record<string, number>> {
    return this.#rings.errorCounts();
  }

  /**
   * Ends the workers and gives everything back. Requests in flight are not waited for. Idempotent.
   */
  async close(): Promise<void> {
    const owned = this.#owned;
    if (!owned) return;
    try {
      await owned.workers.stop();
    } finally {
      this.#rings.release();
      this.#owner.release();
    }
  }
}
