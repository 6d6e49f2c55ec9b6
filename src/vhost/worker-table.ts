import { VhostError } from "../spec/errno.js";

/** Throws EFAULT where a device's worker is a kernel thread. Linux: vhost_new_worker(). */
export function mustForkFromOwner(forkFromOwner: boolean): void {
  if (forkFromOwner) return;
  throw new VhostError("EFAULT", "a device with a kernel thread has no further workers");
}

/**
 * Workers of one device by number, and whose each ring is; whoever makes and moves them: a program
 * by ioctl, the owner by call. Linux: vhost_dev's worker_xa, vhost_virtqueue's worker.
 */
export class WorkerTable<Worker extends object> {
  readonly #isDead: (worker: Worker) => boolean;
  readonly #byId = new Map<number, Worker>();
  /** The worker of each ring that has one, by the ring's number. */
  readonly #ofRings = new Map<number, Worker>();

  /** `isDead`: a worker has ended before the device. */
  constructor(isDead: (worker: Worker) => boolean) {
    this.#isDead = isDead;
  }

  /** All of them. */
  get list(): Worker[] {
    return [...this.#byId.values()];
  }

  /** All of them, by number. */
  get all(): ReadonlyMap<number, Worker> {
    return this.#byId;
  }

  /** One more, by the lowest number that is free, which is returned. */
  add(worker: Worker): number {
    let id = 0;
    while (this.#byId.has(id)) id++;
    this.#byId.set(id, worker);
    return id;
  }

  /** Throws ENODEV: there is none of that number. */
  at(id: number): Worker {
    const worker = this.#byId.get(id);
    if (worker) return worker;
    throw new VhostError("ENODEV", `the device has no worker ${id}`, { id });
  }

  /** A ring's worker, which may be dead; `undefined`: it has none. */
  of(ring: number): Worker | undefined {
    return this.#ofRings.get(ring);
  }

  /** Number of a ring's worker. Throws EINVAL: it has none, or that is dead. */
  idOf(ring: number): number {
    const worker = this.of(ring);
    for (const [id, one] of this.#byId) if (one === worker && !this.#isDead(one)) return id;
    throw new VhostError("EINVAL", `queue ${ring} has no worker any more: it died`, { ring });
  }

  /** Numbers of a worker's rings. */
  ringsOf(worker: Worker): number[] {
    return [...this.#ofRings].filter(([, its]) => its === worker).map(([ring]) => ring);
  }

  /** A ring is this worker's from here on. */
  give(ring: number, worker: Worker): void {
    this.#ofRings.set(ring, worker);
  }

  /** A worker's rings are nobody's any more. */
  orphan(worker: Worker): void {
    for (const ring of this.ringsOf(worker)) this.#ofRings.delete(ring);
  }

  /**
   * The worker of that number, to be freed. Throws ENODEV; EBUSY for one that has rings or is dead:
   * that stays until the device's end. Linux: vhost_free_worker().
   */
  idle(id: number): Worker {
    const worker = this.at(id);
    const ringCount = this.ringsOf(worker).length;
    if (ringCount > 0) {
      throw new VhostError("EBUSY", `queues are attached to worker ${id}`, { id, ringCount });
    }
    if (!this.#isDead(worker)) return worker;
    throw new VhostError("EBUSY", `worker ${id} was killed: it stays until the device is closed`);
  }

  /** It is gone. */
  delete(id: number): void {
    this.#byId.delete(id);
  }

  /** All are gone, and no ring has one; they are returned. */
  clear(): Worker[] {
    const workers = this.list;
    this.#byId.clear();
    this.#ofRings.clear();
    return workers;
  }
}
