import type { Kernel } from "../kernel/kernel.js";
import type { Task } from "../kernel/task.js";
import type { SharedMemory } from "../memory/shared-memory.js";
import { VhostError } from "../spec/errno.js";
import { takeClaims } from "./claims.js";
import type { QueueLeft, RingPosition, RingStart, WorkerControl } from "./control.js";
import { type Backing, DevWorker } from "./dev-worker.js";
import type { DeviceInfo, DeviceSpec } from "./device.js";
import { passQueue } from "./pass-queue.js";
import { WorkerHandle, type WorkerOptions } from "./worker-handle.js";
import { mustForkFromOwner, WorkerTable } from "./worker-table.js";

/** Whom a queue's standing still is told, with the cause. */
export type QueueDeathListener = (index: number, error: VhostError) => void;

/**
 * The workers of one device, and which of them serves which queue. The first, number 0, is made
 * with it and has all queues; its death is the device's. When a further one dies, its queues stand
 * still and the others go on. What returns a promise is called one at a time. Owner's thread.
 * Linux: vhost_dev's worker_xa, vhost_worker_ioctl().
 */
export class DevWorkers {
  /** The one that was made first, which may have been freed; what it has for all, stays. */
  readonly first: WorkerHandle;
  readonly #kernel: Kernel;
  readonly #owner: Task;
  readonly #shared: SharedMemory;
  readonly #options: WorkerOptions;
  readonly #workers = new WorkerTable<DevWorker>(({ handle }) => handle.death !== undefined);
  #backing: Backing | undefined;
  #giveBack = () => {};
  /** Features under which queues run; `undefined`: the device is not started. */
  #features: bigint | undefined;
  #isStopped = false;
  #death: VhostError | undefined;
  readonly #onDeath = new Set<(error: VhostError) => void>();
  readonly #onQueueDeath = new Set<QueueDeathListener>();

  /** Makes the first one. Throws what copyProcess throws. */
  constructor(kernel: Kernel, owner: Task, shared: SharedMemory, options: WorkerOptions) {
    this.#kernel = kernel;
    this.#owner = owner;
    this.#shared = shared;
    this.#options = options;
    this.first = new WorkerHandle(kernel, owner, shared.memory, options);
    this.#add(this.first);
  }

  /** Its number. */
  #add(handle: WorkerHandle): number {
    const worker = new DevWorker(handle, handle === this.first);
    handle.onDeath((error) => this.#died(worker, error));
    return this.#workers.add(worker);
  }

  /** Why the device is gone, if it is: it was closed, or its first worker died. */
  get death(): VhostError | undefined {
    return this.#death;
  }

  /** Calls `listener` once, when the device is gone, or at once if it is. */
  onDeath(listener: (error: VhostError) => void): void {
    if (this.#death) listener(this.#death);
    else this.#onDeath.add(listener);
  }

  /** Calls `listener` for each queue that stands still because a further worker died. */
  onQueueDeath(listener: QueueDeathListener): void {
    this.#onQueueDeath.add(listener);
  }

  #died(worker: DevWorker, error: VhostError): void {
    if (worker.isFreed) return;
    if (worker.isFirst) this.#end(error);
    else if (!this.#isStopped) this.#standStill(worker, error);
  }

  #standStill(worker: DevWorker, error: VhostError): void {
    void worker.stop().catch(() => {}); // it must not stay counted
    for (const index of this.#workers.ringsOf(worker)) {
      for (const listener of this.#onQueueDeath) listener(index, error);
    }
  }

  #end(error: VhostError): void {
    this.#death ??= error;
    for (const listener of this.#onDeath) listener(this.#death);
    this.#onDeath.clear();
  }

  /** A queue's worker, which may be dead. */
  #of(index: number): DevWorker {
    return this.#workers.of(index) as DevWorker; // each has one, from the back-end on
  }

