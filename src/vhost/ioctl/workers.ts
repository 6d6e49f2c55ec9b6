import { isHalted } from "../../kernel/halt.js";
import type { Kernel } from "../../kernel/kernel.js";
import type { Task } from "../../kernel/task.js";
import { vhostKthreadCreate } from "../../kernel/vhost-kthread.js";
import {
  type VhostTask,
  vhostTaskCreate,
  vhostTaskStart,
  vhostTaskStop,
} from "../../kernel/vhost-task.js";
import { VhostError } from "../../spec/errno.js";

/** Something to do, which is on one list once at most. Linux: vhost_work. */
export interface VhostWork {
  readonly run: () => void;
  isQueued: boolean;
}

/** A piece of work that is on no list. */
export const vhostWork = (run: () => void): VhostWork => ({ run, isQueued: false });

/** Linux: vhost_worker. */
export interface VhostWorkerState {
  readonly task: VhostTask;
  /** Rings that it works on. Linux: attachment_cnt. */
  attachments: number;
  readonly works: VhostWork[];
  /** Its task has ended before the device's end. */
  isKilled: boolean;
}

/** A ring, as far as workers need it. */
export interface Attachable {
  worker: VhostWorkerState | null;
}

/**
 * The workers of one device, by number: which ring is whose, what is on their lists. They have no
 * threads: `run` does what they may do. Kernel's thread. Linux: worker_xa, vhost_worker.
 */
export class VhostWorkers {
  readonly #kernel: Kernel;
  readonly #vqs: readonly Attachable[];
  readonly #byId = new Map<number, VhostWorkerState>();
  /** How often all of them were ended. */
  #stops = 0;

  /** None yet. */
  constructor(kernel: Kernel, vqs: readonly Attachable[]) {
    this.#kernel = kernel;
    this.#vqs = vqs;
  }

  /** Their numbers. */
  get ids(): number[] {
    return [...this.#byId.keys()];
  }

  /** Their tasks, those that have ended among them. */
  get tasks(): Task[] {
    return [...this.#byId.values()].map(({ task }) => task.task);
  }

  /**
   * A worker that has no ring yet; its number, the lowest that is free. ENOMEM: whatever the reason
   * that none can be made. Linux: vhost_worker_create().
   */
  create(owner: Task, forkFromOwner: boolean): number {
    const make = forkFromOwner ? vhostTaskCreate : vhostKthreadCreate;
    let task: VhostTask;
    try {
      task = make(this.#kernel, owner, { name: `vhost-${owner.pid}`, run: "inline" });
    } catch (error) {
      const facts = { pid: owner.pid };
      throw new VhostError("ENOMEM", "no worker can be made from the caller", facts, error);
    }
    vhostTaskStart(task);
    let id = 0;
    while (this.#byId.has(id)) id++;
    this.#byId.set(id, { task, attachments: 0, works: [], isKilled: false });
    return id;
  }

  /** ENODEV: none such. EBUSY: it has rings, or was killed. Linux: vhost_free_worker(). */
  free(id: number): void {
    const worker = this.#worker(id);
    if (worker.attachments > 0 || worker.isKilled) {
      throw new VhostError("EBUSY", "the worker has rings, or was killed", { id });
    }
    this.#byId.delete(id);
    void vhostTaskStop(worker.task);
  }

  /** ENODEV: none such. One that was killed gets no ring. Linux: vhost_vq_attach_worker(). */
  attach(vq: Attachable, id: number): void {
    const worker = this.#worker(id);
    if (worker.isKilled) return;
    if (vq.worker !== null) vq.worker.attachments--;
    worker.attachments++;
    vq.worker = worker;
  }

  /** Number of the worker that a ring has. EINVAL: none, it was killed. */
  idOf(vq: Attachable): number {
    this.#bury();
    for (const [id, worker] of this.#byId) if (worker === vq.worker) return id;
    throw new VhostError("EINVAL", "the ring has no worker any more");
  }

  /** Has the ring's worker do `work`; false: it has none. Linux: vhost_vq_work_queue(). */
  queue(vq: Attachable, work: VhostWork): boolean {
    this.#bury();
    const { worker } = vq;
    if (worker === null) return false;
    if (!work.isQueued) worker.works.push(work);
    work.isQueued = true;
    return true;
  }

  /**
   * Asks every worker that has rings to say when it has come so far. Returns whether all have; a
   * dead one has. Linux: vhost_dev_flush().
   */
  flush(): () => boolean {
    this.#bury();
    const stops = this.#stops;
    let left = 0;
    for (const worker of this.#byId.values()) {
      if (worker.attachments === 0 || worker.isKilled) continue;
      left++;
      worker.works.push({ run: () => left--, isQueued: true });
    }
    return () => {
      this.#bury();
      return left === 0 || stops !== this.#stops;
    };
  }

  /** A batch of each that may run; calls `ran` after each. Returns whether anything was done. */
  run(ran: (task: Task) => void = () => {}): boolean {
    this.#bury();
    let worked = false;
    for (const worker of this.#byId.values()) {
      if (worker.works.length === 0 || isHalted(worker.task.task)) continue;
      runBatch(worker);
      ran(worker.task.task);
      worked = true;
    }
    return worked;
  }

  /** Ends them all; who waits for them waits no more. Linux: vhost_workers_free(). */
  stop(): void {
    this.#stops++;
    for (const vq of this.#vqs) vq.worker = null;
    for (const worker of this.#byId.values()) {
      void vhostTaskStop(worker.task);
      for (const work of worker.works.splice(0)) work.isQueued = false;
    }
    this.#byId.clear();
  }

  #worker(id: number): VhostWorkerState {
    this.#bury();
    const worker = this.#byId.get(id);
    if (worker) return worker;
    throw new VhostError("ENODEV", `there is no worker ${id}`, { id });
  }

  /**
   * Of those whose task has ended, the rings have no worker any more; what was on its list is done,
   * so that who waits for it goes on. Linux: vhost_worker_killed().
   */
  #bury(): void {
    for (const worker of this.#byId.values()) {
      if (worker.isKilled || worker.task.task.exitState === 0) continue;
      worker.isKilled = true;
      for (const vq of this.#vqs) if (vq.worker === worker) vq.worker = null;
      worker.attachments = 0;
      runBatch(worker);
    }
  }
}

function runBatch({ works }: VhostWorkerState): void {
  for (const work of works.splice(0)) {
    work.isQueued = false; // before it runs: what comes meanwhile is a further piece of work
    work.run();
  }
}
