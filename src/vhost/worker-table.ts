import { VhostError } from "../spec/errno.js";

/** Workers of one device by number, a new one's being the lowest that is free. Linux: worker_xa. */
export class WorkerTable<Worker> {
  readonly #byId = new Map<number, Worker>();

  /** All of them. */
  get list(): Worker[] {
    return [...this.#byId.values()];
  }

  /** All of them, by number. */
  get all(): ReadonlyMap<number, Worker> {
    return this.#byId;
  }

  /** The number that the next one gets. */
  get nextId(): number {
    let id = 0;
    while (this.#byId.has(id)) id++;
    return id;
  }

  /** One more, by its number, which is free. */
  set(id: number, worker: Worker): void {
    this.#byId.set(id, worker);
  }

  /** Throws ENODEV: there is none of that number. */
  at(id: number): Worker {
    const worker = this.#byId.get(id);
    if (worker) return worker;
    throw new VhostError("ENODEV", `the device has no worker ${id}`, { id });
  }

  /**
   * Throws EBUSY for one that has queues or was killed: that stays until the device's end. Linux:
   * vhost_free_worker().
   */
  mustBeIdle(id: number, queueCount: number, isKilled: boolean): void {
    if (queueCount > 0) {
      throw new VhostError("EBUSY", `queues are attached to worker ${id}`, { id, queueCount });
    }
    if (!isKilled) return;
    throw new VhostError("EBUSY", `worker ${id} was killed: it stays until the device is closed`);
  }

  /** It is gone. */
  delete(id: number): void {
    this.#byId.delete(id);
  }

  /** All are gone; they are returned. */
  clear(): Worker[] {
    const workers = this.list;
    this.#byId.clear();
    return workers;
  }
}
