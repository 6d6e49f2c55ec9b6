import { orAbort } from "./driver/abort.js";
import { type Drivers, probeDriver } from "./driver/drivers.js";
import { HostileDriver, type HostileOptions } from "./driver/hostile/hostile-driver.js";
import type { ProbeOptions } from "./driver/probe.js";
import type { QueueAddresses, Transport } from "./driver/transport.js";
import { fdClose, fdInstall, OpenFile } from "./kernel/files.js";
import type { Kernel } from "./kernel/kernel.js";
import { doPrlimit, type Rlimit, type Rlimits } from "./kernel/rlimit.js";
import { mustLive, type Task } from "./kernel/task.js";
import type { MemoryRegion } from "./memory/guest-memory.js";
import { GUEST_BASE, type SharedMemory } from "./memory/shared-memory.js";
import { loadRings, type RingKind } from "./ring/load.js";
import type { DriverRing } from "./ring/ring.js";
import { VhostError } from "./spec/errno.js";
import { hasFeature } from "./spec/features.js";
import { checkNames } from "./spec/options.js";
import { PF_IO_WORKER } from "./spec/sched.js";
import {
  VIRTIO_CONFIG_S_DRIVER_OK,
  VIRTIO_CONFIG_S_FAILED,
  VIRTIO_F_VERSION_1,
} from "./spec/virtio-config.js";
import { type DevOptions, VhostDev } from "./vhost/dev.js";
import type { DeviceSpec } from "./vhost/device.js";
import { OpenWorkers } from "./vhost/open-workers.js";

/** How to open a device. */
export interface OpenOptions extends Omit<DevOptions, "worker"> {
  /** Another open device of the process, whose worker serves this one, too. Default: one more. */
  worker?: OpenDevice<keyof Drivers>;
  /** Workers, which have the queues in turn: 1, the default, to as many as there are queues. */
  workers?: number;
  /** Gives up opening; what was made so far is given back. */
  signal?: AbortSignal;
}

/** How to bring a device up. */
export interface DriverOptions extends ProbeOptions {
  /** Gives up; what was begun is taken back as soon as the device answers. */
  signal?: AbortSignal;
}

const OPEN_OPTIONS = [
  "ring",
  "run",
  "pollMicroseconds",
  "forkFromOwner",
  "policy",
  "notifier",
  "workers",
  "worker",
  "signal",
];

/** A driver's way to a device in the same program: calls instead of a bus. */
class LoopbackTransport implements Transport {
  readonly #dev: VhostDev;
  readonly #ring: RingKind;
  readonly #onDetach: () => void;
  #regions: readonly MemoryRegion[] | undefined;
  #status = 0;

  constructor(dev: VhostDev, ring: RingKind, onDetach: () => void) {
    this.#dev = dev;
    this.#ring = ring;
    this.#onDetach = onDetach;
  }

  detach(): void {
    this.#onDetach();
  }

  get shared(): SharedMemory {
    return this.#dev.sharedMemory;
  }

  get deviceId(): number {
    return this.#dev.info.deviceId;
  }

  get deviceFeatures(): bigint {
    return this.#dev.offeredFeatures;
  }

  get isInline(): boolean {
    return this.#dev.worker.inline !== undefined;
  }

  get queueCount(): number {
    return this.#dev.info.queueCount;
  }

  get queueSizeMax(): number {
    return this.#dev.info.queueSizeMax;
  }

  get status(): number {
    return this.#status;
  }

  async setStatus(status: number): Promise<void> {
    if (status === 0) await this.#reset();
    const rises = status & ~this.#status;
    if (rises & VIRTIO_CONFIG_S_DRIVER_OK && !(status & VIRTIO_CONFIG_S_FAILED)) {
      const { guestStart, guestBytes } = this.shared;
      const sizeBytes = BigInt(guestBytes);
      const whole = { guestAddress: GUEST_BASE, sizeBytes, linearAddress: guestStart };
      this.#dev.setMemTable(this.#regions ?? [whole]);
      await this.#dev.start();
    }
    this.#status = status;
  }

  /** A device whose worker has ended, or ends meanwhile, needs no reset. */
  async #reset(): Promise<void> {
    try {
      await this.#dev.reset();
    } catch (error) {
      if (!this.#dev.workers.death) throw error;
    }
  }

