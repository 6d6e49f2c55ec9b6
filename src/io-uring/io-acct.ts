import type { Task } from "../kernel/task.js";
import type { IoThread, IoWork } from "./io-work.js";

/** A worker, or the attempt to make one. Linux: io_worker. */
export class IoWorker<W extends IoWork> {
  readonly acct: IoAcct<W>;
  /** `null` while it could not be made. */
  task: Task | null = null;
  thread: IoThread<W> | null = null;
  /** What it does now. */
  current: W | null = null;
  /** Work of the same hash that it does next. */
  batch: W[] = [];
  /** It sleeps in its work: does not count as running. */
  isBlocked = false;
  /** Times that it could not be made. Linux: init_retries. */
  retries = 0;
  /** Stops the timer that it waits for. */
  cancelTimer: () => void = () => {};

  constructor(acct: IoAcct<W>) {
    this.acct = acct;
  }
}

/** Bounded or unbounded work: its queue and its workers. Pure state. Linux: io_wq_acct. */
export class IoAcct<W extends IoWork> {
  /** Most workers. */
  max: number;
  /** All, those that are being made too. Linux: nr_workers. */
  readonly workers = new Set<IoWorker<W>>();
  /** Those with nothing to do; the one that was last busy is last. */
  readonly free: IoWorker<W>[] = [];
  /** Workers that neither sleep in their work nor are free. Linux: nr_running. */
  running = 0;
  /** All that is queued waits for a hash. Linux: IO_ACCT_STALLED_BIT. */
  isStalled = false;
  #queue: W[] = [];

  /** `max`: most workers, 1 and up. */
  constructor(max: number) {
    this.max = max;
  }

  /** Work that no worker has taken. */
  get pending(): readonly W[] {
    return this.#queue;
  }

  /** Queues work; hashed work behind the last of its hash. Linux: io_wq_insert_work(). */
  insert(work: W): void {
    this.isStalled = false;
    const { hash } = work;
    const last = hash === undefined ? -1 : this.#queue.findLastIndex((one) => one.hash === hash);
    this.#queue.splice(last < 0 ? this.#queue.length : last + 1, 0, work);
  }

  /** Takes out what `match` says. */
  remove(match: (work: W) => boolean): W[] {
    const removed: W[] = [];
    const left: W[] = [];
    for (const work of this.#queue) (match(work) ? removed : left).push(work);
    this.#queue = left;
    return removed;
  }

  /**
   * Takes the first work whose hash is not in `busy`, and all of its hash with it; it is in `busy`
   * then. Nothing, with something queued: the account is stalled. Linux: io_get_next_work().
   */
  take(busy: Set<number>): W[] {
    const index = this.#queue.findIndex(({ hash }) => hash === undefined || !busy.has(hash));
    const work = this.#queue[index];
    this.isStalled = work === undefined && this.#queue.length > 0;
    if (work === undefined) return [];
    const { hash } = work;
    if (hash === undefined) return this.#queue.splice(index, 1);
    busy.add(hash);
    return this.remove((one) => one.hash === hash);
  }

  /** Takes a worker off the free list, if it is there. */
  unfree(worker: IoWorker<W>): boolean {
    const index = this.free.indexOf(worker);
    if (index < 0) return false;
    this.free.splice(index, 1);
    return true;
  }
}
