import { wakeUpNewTask } from "../kernel/fork.js";
import type { Kernel } from "../kernel/kernel.js";
import { createIoThread } from "../kernel/kthread.js";
import type { Task } from "../kernel/task.js";
import { errno, VhostError } from "../spec/errno.js";
import { IoAcct, IoWorker } from "./io-acct.js";
import type { Clock, IoThread, IoWork } from "./io-work.js";

/** A worker that had nothing to do for so long ends, but for the last. Linux: 5 * HZ. */
export const WORKER_IDLE_TIMEOUT_MS = 5000;
/** Times that a worker is tried for again when `shouldRetry` says so. */
export const WORKER_INIT_LIMIT = 3;
/** The first of them comes so much later, the second twice as much, and so on. */
export const WORKER_RETRY_MS = 5;
/** Work that takes longer counts as asleep: Linux's scheduler knows, we can't. */
export const WORKER_BLOCKED_MS = 1;
/** How long a worker that ends may take. */
const STOP_GRACE_MS = 5000;
const INT_MAX = 2 ** 31 - 1;

/** Whose workers they are, and what they are made of. */
export interface IoWqOptions<W extends IoWork> {
  readonly kernel: Kernel;
  /** The task that submits; the workers are threads of its process. */
  readonly task: Task;
  readonly clock: Clock;
  /** Most bounded workers: Linux takes the lesser of the first ring's SQ entries and 4 a CPU. */
  readonly bounded: number;
  /** Makes what runs a worker. `done` is for results, and is never called within `run`. */
  readonly makeThread: (task: Task, done: (res: number) => void) => IoThread<W>;
}

/**
 * The io workers of one task: a pool for bounded work and one for unbounded. It lives in the
 * kernel's thread and keeps no time of its own. A worker is made when work comes and none is free:
 * at once for concurrent work, else when none runs; and when the last that ran falls asleep. Where
 * no worker can be had, work completes with -ECANCELED. Linux: io_wq, io-wq.c.
 */
export class IoWq<W extends IoWork = IoWork> {
  readonly #options: IoWqOptions<W>;
  readonly #bound: IoAcct<W>;
  readonly #unbound: IoAcct<W>;
  /** Hashes of what is being done. */
  readonly #hashes = new Set<number>();
  #isExiting = false;

  /**
   * No worker yet. Unbounded ones: RLIMIT_NPROC as it is now, at least 1 (Linux: 0 is possible, and
   * unbounded work waits for ever then). Linux: io_wq_create().
   */
  constructor(options: IoWqOptions<W>) {
    this.#options = options;
    this.#bound = new IoAcct(options.bounded);
    this.#unbound = new IoAcct(Math.max(1, this.#nproc()));
  }