  /** Refuses by throwing, not by leaving FEATURES_OK unset: the caller learns why. */
  setFeatures(features: bigint): void {
    if (!hasFeature(features, VIRTIO_F_VERSION_1)) {
      throw new VhostError("EOPNOTSUPP", "a driver must accept VIRTIO_F_VERSION_1");
    }
    this.#dev.setFeatures(features);
  }

  setMemTable(regions: readonly MemoryRegion[]): void {
    this.#regions = regions;
  }

  setupQueue(index: number, { num, ...addresses }: QueueAddresses): void {
    this.#dev.setVringNum(index, num);
    this.#dev.setVringAddr(index, addresses);
  }

  resetQueue(index: number): Promise<void> {
    return this.#dev.resetVring(index);
  }

  isQueueEnabled(index: number): boolean {
    return this.#dev.isVringEnabled(index);
  }

  enableQueue(index: number, addresses: QueueAddresses): Promise<void> {
    return this.#dev.startVring(index, addresses);
  }

  readConfig(): Promise<Uint8Array> {
    return this.#dev.readConfig();
  }

  writeConfig(offset: number, bytes: Uint8Array): Promise<void> {
    return this.#dev.writeConfig(offset, bytes);
  }

  driverRing(vq: number): DriverRing {
    return loadRings(this.shared.memory, this.#ring).driver(vq);
  }

  kick(index: number, data?: number): void {
    this.#dev.workers.kick(index, data);
  }

  callSequence(): number {
    return this.#dev.worker.doorbell.callSequence();
  }

  waitCall(seen: number, timeoutMs: number): Promise<void> {
    return this.#dev.worker.doorbell.waitCall(seen, timeoutMs);
  }

  onDeath(listener: (error: VhostError) => void): void {
    this.#dev.workers.onDeath(listener);
  }

  onQueueDeath(listener: (index: number, error: VhostError) => void): void {
    this.#dev.workers.onQueueDeath(listener);
  }
}

/** An open device of a process: its worker runs until it is closed. */
export class OpenDevice<Kind extends keyof Drivers> extends OpenWorkers implements AsyncDisposable {
  readonly #kind: Kind;
  readonly #dev: VhostDev;
  readonly #ring: RingKind;
  #driver: Promise<{ close(): Promise<void> }> | undefined;
  #closed: Promise<void> | undefined;

  /** Made by `Process.open`. */
  constructor(kind: Kind, dev: VhostDev, ring: RingKind) {
    super();
    this.#kind = kind;
    this.#dev = dev;
    this.#ring = ring;
  }

  /** The control side underneath. */
  get dev(): VhostDev {
    return this.#dev;
  }

  /** The worker's task: `vhost-<pid>`, made from the owner. */
  get workerTask(): Task {
    return this.#dev.worker.task.task;
  }

  /**
   * The guest's side, in this thread: brings the device up. One driver at a time: EBUSY until the
   * first one is closed. A worker that is stopped or frozen answers, too, unless a device of its
   * own waits for io workers that are; requests wait.
   */
  async driver({ signal, ...options }: DriverOptions = {}): Promise<Drivers[Kind]> {
    signal?.throwIfAborted();
    const probed = this.#probe((transport) => probeDriver(this.#kind, transport, options));
    try {
      return await orAbort(probed, signal);
    } catch (error) {
      if (signal?.aborted) probed.then((driver) => driver.close()).catch(() => {});
      throw error;
    }
  }

  /**
   * In place of `driver`: a driver that breaks the rules on purpose, to see what the device makes
   * of it.
   */
  hostileDriver(options: HostileOptions = {}): Promise<HostileDriver> {
    return this.#probe((transport) => HostileDriver.probe(transport, options));
  }

