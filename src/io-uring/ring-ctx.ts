import { errno, VhostError } from "../spec/errno.js";
import {
  IORING_OP_ASYNC_CANCEL,
  IORING_OP_CLOSE,
  IORING_OP_NOP,
  IORING_OP_OPENAT,
  IORING_OP_WRITE,
  IORING_OP_WRITEV,
  IOSQE_ASYNC,
  IOSQE_CQE_SKIP_SUCCESS,
  IOSQE_IO_HARDLINK,
  IOU_TABLE,
  SQE_RECORD_BYTES,
} from "../spec/io-uring.js";
import { Chains } from "./chains.js";
import { CompletionQueue } from "./cq.js";
import type { FileTable } from "./file-table.js";
import type { JobWork } from "./io-work.js";
import type { Job } from "./ops.js";
import { hasLink, isFailure, type Request, readRequest, type UserMemory } from "./request.js";
import type { KernelRing } from "./ring.js";
import { IOU_BURST_MAX, type IouMemory } from "./state-block.js";

/** A request that an io worker does. */
export interface RequestWork extends JobWork {
  readonly request: Request;
  /** The ring it came from. */
  readonly ring: object;
}

/** Who has the work done: io-wq, or a table that workers share. */
export interface WorkQueue {
  /** Takes work; it completes later, or at once. */
  enqueue(work: RequestWork): void;
  /** Cancels what `match` names and has not begun; says what became of it. */
  cancel(match: (work: RequestWork) => boolean): "cancelled" | "running" | "none";
}

/** What a ring is made of. */
export interface RingCtxOptions {
  readonly memory: UserMemory & { readonly memory: WebAssembly.Memory };
  readonly ring: KernelRing;
  readonly layout: Pick<IouMemory, "sqEntries" | "cqEntries">;
  readonly files: FileTable;
  readonly wq: WorkQueue;
  /** See IoUringOptions. */
  readonly mayOpen?: ((path: string, flags: number) => boolean) | undefined;
}

/**
 * The kernel's side of a ring, in the thread that enters it: takes SQEs, has them done in their
 * order, posts CQEs. Linux: io_ring_ctx.
 */
export class RingCtx {
  readonly #memory: RingCtxOptions["memory"];
  readonly #layout: RingCtxOptions["layout"];
  readonly #ring: KernelRing;
  readonly #files: FileTable;
  readonly #wq: WorkQueue;
  readonly #cq: CompletionQueue;
  readonly #chains = new Chains();
  readonly #ready: Request[] = [];
  readonly #mayOpen: (path: string, flags: number) => boolean;
  /** Requests taken and not done. */
  #held = 0;
  #isRunning = false;
  #isClosed = false;
  #waiters: { min: number; resolve: () => void }[] = [];
  #onEmpty: () => void = () => {};

  /** `ring` is reset. */
  constructor({ memory, ring, layout, files, wq, mayOpen }: RingCtxOptions) {
    this.#memory = memory;
    this.#layout = layout;
    this.#ring = ring;
    this.#files = files;
    this.#wq = wq;
    this.#cq = new CompletionQueue(memory, ring);
    this.#mayOpen = mayOpen ?? (() => false);
  }

  /** Shows, or not, that the thread that enters the ring sleeps. */
  set needsWakeup(value: boolean) {
    this.#cq.needsWakeup = value;
  }

  /** Requests taken and not done. */
  get held(): number {
    return this.#held;
  }

  /**
   * Takes what was submitted, and begins it. Each SQE gets its CQE; one that is refused does not
   * stop the ones behind it (Linux: IORING_SETUP_SUBMIT_ALL). @returns how many were taken; -EBUSY:
   * twice the CQ's entries are being done or wait for room in the CQ (a chain is taken whole all
   * the same). Throws EBADF when closed.
   * Linux: io_uring_enter(2), to_submit.
   */
  enter(): number {
    this.#mustBeOpen();
    this.#cq.flush();
    const room = 2 * this.#layout.cqEntries - this.#held - this.#cq.waiting;
    if (room <= 0) return -errno.EBUSY;
    const submitted = this.#submit(Math.min(room, this.#layout.sqEntries));
    this.#run();
    return submitted;
  }