  /** Workers of each kind, those being made too. */
  get workers(): { bounded: number; unbounded: number } {
    return { bounded: this.#bound.workers.size, unbounded: this.#unbound.workers.size };
  }

  /** The workers' tasks. */
  get tasks(): Task[] {
    const all = [...this.#bound.workers, ...this.#unbound.workers];
    return all.flatMap(({ task }) => task ?? []);
  }

  /**
   * Queues work. It completes later; at once with -ECANCELED when there is no worker and none can
   * be made, or after `exit`. Linux: io_wq_enqueue().
   */
  enqueue(work: W): void {
    if (this.#isExiting) {
      work.complete(-errno.ECANCELED);
      return;
    }
    const acct = work.unbound ? this.#unbound : this.#bound;
    acct.insert(work);
    if (this.#activateFree(acct) || (!work.concurrent && acct.running > 0)) return;
    if (this.#create(acct) || acct.workers.size > 0) return;
    this.#cancelPending(acct, (one) => one === work);
  }

  /**
   * Cancels all pending work that `match` names: it completes with -ECANCELED. Work that is being
   * done is let be: the answer tells. Linux: io_wq_cancel_cb().
   */
  cancel(match: (work: W) => boolean): "cancelled" | "running" | "none" {
    let count = 0;
    let isRunning = false;
    for (const acct of [this.#bound, this.#unbound]) {
      for (const worker of acct.workers) {
        if (worker.current !== null && match(worker.current)) isRunning = true;
        count += this.#cancelBatch(worker, match);
      }
      count += this.#cancelPending(acct, match);
    }
    if (count > 0) return "cancelled";
    return isRunning ? "running" : "none";
  }

  /**
   * Sets how many workers there may be at most, each cut to RLIMIT_NPROC as it is now; 0 leaves it.
   * Workers that are there stay, and none comes by itself. @returns what it was. EINVAL: not whole
   * numbers from 0 to 2^31 - 1. Linux: IORING_REGISTER_IOWQ_MAX_WORKERS, io_wq_max_workers().
   */
  maxWorkers(bounded: number, unbounded: number): [bounded: number, unbounded: number] {
    for (const count of [bounded, unbounded]) {
      if (Number.isInteger(count) && count >= 0 && count <= INT_MAX) continue;
      throw new VhostError("EINVAL", "a number of workers is whole, from 0 to 2^31 - 1", { count });
    }
    const before: [number, number] = [this.#bound.max, this.#unbound.max];
    this.#bound.max = Math.min(bounded, this.#nproc()) || this.#bound.max;
    this.#unbound.max = Math.min(unbounded, this.#nproc()) || this.#unbound.max;
    return before;
  }

  /**
   * Cancels what is pending, waits for what is being done (each worker 5 s at most, then it is
   * terminated) and ends all workers. Never rejects. Linux: io_wq_put_and_exit().
   */
  async exit(): Promise<void> {
    this.#isExiting = true;
    this.cancel(() => true);
    const all = [...this.#bound.workers, ...this.#unbound.workers];
    await Promise.all(all.map((worker) => this.#stop(worker)));
  }

  #nproc(): number {
    return Math.min(this.#options.task.signal.rlimits.NPROC.cur, INT_MAX);
  }

  /** Linux: io_acct_activate_free_worker(). */
  #activateFree(acct: IoAcct<W>): boolean {
    const worker = acct.free.pop();
    if (worker === undefined) return false;
    worker.cancelTimer();
    acct.running++;
    this.#next(worker);
    return true;
  }

  /** True: there is one more, or there may be none more. Linux: io_wq_create_worker(). */
  #create(acct: IoAcct<W>): boolean {
    if (acct.workers.size >= acct.max) return true;
    const worker = new IoWorker(acct);
    acct.workers.add(worker);
    acct.running++;
    return this.#start(worker);
  }

  /** True: it has begun, or is tried for again later. Linux: create_io_worker(). */
  #start(worker: IoWorker<W>): boolean {
    const { kernel, task: owner, makeThread } = this.#options;
    try {
      worker.task = createIoThread(kernel, owner, {
        name: `iou-wrk-${owner.pid}`,
        fn: (task) => {
          worker.thread = makeThread(task, (res) => this.#done(worker, res));
          return worker.thread;
        },
      });
    } catch (error) {
      return this.#failed(worker, error);
    }
    wakeUpNewTask(worker.task);
    void worker.thread?.exited.then(() => this.#gone(worker));
    this.#next(worker);
    return true;
  }

  /** Linux: io_workqueue_create(). */
  #failed(worker: IoWorker<W>, error: unknown): boolean {
    const { acct } = worker;
    if (shouldRetry(error) && worker.retries++ < WORKER_INIT_LIMIT) {
      const ms = worker.retries * WORKER_RETRY_MS;
      worker.cancelTimer = this.#options.clock.after(ms, () => this.#retry(worker));
      return true;
    }
    acct.running--;
    acct.workers.delete(worker);
    return false;
  }

  #retry(worker: IoWorker<W>): void {
    const { acct } = worker;
    if (this.#start(worker) || acct.workers.size > 0) return;
    this.#cancelPending(acct, () => true);
  }

  /** The worker does what comes next, or is free. Linux: io_worker_handle_work(). */
  #next(worker: IoWorker<W>): void {
    if (worker.batch.length === 0) worker.batch = worker.acct.take(this.#hashes);
    const work = worker.batch.shift();
    if (work === undefined) {
      worker.acct.running--;
      this.#idle(worker);
      return;
    }
    worker.current = work;
    const blocked = () => this.#blocked(worker);
    worker.cancelTimer = this.#options.clock.after(WORKER_BLOCKED_MS, blocked);
    worker.thread?.run(work);
  }

  /** Linux: io_worker_idle(), schedule_timeout(). */
  #idle(worker: IoWorker<W>): void {
    worker.acct.free.push(worker);
    const timeOut = () => this.#timeOut(worker);
    worker.cancelTimer = this.#options.clock.after(WORKER_IDLE_TIMEOUT_MS, timeOut);
  }

  /** The last worker of its account stays. */
  #timeOut(worker: IoWorker<W>): void {
    const { acct } = worker;
    acct.unfree(worker);
    if (acct.workers.size === 1) this.#idle(worker);
    else void this.#stop(worker);
  }

  /** Linux: io_wq_worker_sleeping(), io_wq_dec_running(). */
  #blocked(worker: IoWorker<W>): void {
    const { acct } = worker;
    worker.isBlocked = true;
    acct.running--;
    if (acct.running > 0 || acct.pending.length === 0 || acct.isStalled) return;
    this.#create(acct);
  }

  #done(worker: IoWorker<W>, res: number): void {
    if (worker.current === null) return;
    worker.cancelTimer();
    if (worker.isBlocked) worker.acct.running++;
    this.#finish(worker, res);
    if (worker.acct.workers.has(worker)) this.#next(worker);
  }

  /** Its work is done; the next of its hash, if any, is another's when it has no batch. */
  #finish(worker: IoWorker<W>, res: number): void {
    const work = worker.current;
    worker.current = null;
    worker.isBlocked = false;
    if (worker.batch.length === 0 && work?.hash !== undefined) this.#unhash(work.hash);
    work?.complete(res);
  }

  /** Linux: io_wq_hash_wake(). */
  #unhash(hash: number): void {
    this.#hashes.delete(hash);
    for (const acct of [this.#bound, this.#unbound]) {
      if (!acct.isStalled) continue;
      acct.isStalled = false;
      this.#activateFree(acct);
    }
  }

  /** A worker's end that nobody asked for: SIGKILL to the process, a thread that broke. */
  #gone(worker: IoWorker<W>): void {
    const { acct } = worker;
    if (!acct.workers.delete(worker)) return;
    worker.cancelTimer();
    if (!acct.unfree(worker) && !worker.isBlocked) acct.running--;
    this.#cancelBatch(worker, () => true);
    this.#finish(worker, -errno.ECANCELED);
    if (acct.pending.length === 0 || acct.workers.size > 0) return;
    if (!this.#create(acct)) this.#cancelPending(acct, () => true);
  }

  /** Ends a worker, after its work. Linux: io_worker_exit(). */
  async #stop(worker: IoWorker<W>): Promise<void> {
    const { acct } = worker;
    if (worker.current !== null) {
      await worker.thread?.stop(STOP_GRACE_MS);
      return;
    }
    worker.cancelTimer();
    if (!acct.workers.delete(worker)) return;
    if (worker.thread === null) acct.running--;
    acct.unfree(worker);
    await worker.thread?.stop(STOP_GRACE_MS);
  }

  #cancelPending(acct: IoAcct<W>, match: (work: W) => boolean): number {
    const cancelled = acct.remove(match);
    for (const work of cancelled) work.complete(-errno.ECANCELED);
    return cancelled.length;
  }

  #cancelBatch(worker: IoWorker<W>, match: (work: W) => boolean): number {
    const cancelled = new Set(worker.batch.filter(match));
    worker.batch = worker.batch.filter((work) => !cancelled.has(work));
    for (const work of cancelled) work.complete(-errno.ECANCELED);
    return cancelled.size;
  }
}

/**
 * Whether a worker that could not be made may be had a little later: a limit was reached, or a
 * signal is to be handled first. Linux: io_should_retry_thread().
 */
export const shouldRetry = (error: unknown): boolean =>
  error instanceof VhostError && (error.code === "EAGAIN" || error.code === "ERESTARTNOINTR");
