// Waits for descriptors that Node can't wait for, and tells the main thread which are ready.
import { parentPort, workerData } from "node:worker_threads";
import { EPOLL_EVENT_BYTES, EPOLL_EVENT_FD, EPOLL_STOP, EPOLL_WAIT_MS } from "./epoll.js";
import { libc } from "./libc.js";

const EVENTS_MAX = 64;

libc();
parentPort?.postMessage([]); // it is up, and needs no more descriptors
const { epoll } = workerData as { epoll: number };
const events = new DataView(new ArrayBuffer(EVENTS_MAX * EPOLL_EVENT_BYTES));
for (let isStopped = false; !isStopped; ) {
  const count = libc().epoll_wait(epoll, events, EVENTS_MAX, EPOLL_WAIT_MS);
  const ready: number[] = [];
  for (let i = 0; i < count; i++) {
    ready.push(events.getInt32(i * EPOLL_EVENT_BYTES + EPOLL_EVENT_FD, true));
  }
  isStopped = ready.includes(EPOLL_STOP);
  if (ready.length > 0) parentPort?.postMessage(ready);
}
