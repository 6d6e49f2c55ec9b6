import type { Thread } from "../kernel/thread.js";
import type { Job } from "./ops.js";

/** One piece of work for an io worker. Linux: io_wq_work. */
export interface IoWork {
  /** It may wait for ever (no regular file, no block device): the unbounded account's. */
  readonly unbound: boolean;
  /** It gets a worker of its own if there may be one: IOSQE_ASYNC. Linux: IO_WQ_WORK_CONCURRENT. */
  readonly concurrent: boolean;
  /** 0 to IO_WQ_HASH_BUCKETS - 1: not at the same time as other work of the number. */
  readonly hash?: number;
  /** Called once, in the kernel's thread: the result, or a negative error number. */
  complete(res: number): void;
}

/** A job and the host's file that it is for; -1: none. What a worker's thread gets. */
export interface JobMessage {
  readonly job: Job;
  readonly hostFd: number;
}

/** Work with its job. */
export interface JobWork extends IoWork {
  readonly message: JobMessage;
}

/** What runs an io worker's task: a thread that takes work. */
export interface IoThread<W extends IoWork> extends Thread {
  /** Does `work`, none other being done, and says so to the `done` it was made with, later. */
  run(work: W): void;
}

/** Time, as it is passed in. */
export interface Clock {
  /** Calls `fn` once, `ms` milliseconds from now, unless what it returns is called before. */
  after(ms: number, fn: () => void): () => void;
}

/** Buckets of hashed work. Linux: IO_WQ_NR_HASH_BUCKETS, on 64 bits. */
export const IO_WQ_HASH_BUCKETS = 64;
