import { availableParallelism } from "node:os";
import { wakeUpNewTask } from "../kernel/fork.js";
import type { Kernel } from "../kernel/kernel.js";
import { createIoThread } from "../kernel/kthread.js";
import type { Task } from "../kernel/task.js";
import { WorkerThread } from "../kernel/thread.js";
import { Waker, WORD_FLAGS } from "../kernel/wait.js";
import { VhostError } from "../spec/errno.js";
import {
  IO_RINGS_CQ_HEAD,
  IO_RINGS_CQ_TAIL,
  IO_RINGS_SQ_FLAGS,
  IORING_SQ_CQ_OVERFLOW,
  IORING_SQ_NEED_WAKEUP,
  IOU_RINGS,
} from "../spec/io-uring.js";
import { VHOST_TASK_FLAGS_STOP } from "../spec/sched.js";
import { HostFile } from "./host-file.js";
import { IoPool } from "./io-pool.js";
import { type KernelOwner, ownerOf, type TaskOwner } from "./owner.js";
import type { SqThreadArg } from "./sqpoll-thread.js";
import { UserRing, type UserRingOptions } from "./user-ring.js";
import { WorkTable } from "./work-table.js";

/** Idle time when none, or 0, is said. Linux: HZ. */
const SQ_THREAD_IDLE_MS = 1000;
/** How long the thread may take to end: then it is terminated. */
const STOP_GRACE_MS = 5000;
/** How often at least a waiter looks whether the thread lives. */
const WAIT_MS = 100;

/** What a ring with a thread of its own is to be. */
export interface SqPollOptions extends UserRingOptions {
  /** Milliseconds without work after which the thread sleeps; default, and for 0, a second. */
  readonly sqThreadIdle?: number;
}

/**
 * A ring whose SQ a thread looks at, `iou-sqp-<pid>`, so that nobody needs to enter it: the
 * application submits, and calls `wakeup` where `needsWakeup` says so. Its files are those that the
 * task has open now; none is opened or closed by it (EACCES, EOPNOTSUPP). Made in the kernel's
 * thread; no request passes through that. Linux: IORING_SETUP_SQPOLL.
 */
export class SqPollRing extends UserRing implements AsyncDisposable {
  /** The thread's task. */
  readonly task: Task;
  readonly #words: Int32Array;
  readonly #rings: number;
  readonly #thread: WorkerThread;
  readonly #pool: IoPool;
  readonly #waker: Waker;
  readonly #files: readonly HostFile[];
  readonly #owner: Task;
  readonly #atExec = () => void this.close();
  #isOver = false;
  #closed: Promise<void> | undefined;

  /**
   * Sets it up, with its thread and a first io worker. ESRCH: the task has exited; EINVAL:
   * something else than is wanted, entries out of range, or no memory; ENOMEM; what copyProcess
   * throws, as it is. Nothing is kept then. Linux: io_uring_setup(2), io_sq_offload_create().
   */
  constructor(kernel: KernelOwner, owner: TaskOwner, options: SqPollOptions) {
    const { kernel: model, task } = ownerOf(kernel, owner);
    const idleMs = idleMsOf(options);
    super("SqPollRing", task, options, ["sqThreadIdle"]);
    const { shared, layout } = this;
    const { memory } = shared;
    this.#words = new Int32Array(memory.buffer);
    this.#rings = shared.view.getUint32(layout.kernel + IOU_RINGS, true) >>> 2;
    const open = [...(task.files?.fds ?? [])].filter(([, file]) => file instanceof HostFile);
    const files = open as [number, HostFile][];
    this.#files = files.map(([, file]) => file);
    const table = new WorkTable();
    const { kernel: block, sqEntries, cqEntries } = layout;
    const { kind = "wasm" } = options;
    const arg: SqThreadArg = {
      ...{ memory, guestStart: shared.guestStart, kind, table: table.buffer },
      ring: { kernel: block, sqEntries, cqEntries },
      files: files.map(([fd, { hostFd, isBounded, hash }]) => [fd, { hostFd, isBounded, hash }]),
      idleMs,
    };
    try {
      [this.task, this.#thread] = makeSqThread(model, task, arg);
      this.#pool = this.#makePool(model, task, table);
    } catch (error) {
      this.layout.release();
      throw error;
    }
    this.#waker = new Waker(this.task.words);
    for (const file of this.#files) file.count++;
    this.#owner = task;
    task.signal.atExec.add(this.#atExec);
    wakeUpNewTask(this.task);
    void this.#thread.exited.then(() => {
      this.#isOver = true;
    });
  }

  #makePool(kernel: Kernel, task: Task, table: WorkTable): IoPool {
    const { memory } = task.mm as NonNullable<Task["mm"]>;
    const workersMax = Math.min(this.layout.sqEntries, 4 * availableParallelism());
    const submitter = this.task.words;
    try {
      return new IoPool({ kernel, task, memory, submitter, workersMax, table });
    } catch (error) {
      kernel.exitTask(this.task, 0);
      throw error;
    }
  }

