// The workers of io_uring, as far as their being tasks goes: when they are made, block, are free
// and end.

import { doExit } from "#dist/kernel/exit.js";
import { wakeUpNewTask } from "#dist/kernel/fork.js";
import type { Kernel } from "#dist/kernel/kernel.js";
import { createIoThread } from "#dist/kernel/kthread.js";
import { ONLINE_CPUS } from "#dist/kernel/sched.js";
import type { Task } from "#dist/kernel/task.js";
import { InlineThread } from "#dist/kernel/thread.js";
import { attempt } from "./errors.js";
import type { IoRequest } from "./io-request.js";

/** Seconds without work after which a worker that is not the last ends. Linux: 5 * HZ. */
const WORKER_IDLE_TIMEOUT = 5;

/** Where tasks of the machine sleep. */
export type SleepsIn = WeakMap<Task, string>;

/** What a machine has for its io threads. */
export interface IoHost {
  readonly kernel: Kernel;
  readonly sleepsIn: SleepsIn;
  /** Seconds since the machine booted. */
  readonly nowSeconds: number;
}

/** A task that works for `owner`, started. Throws what copyProcess throws. */
export function makeIoThread(host: IoHost, owner: Task, name: string, fn: string): Task {
  const worker = createIoThread(host.kernel, owner, { name, fn: () => new InlineThread() });
  wakeUpNewTask(worker);
  worker.sched.cpus = ONLINE_CPUS; // its own mask, not its owner's
  host.sleepsIn.set(worker, fn);
  return worker;
}

/** Bounded or unbounded work. */
class Account {
  /** Since when each worker is free; those that are not have a request. */
  readonly free = new Map<Task, number>();
  readonly blocked = new Map<Task, IoRequest>();
  queue: IoRequest[] = [];

  constructor(public max: number) {}

  get size(): number {
    return this.free.size + this.blocked.size;
  }
}

/** The workers of one task, whatever rings it submits to; they stay while it lives. */
export class IoWq {
  readonly bounded: Account;
  readonly unbounded: Account;
  /** Where its workers may run. Linux: cpu_mask. */
  cpus: readonly number[] = ONLINE_CPUS;

  constructor(
    readonly host: IoHost,
    readonly owner: Task,
    entries: number,
  ) {
    this.bounded = new Account(Math.min(entries, 4 * ONLINE_CPUS.length));
    this.unbounded = new Account(owner.signal.rlimits.NPROC.cur);
  }

  get #accounts(): Account[] {
    return [this.bounded, this.unbounded];
  }

  /** Queues a request, and lets as many workers be made as that takes. */
  enqueue(request: IoRequest): void {
    const account = request.isUnbound ? this.unbounded : this.bounded;
    account.queue.push(request);
    while (account.queue.length > 0) {
      const worker = [...account.free.keys()].at(-1) ?? this.#makeWorker(account);
      if (worker === undefined) break;
      this.#work(account, worker);
    }
    if (account.size === 0)
      for (const one of account.queue.splice(0)) one.ring.end(one, "ECANCELED");
  }

  /** Lets blocked workers go on whose request can be done. Returns whether any could. */
  progress(): boolean {
    let worked = false;
    for (const account of this.#accounts) {
      for (const [worker, request] of account.blocked) {
        const res = request.attempt();
        if (res === undefined) continue;
        worked = true;
        request.ring.end(request, res);
        this.#work(account, worker);
      }
    }
    return worked;
  }

  /** Forgets what a ring that is closed has asked; who was blocked by it is free. */
  cancel(isOf: (request: IoRequest) => boolean): void {
    for (const account of this.#accounts) {
      account.queue = account.queue.filter((request) => !isOf(request));
      for (const [worker, request] of account.blocked) {
        if (!isOf(request)) continue;
        request.cancel();
        this.#work(account, worker);
      }
    }
  }

  /** Time has passed: who was free for long ends, but for the last of an account. */
  expire(): void {
    for (const account of this.#accounts) {
      for (const [worker, since] of account.free) {
        const isDue = this.host.nowSeconds - since >= WORKER_IDLE_TIMEOUT;
        if (!isDue || account.size === 1) continue;
        account.free.delete(worker);
        doExit(this.host.kernel, worker, 0);
      }
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
    for (const { free, blocked, queue } of this.#accounts) {
      for (const request of [...blocked.values(), ...queue]) request.cancel();
      for (const worker of [...free.keys(), ...blocked.keys()]) {
        doExit(this.host.kernel, worker, 0);
      }
      free.clear();
      blocked.clear();
    }
  }

  /** A worker does what is queued, until something holds it up or nothing is left. */
  #work(account: Account, worker: Task): void {
    account.free.delete(worker);
    account.blocked.delete(worker);
    for (let request = account.queue.shift(); request; request = account.queue.shift()) {
      const res = request.attempt();
      if (res !== undefined) request.ring.end(request, res);
      else if (request.isPollable) request.ring.arm(request);
      else {
        account.blocked.set(worker, request);
        return;
      }
    }
    account.free.set(worker, this.host.nowSeconds);
  }

  #makeWorker(account: Account): Task | undefined {
    if (account.size >= account.max) return undefined;
    let worker: Task | undefined;
    attempt(() => {
      worker = makeIoThread(this.host, this.owner, `iou-wrk-${this.owner.pid}`, "io_wq_worker");
      worker.sched.cpus = this.cpus;
    });
    return worker;
  }
}
