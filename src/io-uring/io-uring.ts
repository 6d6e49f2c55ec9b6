import { closeSync } from "node:fs";
import { fdClose, fdInstall } from "../kernel/files.js";
import type { Task } from "../kernel/task.js";
import { errno, VhostError } from "../spec/errno.js";
import type { FileTable, RingFile } from "./file-table.js";
import { HostFile } from "./host-file.js";
import type { IoWq } from "./io-wq.js";
import { type KernelOwner, ownerOf, type TaskOwner } from "./owner.js";
import { type RequestWork, RingCtx } from "./ring-ctx.js";
import { ioWqOf } from "./tctx.js";
import { UserRing, type UserRingOptions } from "./user-ring.js";

/** What a ring is to be. */
export interface IoUringOptions extends UserRingOptions {
  /**
   * Whether OPENAT may open this path of the host's, with the flags of open(2). Default: none may
   * (EACCES). The program's own rights apply, not those of the task; O_NONBLOCK is added, so that
   * no FIFO can keep a worker. One that throws gives none.
   */
  readonly mayOpen?: (path: string, flags: number) => boolean;
}

/**
 * An io_uring of a task, the kernel's side; it lives in the kernel's thread. SQEs name bytes of the
 * task's memory by linear address, in its guest part alone (else EFAULT), and files by the numbers
 * of its own table, where `HostFile`s are. Reads, writes, FSYNC, FALLOCATE and OPENAT are done by
 * io workers; there is no try before without one. Linux: io_ring_ctx.
 */
export class IoUring extends UserRing implements AsyncDisposable {
  /** The io workers of the task, which its other rings use, too. */
  readonly wq: IoWq<RequestWork>;
  readonly #ctx: RingCtx;
  readonly #task: Task;
  readonly #atExec = () => void this.close();
  #closed: Promise<void> | undefined;

  /**
   * Sets up a ring in the task's memory. ESRCH: the task has exited; EINVAL: something else than is
   * wanted, entries out of range, or a task with no memory for rings; ENOMEM. Linux:
   * io_uring_setup(2).
   */
  constructor(kernel: KernelOwner, owner: TaskOwner, options: IoUringOptions) {
    const { kernel: model, task } = ownerOf(kernel, owner);
    const { mayOpen } = options ?? {};
    if (mayOpen !== undefined && typeof mayOpen !== "function") {
      throw new VhostError("EINVAL", "mayOpen is a function of a path and flags", { mayOpen });
    }
    super("IoUring", task, options, ["mayOpen"]);
    const { layout, shared: memory, kernelRing: ring } = this;
    this.wq = ioWqOf(model, task, layout.sqEntries);
    const { wq } = this;
    this.#ctx = new RingCtx({ memory, ring, layout, files: new TaskFiles(task), wq, mayOpen });
    this.#task = task;
    task.signal.atExec.add(this.#atExec);
  }

  /**
   * Makes what was queued visible, and enters. @returns as `enter`. Throws EBADF when closed.
   * liburing: io_uring_submit().
   */
  submit(): number {
    this.mustBeOpen();
    this.application.submit();
    return this.enter();
  }

  /** See RingCtx.enter. Linux: io_uring_enter(2), to_submit. */
  enter(): number {
    return this.#ctx.enter();
  }

  /** See RingCtx.getEvents. Rejects with EINVAL, too. Linux: IORING_ENTER_GETEVENTS. */
  async getEvents(min: number): Promise<void> {
    await this.#ctx.getEvents(this.wantedOf(min));
  }

  /**
   * Sets how many workers of each kind the task may have at most; 0 leaves it. See
   * `IoWq.maxWorkers`. @returns what it was. Linux: IORING_REGISTER_IOWQ_MAX_WORKERS.
   */
  registerIoWqMaxWorkers(bounded: number, unbounded: number): [number, number] {
    return this.wq.maxWorkers(bounded, unbounded);
  }

  /**
   * Closes the ring, see RingCtx.close, and gives its memory back. The workers stay, see
   * `exitIoWq`. A new program closes it, too. Idempotent. Linux: io_uring_release().
   */
  close(): Promise<void> {
    this.isClosed = true;
    this.#task.signal.atExec.delete(this.#atExec);
    this.#closed ??= this.#ctx.close().then(() => this.layout.release());
    return this.#closed;
  }

  /** See close. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** A task's own table, where requests can use the `HostFile`s. */
class TaskFiles implements FileTable {
  readonly #task: Task;

  constructor(task: Task) {
    this.#task = task;
  }

  get(fd: number): RingFile | undefined {
    const file = this.#task.files?.fds.get(fd);
    return file instanceof HostFile ? file : undefined;
  }

  install(hostFd: number): number {
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

  close(fd: number): number {
    const { files } = this.#task;
    if (!files?.fds.has(fd)) return -errno.EBADF;
    fdClose(files, fd);
    return 0;
  }
}
