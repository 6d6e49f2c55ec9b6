import {
  constants,
  fdatasyncSync,
  fsyncSync,
  openSync,
  readSync,
  readvSync,
  writeSync,
  writevSync,
} from "node:fs";
import { receiveMessageOnPort } from "node:worker_threads";
import type { CurrentTask } from "../kernel/task-thread.js";
import { errno } from "../spec/errno.js";
import { TASK_INTERRUPTIBLE, TASK_RUNNING } from "../spec/sched.js";
import type { IoWorkerArg, JobMessage } from "./io-worker.js";
import type { Job } from "./ops.js";

/**
 * What the thread of an io worker runs: jobs, until it is stopped with none left. Blocks. Linux:
 * io_wq_worker().
 */
export function ioWorker({ memory, port }: IoWorkerArg, current: CurrentTask): void {
  for (;;) {
    if (!current.mayRun()) current.hold();
    current.setState(TASK_INTERRUPTIBLE); // S1: before the look for a job
    const received = receiveMessageOnPort(port);
    if (received === undefined) {
      if (current.shouldStop()) break;
      current.schedule();
      continue;
    }
    current.setState(TASK_RUNNING);
    port.postMessage(tryJob(memory, received.message as JobMessage));
  }
  current.setState(TASK_RUNNING);
  port.close();
}

/** The result, or the negative number of the host's error. */
function tryJob(memory: WebAssembly.Memory, { job, hostFd }: JobMessage): number {
  try {
    return doJob(memory, job, hostFd);
  } catch (error) {
    const number = (error as NodeJS.ErrnoException).errno;
    return typeof number === "number" && number < 0 ? number : -errno.EIO;
  }
}

function doJob(memory: WebAssembly.Memory, job: Job, hostFd: number): number {
  switch (job.kind) {
    case "read":
    case "write":
      return readOrWrite(memory, job, hostFd);
    case "sync":
      (job.isDataOnly ? fdatasyncSync : fsyncSync)(hostFd);
      return 0;
    case "open":
      // A FIFO must not keep us: a thread asleep in open(2) can't be ended.
      return openSync(job.path, job.flags | (constants.O_NONBLOCK ?? 0), job.mode);
    default:
      return 0;
  }
}

type Rw = Extract<Job, { kind: "read" | "write" }>;

/** Straight from and to the owner's memory. */
function readOrWrite(memory: WebAssembly.Memory, job: Rw, hostFd: number): number {
  const { kind, ranges, position } = job;
  const views = ranges.map(({ address, bytes }) => new Uint8Array(memory.buffer, address, bytes));
  const [view = new Uint8Array(0)] = views;
  if (kind === "read") {
    if (views.length > 1) return readvSync(hostFd, views, position ?? undefined);
    return readSync(hostFd, view, 0, view.length, position);
  }
  if (views.length > 1) return writevSync(hostFd, views, position ?? undefined);
  return writeSync(hostFd, view, 0, view.length, position);
}
