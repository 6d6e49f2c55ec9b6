import { eventfdWaker } from "../kernel/eventfd-waker.js";
import { wakeUpNewTask } from "../kernel/fork.js";
import type { Kernel } from "../kernel/kernel.js";
import { createIoThread } from "../kernel/kthread.js";
import type { Task } from "../kernel/task.js";
import { type ThreadFn, WorkerThread } from "../kernel/thread.js";
import { Waker, WORD_FLAGS } from "../kernel/wait.js";
import { errno } from "../spec/errno.js";
import { VHOST_TASK_FLAGS_STOP } from "../spec/sched.js";
import {
  shouldRetry,
  WORKER_IDLE_TIMEOUT_MS,
  WORKER_INIT_LIMIT,
  WORKER_RETRY_MS,
} from "./io-wq.js";
import type { TableWorkerArg } from "./table-worker-thread.js";
import { TABLE_WORKERS_MAX, WorkTable } from "./work-table.js";

/** How long a worker that ends may take. */
const STOP_GRACE_MS = 5000;
/** When so many workers in a row have ended before they began, what is queued ends. */
const UNBEGUN_MAX = 32;

/** Whose workers they are, and whom they work for. */
export interface IoPoolOptions {
  readonly kernel: Kernel;
  /** Whose the ring is; the workers are threads of its process, `iou-wrk-<its tid>`. */
  readonly task: Task;
  /** The words of the task that submits, which is woken for results. */
  readonly submitter: SharedArrayBuffer;
  /** The memory that jobs name bytes of. */
  readonly memory: WebAssembly.Memory;
  /** Most workers, 1 to 32. */
  readonly workersMax: number;
  /** An eventfd to be written to when that sleeps. */
  readonly wakeFd?: number | undefined;
  /** One that nobody uses yet; without it, a new one. */
  readonly table?: WorkTable;
  /** Milliseconds without work after which a worker ends that is not the last. Default 5 s. */
  readonly idleMs?: number;
}

const FN: ThreadFn = {
  module: new URL("./table-worker-thread.js", import.meta.url).href,
  name: "tableWorker",
};

/**
 * The maker of a work table's workers: it lives in the kernel's thread, as all that makes threads
 * does, and no request passes through it. It makes a worker when the submitter asks, ends the work
 * of one that dies with -ECANCELED, and all that is queued where no worker can be had. Linux:
 * io_wq, create_io_worker().
 */
export class IoPool {
  /** For the submitter, and the workers. */
  readonly table: WorkTable;
  readonly #options: IoPoolOptions;
  readonly #threads = new Map<WorkerThread, Task>();
  readonly #waker: Waker;
  readonly #atExec = () => void this.close();
  /** Workers in a row that ended before they had begun. */
  #unbegun = 0;
  /** A worker could not be made, and is tried for again in a moment. */
  #isRetrying = false;
  #closed: Promise<void> | undefined;

  /** Makes the first worker. Throws what copyProcess throws: then there is none. */
  constructor(options: IoPoolOptions) {
    this.#options = options;
    this.table = options.table ?? new WorkTable();
    this.#waker = eventfdWaker(options.submitter, options.wakeFd);
    this.table.workersMax = options.workersMax;
    this.#make();
    options.task.signal.atExec.add(this.#atExec);
    void this.#serve();
  }

  /** The workers' tasks. */
  get tasks(): Task[] {
    return [...this.#threads.values()];
  }

  async #serve(): Promise<void> {
    for (let seen = 0; !this.table.isClosed; ) {
      await this.table.asked(seen);
      seen = this.table.askSeq;
      this.#tryMake();
    }
  }

  /** Where there is one, the submitter asks again. Linux: io_should_retry_thread(). */
  #tryMake(retries = 0): void {
    if (this.#closed !== undefined) return;
    try {
      this.#make();
    } catch (error) {
      if (this.table.hasWorker) return;
      if (shouldRetry(error) && retries < WORKER_INIT_LIMIT) this.#retry(retries + 1);
      else this.#endQueued();
    }
  }

  /** One attempt at a time. */
  #retry(retries: number): void {
    if (this.#isRetrying) return;
    this.#isRetrying = true;
    const retry = () => {
      this.#isRetrying = false;
      this.#tryMake(retries);
    };
    setTimeout(retry, retries * WORKER_RETRY_MS).unref();
  }

  #endQueued(): void {
    this.table.endQueued(-errno.ECANCELED);
    this.#waker.wake();
  }

  #make(): void {
    const worker = this.table.admit();
    if (worker < 0) return;
    const { kernel, task: owner } = this.#options;
    let thread: WorkerThread | undefined;
    try {
      const task = createIoThread(kernel, owner, {
        name: `iou-wrk-${owner.pid}`,
        fn: (made) => {
          thread = this.#thread(worker, made);
          return thread;
        },
      });
      this.#threads.set(thread as WorkerThread, task);
      wakeUpNewTask(task);
    } catch (error) {
      this.table.buried(worker, -errno.ECANCELED);
      throw error;
    }
    void thread?.exited.then(() => this.#exited(worker, thread as WorkerThread));
  }

  #thread(worker: number, task: Task): WorkerThread {
    const { memory, submitter, wakeFd, idleMs = WORKER_IDLE_TIMEOUT_MS } = this.#options;
    const table = this.table.buffer;
    const arg: TableWorkerArg = { memory, table, worker, submitter, wakeFd, idleMs };
    const { comm: name, words, cgroup } = task;
    task.waker = new Waker(words, () => this.table.kick(TABLE_WORKERS_MAX)); // it sleeps there
    return new WorkerThread({ fn: FN, arg, name, words, cgroups: cgroup.cpu.buffer });
  }

  /** However it ended. Where it was the last and work waits, there is another, or no more work. */
  #exited(worker: number, thread: WorkerThread): void {
    this.#unbegun = this.table.hasBegun(worker) ? 0 : this.#unbegun + 1;
    this.#threads.delete(thread);
    this.table.buried(worker, -errno.ECANCELED);
    this.#waker.wake();
    if (this.table.hasWorker || !this.table.hasQueued) return;
    if (this.#unbegun < UNBEGUN_MAX) {
      this.#tryMake();
      return;
    }
    this.#unbegun = 0;
    this.#endQueued(); // the next one would not begin either
  }

  /**
   * Ends what is queued with -ECANCELED, waits for what is being done (each worker 5 s at most,
   * then it is terminated, which waits for its system call) and ends all workers. So does a new
   * program of the process. Nothing is
   * written to the memory any more when it resolves. Never rejects. Idempotent. Linux:
   * io_wq_put_and_exit().
   */
  close(): Promise<void> {
    this.#options.task.signal.atExec.delete(this.#atExec);
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    const threads = [...this.#threads];
    for (const [, task] of threads) {
      Atomics.or(new Int32Array(task.words), WORD_FLAGS, 1 << VHOST_TASK_FLAGS_STOP);
    }
    this.table.close();
    for (const [, task] of threads) task.waker.wake(); // S1: after the flags
    this.#endQueued();
    await Promise.all(threads.map(([thread]) => thread.stop(STOP_GRACE_MS)));
  }
}
