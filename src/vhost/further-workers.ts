import type { Kernel } from "../kernel/kernel.js";
import type { Task } from "../kernel/task.js";
import {
  type VhostTask,
  vhostTaskCreate,
  vhostTaskStart,
  vhostTaskStop,
} from "../kernel/vhost-task.js";
import { VhostError } from "../spec/errno.js";

/**
 * A device's workers beside its first one. They have no rings: a device lives in one thread, so
 * none can be attached here. They are made, counted and ended as Linux does it.
 */
export class FurtherWorkers {
  readonly #kernel: Kernel;
  readonly #owner: Task;
  readonly #forkFromOwner: boolean;
  readonly #workers = new Set<VhostTask>();

  /** None yet. */
  constructor(kernel: Kernel, owner: Task, forkFromOwner: boolean) {
    this.#kernel = kernel;
    this.#owner = owner;
    this.#forkFromOwner = forkFromOwner;
  }

  /**
   * One more thread made from the owner, asleep until `vhostTaskStop` or the device's close.
   * EFAULT: the device's worker is a kernel thread, and those come alone. Else as copyProcess.
   * Linux: VHOST_NEW_WORKER, vhost_new_worker().
   */
  make(): VhostTask {
    if (!this.#forkFromOwner) {
      throw new VhostError("EFAULT", "a device with a kernel thread has no further workers", {
        pid: this.#owner.pid,
      });
    }
    const worker = vhostTaskCreate(this.#kernel, this.#owner, {
      name: `vhost-${this.#owner.pid}`,
      fn: { module: new URL("./idle-worker.js", import.meta.url).href, name: "idleWorker" },
    });
    this.#workers.add(worker);
    void this.#reap(worker);
    vhostTaskStart(worker);
    return worker;
  }

  /** Whatever ends it: one that broke must not stay counted. */
  async #reap(worker: VhostTask): Promise<void> {
    await worker.exited;
    await vhostTaskStop(worker);
    this.#workers.delete(worker);
  }

  /** Ends them all. Never rejects. Linux: vhost_workers_free(). */
  async stop(): Promise<void> {
    await Promise.all([...this.#workers].map((worker) => vhostTaskStop(worker)));
  }
}
