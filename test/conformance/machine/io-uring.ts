// Rings of io_uring: what was asked, what came of it, and the thread that may poll for it.

import { doExit } from "#dist/kernel/exit.js";
import type { OpenFile } from "#dist/kernel/files.js";
import { ONLINE_CPUS } from "#dist/kernel/sched.js";
import type { Task } from "#dist/kernel/task.js";
import { SyscallError } from "./errors.js";
import type { Cqe, IoRequest } from "./io-request.js";
import { type IoHost, type IoWq, makeIoThread } from "./io-wq.js";

/** How a ring is made. */
export interface IoUringParams {
  readonly entries?: number;
  /** IORING_SETUP_SQPOLL. */
  readonly sqpoll?: boolean;
  /** IORING_SETUP_SQ_AFF, and the CPU. */
  readonly sqThreadCpu?: number;
  /** IORING_SETUP_ATTACH_WQ, and the descriptor. */
  readonly attachWq?: number;
}

const ENTRIES_MAX = 32768;

/** A thread that polls rings. Linux: io_sq_data. */
interface Poller {
  readonly task: Task;
  rings: number;
}

/** A ring. Its polling thread ends with it; the workers of those who submitted do not. */
export class IoUring {
  /** Rounded up to a power of two. */
  readonly entries: number;
  readonly completions: Cqe[] = [];
  /** Requests that wait for their file without a worker. */
  readonly armed = new Set<IoRequest>();
  #poller: Poller | undefined;

  constructor(
    readonly host: IoHost,
    entries: number,
    /** Opens what a request has asked to be opened; its number. */
    readonly installFor: (request: IoRequest) => number,
  ) {
    if (!(entries >= 1 && entries <= ENTRIES_MAX)) throw new SyscallError("EINVAL");
    this.entries = 2 ** Math.ceil(Math.log2(entries));
  }

  /** The thread that submits for everybody; `undefined`: each does it for itself. */
  get poller(): Task | undefined {
    return this.#poller?.task;
  }

  /** Gets a thread that polls it for `task`: that of `other`, in one process, or a new one. */
  pollFor(task: Task, cpu: number | undefined, other: IoUring | undefined): void {
    const shared = other?.poller?.signal === task.signal ? other : undefined;
    if (shared?.poller?.exitState === 0) {
      this.#poller = shared.#poller;
      if (this.#poller) this.#poller.rings++;
      return;
    }
    const sqp = makeIoThread(this.host, task, `iou-sqp-${task.pid}`, "io_sq_thread");
    sqp.sched.cpus = cpu === undefined ? ONLINE_CPUS : [cpu];
    this.#poller = { task: sqp, rings: 1 };
  }

  /** Begins a request for the task that `wq` belongs to. */
  submit(request: IoRequest, wq: IoWq): void {
    if (!request.isAsync && !request.op.isForced) {
      const res = request.attempt();
      if (res !== undefined) this.end(request, res);
      else if (request.isPollable) this.arm(request);
      else wq.enqueue(request);
      return;
    }
    wq.enqueue(request);
  }

  /** It waits for its file. */
  arm(request: IoRequest): void {
    this.armed.add(request);
  }

  /** It is done. */
  end({ sqe: { user_data = 0 } }: IoRequest, res: number | string): void {
    this.completions.push({ user_data, res });
  }

  /** Does what has waited for its file. Returns whether anything was done. */
  progress(): boolean {
    let worked = false;
    for (const request of this.armed) {
      const res = request.attempt();
      if (res === undefined) continue;
      worked = true;
      this.armed.delete(request);
      this.end(request, res);
    }
    return worked;
  }

  /** The last close. */
  release(wqs: ReadonlyMap<Task, IoWq>): void {
    this.armed.clear();
    for (const wq of wqs.values()) wq.cancel(({ ring }) => ring === this);
    if (this.#poller === undefined) return;
    this.#poller.rings--;
    if (this.#poller.rings > 0) return;
    wqs.get(this.#poller.task)?.exit();
    doExit(this.host.kernel, this.#poller.task, 0);
  }
}

/** The ring that a descriptor of IORING_SETUP_ATTACH_WQ names. ENXIO: not open. EINVAL: none. */
export function attached(file: OpenFile | undefined, opened: unknown): IoUring {
  if (file === undefined) throw new SyscallError("ENXIO");
  if (opened instanceof IoUring) return opened;
  throw new SyscallError("EINVAL");
}
