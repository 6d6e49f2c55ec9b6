import type { EventFd } from "../../kernel/eventfd.js";
import type { Kernel } from "../../kernel/kernel.js";
import type { Task } from "../../kernel/task.js";
import { SharedMemory } from "../../memory/shared-memory.js";
import { VhostError } from "../../spec/errno.js";
import { DevOwner } from "../dev-owner.js";
import { onMappingChange, UserMemory } from "../user-access.js";
import { memoryAccessOk } from "./access.js";
import type { MakeBacking, VhostBacking } from "./backing.js";
import { DeviceIotlb } from "./device-iotlb.js";
import type { UserRegion } from "./memory-table.js";
import { NetBackendFile } from "./net-backend.js";
import type { LiveMemory } from "./user-live-ring.js";
import { Vq, type VqShared } from "./vq.js";
import { type Attachable, type VhostRun, type VhostWorkerState, VhostWorkers } from "./workers.js";

/** Which device node. */
export type VhostKind = "vsock" | "net" | "scsi";

/** Rings that a device has. */
const QUEUES: Record<VhostKind, number> = { vsock: 2, net: 2, scsi: 130 };

/** CIDs that are taken, by machine. */
const cids = new WeakMap<Kernel, Map<number, VhostState>>();

/**
 * What an open /dev/vhost-… is: owner, memory table, rings, workers. Every ioctl changes it.
 * Kernel's thread. Linux: vhost_dev.
 */
export class VhostState implements VqShared {
  readonly kernel: Kernel;
  readonly kind: VhostKind;
  readonly vqs: readonly Vq[];
  readonly workers: VhostWorkers;
  readonly owner = new DevOwner();
  readonly #backing: VhostBacking | undefined;
  /** Features that were accepted. Linux: acked_features of each ring. */
  features = 0n;
  backendFeatures = 0n;
  readonly iotlb = new DeviceIotlb();
  regions: readonly UserRegion[] | undefined;
  /** Workers are made from the owner; else they are kernel threads. Linux: fork_owner. */
  forkFromOwner: boolean;
  #logFd: EventFd | null = null;
  #live: LiveMemory | undefined;
  #forgetMapping = () => {};
  #cid: number | undefined;

  /** `backing`: what works on its rings; without one, nothing does. */
  constructor(kernel: Kernel, kind: VhostKind, run: VhostRun, backing?: MakeBacking) {
    this.kernel = kernel;
    this.kind = kind;
    this.forkFromOwner = kernel.forkFromOwnerDefault;
    this.vqs = Array.from({ length: QUEUES[kind] }, (_, index) => {
      return new Vq(index, this, (vq) => this.queue(vq));
    });
    this.#backing = backing?.(this);
    this.workers = new VhostWorkers(kernel, this.vqs, this.#backing, run);
  }

  /** EBUSY: owned. ENOMEM: no worker, for whatever reason. Linux: vhost_dev_set_owner(). */
  setOwner(task: Task): void {
    const id = this.owner.set(task, () => this.workers.create(task, this.forkFromOwner));
    for (const vq of this.vqs) this.workers.attach(vq, id);
  }

  get live(): LiveMemory {
    this.#live ??= this.#makeLive();
    return this.#live;
  }

  /** The owner's memory as a whole. Throws EFAULT for one in which no ring can be. */
  #makeLive(): LiveMemory {
    const { memory } = this.owner;
    const user = new UserMemory(memory);
    if (user.end === 0) throw new VhostError("EFAULT", "rings can't be in the owner's memory");
    this.#forgetMapping = onMappingChange(memory, () => this.#update());
    return { shared: SharedMemory.of(memory), user };
  }

  /** Has the ring's worker look at it; nothing if it is dead. */
  queue(vq: Vq): void {
    this.workers.queue(vq);
  }

  workerOf(vq: Attachable): VhostWorkerState | undefined {
    return this.workers.of(vq);
  }

