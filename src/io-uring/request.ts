import { errno } from "../spec/errno.js";
import {
  IORING_OP_READV,
  IORING_OP_WRITEV,
  IOSQE_IO_HARDLINK,
  IOSQE_IO_LINK,
  SQE_ADDR,
  SQE_ERROR,
  SQE_FD,
  SQE_FLAGS,
  SQE_LEN,
  SQE_OFF,
  SQE_OP_FLAGS,
  SQE_OPCODE,
  SQE_USER_DATA,
} from "../spec/io-uring.js";
import type { RingFile } from "./file-table.js";
import { type Job, prepare } from "./ops.js";

/** An SQE that was taken. Linux: io_kiocb. */
export interface Request {
  readonly op: number;
  /** IOSQE_… bits. */
  readonly flags: number;
  readonly fd: number;
  readonly off: bigint;
  readonly addr: bigint;
  readonly len: number;
  readonly opFlags: number;
  readonly userData: bigint;
  /** What an io worker has to do, or the number of the error it is refused with. */
  job: Job | number;
  /** What comes after it in its chain. Linux: link. */
  next: Request | null;
  /** Its chain has IOSQE_IO_DRAIN. */
  isDrain: boolean;
  /** A reference, while it is worked on. */
  file: RingFile | null;
}

/** The part of a linear memory that requests may name: see SharedMemory. */
export interface UserMemory {
  readonly view: DataView;
  readonly bytes: Uint8Array<ArrayBufferLike>;
  /** First address. Up to the memory's end, all may be named. */
  readonly guestStart: number;
}

/** The request that the record at `record`, our own copy of an SQE, asks for. Never throws. */
export function readRequest(memory: UserMemory, record: number): Request {
  const { view } = memory;
  const request: Request = {
    op: view.getUint8(record + SQE_OPCODE),
    flags: view.getUint8(record + SQE_FLAGS),
    fd: view.getInt32(record + SQE_FD, true),
    off: view.getBigUint64(record + SQE_OFF, true),
    addr: view.getBigUint64(record + SQE_ADDR, true),
    len: view.getUint32(record + SQE_LEN, true),
    opFlags: view.getUint32(record + SQE_OP_FLAGS, true),
    userData: view.getBigUint64(record + SQE_USER_DATA, true),
    job: errno.EINVAL,
    next: null,
    isDrain: false,
    file: null,
  };
  const error = view.getUint32(record + SQE_ERROR, true);
  request.job = error === 0 ? prepare(memory, record, request) : error;
  return request;
}

/** Whether the next SQE belongs to the same chain. */
export function hasLink({ flags }: Request): boolean {
  return (flags & (IOSQE_IO_LINK | IOSQE_IO_HARDLINK)) !== 0;
}

/** Whether `res` breaks the chain: an error, or less than was asked for. */
export function isFailure({ op, job, len }: Request, res: number): boolean {
  if (res < 0) return true;
  if (typeof job === "number" || job.kind === "open" || job.kind === "none") return false;
  const isVector = op === IORING_OP_READV || op === IORING_OP_WRITEV;
  if (job.kind === "sync" || job.kind === "fallocate") return false;
  const wanted = isVector ? job.ranges.reduce((sum, { bytes }) => sum + bytes, 0) : len;
  return res !== wanted;
}