  /** Posts CQEs that wait for room in the CQ, if there is some now. Whether any was posted. */
  flush(): boolean {
    return this.#cq.flush();
  }

  /**
   * Resolves when the application has at least `min` CQEs to take (cut to the CQ's entries), or the
   * ring is closed. Throws EBADF when it is closed already. Linux: IORING_ENTER_GETEVENTS.
   */
  async getEvents(min: number): Promise<void> {
    this.#mustBeOpen();
    const wanted = Math.min(min, this.#layout.cqEntries);
    this.#cq.flush();
    if (this.#cq.ready >= wanted) return;
    await new Promise<void>((resolve) => this.#waiters.push({ min: wanted, resolve }));
  }

  /**
   * Closes the ring: what waits is cancelled, what is being done ends, without CQEs. Resolves when
   * nothing goes on; a worker that is asleep in a request delays that. Linux: io_uring_release().
   */
  async close(): Promise<void> {
    if (!this.#isClosed) {
      this.#isClosed = true;
      for (const { resolve } of this.#waiters.splice(0)) resolve();
      const emptied = new Promise<void>((resolve) => {
        this.#onEmpty = resolve;
      });
      this.#cancelWaiting();
      if (this.#held > 0) await emptied;
    }
  }

  #mustBeOpen(): void {
    if (this.#isClosed) throw new VhostError("EBADF", "the ring is closed");
  }

  #cancelWaiting(): void {
    for (let chain = this.#chains.remove(() => true); chain.length > 0; ) {
      for (const request of chain) this.#finish(request, -errno.ECANCELED);
      chain = this.#chains.remove(() => true);
    }
    this.#wq.cancel(({ ring }) => ring === this);
  }

  /**
   * Takes up to `room` SQEs, and the rest of the chain that the last of them is in, which no
   * application can submit at once beyond the SQ's entries. A chain ends with what was submitted.
   */
  #submit(room: number): number {
    const table = this.#memory.view.getUint32(this.#ring.iou + IOU_TABLE, true);
    let chain: Request[] = [];
    let submitted = 0;
    while (submitted < room || (chain.length > 0 && chain.length < this.#layout.sqEntries)) {
      const max = submitted < room ? Math.min(room - submitted, IOU_BURST_MAX) : 1;
      const taken = this.#ring.takeSqes(max);
      for (let i = 0; i < taken; i++) {
        const request = readRequest(this.#memory, table + i * SQE_RECORD_BYTES);
        chain.push(request);
        if (hasLink(request)) continue;
        this.#queue(chain);
        chain = [];
      }
      submitted += taken;
      if (taken < max) break;
    }
    if (chain.length > 0) this.#queue(chain);
    return submitted;
  }

  /** One bad request spoils its chain. Linux: io_submit_fail_init(). */
  #queue(chain: Request[]): void {
    this.#held += chain.length;
    if (!chain.some(({ job }) => typeof job === "number")) {
      this.#chains.push(chain);
      return;
    }
    for (const request of chain) {
      this.#finish(request, typeof request.job === "number" ? -request.job : -errno.ECANCELED);
    }
  }

  /** Begins what may begin: not recursive, for a chain may be long. */
  #run(): void {
    if (this.#isRunning) return;
    this.#isRunning = true;
    for (let next = this.#nextRequest(); next !== undefined; next = this.#nextRequest()) {
      this.#issue(next);
    }
    this.#isRunning = false;
    this.#postAndTell();
  }

  #nextRequest(): Request | undefined {
    return this.#ready.shift() ?? this.#chains.begin();
  }

  #postAndTell(): void {
    if (this.#isClosed) {
      if (this.#held === 0) this.#onEmpty();
      return;
    }
    this.#cq.flush();
    const { ready } = this.#cq;
    const due = this.#waiters.filter(({ min }) => min <= ready);
    this.#waiters = this.#waiters.filter(({ min }) => min > ready);
    for (const { resolve } of due) resolve();
  }

  /** Linux: io_issue_sqe(), io_queue_iowq(). */
  #issue(request: Request): void {
    const { op, job } = request;
    if (this.#isClosed) this.#complete(request, -errno.ECANCELED);
    else if (op === IORING_OP_NOP) this.#complete(request, 0);
    else if (op === IORING_OP_CLOSE) this.#complete(request, this.#files.close(request.fd));
    else if (op === IORING_OP_ASYNC_CANCEL) this.#complete(request, this.#cancel(request.addr));
    else if (op === IORING_OP_OPENAT) this.#issueOpen(request, job as Job);
    else this.#issueRw(request, job as Job);
  }

  #issueOpen(request: Request, job: Job): void {
    if (job.kind !== "open") return;
    if (this.#isAllowed(job.path, job.flags)) this.#enqueue(request, job);
    else this.#complete(request, -errno.EACCES);
  }

  /** What throws gives no leave, and takes no part in what the ring does next. */
  #isAllowed(path: string, flags: number): boolean {
    try {
      return this.#mayOpen(path, flags);
    } catch {
      return false;
    }
  }

  #issueRw(request: Request, job: Job): void {
    const file = this.#files.get(request.fd);
    if (file === undefined) {
      this.#complete(request, -errno.EBADF);
      return;
    }
    file.count++;
    request.file = file;
    this.#enqueue(request, job);
  }

  #enqueue(request: Request, job: Job): void {
    const { op, flags, file } = request;
    const isWrite = op === IORING_OP_WRITE || op === IORING_OP_WRITEV;
    const hash = isWrite ? file?.hash : undefined;
    this.#wq.enqueue({
      ring: this,
      request,
      message: { job, hostFd: file?.hostFd ?? -1 },
      unbound: file !== null && !file.isBounded && job.kind !== "sync" && job.kind !== "fallocate",
      concurrent: (flags & IOSQE_ASYNC) !== 0,
      ...(hash === undefined ? {} : { hash }),
      complete: (res) => this.#complete(request, this.#resultOf(op, res)),
    });
  }

  /** A file that a worker opened gets a descriptor. */
  #resultOf(op: number, res: number): number {
    return op === IORING_OP_OPENAT && res >= 0 ? this.#files.install(res) : res;
  }

  /** The first request with that user data. Linux: io_async_cancel(). */
  #cancel(userData: bigint): number {
    let isFound = false;
    const outcome = this.#wq.cancel((work) => {
      if (isFound || work.ring !== this || work.request.userData !== userData) return false;
      isFound = true;
      return true;
    });
    if (outcome === "cancelled") return 0;
    if (outcome === "running") return -errno.EALREADY;
    const chain = this.#chains.remove((request) => request.userData === userData);
    for (const request of chain) this.#finish(request, -errno.ECANCELED);
    return chain.length > 0 ? 0 : -errno.ENOENT;
  }

  /** A request that has begun is done, and what depends on it goes on or fails. */
  #complete(request: Request, res: number): void {
    request.file?.put();
    request.file = null;
    this.#done(request, res);
    const isBroken = isFailure(request, res) && (request.flags & IOSQE_IO_HARDLINK) === 0;
    for (let next = request.next; next !== null; next = next.next) {
      if (!isBroken) {
        this.#ready.push(next);
        break;
      }
      this.#done(next, -errno.ECANCELED);
    }
    this.#run();
  }

  #done(request: Request, res: number): void {
    this.#chains.done(request);
    this.#finish(request, res);
  }

  #finish(request: Request, res: number): void {
    this.#held--;
    const isSilent = (request.flags & IOSQE_CQE_SKIP_SUCCESS) !== 0 && !isFailure(request, res);
    if (!isSilent && !this.#isClosed) this.#cq.add(request.userData, res);
  }
}
