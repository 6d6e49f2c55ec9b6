import type { Kernel } from "../kernel/kernel.js";
import type { Task } from "../kernel/task.js";
import type { ThreadExit } from "../kernel/thread.js";

import {
  type VhostTask,
  vhostTaskCreate,
  vhostTaskStart,
  vhostTaskStop,
  vhostTaskWake,
} from "../kernel/vhost-task.js";
import { GuestMemory, type MemoryRegion } from "../memory/guest-memory.js";
import { SharedMemory } from "../memory/shared-memory.js";
import type { RingKind } from "../ring/load.js";
import { VhostError } from "../spec/errno.js";
import {
  VIRTIO_F_EVENT_IDX,
  VIRTIO_F_INDIRECT_DESC,
  VIRTIO_F_VERSION_1,
} from "../spec/virtio-config.js";
import { takeClaims } from "./claims.js";
import { ControlClient, type WorkerControl } from "./control.js";
import type { DeviceInfo, DeviceSpec } from "./device.js";
import { Doorbell } from "./notify.js";
import { Vring, type VringAddresses } from "./vring.js";
import { VhostWorker } from "./worker.js";

/** Features that the rings bring to every device, as a mask. */
export const RING_FEATURES =
  (1n << BigInt(VIRTIO_F_INDIRECT_DESC)) |
  (1n << BigInt(VIRTIO_F_EVENT_IDX)) |
  (1n << BigInt(VIRTIO_F_VERSION_1));

/** How a device is run. */
export interface VhostDevOptions {
  /** Which ring implementation the worker uses. Default "wasm". */
  ring?: RingKind;
  /** A real thread, or none: then the caller works by `runPending`. Default "thread". */
  run?: "thread" | "inline";
  /** Microseconds the worker goes on looking at the rings before it sleeps. Default 50. */
  pollMicroseconds?: number;
}

/** The worker and what we reach it by; exists while there is an owner. */
interface Running {
  owner: Task;
  shared: SharedMemory;
  task: VhostTask;
  doorbell: Doorbell;
  control: WorkerControl;
  /** In "inline" mode: the worker itself. */
  inline: VhostWorker | undefined;
}

/**
 * The control side of one device, in its owner's thread: who owns it, what was negotiated, where its
 * memory and its rings are; the worker does the rest. Methods reject or throw `VhostError` and leave
 * the state as it was. Linux: struct vhost_dev and vhost_dev_ioctl().
 */
export class VhostDev {
  readonly #kernel: Kernel;
  readonly #options: Required<VhostDevOptions>;
  readonly #onDeath = new Set<(error: VhostError) => void>();
  #running: Running | undefined;
  #info: DeviceInfo | undefined;
  #releaseClaims = () => {};
  #memory: GuestMemory | undefined;
  #regionTable = 0;
  #features = 0n;
  #vrings: Vring[] = [];
  #isStarted = false;
  #death: VhostError | undefined;

  constructor(kernel: Kernel, options: VhostDevOptions = {}) {
    this.#kernel = kernel;
    this.#options = { ring: "wasm", run: "thread", pollMicroseconds: 50, ...options };
  }

