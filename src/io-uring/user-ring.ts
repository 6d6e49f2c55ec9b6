import type { Task } from "../kernel/task.js";
import { SharedMemory } from "../memory/shared-memory.js";
import type { RingKind } from "../ring/load.js";
import { VhostError } from "../spec/errno.js";
import {
  CQE_FLAGS,
  CQE_RES,
  CQE_USER_DATA,
  IO_URING_CQE_BYTES,
  IOU_TABLE,
  SQE_ADDR,
  SQE_FD,
  SQE_FLAGS,
  SQE_LEN,
  SQE_OFF,
  SQE_OP_FLAGS,
  SQE_OPCODE,
  SQE_USER_DATA,
} from "../spec/io-uring.js";
import { checkNames } from "../spec/options.js";
import { loadIouRings } from "./load.js";
import type { ApplicationRing, KernelRing } from "./ring.js";
import { allocIouMemory, IOU_BURST_MAX, type IouEntries, type IouMemory } from "./state-block.js";
import { UserBuffer } from "./user-buffer.js";

/** What a request is to be; what is left out is 0. Linux: struct io_uring_sqe. */
export interface Sqe {
  /** IORING_OP_… */
  readonly opcode: number;
  /** IOSQE_… bits. */
  readonly flags?: number;
  /** Descriptor in the table of the task; of OPENAT, AT_FDCWD. */
  readonly fd?: number;
  /** Position in the file; -1: the file's own. */
  readonly offset?: number | bigint;
  /** Of the buffer, the iovecs or the path; FALLOCATE: the length; ASYNC_CANCEL: the user data. */
  readonly address?: number | bigint;
  /** Bytes of the buffer, or number of iovecs; of FALLOCATE and OPENAT, the mode. */
  readonly length?: number;
  /** The opcode's own flags: fsync_flags, open_flags … */
  readonly opFlags?: number;
  /** Comes back in the completion. */
  readonly userData?: number | bigint;
}

/** What became of a request. Linux: struct io_uring_cqe. */
export interface Cqe {
  readonly userData: bigint;
  /** The result, or an error number, negative. */
  readonly res: number;
  readonly flags: number;
}

/** What all rings may be told. */
export interface UserRingOptions extends IouEntries {
  /** Which implementation of the rings; default "wasm". */
  readonly kind?: RingKind;
}

/** Field, least and most. */
const FIELDS = {
  opcode: [0n, 255n],
  flags: [0n, 255n],
  fd: [-(2n ** 31n), 2n ** 31n - 1n],
  offset: [-1n, 2n ** 64n - 1n],
  address: [0n, 2n ** 64n - 1n],
  length: [0n, 2n ** 32n - 1n],
  opFlags: [0n, 2n ** 32n - 1n],
  userData: [0n, 2n ** 64n - 1n],
} as const;
const FIELD_NAMES = Object.keys(FIELDS);

/**
 * A ring in a task's memory, and the application's half of it, in the thread that made it.
 * liburing: struct io_uring.
 */
export abstract class UserRing {
  /** The application's half. */
  readonly application: ApplicationRing;
  /** Where it lies. */
  readonly layout: IouMemory;
  /** The task's memory. */
  protected readonly shared: SharedMemory;
  /** The kernel's half. */
  protected readonly kernelRing: KernelRing;
  /** Its memory may be given back. */
  protected isClosed = false;

  /**
   * `task` lives. `own`: names of the options that this kind of ring has besides. EINVAL: options,
   * or a task with no memory for rings; ENOMEM.
   */
  constructor(what: string, task: Task, options: UserRingOptions, own: readonly string[]) {
    if (task.mm === null) throw new VhostError("EINVAL", "a kernel thread has no memory for rings");
    if (typeof options !== "object" || options === null) {
      throw new VhostError("EINVAL", `${what} needs options: { entries: 8 }`, { options });
    }
    checkNames(what, options, ["entries", "cqEntries", "kind", ...own]);
    const { kind = "wasm" } = options;
    if (kind !== "wasm" && kind !== "ts") {
      throw new VhostError("EINVAL", 'kind is "wasm" or "ts"', { kind });
    }
    const { memory } = task.mm;
    this.shared = SharedMemory.of(memory);
    this.layout = allocIouMemory(this.shared, options);
    const rings = loadIouRings(memory, kind);
    this.application = rings.application(this.layout.application);
    this.kernelRing = rings.kernel(this.layout.kernel);
    this.application.reset();
    this.kernelRing.reset();
  }

