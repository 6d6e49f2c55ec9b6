// Requests to io_uring: what each does with what it is about, and who may do it.

import type { OpenFile } from "#dist/kernel/files.js";
import type { IoUring } from "./io-uring.js";
import { isPipeEnd, type Pipe } from "./pipe.js";

/** A submission, as its fields are named. */
export interface Sqe {
  readonly opcode: keyof typeof OPS;
  readonly fd?: number;
  readonly path?: string;
  /** Bytes; 1 if left out. */
  readonly len?: number;
  readonly flags?: readonly "IOSQE_ASYNC"[];
  readonly user_data?: number;
}

/** A completion: a count, or the name of an errno. */
export interface Cqe {
  readonly user_data: number;
  readonly res: number | string;
}

interface Op {
  /** Bounded by nothing where it is not about a regular file. Linux: unbound_nonreg_file. */
  readonly isUnbound?: boolean;
  /** A file that is not ready is waited for without a worker. */
  readonly isPollable?: boolean;
  /** Never tried by the one who submits. Linux: REQ_F_FORCE_ASYNC. */
  readonly isForced?: boolean;
}

/** What is modelled. Linux: io_issue_defs. */
export const OPS = {
  IORING_OP_NOP: {},
  IORING_OP_READ: { isUnbound: true, isPollable: true },
  IORING_OP_WRITE: { isUnbound: true, isPollable: true },
  IORING_OP_FSYNC: { isForced: true },
  IORING_OP_FALLOCATE: { isForced: true },
  IORING_OP_OPENAT: {},
  IORING_OP_SPLICE: { isUnbound: true, isForced: true },
} as const satisfies Record<string, Op>;

/** A request that has been submitted. */
export class IoRequest {
  readonly op: Op;
  readonly isAsync: boolean;
  #waits = false;

  constructor(
    readonly ring: IoUring,
    readonly sqe: Sqe,
    /** What its descriptor refers to. */
    readonly opened: unknown,
    readonly file: OpenFile | undefined,
    /** The FIFO of its path. */
    readonly fifo: Pipe | undefined,
  ) {
    this.op = OPS[sqe.opcode];
    this.isAsync = sqe.flags?.includes("IOSQE_ASYNC") ?? false;
  }

  /** Whether its worker is one of those that only RLIMIT_NPROC bounds. */
  get isUnbound(): boolean {
    return this.op.isUnbound === true && isPipeEnd(this.opened);
  }

  /** Whether it need not hold a worker up while its file is not ready. */
  get isPollable(): boolean {
    return this.op.isPollable === true && isPipeEnd(this.opened);
  }

  /** Does it: what came of it, or `undefined`: it has to wait. */
  attempt(): number | string | undefined {
    const { opcode, len = 1 } = this.sqe;
    if (opcode === "IORING_OP_NOP") return 0;
    if (opcode === "IORING_OP_OPENAT") return this.#open();
    if (this.file === undefined) return "EBADF";
    if (opcode === "IORING_OP_FSYNC" || opcode === "IORING_OP_FALLOCATE") {
      return isPipeEnd(this.opened) ? (opcode === "IORING_OP_FSYNC" ? "EINVAL" : "ESPIPE") : 0;
    }
    const isWrite = opcode === "IORING_OP_WRITE";
    if (!isPipeEnd(this.opened)) return isWrite ? len : 0;
    const { pipe, reads, writes } = this.opened;
    if (!(isWrite ? writes : reads)) return "EBADF";
    return isWrite ? pipe.write(len) : pipe.read(len);
  }

  /** It will not be done: it waits for nobody any more. */
  cancel(): void {
    if (this.#waits && this.fifo) this.fifo.waitingReaders--;
    this.#waits = false;
  }

  /** Opens for reading, which for a FIFO waits for a writer. */
  #open(): number | string | undefined {
    const { fifo } = this;
    if (fifo !== undefined && fifo.writers === 0) {
      if (!this.#waits) fifo.waitingReaders++;
      this.#waits = true;
      return undefined;
    }
    this.cancel();
    return this.ring.installFor(this);
  }
}
