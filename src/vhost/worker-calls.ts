import { VhostError } from "../spec/errno.js";
import type { DevWorkers } from "./dev-workers.js";
import type { RingSet } from "./ring-set.js";

/** What the calls about workers are about. */
export interface WorkerCallParts {
  workers: DevWorkers;
  rings: RingSet;
}

/** The part of a device's control side that is about its workers. Linux: vhost_worker_ioctl(). */
export abstract class WorkerCalls {
  /** Throws EPERM when there is no owner, ENODEV when the device is gone. */
  protected abstract get parts(): WorkerCallParts;
  /** Does `work` when the calls before it have ended. */
  protected abstract inTurn<T>(work: () => Promise<T>): Promise<T>;

  /**
   * One more worker made from the owner, for queues that are attached to it; gives its number, the
   * lowest that is free. Rejects with EFAULT when the device's worker is a kernel thread,
   * EOPNOTSUPP when the device can't be spread (see `VirtioDevice.shared`), and as copyProcess
   * throws. Linux: VHOST_NEW_WORKER, which reports ENOMEM for any failure to make it.
   */
  newWorker(): Promise<number> {
    return this.inTurn(async () => this.parts.workers.make());
  }

  /**
   * Ends a worker that no queue is attached to. Rejects with ENODEV when there is none of that
   * number, EBUSY when it has queues or died. Linux: VHOST_FREE_WORKER.
   */
  freeWorker(id: number): Promise<void> {
    return this.inTurn(() => this.parts.workers.free(id));
  }

  /**
   * Gives a queue to a worker. One that runs is left by its worker, which answers what it holds of
   * it, and goes on in the other where it is; the rest of the device goes on meanwhile. Rejects
   * with ENOBUFS, ENODEV (also when that worker has died), EIO when the queue's own has died while
   * it ran, EOPNOTSUPP as `newWorker`. Linux: VHOST_ATTACH_VRING_WORKER.
   */
  attachVringWorker(index: number, id: number): Promise<void> {
    return this.inTurn(async () => {
      const ring = this.parts.rings.startOf(index);
      await this.parts.workers.attach(index, id, ring);
    });
  }

  /**
   * The number of a queue's worker. Throws ENOBUFS; EINVAL: it died. Linux: VHOST_GET_VRING_WORKER.
   */
  getVringWorker(index: number): number {
    this.parts.rings.at(index);
    return this.parts.workers.workerOf(index);
  }

  /**
   * Makes workers until there are so many, and gives them the queues in turn. Rejects as
   * `newWorker`; with EINVAL for none, or more than there are queues.
   */
  async spreadVrings(count: number): Promise<void> {
    const queueCount = this.parts.rings.count;
    if (!Number.isInteger(count) || count < 1 || count > queueCount) {
      const message = `a device of ${queueCount} queues has 1 to ${queueCount} workers`;
      throw new VhostError("EINVAL", message, { workers: count });
    }
    const ids = [0];
    while (ids.length < count) ids.push(await this.newWorker());
    for (let index = 0; index < queueCount; index++) {
      await this.attachVringWorker(index, ids[index % count] as number);
    }
  }

  /**
   * Resolves when all that was pending has had a turn; while the worker is stopped or frozen, it
   * waits. Linux: vhost_dev_flush().
   */
  flush(): Promise<void> {
    return this.inTurn(() => this.parts.workers.flush());
  }

  /**
   * How long, in microseconds, a queue's worker looks at its rings before it sleeps: the longest of
   * what is said of its queues, its own `pollMicroseconds` where nothing is (`undefined`). A reset
   * forgets it. Rejects with ENOBUFS; EINVAL for what is no u32. Linux:
   * VHOST_SET_VRING_BUSYLOOP_TIMEOUT.
   */
  setVringBusyloopTimeout(index: number, microseconds: number | undefined): Promise<void> {
    return this.inTurn(async () => {
      const vring = this.parts.rings.at(index);
      if (microseconds !== undefined && microseconds >>> 0 !== microseconds) {
        throw new VhostError("EINVAL", "a busyloop timeout is a u32", { microseconds });
      }
      vring.busyloopMicroseconds = microseconds;
      const control = vring.isActive && (await this.parts.workers.controlOf(index));
      if (control) await control.setBusyloopTimeout(index, microseconds);
    });
  }
}
