import { closeSync } from "node:fs";
import { fdClose, fdInstall } from "../kernel/files.js";
import type { Kernel } from "../kernel/kernel.js";
import { mustLive, type Task } from "../kernel/task.js";
import { SharedMemory } from "../memory/shared-memory.js";
import type { RingKind } from "../ring/load.js";
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
import { HostFile } from "./host-file.js";
import type { IoWq } from "./io-wq.js";
import { loadIouRings } from "./load.js";
import type { Job } from "./ops.js";
import { hasLink, isFailure, type Request, readRequest } from "./request.js";
import type { ApplicationRing, KernelRing } from "./ring.js";
import { allocIouMemory, IOU_BURST_MAX, type IouEntries, type IouMemory } from "./state-block.js";
import { ioWqOf, type RequestWork } from "./tctx.js";

/** What a ring is to be. */
export interface IoUringOptions extends IouEntries {
  /** Which implementation of the rings; default "wasm". */
  readonly kind?: RingKind;
  /**
   * Whether OPENAT may open this path of the host's, with the flags of open(2). Default: none may
   * (EACCES). The program's own rights apply, not those of the task; O_NONBLOCK is added, so that
   * no FIFO can keep a worker.
   */
  readonly mayOpen?: (path: string, flags: number) => boolean;
}

/**
 * An io_uring of a task, the kernel's side; it lives in the kernel's thread. SQEs name bytes of the
 * task's memory by linear address, in its guest part alone (else EFAULT), and files by the numbers
 * of its own table, where `HostFile`s are. Reads, writes, FSYNC and OPENAT are done by io workers;
 * there is no try before without one. Linux: io_ring_ctx.
 */
export class IoUring implements AsyncDisposable {
  /** The application's half. */
  readonly application: ApplicationRing;
  /** Where it lies. */
  readonly layout: IouMemory;
  /** The io workers of the task, which its other rings use, too. */
  readonly wq: IoWq<RequestWork>;
  readonly #task: Task;
  readonly #shared: SharedMemory;
  readonly #ring: KernelRing;
  readonly #cq: CompletionQueue;
  readonly #chains = new Chains();
  readonly #ready: Request[] = [];
  readonly #mayOpen: NonNullable<IoUringOptions["mayOpen"]>;
  /** Requests taken and not done. */
  #held = 0;
  #isRunning = false;
  #isClosed = false;
  #waiters: { min: number; resolve: () => void }[] = [];
  #onEmpty: () => void = () => {};

