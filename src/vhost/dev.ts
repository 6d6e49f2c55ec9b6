import type { Kernel } from "../kernel/kernel.js";
import { mustLive, type Task } from "../kernel/task.js";
import { GuestMemory, type MemoryRegion } from "../memory/guest-memory.js";
import { SharedMemory } from "../memory/shared-memory.js";
import type { Policy } from "../ring/state-block.js";
import { VhostError } from "../spec/errno.js";
import { featureMask } from "../spec/features.js";
import { VIRTIO_F_IN_ORDER, VIRTIO_F_NOTIFICATION_DATA } from "../spec/virtio-config.js";
import { asVhostError, type VringNotify } from "./control.js";
import type { DeviceHost, DeviceInfo, DeviceSpec } from "./device.js";
import { Holdings } from "./holdings.js";
import { checkPolicy, RING_FEATURES } from "./policy.js";
import { RingSet } from "./ring-set.js";
import { Turns } from "./turns.js";
import type { DirtyLogRange, Vring, VringAddresses } from "./vring.js";
import { mustBeOffered } from "./vring-settings.js";
import { WorkerHandle, type WorkerOptions } from "./worker-handle.js";

/** What only the doorbell can carry: an eventfd says that it was kicked, and no more. */
const KICK_DATA = featureMask(VIRTIO_F_NOTIFICATION_DATA);
const IN_ORDER = featureMask(VIRTIO_F_IN_ORDER);

/** How a device is run. */
export interface DevOptions extends WorkerOptions {
  /** What its rings do where a driver breaks the specification. Default "strict". */
  policy?: Policy;
}

/** Who owns the device, in what memory it works, and by which worker; fixed together. */
interface Owned {
  owner: Task;
  shared: SharedMemory;
  worker: WorkerHandle;
}

/**
 * The control side of one device, in its owner's thread: who owns it, what was negotiated, where
 * its memory and its rings are; the worker does the rest. Methods reject or throw `VhostError` and
 * leave the state as it was. Linux: struct vhost_dev and vhost_dev_ioctl().
 */
export class VhostDev {
  readonly #kernel: Kernel;
  readonly #options: WorkerOptions;
  readonly #policy: Policy;
  #log: DirtyLogRange | undefined;
  #owned: Owned | undefined;
  #info: DeviceInfo | undefined;
  #holdings = new Holdings();
  #memory: GuestMemory | undefined;
  #features = 0n;
  #rings = new RingSet(0, 0);
  #isAttaching = false;
  readonly #turns = new Turns();

  constructor(kernel: Kernel, options: DevOptions = {}) {
    this.#kernel = kernel;
    this.#options = options;
    this.#policy = checkPolicy(options.policy);
  }