  /** Makes what was queued visible, and has it begun. liburing: io_uring_submit(). */
  abstract submit(): number;

  /** Memory of the task that SQEs may name, zeroed. Throws ENOMEM, EINVAL. */
  alloc(lengthBytes: number): UserBuffer {
    return new UserBuffer(this.shared, lengthBytes);
  }

  /**
   * Fills in the next SQE; `submit` has it begun. Throws EINVAL for a field that there is not or
   * that does not fit, EBUSY when the SQ is full (submit first), EBADF when the ring is closed.
   * liburing: io_uring_get_sqe(), io_uring_prep_rw().
   */
  queue(sqe: Sqe): void {
    this.mustBeOpen();
    const { opcode, flags, fd, offset, address, length, opFlags, userData } = checkSqe(sqe);
    const at = this.application.getSqe();
    if (at === 0) throw new VhostError("EBUSY", "the SQ is full: submit first");
    const { view } = this.shared;
    view.setUint8(at + SQE_OPCODE, Number(opcode));
    view.setUint8(at + SQE_FLAGS, Number(flags));
    view.setInt32(at + SQE_FD, Number(fd), true);
    view.setBigUint64(at + SQE_OFF, BigInt.asUintN(64, offset), true);
    view.setBigUint64(at + SQE_ADDR, address, true);
    view.setUint32(at + SQE_LEN, Number(length), true);
    view.setUint32(at + SQE_OP_FLAGS, Number(opFlags), true);
    view.setBigUint64(at + SQE_USER_DATA, userData, true);
  }

  /**
   * Takes the completions that are there, oldest first; CQ entries at most. Throws EBADF when the
   * ring is closed, EPROTO when the tail of the CQ can't be true. liburing:
   * io_uring_peek_batch_cqe(), io_uring_cq_advance().
   */
  completions(): Cqe[] {
    this.mustBeOpen();
    const { application, layout, shared } = this;
    const table = shared.view.getUint32(layout.application + IOU_TABLE, true);
    const cqes: Cqe[] = [];
    while (cqes.length < layout.cqEntries) {
      const count = application.peekCqes(Math.min(IOU_BURST_MAX, layout.cqEntries - cqes.length));
      if (count < 0) throw new VhostError("EPROTO", "the tail of the CQ is out of range");
      if (count === 0) break;
      for (let i = 0; i < count; i++) {
        cqes.push(readCqe(shared.view, table + i * IO_URING_CQE_BYTES));
      }
      application.advance(count);
    }
    return cqes;
  }

  /** `min` of getEvents, cut to the CQ's entries. EINVAL: not a whole number from 0. */
  protected wantedOf(min: number): number {
    if (Number.isInteger(min) && min >= 0) return Math.min(min, this.layout.cqEntries);
    throw new VhostError("EINVAL", "getEvents waits for a whole number of completions", { min });
  }

  /** Throws EBADF when it is closed. */
  protected mustBeOpen(): void {
    if (this.isClosed) throw new VhostError("EBADF", "the ring is closed");
  }
}

function readCqe(view: DataView, at: number): Cqe {
  return {
    userData: view.getBigUint64(at + CQE_USER_DATA, true),
    res: view.getInt32(at + CQE_RES, true),
    flags: view.getUint32(at + CQE_FLAGS, true),
  };
}

type Checked = Record<keyof typeof FIELDS, bigint>;

/** All fields, whole and in range; EINVAL. */
function checkSqe(sqe: Sqe): Checked {
  checkNames("an SQE", sqe, FIELD_NAMES);
  if (sqe.opcode === undefined) throw new VhostError("EINVAL", "an SQE needs an opcode");
  const checked: [string, bigint][] = [];
  for (const [name, [min, max]] of Object.entries(FIELDS)) {
    const value = sqe[name as keyof Sqe] ?? 0;
    const isWhole = typeof value === "bigint" || Number.isSafeInteger(value);
    const whole = isWhole ? BigInt(value) : min - 1n;
    if (whole < min || whole > max) {
      throw new VhostError("EINVAL", `${name} is whole, from ${min} to ${max}`, { [name]: value });
    }
    checked.push([name, whole]);
  }
  return Object.fromEntries(checked) as Checked;
}