  ask(asked: Promise<void>): void {
    this.workers.ask(asked);
  }

  #update(): void {
    for (const vq of this.vqs) vq.update();
  }

  /**
   * Whether the program can have all of `regions`, and their bits of the log if one is kept or
   * `isLogged`, as far as rings are active. Linux: memory_access_ok().
   */
  isMemoryAccessible(regions: readonly UserRegion[] | undefined, isLogged = false): boolean {
    return this.vqs.every((vq) => {
      return !vq.isActive || memoryAccessOk(regions, vq.log.base, isLogged || vq.isLogged);
    });
  }

  /** Sets what rings that run go by, too. */
  set(values: Partial<Pick<VhostState, "features" | "regions">>): void {
    Object.assign(this, values);
    if (values.features !== undefined) this.#backing?.featuresSet?.(values.features);
    this.#update();
  }

  get logFd(): EventFd | null {
    return this.#logFd;
  }

  /** Refers to `file` from now on. Linux: log_ctx. */
  setLogFd(file: EventFd | null): void {
    if (file) file.count++;
    this.#logFd?.put();
    this.#logFd = file;
  }

  /** The guest's CID. */
  get cid(): number | undefined {
    return this.#cid;
  }

  /** EADDRINUSE: another device has it. Linux: vhost_vsock_set_cid(). */
  setCid(cid: number): void {
    const taken = cids.get(this.kernel) ?? new Map<number, VhostState>();
    cids.set(this.kernel, taken);
    const other = taken.get(cid);
    if (other === this) return;
    if (other) throw new VhostError("EADDRINUSE", `another device has CID ${cid}`, { cid });
    this.#dropCid();
    taken.set(cid, this);
    this.#cid = cid;
    this.#backing?.cidSet?.(cid);
  }

  #dropCid(): void {
    if (this.#cid !== undefined) cids.get(this.kernel)?.delete(this.#cid);
    this.#cid = undefined;
  }

  /**
   * Starts every ring that is not active. EFAULT: one can't; then none is active. Linux:
   * vhost_vsock_start().
   */
  start(): void {
    try {
      for (const vq of this.vqs) {
        if (!vq.isAccessible) throw new VhostError("EFAULT", "a ring, or memory, can't be there");
        if (!vq.isActive) vq.start(this);
      }
    } catch (error) {
      this.stop();
      throw error;
    }
    for (const vq of this.vqs.slice(0, 1)) this.queue(vq); // to the guest: something may wait
  }

  /**
   * A ring works for `backend` from now on, or for nothing; what was made available before is
   * looked at. As `Vq.start`, and nothing is changed then. Linux: vhost_net_set_backend().
   */
  setBackend(vq: Vq, backend: NetBackendFile | null): void {
    const old = vq.backend;
    if (old === backend) return;
    if (backend === null) vq.stop();
    else if (vq.isActive) vq.backend = backend;
    else vq.start(backend);
    if (backend) backend.count++;
    const last = old instanceof NetBackendFile ? old : null;
    this.#backing?.backendSet?.(vq.index, last, backend); // has `last` put when it is done with
    if (backend) this.queue(vq);
  }

  /** Stops every ring. */
  stop(): void {
    for (const vq of this.vqs) vq.stop();
  }

  /** Everything but the CID as it was at first, no owner. Linux: vhost_dev_cleanup(). */
  reset(): void {
    for (const vq of this.vqs) {
      if (vq.backend instanceof NetBackendFile) this.setBackend(vq, null);
      vq.reset();
    }
    this.iotlb.clear();
    this.workers.stop();
    this.setLogFd(null);
    Object.assign(this, { features: 0n, backendFeatures: 0n, regions: undefined });
    this.#forgetMapping();
    this.#live = undefined;
    this.owner.clear();
    this.forkFromOwner = this.kernel.forkFromOwnerDefault;
  }

  /** The last close. */
  release(): void {
    this.reset();
    this.#dropCid();
    this.#backing?.released?.();
  }
}
