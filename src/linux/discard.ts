import { Worker } from "node:worker_threads";
import { isEventfd } from "./eventfd.js";
import { closeFd } from "./libc.js";
import { isMemoryFile } from "./mapping.js";

/** Threads that close at a time: one hangs for as long as whoever sent the descriptor wants. */
const THREADS_MAX = 8;

let threads = 0;
const waiting: number[][] = [];

/**
 * Closes descriptors that came from elsewhere. Closing can block: a socket that lingers, a file of
 * a file system whose server does not answer. What is not known to be harmless is closed by a
 * thread of its own, which does not keep the program alive. Main thread.
 */
export function discardFds(fds: readonly number[]): void {
  const others: number[] = [];
  for (const fd of fds) {
    if (isEventfd(fd) || isMemoryFile(fd)) closeFd(fd);
    else others.push(fd);
  }
  if (others.length === 0) return;
  waiting.push(others);
  next();
}

function next(): void {
  if (threads >= THREADS_MAX) return;
  const fds = waiting.shift();
  if (!fds) return;
  threads++;
  const thread = new Worker(new URL("./discard-thread.js", import.meta.url), {
    name: "vhost-close",
    execArgv: [],
    workerData: fds,
  });
  thread.unref();
  thread.on("error", () => {}); // none to be had: they stay open
  thread.on("exit", () => {
    threads--;
    next();
  });
}