  /**
   * Makes `owner` the owner for good, and a worker `vhost-<pid>` from it. Throws EBUSY when there is
   * an owner, and what copyProcess throws (EAGAIN at a limit), with nothing kept. Linux:
   * vhost_dev_set_owner(), which reports ENOMEM for any failure to make the worker.
   */
  setOwner(owner: Task): void {
    if (this.#running)
      throw new VhostError("EBUSY", "the device has an owner", { pid: this.owner.pid });
    if (!owner.mm) throw new VhostError("EINVAL", "the owner has no memory", { pid: owner.pid });
    const shared = SharedMemory.of(owner.mm.memory);
    const doorbell = new Doorbell();
    const setup = {
      memory: shared.memory,
      doorbell: doorbell.buffer,
      ringKind: this.#options.ring,
      pollMicroseconds: this.#options.pollMicroseconds,
    };
    const isInline = this.#options.run === "inline";
    const client = new ControlClient(() => {
      doorbell.ringControl();
      vhostTaskWake(task);
    });
    const task = vhostTaskCreate(this.#kernel, owner, {
      fn: { module: new URL("./worker.js", import.meta.url).href, name: "vhostWorker" },
      arg: { ...setup, control: client.remote },
      transfer: [client.remote],
      name: `vhost-${owner.pid}`,
      run: this.#options.run,
    });
    const inline = isInline ? new VhostWorker(setup) : undefined;
    const control = inline ?? client.worker;
    this.#running = { owner, shared, task, doorbell, control, inline };
    task.exited.then((exit) => this.#exited(exit, client));
    vhostTaskStart(task);
  }

  #exited(exit: ThreadExit, client: ControlClient): void {
    const why = exit.error ? `: ${exit.error.message}` : ` (exit code ${exit.code})`;
    const error = exit.stopped
      ? new VhostError("ENODEV", "the device is closed")
      : new VhostError(
          "ENODEV",
          `the device's worker died${why}`,
          { exitCode: exit.code },
          exit.error,
        );
    this.#death = error;
    client.fail(error);
    for (const listener of this.#onDeath) listener(error);
    this.#onDeath.clear();
  }

  /** Calls `listener` once, when the worker ends: with ENODEV, also after a plain close. */
  onDeath(listener: (error: VhostError) => void): void {
    if (this.#death) listener(this.#death);
    else this.#onDeath.add(listener);
  }

  #alive(): Running {
    if (this.#death) throw this.#death;
    if (!this.#running)
      throw new VhostError("EPERM", "the device has no owner yet: setOwner first");
    return this.#running;
  }

  /** The owner. Throws EPERM when there is none. */
  get owner(): Task {
    return this.#alive().owner;
  }

  /** The worker's task. Throws EPERM when there is no owner. */
  get workerTask(): Task {
    return this.#alive().task.task;
  }

  /** Notifications of this device. Throws EPERM when there is no owner. */
  get doorbell(): Doorbell {
    return this.#alive().doorbell;
  }

  /** The owner's memory. Throws EPERM when there is no owner. */
  get sharedMemory(): SharedMemory {
    return this.#alive().shared;
  }

  /** Makes the device in the worker. Rejects with EBUSY when there is one, and with its own error. */
  async setBackend(spec: DeviceSpec): Promise<void> {
    const { control } = this.#alive();
    if (this.#info) throw new VhostError("EBUSY", "the device has a back-end already");
    const release = takeClaims(spec.claims?.() ?? []);
    try {
      const info = await control.attach(spec.module, spec.options);
      Doorbell.checkQueueCount(info.queueCount);
      this.#info = info;
      this.#vrings = Array.from({ length: info.queueCount }, () => new Vring(info.queueSizeMax));
      this.#releaseClaims = release;
    } catch (error) {
      release();
      throw error;
    }
  }

  /** What the device is. Throws ENODEV before `setBackend`. */
  get info(): DeviceInfo {
    if (!this.#info) throw new VhostError("ENODEV", "the device has no back-end yet");
    return this.#info;
  }

  /** Features on offer. Linux: VHOST_GET_FEATURES. */
  get offeredFeatures(): bigint {
    return this.info.features | RING_FEATURES;
  }

  /** Accepts `features`. Throws EOPNOTSUPP for a bit not offered, EBUSY while started. */
  setFeatures(features: bigint): void {
    this.#mustBeStopped();
    const foreign = features & ~this.offeredFeatures;
    if (foreign !== 0n) {
      throw new VhostError("EOPNOTSUPP", `features 0x${foreign.toString(16)} were not offered`);
    }
    this.#features = features;
  }

  #mustBeStopped(): void {
    if (this.#isStarted)
      throw new VhostError("EBUSY", "the device is started: stop or reset it first");
  }

  /** Sets the memory table. Throws EBUSY while started, and what `GuestMemory` throws. */
  setMemTable(regions: readonly MemoryRegion[]): void {
    this.#mustBeStopped();
    const { guestStart, guestBytes } = this.sharedMemory;
    this.#memory = new GuestMemory(regions, guestStart, guestStart + guestBytes);
  }

  #vring(index: number): Vring {
    const vring = this.#vrings[index];
    if (vring) return vring;
    throw new VhostError("ENOBUFS", `there is no queue ${index}`, {
      queueCount: this.#vrings.length,
    });
  }

  /** Sets a queue's size. Throws EBUSY, ENOBUFS, EINVAL. Linux: VHOST_SET_VRING_NUM. */
  setVringNum(index: number, num: number): void {
    this.#mustBeStopped();
    this.#vring(index).setNum(num);
  }

  /** Sets a queue's areas, guest addresses. Throws EBUSY, ENOBUFS. Linux: VHOST_SET_VRING_ADDR. */
  setVringAddr(index: number, addresses: VringAddresses): void {
    this.#mustBeStopped();
    this.#vring(index).addresses = addresses;
  }

  /** Sets the next entry to pop. Throws EBUSY, ENOBUFS, EINVAL. Linux: VHOST_SET_VRING_BASE. */
  setVringBase(index: number, base: number): void {
    this.#mustBeStopped();
    this.#vring(index).setBase(base);
  }

  /** The next entry to pop, as of the last stop. Throws ENOBUFS. Linux: VHOST_GET_VRING_BASE. */
  getVringBase(index: number): number {
    return this.#vring(index).base;
  }

  /**
   * Starts every queue whose addresses are set. Rejects with EINVAL when there is no memory table,
   * EFAULT when an area is not in it, EINVAL when one is misaligned, ENOMEM; nothing is kept then.
   */
  async start(): Promise<void> {
    const { control, shared } = this.#alive();
    this.#mustBeStopped();
    const memory = this.#memory;
    if (!memory) throw new VhostError("EINVAL", "the memory table is not set");
    const ready = [...this.#vrings.entries()].filter(([, vring]) => vring.addresses);
    try {
      this.#regionTable = shared.allocHost(Math.max(memory.tableBytes, 8));
      memory.writeTo(shared.view, this.#regionTable);
      const rings = ready.map(([index, vring]) => ({
        index,
        vq: vring.layOut(shared, memory, this.#regionTable, this.#features),
        lastAvail: vring.base,
      }));
      this.#isStarted = true;
      await control.start(this.#features, rings);
    } catch (error) {
      this.#release();
      throw error;
    }
  }

  /** Stops every queue, and remembers where each goes on. No request is in flight after it. */
  async stop(): Promise<void> {
    const { control } = this.#alive();
    if (!this.#isStarted) return;
    for (const { index, lastAvail } of await control.stop()) this.#vring(index).setBase(lastAvail);
    this.#release();
  }

  /** Back to before the driver came: queues, features and memory table forgotten. */
  async reset(): Promise<void> {
    const { control } = this.#alive();
    await control.reset();
    this.#release();
    this.#features = 0n;
    this.#memory = undefined;
    this.#vrings = this.#vrings.map(() => new Vring(this.info.queueSizeMax));
  }

  #release(): void {
    this.#isStarted = false;
    for (const vring of this.#vrings) vring.release();
    if (this.#regionTable !== 0) this.#running?.shared.host.free(this.#regionTable);
    this.#regionTable = 0;
  }

  /** The configuration space. */
  readConfig(): Promise<Uint8Array> {
    return this.#alive().control.readConfig();
  }

  /** A write to the configuration space. */
  writeConfig(offset: number, bytes: Uint8Array): Promise<void> {
    return this.#alive().control.writeConfig(offset, bytes);
  }

  /** Entries of `queue` are available. From this thread; others use `doorbell` and the task's words. */
  kick(queue: number): void {
    const running = this.#running;
    if (!running || this.#death) return; // kicks to a dead worker vanish
    running.doorbell.kick(queue);
    vhostTaskWake(running.task);
  }

  /**
   * Without a thread: does all that is pending, in this thread. Returns whether there was anything.
   * A turn of each queue is bounded, so call it until it returns false. Throws EINVAL with a thread.
   */
  runPending(): boolean {
    const { inline } = this.#alive();
    if (!inline)
      throw new VhostError("EINVAL", 'runPending is for devices opened with run: "inline"');
    const worked = inline.runWorkList();
    return inline.enableKicks() || worked;
  }

  /** How often each ring error happened, by queue and name; queues without errors are left out. */
  errorCounts(): Record<number, Record<string, number>> {
    const counts = this.#vrings.map((vring, index) => [index, vring.errorCounts()] as const);
    return Object.fromEntries(counts.filter(([, errors]) => Object.keys(errors).length > 0));
  }

  /** Ends the worker and gives everything back. Requests in flight are not waited for. Idempotent. */
  async close(): Promise<void> {
    const running = this.#running;
    if (!running) return;
    await running.inline?.detach();
    await vhostTaskStop(running.task);
    this.#release();
    this.#running = undefined;
    this.#releaseClaims();
  }
}
