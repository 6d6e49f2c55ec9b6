import { close, readlinkSync } from "node:fs";
import { Worker } from "node:worker_threads";
import { closeFd, libc } from "./libc.js";
import { isMemoryFile } from "./mapping.js";

const SOL_SOCKET = 1;
const SO_LINGER = 13;
/** struct linger: off, 0 seconds. */
const NO_LINGER = new Int32Array(2);

/** Threads that close at a time: one hangs for as long as whoever sent the descriptor wants. */
const THREADS_MAX = 8;

let threads = 0;
const waiting: number[][] = [];

/**
 * Closes descriptors that came from elsewhere. Closing can block: a file of a file system whose
 * server does not answer, a large one. What is not known to be harmless is closed by a
 * thread of its own, which does not keep the program alive. Main thread. Never rejects; resolves
 * when those are closed whose closing ends, however long it takes: the memory files.
 */
export async function discardFds(fds: readonly number[]): Promise<void> {
  const memory: Promise<void>[] = [];
  const others: number[] = [];
  for (const fd of fds) {
    if (isMemoryFile(fd)) memory.push(closeMemory(fd));
    else if (isHarmless(fd)) closeFd(fd);
    else others.push(fd);
  }
  if (others.length > 0) waiting.push(others);
  next();
  await Promise.all(memory);
}

/** Off this thread: when nobody else has it, its pages are given back one by one. */
function closeMemory(fd: number): Promise<void> {
  return new Promise((resolve) => {
    close(fd, () => resolve());
  });
}

/** What a descriptor is; of a file whose path is longer than the system tells, nothing is known. */
function nameOf(fd: number): string {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`);
  } catch {
    return "";
  }
}

/** Side effect: a socket no longer lingers. */
function isHarmless(fd: number): boolean {
  const name = nameOf(fd);
  if (name.startsWith("socket:")) {
    return libc().setsockopt(fd, SOL_SOCKET, SO_LINGER, NO_LINGER, NO_LINGER.byteLength) === 0;
  }
  return name.startsWith("pipe:") || name === "anon_inode:[eventfd]";
}

function next(): void {
  if (threads >= THREADS_MAX) return;
  const fds = waiting.shift();
  if (!fds) return;
  try {
    closeInThread(fds);
  } catch {
    closeHere(fds);
  }
}

/** No thread is to be had: better to wait than to keep them. */
function closeHere(fds: readonly number[]): void {
  for (const fd of fds) closeFd(fd);
}

function closeInThread(fds: readonly number[]): void {
  const thread = new Worker(new URL("./discard-thread.js", import.meta.url), {
    name: "vhost-close",
    execArgv: [],
    workerData: fds,
  });
  threads++;
  thread.unref();
  thread.on("error", () => closeHere(fds));
  thread.on("exit", () => {
    threads--;
    next();
  });
}