  /** Whether the thread sleeps. Look after `application.submit()`. */
  get needsWakeup(): boolean {
    return (this.#flags & IORING_SQ_NEED_WAKEUP) !== 0; // Q5
  }

  get #flags(): number {
    return Atomics.load(this.#words, this.#rings + (IO_RINGS_SQ_FLAGS >>> 2));
  }

  /**
   * Makes what was queued visible, and wakes the thread if it sleeps. @returns how many SQEs became
   * visible. Throws EBADF when closed. liburing: io_uring_submit().
   */
  submit(): number {
    this.mustBeOpen();
    const count = this.application.submit();
    if (this.needsWakeup) this.wakeup();
    return count;
  }

  /** Wakes the thread. Linux: IORING_ENTER_SQ_WAKEUP. */
  wakeup(): void {
    this.#waker.wake();
  }

  /**
   * Resolves when the application has at least `min` CQEs to take (cut to the CQ's entries), or the
   * thread has ended. Wakes that for CQEs that found no room. Rejects with EINVAL. Linux:
   * IORING_ENTER_GETEVENTS.
   */
  async getEvents(min: number): Promise<void> {
    const wanted = this.wantedOf(min);
    const tail = this.#rings + (IO_RINGS_CQ_TAIL >>> 2);
    while (!this.#isOver) {
      const seen = Atomics.load(this.#words, tail);
      const head = Atomics.load(this.#words, this.#rings + (IO_RINGS_CQ_HEAD >>> 2));
      if ((seen - head) >>> 0 >= wanted) return;
      if ((this.#flags & IORING_SQ_CQ_OVERFLOW) !== 0) this.wakeup(); // there is room now
      const wait = Atomics.waitAsync(this.#words, tail, seen, WAIT_MS);
      if (wait.async) await wait.value;
    }
  }

  /**
   * Ends the thread: what waits is cancelled, what is being done ends, without CQEs. Then ends its
   * workers, and gives the memory back. A new program does so, too. Idempotent. Linux:
   * io_uring_release().
   */
  close(): Promise<void> {
    this.isClosed = true;
    this.#owner.signal.atExec.delete(this.#atExec);
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    Atomics.or(new Int32Array(this.task.words), WORD_FLAGS, 1 << VHOST_TASK_FLAGS_STOP);
    this.#waker.wake();
    await this.#thread.stop(STOP_GRACE_MS);
    await this.#pool.close();
    for (const file of this.#files) file.put();
    this.layout.release();
  }

  /** See close. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** EINVAL: no number of milliseconds. */
function idleMsOf(options: SqPollOptions | undefined): number {
  const ms = options?.sqThreadIdle ?? 0;
  if (Number.isInteger(ms) && ms >= 0 && ms < 2 ** 32) return ms || SQ_THREAD_IDLE_MS;
  throw new VhostError("EINVAL", "sqThreadIdle is whole milliseconds, from 0 to 2^32 - 1", { ms });
}

/** The thread and its task, not started. Linux: io_sq_offload_create(). */
function makeSqThread(kernel: Kernel, owner: Task, arg: SqThreadArg): [Task, WorkerThread] {
  const module = new URL("./sqpoll-thread.js", import.meta.url).href;
  let thread: WorkerThread | undefined;
  const task = createIoThread(kernel, owner, {
    name: `iou-sqp-${owner.pid}`,
    fn: ({ comm: name, words, cgroup }) => {
      const cgroups = cgroup.cpu.buffer;
      thread = new WorkerThread({ fn: { module, name: "sqThread" }, arg, name, words, cgroups });
      return thread;
    },
  });
  return [task, thread as WorkerThread];
}
