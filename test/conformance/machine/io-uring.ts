// The workers of io_uring, as far as their being tasks goes. Requests never complete.

import { doExit } from "#dist/kernel/exit.js";
import { wakeUpNewTask } from "#dist/kernel/fork.js";
import type { Kernel } from "#dist/kernel/kernel.js";
import { createIoThread } from "#dist/kernel/kthread.js";
import { ONLINE_CPUS } from "#dist/kernel/sched.js";
import type { Task } from "#dist/kernel/task.js";
import { InlineThread } from "#dist/kernel/thread.js";
import { attempt, SyscallError } from "./errors.js";

/**
 * A request marked IOSQE_ASYNC: a read of an empty pipe, which is unbounded work and pollable, so
 * that its worker is free again at once; or to open a FIFO that nobody else opens, which is bounded
 * work and blocks its worker.
 */
export type AsyncRequest = "read-empty-pipe" | "openat-fifo";

/** Bounded or unbounded work: how many workers there may be, are, and are blocked; what waits. */
interface Account {
  max: number;
  readonly workers: Set<Task>;
  blocked: number;
  queued: number;
}

/** Where tasks of the machine sleep. */
export type SleepsIn = WeakMap<Task, string>;

function makeWorker(kernel: Kernel, owner: Task, name: string, fn: string, at: SleepsIn): Task {
  const worker = createIoThread(kernel, owner, { name, fn: () => new InlineThread() });
  wakeUpNewTask(worker);
  at.set(worker, fn);
  return worker;
}

/** The workers of one task, whatever rings it submits to; they stay while it lives. */
export class IoWq {
  readonly bounded: Account;
  readonly unbounded: Account;

  constructor(
    readonly kernel: Kernel,
    readonly owner: Task,
    readonly sleepsIn: SleepsIn,
    entries: number,
  ) {
    const account = (max: number) => ({ max, workers: new Set<Task>(), blocked: 0, queued: 0 });
    this.bounded = account(Math.min(entries, 4 * ONLINE_CPUS.length));
    this.unbounded = account(owner.signal.rlimits.NPROC.cur);
  }

  /** Queues a request, and lets as many workers be made as that takes. */
  submit(request: AsyncRequest): void {
    const account = request === "openat-fifo" ? this.bounded : this.unbounded;
    account.queued++;
    while (account.queued > 0 && this.#takeUp(account)) {
      account.queued--;
      if (request === "openat-fifo") account.blocked++;
    }
  }

  /** Sets both limits, 0: as before; the old ones. Nothing starts by that. */
  setMax(bounded: number, unbounded: number): [bounded: number, unbounded: number] {
    const old: [number, number] = [this.bounded.max, this.unbounded.max];
    const most = this.owner.signal.rlimits.NPROC.cur;
    if (bounded !== 0) this.bounded.max = Math.min(bounded, most);
    if (unbounded !== 0) this.unbounded.max = Math.min(unbounded, most);
    return old;
  }

  /** Its owner has exited: all end. */
  exit(): void {
    for (const { workers } of [this.bounded, this.unbounded]) {
      for (const worker of workers) doExit(this.kernel, worker, 0);
      workers.clear();
    }
  }

  /** Whether a worker is free for the next request, or could be made. */
  #takeUp(account: Account): boolean {
    const { workers, blocked, max } = account;
    if (workers.size > blocked) return true;
    if (workers.size >= max) return false;
    const { kernel, owner, sleepsIn } = this;
    const make = () =>
      workers.add(makeWorker(kernel, owner, `iou-wrk-${owner.pid}`, "io_wq_worker", sleepsIn));
    return attempt(make) === "OK";
  }
}

/** A ring. Its polling thread ends with it; the workers of those who submitted do not. */
export class IoUring {
  #poller: Task | undefined;

  constructor(
    readonly kernel: Kernel,
    readonly entries: number,
  ) {
    if (!(entries >= 1 && entries <= 32768)) throw new SyscallError("EINVAL");
  }

  /** A thread that polls the ring for `task`. Throws what copyProcess throws. */
  pollFor(task: Task, sleepsIn: SleepsIn): void {
    this.#poller = makeWorker(this.kernel, task, `iou-sqp-${task.pid}`, "io_sq_thread", sleepsIn);
  }

  /** The last close. */
  release(): void {
    if (this.#poller) doExit(this.kernel, this.#poller, 0);
  }
}
