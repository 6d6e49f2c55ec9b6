import {
  constants,
  fdatasyncSync,
  fstatSync,
  fsyncSync,
  openSync,
  readSync,
  readvSync,
  writeSync,
  writevSync,
} from "node:fs";
import type { CurrentTask } from "../kernel/task-thread.js";
import { fallocate } from "../linux/punch-hole.js";
import { errno } from "../spec/errno.js";
import { FALLOC_FL_KEEP_SIZE, FALLOC_FL_ZERO_RANGE } from "../spec/io-uring.js";
import type { Job } from "./ops.js";

/** One write of zeroes; longer ranges take several. */
const ZEROES = new Uint8Array(1 << 18);

/** A job, and what it is done with. */
export interface RunJob {
  readonly job: Job;
  readonly hostFd: number;
  readonly memory: WebAssembly.Memory;
  readonly current: CurrentTask;
}

/** Does a job on `memory`. Blocks. @returns the result, or the negative number of its error. */
export function runJob(run: RunJob): number {
  try {
    return doJob(run);
  } catch (error) {
    const number = (error as NodeJS.ErrnoException).errno;
    return typeof number === "number" && number < 0 ? number : -errno.EIO;
  }
}

function doJob({ memory, job, hostFd, current }: RunJob): number {
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
    case "fallocate":
      return doFallocate(job, hostFd, current);
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

type Fallocate = Extract<Job, { kind: "fallocate" }>;

/** Where the system or the file system has none, zeroes are written; the rest is refused. */
function doFallocate(job: Fallocate, hostFd: number, current: CurrentTask): number {
  const { mode, position, bytes } = job;
  const result = current.uncut(() => fallocate(hostFd, mode, position, bytes));
  if (result !== -errno.EOPNOTSUPP || (mode & FALLOC_FL_ZERO_RANGE) === 0) return result;
  const isKept = (mode & FALLOC_FL_KEEP_SIZE) !== 0;
  const end = isKept ? Math.min(bytes, fstatSync(hostFd).size - position) : bytes;
  for (let done = 0; done < end; ) {
    const part = Math.min(ZEROES.length, end - done);
    done += writeSync(hostFd, ZEROES, 0, part, position + done);
  }
  return 0;
}