  /**
   * Sets up a ring in the task's memory. ESRCH: the task has exited; EINVAL: entries out of range,
   * or a task with no memory for rings; ENOMEM. Linux: io_uring_setup(2).
   */
  constructor(kernel: Kernel, task: Task, options: IoUringOptions) {
    mustLive(task);
    if (task.mm === null) throw new VhostError("EINVAL", "a kernel thread has no memory for rings");
    const { memory } = task.mm;
    this.#shared = SharedMemory.of(memory);
    this.layout = allocIouMemory(this.#shared, options);
    const rings = loadIouRings(memory, options.kind);
    this.application = rings.application(this.layout.application);
    this.#ring = rings.kernel(this.layout.kernel);
    this.application.reset();
    this.#ring.reset();
    this.wq = ioWqOf(kernel, task, this.layout.sqEntries);
    this.#task = task;
    this.#cq = new CompletionQueue(this.#shared, this.#ring);
    this.#mayOpen = options.mayOpen ?? (() => false);
  }

  /**
   * Takes what was submitted, and begins it. Each SQE gets its CQE; one that is refused does not
   * stop the ones behind it (Linux: IORING_SETUP_SUBMIT_ALL). @returns how many were taken; -EBUSY:
   * twice the CQ's entries are being done or wait for room in the CQ. Throws EBADF when closed.
   * Linux: io_uring_enter(2), to_submit.
   */
  enter(): number {
    this.#mustBeOpen();
    this.#cq.flush();
    const room = 2 * this.layout.cqEntries - this.#held - this.#cq.waiting;
    if (room <= 0) return -errno.EBUSY;
    const submitted = this.#submit(Math.min(room, this.layout.sqEntries));
    this.#run();
    return submitted;
  }

  /**
   * Resolves when the application has at least `min` CQEs to take (cut to the CQ's entries), or the
   * ring is closed. Throws EBADF when it is closed already. Linux: IORING_ENTER_GETEVENTS.
   */
  async getEvents(min: number): Promise<void> {
    this.#mustBeOpen();
    const wanted = Math.min(min, this.layout.cqEntries);
    this.#cq.flush();
    if (this.#cq.ready >= wanted) return;
    await new Promise<void>((resolve) => this.#waiters.push({ min: wanted, resolve }));
  }

  /**
   * Closes the ring: what waits is cancelled, what is being done ends, without CQEs. Resolves when
   * its memory has been given back; a worker that is asleep in a request delays that. The workers
   * stay, see `exitIoWq`. Linux: io_uring_release().
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
      this.layout.release();
    }
  }

  /** See close. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #mustBeOpen(): void {
    if (this.#isClosed) throw new VhostError("EBADF", "the ring is closed");
  }

  #cancelWaiting(): void {
    for (let chain = this.#chains.remove(() => true); chain.length > 0; ) {
      for (const request of chain) this.#finish(request, -errno.ECANCELED);
      chain = this.#chains.remove(() => true);
    }
    this.wq.cancel(({ ring }) => ring === this);
  }

  /** Takes up to `room` SQEs. A chain ends with them. */
  #submit(room: number): number {
    const table = this.#shared.view.getUint32(this.#ring.iou + IOU_TABLE, true);
    let chain: Request[] = [];
    let submitted = 0;
    while (submitted < room) {
      const max = Math.min(room - submitted, IOU_BURST_MAX);
      const taken = this.#ring.takeSqes(max);
      for (let i = 0; i < taken; i++) {
        const request = readRequest(this.#shared, table + i * SQE_RECORD_BYTES);
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
    this.#flush();
  }

  #nextRequest(): Request | undefined {
    return this.#ready.shift() ?? this.#chains.begin();
  }

  #flush(): void {
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
    else if (op === IORING_OP_CLOSE) this.#complete(request, this.#closeFd(request.fd));
    else if (op === IORING_OP_ASYNC_CANCEL) this.#complete(request, this.#cancel(request.addr));
    else if (op === IORING_OP_OPENAT) this.#issueOpen(request, job as Job);
    else this.#issueRw(request, job as Job);
  }

  #issueOpen(request: Request, job: Job): void {
    if (job.kind !== "open") return;
    if (!this.#mayOpen(job.path, job.flags)) this.#complete(request, -errno.EACCES);
    else this.#enqueue(request, job);
  }

  #issueRw(request: Request, job: Job): void {
    const file = this.#task.files?.fds.get(request.fd);
    if (!(file instanceof HostFile)) {
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
    this.wq.enqueue({
      ring: this,
      request,
      message: { job, hostFd: file?.hostFd ?? -1 },
      unbound: file !== null && !file.isBounded && job.kind !== "sync",
      concurrent: (flags & IOSQE_ASYNC) !== 0,
      ...(hash === undefined ? {} : { hash }),
      complete: (res) => this.#complete(request, op === IORING_OP_OPENAT ? this.#opened(res) : res),
    });
  }

  /** The descriptor of a file that a worker opened. */
  #opened(hostFd: number): number {
    if (hostFd < 0) return hostFd;
    const { files } = this.#task;
    try {
      if (files !== null) return fdInstall(files, new HostFile(hostFd));
    } catch {
      closeSync(hostFd);
      return -errno.EINVAL;
    }
    closeSync(hostFd);
    return -errno.ECANCELED;
  }

  #closeFd(fd: number): number {
    const { files } = this.#task;
    if (!files?.fds.has(fd)) return -errno.EBADF;
    fdClose(files, fd);
    return 0;
  }

  /** The first request with that user data. Linux: io_async_cancel(). */
  #cancel(userData: bigint): number {
    let isFound = false;
    const outcome = this.wq.cancel((work) => {
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
