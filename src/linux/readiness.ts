import { once } from "node:events";
import { Worker } from "node:worker_threads";
import { EPOLL_EVENT_BYTES, EPOLL_EVENT_FD, EPOLL_STOP } from "./epoll.js";
import { makeEventfd, signalEventfd } from "./eventfd.js";
import { check, closeFd, lastError, libc } from "./libc.js";

const EPOLL_CLOEXEC = 0o2000000;
const EPOLL_CTL_ADD = 1;
const EPOLL_CTL_DEL = 2;
const EPOLL_CTL_MOD = 3;
const EPOLLIN = 0x1;
const EPOLLONESHOT = 0x40000000;

/** The one thread that waits, and what is watched by it. */
interface Waiting {
  epoll: number;
  stop: number;
  thread: Worker;
  watched: Map<number, Readiness>;
  /** Resolves when the thread is up. */
  started: Promise<unknown>;
}

let waiting: Waiting | undefined;
let lastToken = 0;

/**
 * Waits for descriptors that Node's own loop does not take: sockets whose messages carry
 * descriptors. One thread waits for all of them, as long as there is one; it keeps the program
 * alive as a server of Node's does. Main thread.
 */
export class Readiness {
  readonly #fd: number;
  readonly #token = ++lastToken;
  #isArmed = false;
  #waiter: { resolve(isReady: boolean): void; reject(error: unknown): void } | undefined;
  #isClosed = false;

  /**
   * Watches `fd`, which stays the caller's. Throws what epoll_ctl(2) and a thread's start throw.
   */
  constructor(fd: number) {
    this.#fd = fd;
    waiting ??= startWaiting();
    this.#control(EPOLL_CTL_ADD, 0);
    waiting.watched.set(this.#token, this);
  }

  #control(operation: number, events: number): void {
    const event = new DataView(new ArrayBuffer(EPOLL_EVENT_BYTES));
    event.setUint32(0, events, true);
    event.setInt32(EPOLL_EVENT_FD, this.#token, true);
    const { epoll } = waiting as Waiting;
    check(libc().epoll_ctl(epoll, operation, this.#fd, event), "a socket can't be waited for");
  }

  /** Resolves when waiting can begin. Rejects when the thread that waits can't be had. */
  static async started(): Promise<void> {
    await waiting?.started;
  }

  /**
   * Resolves when there is something to read, or the other end is gone; `false` after `close`.
   * Rejects when the thread that waits has died.
   */
  wait(): Promise<boolean> {
    if (this.#isClosed) return Promise.resolve(false);
    return new Promise((resolve, reject) => {
      this.#waiter = { resolve, reject };
      if (!this.#isArmed) this.#control(EPOLL_CTL_MOD, EPOLLIN | EPOLLONESHOT);
      this.#isArmed = true;
    });
  }

  /** From the thread: it is ready, once. */
  fire(): void {
    this.#isArmed = false;
    this.#end(true);
  }

  /** The thread has died. */
  fail(error: unknown): void {
    this.#waiter?.reject(error);
    this.#waiter = undefined;
  }

  #end(isReady: boolean): void {
    this.#waiter?.resolve(isReady);
    this.#waiter = undefined;
  }

  /** Ends the watch, before the descriptor is closed. Idempotent. */
  close(): void {
    if (this.#isClosed || !waiting) return;
    this.#isClosed = true;
    this.#control(EPOLL_CTL_DEL, 0);
    waiting.watched.delete(this.#token);
    this.#end(false);
    if (waiting.watched.size === 0) stopWaiting();
  }
}

function startWaiting(): Waiting {
  const stop = makeEventfd();
  const epoll = libc().epoll_create1(EPOLL_CLOEXEC);
  if (epoll === -1) {
    const error = lastError("sockets can't be waited for");
    closeFd(stop);
    throw error;
  }
  const event = new DataView(new ArrayBuffer(EPOLL_EVENT_BYTES));
  event.setUint32(0, EPOLLIN, true);
  event.setInt32(EPOLL_EVENT_FD, EPOLL_STOP, true);
  libc().epoll_ctl(epoll, EPOLL_CTL_ADD, stop, event);
  const watched = new Map<number, Readiness>();
  const thread = new Worker(new URL("./readiness-thread.js", import.meta.url), {
    name: "vhost-user",
    execArgv: [],
    workerData: { epoll },
  });
  const started = once(thread, "message"); // rejects with the thread's error, if that comes first
  started.catch(() => {});
  thread.on("error", (error) => {
    for (const one of watched.values()) one.fail(error);
  });
  thread.on("message", (ready: number[]) => {
    for (const token of ready) watched.get(token)?.fire();
  });
  thread.on("exit", () => {
    closeFd(epoll);
    closeFd(stop);
  });
  process.once("exit", wakeAtExit);
  return { epoll, stop, thread, watched, started };
}

/** A thread in a system call must be woken, or the program's end waits for it. */
function wakeAtExit(): void {
  if (waiting) signalEventfd(waiting.stop);
}

function stopWaiting(): void {
  wakeAtExit();
  process.off("exit", wakeAtExit);
  waiting = undefined;
}
