import { VHOST_TASK_FLAGS_STOP } from "../spec/sched.js";
import { doExit, reap } from "./exit.js";
import { copyProcess, wakeUpNewTask } from "./fork.js";
import type { Kernel } from "./kernel.js";
import type { Task } from "./task.js";
import {
  InlineThread,
  type Thread,
  type ThreadExit,
  WorkerThread,
  type WorkerThreadOptions,
} from "./thread.js";
import { Waker, WORD_FLAGS } from "./wait.js";

/** How long vhostTaskStop waits for a thread to end by itself, in milliseconds. */
export const STOP_GRACE_MS = 5000;

/** A worker that runs `fn` in a thread of its own. */
export interface ThreadRun extends Omit<WorkerThreadOptions, "name" | "words"> {
  readonly run?: "thread";
  /** Wakes a thread that sleeps by `CurrentTask.scheduleBy`. Called in this thread. */
  readonly wake?: () => void;
}

/** A worker without a thread: whoever made it does its work; stop ends it before it returns. */
export interface InlineRun {
  readonly run: "inline";
}

/** `name`: comm of the worker, cut to 15 bytes; vhost gives `vhost-<pid of the caller>`. */
export type VhostTaskOptions = { readonly name: string } & (ThreadRun | InlineRun);

/**
 * A worker of a vhost device, user worker or kernel thread. Made by vhostTaskCreate and
 * vhostKthreadCreate alone. Linux: vhost_task; or a kthread, by vhost_worker's ops.
 */
export class VhostTask implements AsyncDisposable {
  readonly kernel: Kernel;
  readonly task: Task;
  /** Wakes it, from this thread. Other threads make their own from `words`. */
  readonly waker: Waker;
  /** Always resolves: returned, threw, out of memory, process.exit, terminated. */
  readonly exited: Promise<ThreadExit>;
  readonly #thread: Thread;
  #stop: Promise<void> | undefined;

  /** `task` as copyProcess gave it, `thread` being what runs it. */
  constructor(kernel: Kernel, task: Task, thread: Thread, wake?: () => void) {
    this.kernel = kernel;
    this.task = task;
    this.waker = new Waker(task.words, wake);
    task.waker = this.waker;
    this.#thread = thread;
    this.exited = thread.exited;
  }

  /** The task's shared words, for `new Waker(words)` in any thread. */
  get words(): SharedArrayBuffer {
    return this.task.words;
  }

  /** See vhostTaskStop. */
  stop(graceMs: number): Promise<void> {
    this.#stop ??= this.#end(graceMs);
    return this.#stop;
  }

  /** Stops it with the usual grace. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.stop(STOP_GRACE_MS);
  }

  async #end(graceMs: number): Promise<void> {
    Atomics.or(new Int32Array(this.words), WORD_FLAGS, 1 << VHOST_TASK_FLAGS_STOP); // S1: then wake
    this.waker.wake();
    const stopped = this.#thread.stop(graceMs);
    if (this.#thread instanceof InlineThread) {
      doExit(this.kernel, this.task, 0); // at once: it has no thread to wait for
      reap(this.kernel, this.task);
    }
    await stopped;
    await this.exited; // the task has exited by now: see copyThread
    reap(this.kernel, this.task);
  }
}

/**
 * Makes a worker of `owner` in its memory, with its credentials, limits and cgroup, counted and
 * limited as its own; without files. Whether it is a child process that is deaf to signals, or a
 * thread of the owner's process, the kernel's epoch says. Not started. Errors: copyProcess.
 * Linux: vhost_task_create().
 */
export function vhostTaskCreate(kernel: Kernel, owner: Task, options: VhostTaskOptions): VhostTask {
  let thread!: Thread;
  const { vhostTaskFlags, ignoreSignals } = kernel.epoch;
  const task = copyProcess(kernel, owner, {
    flags: vhostTaskFlags,
    exitSignal: 0,
    userWorker: true,
    noFiles: true,
    ignoreSignals,
    name: options.name,
    fn: (child) => {
      thread = makeWorkerThread(child, options);
      return thread;
    },
  });
  return new VhostTask(kernel, task, thread, options.run === "inline" ? undefined : options.wake);
}

/** Starts it, once. EINVAL: started before, or ended. Linux: vhost_task_start(). */
export function vhostTaskStart(vtsk: VhostTask): void {
  wakeUpNewTask(vtsk.task);
}

/** Ends its sleep. Linux: wake_up_process(vtsk->task). */
export function vhostTaskWake(vtsk: VhostTask): void {
  vtsk.waker.wake();
}

/**
 * Asks it to end, wakes it, waits for that and reaps it. A thread that has not ended after
 * `graceMs` is terminated, and its exit carries ETIMEDOUT. Any number of calls, also of one never
 * started: all wait for the same end, with the grace of the first. Never rejects. Linux:
 * vhost_task_stop().
 */
export function vhostTaskStop(vtsk: VhostTask, graceMs = STOP_GRACE_MS): Promise<void> {
  return vtsk.stop(graceMs);
}

/** What runs a worker's task, as it was asked for; asleep. */
export function makeWorkerThread(task: Task, options: VhostTaskOptions): Thread {
  if (options.run === "inline") return new InlineThread();
  const { comm: name, words, cgroup } = task;
  return new WorkerThread({ ...options, name, words, cgroups: cgroup.cpu.buffer });
}