  /** Numbers of the workers that are there, and the task of each. */
  get tasks(): ReadonlyMap<number, Task> {
    return new Map([...this.#workers.all].map(([id, { handle }]) => [id, handle.task.task]));
  }

  get #lowest(): DevWorker {
    const lowest = Math.min(...this.#workers.all.keys());
    return this.#workers.at(lowest); // one is left always: queues are attached to it
  }

  /** See `VhostDev.setBackend`. */
  async setBackend(spec: DeviceSpec): Promise<DeviceInfo> {
    const wanted = spec.claims?.() ?? [];
    const giveBack = takeClaims(wanted);
    const backing = { spec, claims: wanted.map(({ key }) => key) };
    try {
      const info = await this.#instance(this.#lowest, backing);
      this.#backing = { ...backing, shared: info.shared };
      this.#giveBack = giveBack;
      for (let i = 0; i < info.queueCount; i++) this.#workers.give(i, this.#lowest);
      return info;
    } catch (error) {
      giveBack();
      throw error;
    }
  }

  #instance(worker: DevWorker, backing: Backing): Promise<DeviceInfo> {
    const ringKind = this.#options.ring ?? "wasm";
    const [kernel, owner, shared] = [this.#kernel, this.#owner, this.#shared];
    return worker.attach(backing, { kernel, owner, shared, ringKind });
  }

  /** Its instance of the device is made with its first queue. */
  async #ready(worker: DevWorker): Promise<void> {
    if (worker.isReady || !this.#backing) return;
    if (worker.handle.death) throw worker.handle.death;
    await this.#instance(worker, this.#backing);
    if (this.#features !== undefined) await worker.control.start(this.#features, []);
  }

  /** Throws EOPNOTSUPP for a device that has to live in one worker. */
  #mustSpread(): void {
    if (!this.#backing || this.#backing.shared !== undefined) return;
    throw new VhostError("EOPNOTSUPP", "the device can't be spread over several workers");
  }

  /** See `VhostDev.newWorker`. */
  make(): number {
    const { forkFromOwner = this.#kernel.forkFromOwnerDefault, notifier } = this.#options;
    if (this.#isStopped) throw new VhostError("ENODEV", "the device is being closed");
    mustForkFromOwner(forkFromOwner);
    this.#mustSpread();
    if (notifier && !notifier.another) {
      throw new VhostError("EOPNOTSUPP", "the device's notifier is for one worker");
    }
    const another = notifier?.another?.();
    const options = another ? { ...this.#options, notifier: another } : this.#options;
    const { memory } = this.#shared;
    return this.#add(new WorkerHandle(this.#kernel, this.#owner, memory, options, this.first));
  }

  /** See `VhostDev.freeWorker`. */
  async free(id: number): Promise<void> {
    if (!this.#backing && this.#workers.at(id).isFirst) {
      throw new VhostError("EBUSY", "the device's queues will be the first worker's", { id });
    }
    const worker = this.#workers.idle(id);
    worker.isFreed = true;
    try {
      await worker.stop();
    } finally {
      this.#workers.delete(id);
    }
  }

  /**
   * See `VhostDev.attachVringWorker`. `ring`: the queue runs. Rejects, too, with what the device's
   * module throws for a further instance: then nothing has changed.
   */
  async attach(index: number, id: number, ring: RingStart | undefined): Promise<void> {
    const next = this.#workers.at(id);
    const last = this.#of(index);
    if (next === last) return;
    this.#mustSpread();
    if (next.handle.death) throw next.handle.death;
    if (ring) {
      if (last.handle.death) throw standsStill(index, last.handle.death);
      await this.#ready(next);
      let worker = next;
      const goesOn = (left: QueueLeft | undefined) => {
        if (!left) return undefined;
        if (next.handle.death) worker = last; // meanwhile
        this.#workers.give(index, worker); // kicks go there from here on: it looks when it starts
        return ring;
      };
      await passQueue(last.control, index, goesOn, () => worker.control);
      if (worker === last) throw next.handle.death;
    } else this.#workers.give(index, next);
  }

  /** See `VhostDev.getVringWorker`. */
  workerOf(index: number): number {
    return this.#workers.idOf(index);
  }

  /** Entries of `queue` are available: tells its worker. See `WorkerHandle.kick`. */
  kick(queue: number, data?: number): void {
    (this.#workers.of(queue)?.handle ?? this.first).kick(queue, data);
  }

  /** Starts all queues, each in its worker. Rejects, with none started, when a worker died. */
  async start(features: bigint, rings: readonly RingStart[]): Promise<void> {
    const by = new Map(this.#live.map((worker) => [worker, [] as RingStart[]]));
    for (const ring of rings) {
      const worker = this.#of(ring.index);
      const { death } = worker.handle;
      if (death) throw standsStill(ring.index, death);
      by.set(worker, [...(by.get(worker) ?? []), ring]);
    }
    try {
      for (const worker of by.keys()) await this.#ready(worker);
      await Promise.all([...by].map(([{ control }, its]) => control.start(features, its)));
    } catch (error) {
      await Promise.allSettled(this.#live.map(({ control }) => control.stop()));
      throw error;
    }
    this.#features = features;
  }

  /** Workers that can be asked. */
  get #live(): DevWorker[] {
    return this.#workers.list.filter(({ isReady }) => isReady);
  }

  /** Nothing goes on any more of what workers were at that died. */
  async #settled(): Promise<void> {
    const dead = this.#workers.list.filter(({ isFirst, handle }) => !isFirst && handle.death);
    await Promise.allSettled(dead.map((worker) => worker.stop()));
  }

  /** Asks all workers; of a further one that dies meanwhile, there is no answer. */
  async #all<T>(ask: (control: WorkerControl) => Promise<T>): Promise<T[]> {
    const answers = this.#live.map(async ({ control, handle, isFirst }) => {
      try {
        return [await ask(control)];
      } catch (error) {
        if (isFirst || !handle.death) throw error;
        return [];
      }
    });
    return (await Promise.all(answers)).flat();
  }

  /** Stops all queues; where each goes on, but for those whose worker is dead. */
  async stopQueues(): Promise<RingPosition[]> {
    if (this.#death) throw this.#death;
    const positions = await this.#all((control) => control.stop());
    await this.#settled();
    this.#features = undefined;
    return positions.flat();
  }

  /** Resets the device. */
  async reset(): Promise<void> {
    if (this.#death) throw this.#death;
    this.#features = undefined;
    await this.#all((control) => control.reset());
    await this.#settled();
  }

  /** See `VirtioDevice.renew`. */
  async renew(): Promise<void> {
    if (this.#death) throw this.#death;
    await this.#all((control) => control.renew());
  }

  /** What can be asked of a queue's worker; `undefined`: it is dead, and nothing of it goes on. */
  async controlOf(index: number): Promise<WorkerControl | undefined> {
    const worker = this.#of(index);
    if (worker.handle.death) {
      await this.#settled();
      return undefined;
    }
    await this.#ready(worker);
    return worker.control;
  }

  /** Of a worker that lives, if there is one: for what any of them can answer. */
  async #anyControl(): Promise<WorkerControl> {
    const worker = this.#live[0] ?? this.#lowest;
    await this.#ready(worker);
    return worker.control;
  }

  /** See `VirtioDevice.announce`. */
  async announce(mac: Uint8Array): Promise<void> {
    await (await this.#anyControl()).announce(mac);
  }

  /** The configuration space. */
  async readConfig(): Promise<Uint8Array> {
    return (await this.#anyControl()).readConfig();
  }

  /** A write to it, which every instance gets. */
  async writeConfig(offset: number, bytes: Uint8Array): Promise<void> {
    await this.readConfig(); // there is one
    await this.#all((control) => control.writeConfig(offset, bytes));
  }

  /** See `VhostDev.flush`. */
  async flush(): Promise<void> {
    const busy = this.#live.filter((worker) => this.#workers.ringsOf(worker).length > 0);
    await Promise.all(
      busy.map(({ handle }) => {
        return handle.inline ? handle.runPending() : handle.flushed();
      }),
    );
  }

  /** See `VhostDev.runPending`. */
  runPending(): boolean {
    const worked = this.#workers.list
      .filter(({ handle }) => !handle.death)
      .map(({ handle }) => handle.runPending());
    return worked.includes(true);
  }

  /**
   * Ends them all and gives back what the device had. Rejects, at the end, with what a device's
   * close threw. Linux: vhost_workers_free().
   */
  async stop(): Promise<void> {
    this.#isStopped = true; // first of all: none comes from here on
    const workers = this.#workers.list;
    const ends = await Promise.allSettled(workers.map((worker) => worker.stop()));
    this.#giveBack();
    this.#giveBack = () => {};
    this.#end(workers[0]?.handle.death as VhostError);
    for (const end of ends) if (end.status === "rejected") throw end.reason;
  }
}

function standsStill(index: number, cause: VhostError): VhostError {
  const how = "reset it, then attach it to another";
  return new VhostError("EIO", `queue ${index} stands still, its worker died: ${how}`, {}, cause);
}
