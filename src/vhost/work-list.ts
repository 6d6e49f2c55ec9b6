/**
 * Queues that are due a turn, the oldest first. A bit for each says that it is on the list: queued
 * twice, it gets one turn. Linux: vhost_worker's work_list, VHOST_WORK_QUEUED.
 */
export class WorkList<Queue extends { readonly index: number }> {
  #queued: Queue[] = [];
  #taken: Queue[] = [];
  #bits = 0;

  /** How many are on it. */
  get length(): number {
    return this.#queued.length;
  }

  /** Puts `queue` at its end; `false`: it is on it already. Linux: vhost_work_queue(). */
  add(queue: Queue): boolean {
    const bit = 1 << queue.index;
    if ((this.#bits & bit) !== 0) return false;
    this.#bits |= bit;
    this.#queued.push(queue);
    return true;
  }

  /** Takes one off, wherever it is; `false`: it is not there. */
  remove(index: number): boolean {
    const isThere = (this.#bits & (1 << index)) !== 0;
    this.#bits &= ~(1 << index);
    this.#queued = this.#queued.filter((queue) => queue.index !== index);
    return isThere;
  }

  /**
   * Takes all of them, in order, for a turn each; they may be queued again meanwhile. The array is
   * used again at the next call but one.
   */
  take(): readonly Queue[] {
    const batch = this.#queued;
    this.#queued = this.#taken;
    this.#queued.length = 0;
    this.#taken = batch;
    this.#bits = 0;
    return batch;
  }

  /** Takes all of them, for good. */
  clear(): void {
    this.#queued.length = 0;
    this.#bits = 0;
  }
}