  async #probe<T extends { close(): Promise<void> }>(
    probe: (transport: Transport) => Promise<T>,
  ): Promise<T> {
    if (this.#driver) {
      throw new VhostError("EBUSY", "the device has a driver; close that one first");
    }
    const free = () => {
      this.#driver = undefined;
    };
    const driver = probe(new LoopbackTransport(this.#dev, this.#ring, free));
    this.#driver = driver;
    driver.catch(free);
    return driver;
  }

  /** With `run: "inline"`: does what is pending, in this thread. See `VhostDev.runPending`. */
  runPending(): boolean {
    return this.#dev.runPending();
  }

  /** How often each ring error happened, by queue and name: the device's side. */
  errorCounts(): Record<number, Record<string, number>> {
    return this.#dev.errorCounts();
  }

  /**
   * Calls `listener` once, when the worker ends: with ENODEV and the cause, which is "the device is
   * closed" after a close.
   */
  onDeath(listener: (error: VhostError) => void): void {
    this.#dev.workers.onDeath(listener);
  }

  /** Closes its driver, ends the worker, gives everything back. Idempotent: one close for all. */
  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    const driver = this.#driver?.catch(() => undefined); // its caller hears why it failed
    try {
      await this.#dev.close(); // the worker first: it may never answer the driver's reset
    } finally {
      await (await driver)?.close();
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/**
 * A process of the model that opens devices; made by `Kernel.spawn`. An open device is an open file
 * of the process: it closes when the process exits or is killed.
 */
export class Process implements AsyncDisposable {
  readonly #kernel: Kernel;
  readonly #devices = new Set<OpenDevice<keyof Drivers>>();
  /** The process in the task table. */
  readonly task: Task;

  /** `task`: a process that lives. */
  constructor(kernel: Kernel, task: Task) {
    this.#kernel = kernel;
    this.task = task;
  }

  /** Its number. */
  get pid(): number {
    return this.task.pid;
  }

  /**
   * Opens a device: the process becomes its owner, and a worker is made from the process. Rejects
   * with EAGAIN at a limit of the owner (RLIMIT_NPROC, pids.max), EOPNOTSUPP for several workers of
   * a device that can't be spread, with what the device's module
   * throws (ENOENT for a missing file …), EBUSY when something it needs is taken, ESRCH when the
   * process has exited; nothing is kept.
   */
  async open<Kind extends keyof Drivers>(
    spec: DeviceSpec<Kind>,
    { signal, workers = 1, worker, ...options }: OpenOptions = {},
  ): Promise<OpenDevice<Kind>> {
    signal?.throwIfAborted();
    checkNames("open", options, OPEN_OPTIONS);
    if (typeof spec?.module !== "string") {
      throw new VhostError("EINVAL", "open takes what blk() or custom() returns", { spec });
    }
    const host = worker && { worker: worker.dev.worker };
    const dev = new VhostDev(this.#kernel, { ...options, ...host });
    const device = new OpenDevice(spec.kind, dev, options.ring ?? "wasm");
    try {
      dev.setOwner(this.task);
      this.#install(device as unknown as OpenDevice<keyof Drivers>, dev);
      await orAbort(dev.setBackend(spec), signal);
      if (workers !== 1) await orAbort(dev.spreadVrings(workers), signal);
    } catch (error) {
      await device.close();
      throw error;
    }
    return device;
  }

  /** Puts the device in the process's table of open files until its worker ends. */
  #install(device: OpenDevice<keyof Drivers>, dev: VhostDev): void {
    const { files } = this.task;
    if (!files) return;
    const file = new OpenFile(() => {
      const forget = () => this.#devices.delete(device);
      device.close().then(forget, forget); // who calls close() hears what the device's threw
    });
    const fd = fdInstall(files, file);
    this.#devices.add(device);
    dev.workers.onDeath(() => {
      if (files.fds.get(fd) === file) fdClose(files, fd);
    });
  }

  /**
   * Moves it to another control group, whatever the limits there: its threads go along, and its
   * workers in an epoch where they are threads of it. What is charged already stays; memory, too.
   * Throws EINVAL, ESRCH.
   */
  moveTo(cgroup: string): void {
    this.#kernel.moveToCgroup(this.pid, cgroup);
  }

  /**
   * Sets one of its limits as root does: what it makes from now on is held to it, its workers of
   * before are counted, too. A number is soft and hard limit in one. Throws EINVAL, ESRCH. Linux:
   * prlimit(2).
   */
  setRlimit(resource: keyof Rlimits, limit: number | Rlimit): void {
    mustLive(this.task);
    checkNames("rlimits", { [resource]: limit }, Object.keys(this.task.signal.rlimits));
    const both = typeof limit === "number" ? { cur: limit, max: limit } : limit;
    doPrlimit(this.#kernel.init, this.task, resource, both);
  }

  /**
   * Exits with `code`, and waits until its devices are closed and its io workers have ended.
   * Idempotent.
   */
  async exit(code = 0): Promise<void> {
    const devices = [...this.#devices];
    const { threads } = this.task.signal;
    const ioThreads = [...threads].filter(({ flags }) => (flags & PF_IO_WORKER) !== 0);
    if (this.task.exitState === 0) this.#kernel.exitGroup(this.task, code << 8);
    await Promise.all(devices.map((device) => device.close()));
    await Promise.all(ioThreads.map(({ thread }) => thread?.exited));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.exit();
  }
}