  /**
   * Makes `owner` the owner for good, and a worker `vhost-<pid>` from it. Throws EBUSY when there
   * is an owner, and what copyProcess throws (EAGAIN at a limit), with nothing kept. Linux:
   * vhost_dev_set_owner(), which reports ENOMEM for any failure to make the worker.
   */
  setOwner(owner: Task): void {
    if (this.#owned) {
      throw new VhostError("EBUSY", "the device has an owner", { pid: this.#owned.owner.pid });
    }
    mustLive(owner);
    if (!owner.mm) throw new VhostError("EINVAL", "the owner has no memory", { pid: owner.pid });
    const shared = SharedMemory.of(owner.mm.memory);
    const worker = new WorkerHandle(this.#kernel, owner, shared.memory, this.#options);
    this.#owned = { owner, shared, worker };
  }

  /** Owner, memory and worker. Throws EPERM when there is no owner, ENODEV when the worker died. */
  get #alive(): Owned {
    const owned = this.#mustBeOwned;
    if (owned.worker.death) throw owned.worker.death;
    return owned;
  }

  get #mustBeOwned(): Owned {
    if (this.#owned) return this.#owned;
    throw new VhostError("EPERM", "the device has no owner yet: setOwner first");
  }

  /** The worker. Throws EPERM when there is no owner. */
  get worker(): WorkerHandle {
    return this.#mustBeOwned.worker;
  }

  /** The owner's memory. Throws EPERM when there is no owner. */
  get sharedMemory(): SharedMemory {
    return this.#alive.shared;
  }

  /**
   * Makes the device in the worker. Rejects with EBUSY when there is one, and with its own error.
   */
  async setBackend(spec: DeviceSpec): Promise<void> {
    const { control } = this.#alive.worker;
    if (this.#info || this.#isAttaching) {
      throw new VhostError("EBUSY", "the device has a back-end already");
    }
    this.#isAttaching = true;
    const holdings = new Holdings();
    try {
      const { options, claims } = holdings.take(spec, this.#host);
      const info = await control.attach(spec.module, options, claims);
      this.#info = info;
      this.#rings = new RingSet(info.queueCount, info.queueSizeMax);
      this.#holdings = holdings;
    } catch (error) {
      await holdings.release();
      throw asVhostError(error);
    } finally {
      this.#isAttaching = false;
    }
  }

  get #host(): Omit<DeviceHost, "claims"> {
    const { owner, shared, worker } = this.#alive;
    const { notifier, ring: ringKind = "wasm" } = this.#options;
    const its = { wakeFd: notifier?.wakeFd, isInline: worker.inline !== undefined, ringKind };
    return { kernel: this.#kernel, owner, shared, worker: worker.task.task, ...its };
  }

  /** What the device is. Throws ENODEV before `setBackend`. */
  get info(): DeviceInfo {
    if (!this.#info) throw new VhostError("ENODEV", "the device has no back-end yet");
    return this.#info;
  }

  /** Features on offer. Linux: VHOST_GET_FEATURES. */
  get offeredFeatures(): bigint {
    const features = this.info.features | RING_FEATURES[this.#policy];
    const kicks = this.#options.notifier ? features & ~KICK_DATA : features;
    return this.info.answersLater ? kicks & ~IN_ORDER : kicks;
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

  /** A ring to set up. Throws ENOBUFS; EBUSY while it runs, or as `#mustBeStopped`. */
  #stoppedVring(index: number): Vring {
    this.#mustBeIdle();
    const vring = this.#rings.at(index);
    if (!vring.isLaidOut) return vring;
    throw new VhostError("EBUSY", `queue ${index} runs: stop the device, or reset the queue`);
  }

  /** Sets the memory table. Throws EBUSY while started, and what `GuestMemory` throws. */
  setMemTable(regions: readonly MemoryRegion[]): void {
    this.#mustBeStopped();
    const { guestStart, guestBytes } = this.sharedMemory;
    this.#memory = new GuestMemory(regions, guestStart, guestStart + guestBytes);
  }

  /** Sets a queue's size. Throws EBUSY, ENOBUFS, EINVAL. Linux: VHOST_SET_VRING_NUM. */
  setVringNum(index: number, num: number): void {
    this.#stoppedVring(index).setNum(num, this.#features);
  }

  /** A queue's size. Throws ENOBUFS. */
  vringNum(index: number): number {
    return this.#rings.at(index).num;
  }

  /**
   * Sets a queue's areas, guest addresses; without any, it is not used. Throws EBUSY, ENOBUFS.
   * Linux: VHOST_SET_VRING_ADDR.
   */
  setVringAddr(index: number, addresses: VringAddresses | undefined): void {
    this.#stoppedVring(index).addresses = addresses;
  }

  /** Throws what `start` would for the queue's areas, which are set: EFAULT, EINVAL. */
  checkVring(index: number): void {
    this.#rings.at(index).check(this.sharedMemory, this.#mustHaveMemory, this.#features);
  }

  /**
   * Where the queue's chains in flight are recorded: linear address of its region (aligned to 8,
   * `inflightRegionBytes` long, in no memory table), or nowhere. It begins by what is said there.
   * Throws EBUSY, ENOBUFS.
   */
  setVringInflight(index: number, region: number | undefined): void {
    this.#stoppedVring(index).inflightRegion = region;
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
   * The guest address at which what the device writes to the queue's device area is marked, too;
   * without one, it is not. Throws EBUSY, ENOBUFS; EINVAL for what is no address. Linux:
   * VHOST_VRING_F_LOG.
   */
  setVringLog(index: number, address: bigint | undefined): void {
    if (address !== undefined && BigInt.asUintN(64, address) !== address) {
      throw new VhostError("EINVAL", "where a ring is logged is a guest address", { address });
    }
    this.#stoppedVring(index).logAddress = address;
  }

  /**
   * Sets a queue's eventfds, which the caller keeps open while the queue runs. Throws EBUSY,
   * ENOBUFS. Linux: VHOST_SET_VRING_KICK, VHOST_SET_VRING_CALL.
   */
  setVringNotify(index: number, notify: VringNotify): void {
    this.#stoppedVring(index).notify = notify;
  }

  /** Sets the next entry to pop. Throws EBUSY, ENOBUFS, EINVAL. Linux: VHOST_SET_VRING_BASE. */
  setVringBase(index: number, base: number): void {
    this.#stoppedVring(index).setBase(base, this.#features);
  }

  /** The next entry to pop, as of the last stop. Throws ENOBUFS. Linux: VHOST_GET_VRING_BASE. */
  getVringBase(index: number): number {
    return this.#rings.at(index).base(this.#features);
  }

  /** Whether the queue, as of the last stop, still waits for its first kick. Throws ENOBUFS. */
  awaitsKick(index: number): boolean {
    return this.#rings.at(index).notify.awaitsKick ?? false;
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
    const { shared, worker } = this.#alive;
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
      await worker.control.start(this.#features, rings);
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
    return this.#turns.take(() => this.#rings.resetOne(index, this.#alive.worker.control));
  }

  /**
   * Starts one queue of a started device, which was reset: by `setup`, or as it was set up since.
   * Rejects with ENOBUFS; EBUSY when it runs; EINVAL when it was not set up, and as `resetVring`;
   * and as `start`. virtio 1.3, 2.6.1.2 Virtqueue Re-enable.
   */
  startVring(index: number, setup?: VringAddresses & { num: number }): Promise<void> {
    return this.#turns.take(() => this.#rings.startOne(index, this.#alive.worker.control, setup));
  }

  /** Whether the queue runs. Throws ENOBUFS. virtio 1.3, 4.1.4.3: queue_enable. */
  isVringEnabled(index: number): boolean {
    return this.#rings.at(index).isLaidOut;
  }

  /** Stops every queue, and remembers where each goes on. No request is in flight after it. */
  stop(): Promise<void> {
    return this.#turns.take(async () => {
      const { control } = this.#alive.worker;
      if (!this.#rings.isStarted) return;
      const positions = await control.stop();
      for (const { index, position, awaitsKick } of positions) {
        const vring = this.#rings.at(index);
        vring.setBase(position, this.#features);
        vring.notify = { ...vring.notify, awaitsKick };
      }
      this.#rings.release();
    });
  }

  /** Back to before the driver came: queues, features, memory table forgotten; counts stay. */
  reset(): Promise<void> {
    return this.#turns.take(async () => {
      const { control } = this.#alive.worker;
      try {
        await control.reset();
      } finally {
        this.#rings.release(); // also when the device's own reset threw: its queues are stopped
        this.#features = 0n;
        this.#memory = undefined;
        this.#log = undefined;
        this.#rings.reset();
      }
    });
  }

  /** The configuration space. */
  async readConfig(): Promise<Uint8Array> {
    return this.#alive.worker.control.readConfig();
  }

  /** A write to the configuration space. */
  async writeConfig(offset: number, bytes: Uint8Array): Promise<void> {
    return this.#alive.worker.control.writeConfig(offset, bytes);
  }

  /**
   * Without a thread: does all that is pending, in this thread. See `WorkerHandle.runPending`.
   * Throws ENODEV when the worker has died.
   */
  runPending(): boolean {
    return this.#alive.worker.runPending();
  }

  /** How often each ring error happened, by queue and name; queues without errors are left out. */
  errorCounts(): Record<number, Record<string, number>> {
    return this.#rings.errorCounts();
  }

  /**
   * Ends the worker and gives everything back. Requests in flight are not waited for. Idempotent.
   */
  async close(): Promise<void> {
    const owned = this.#owned;
    if (!owned) return;
    try {
      await owned.worker.stop();
    } finally {
      await this.#holdings.release(); // first: what goes on still writes to the memory
      this.#rings.release();
    }
  }
}
