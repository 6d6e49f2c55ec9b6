// A vhost device, as far as who may do what to it, and who does its work: ownership, workers, which
// ring is whose. Rules: Linux 6.12, vhost.c.

import type { Kernel } from "#dist/kernel/kernel.js";
import { type Mm, mmput } from "#dist/kernel/mm.js";
import type { Task } from "#dist/kernel/task.js";
import { SyscallError } from "./errors.js";
import type { Ring } from "./ring.js";
import {
  isKilled,
  kthreadWorker,
  runWorker,
  userWorker,
  type Work,
  type Worker,
} from "./worker.js";

/** What is behind /dev/vhost-…. */
export type DeviceKind = "vsock" | "net" | "scsi";

const QUEUES = { vsock: 2, net: 2, scsi: 130 } as const;
/** Microseconds of a packet that is dropped. */
const PACKET_US = 2;

/** A ring as the device has it. Linux: vhost_virtqueue. */
export interface Vq {
  num: number;
  ring: Ring | undefined;
  kick: Ring | undefined;
  worker: Worker | null;
  lastAvail: number;
  /** Microseconds. */
  busyloopTimeout: number;
  /** It has a back-end, and works. Linux: private_data. */
  isActive: boolean;
}

const freshVq = (): Vq => ({
  num: 1,
  ring: undefined,
  kick: undefined,
  worker: null,
  lastAvail: 0,
  busyloopTimeout: 0,
  isActive: false,
});

/** Linux: vhost_dev. */
export class VhostDevice {
  readonly vqs: Vq[];
  readonly workers = new Map<number, Worker>();
  features = 0n;
  /** Workers are made from the owner, else they are kernel threads. Linux: fork_owner. */
  forkFromOwner = true;
  hasMemory = false;
  cid: number | undefined;
  #mm: Mm | null = null;

  constructor(
    readonly kernel: Kernel,
    readonly kind: DeviceKind,
    /** Where the tasks of the machine sleep. */
    readonly sleepsIn: WeakMap<Task, string>,
  ) {
    this.vqs = Array.from({ length: QUEUES[kind] }, freshVq);
  }

  /** Linux: vhost_dev_has_owner(). */
  get isOwned(): boolean {
    return this.#mm !== null;
  }

  /** By memory alone: threads pass, a forked child does not. Linux: vhost_dev_check_owner(). */
  isOwner(task: Task): boolean {
    return this.#mm !== null && this.#mm === task.mm;
  }

  /** EBUSY: owned. ENOMEM: no worker, for whatever reason. Linux: vhost_dev_set_owner(). */
  setOwner(task: Task): void {
    if (this.#mm !== null || task.mm === null) throw new SyscallError("EBUSY");
    const worker = this.#makeWorker(task);
    this.#mm = task.mm;
    this.#mm.users++;
    this.workers.set(0, worker);
    worker.attachments = this.vqs.length;
    for (const vq of this.vqs) vq.worker = worker;
  }

  /** A further worker; its number. EFAULT: they are kernel threads. Linux: vhost_new_worker(). */
  newWorker(task: Task): number {
    if (!this.forkFromOwner) throw new SyscallError("EFAULT");
    const worker = this.#makeWorker(task);
    let id = 0;
    while (this.workers.has(id)) id++;
    this.workers.set(id, worker);
    return id;
  }

  /** ENODEV: none such. EBUSY: it has rings, or was killed. Linux: vhost_free_worker(). */
  freeWorker(id: number): void {
    const worker = this.#worker(id);
    if (worker.attachments > 0 || isKilled(worker)) throw new SyscallError("EBUSY");
    this.workers.delete(id);
    worker.stop();
  }

  /** Linux: vhost_vq_attach_worker(). */
  attachWorker(vq: Vq, id: number): void {
    const worker = this.#worker(id);
    if (isKilled(worker)) return;
    if (vq.worker !== null) vq.worker.attachments--;
    worker.attachments++;
    vq.worker = worker;
  }

  /** Numbers of the worker that a ring has. EINVAL: none, it was killed. */
  workerOf({ worker }: Vq): number {
    for (const [id, one] of this.workers) if (one === worker && !isKilled(one)) return id;
    throw new SyscallError("EINVAL");
  }

  /** Has the ring's worker look at it; nothing when that is dead. Linux: vhost_vq_work_queue(). */
  queueKick(vq: Vq): void {
    const { worker } = vq;
    if (worker === null || isKilled(worker)) return;
    worker.works.push(this.#handleKick(vq));
  }

  /**
   * Has every worker that has rings say when it has come so far. Returns whether all have; a dead
   * one has. Linux: vhost_dev_flush().
   */
  flush(): () => boolean {
    let left = 0;
    for (const worker of this.workers.values()) {
      if (worker.attachments === 0 || isKilled(worker)) continue;
      left++;
      worker.works.push({ run: () => left--, costUs: 0 });
    }
    return () => left === 0;
  }

  /** Lets the workers work. Returns whether anything was done. */
  run(): boolean {
    return [...this.workers.values()].map(runWorker).includes(true);
  }

  /** The last close. Linux: vhost_dev_cleanup(). */
  release(): void {
    for (const worker of this.workers.values()) worker.stop();
    this.workers.clear();
    mmput(this.#mm);
    this.#mm = null;
    for (const vq of this.vqs) {
      if (vq.kick) vq.kick.kick.onWrite = undefined;
      Object.assign(vq, freshVq());
    }
    this.hasMemory = false;
    this.features = 0n;
    this.forkFromOwner = true;
  }

  #worker(id: number): Worker {
    const worker = this.workers.get(id);
    if (worker === undefined) throw new SyscallError("ENODEV");
    return worker;
  }

  #makeWorker(task: Task): Worker {
    const make = this.forkFromOwner ? userWorker : kthreadWorker;
    const fn = this.forkFromOwner ? "vhost_task_fn" : "vhost_run_work_kthread_list";
    try {
      const worker = make(this.kernel, task);
      this.sleepsIn.set(worker.task, fn);
      return worker;
    } catch {
      throw new SyscallError("ENOMEM");
    }
  }

  /** Takes every packet there is and gives it back. */
  #handleKick(vq: Vq): Work {
    const { ring } = vq;
    const count = ring && vq.isActive ? (ring.availIdx - vq.lastAvail) & 0xffff : 0;
    const run = () => {
      if (ring === undefined || !vq.isActive || vq.lastAvail === ring.availIdx) return;
      ring.usedIdx = (ring.usedIdx + ring.availIdx - vq.lastAvail) & 0xffff;
      vq.lastAvail = ring.availIdx;
      ring.call.signal();
    };
    return { run, costUs: count * PACKET_US };
  }
}
