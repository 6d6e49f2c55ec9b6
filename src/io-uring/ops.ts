import { errno } from "../spec/errno.js";
import {
  AT_FDCWD,
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  FALLOC_FL_ZERO_RANGE,
  IORING_FSYNC_DATASYNC,
  IORING_OP_ASYNC_CANCEL,
  IORING_OP_CLOSE,
  IORING_OP_FALLOCATE,
  IORING_OP_FSYNC,
  IORING_OP_NOP,
  IORING_OP_OPENAT,
  IORING_OP_READ,
  IORING_OP_READV,
  IORING_OP_WRITE,
  IORING_OP_WRITEV,
  IOSQE_BUFFER_SELECT,
  IOSQE_FIXED_FILE,
  IOVEC_BYTES,
  MAX_RW_COUNT,
  PATH_MAX,
  SQE_BUF_INDEX,
  SQE_FILE_INDEX,
  SQE_IOPRIO,
  UIO_MAXIOV,
} from "../spec/io-uring.js";
import type { Request, UserMemory } from "./request.js";

/** Bytes of the owner's memory. */
export interface Range {
  readonly address: number;
  readonly bytes: number;
}

/** What an io worker does; it can be sent to its thread. */
export type Job =
  | { readonly kind: "none" }
  | {
      readonly kind: "read" | "write";
      readonly ranges: readonly Range[];
      /** `null`: the file's own position. */
      readonly position: number | null;
    }
  | { readonly kind: "sync"; readonly isDataOnly: boolean }
  | {
      readonly kind: "fallocate";
      /** FALLOC_FL_… bits. */
      readonly mode: number;
      readonly position: number;
      readonly bytes: number;
    }
  | {
      readonly kind: "open";
      readonly path: string;
      readonly flags: number;
      readonly mode: number;
    };

const FALLOC_MODES = FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE;
const NONE: Job = { kind: "none" };
const POSITION_OWN = 2n ** 64n - 1n;
const POSITION_END = 2n ** 63n;

/**
 * What a request asks of a worker ("none": no worker), or the number of the error it is refused
 * with. Iovecs and paths are read here, once. Never throws. Linux: io_issue_defs[].prep.
 */
export function prepare(memory: UserMemory, record: number, request: Request): Job | number {
  const { view } = memory;
  const { op, flags } = request;
  if (flags & IOSQE_BUFFER_SELECT) return errno.EOPNOTSUPP;
  if (flags & IOSQE_FIXED_FILE) return errno.EBADF; // none is registered
  if (view.getUint16(record + SQE_IOPRIO, true) !== 0) return errno.EINVAL;
  const bufIndex = view.getUint16(record + SQE_BUF_INDEX, true);
  const fileIndex = view.getUint32(record + SQE_FILE_INDEX, true);
  if (bufIndex !== 0 || fileIndex !== 0) return errno.EINVAL;
  const { off, addr, len, opFlags } = request;
  switch (op) {
    case IORING_OP_NOP:
      return NONE;
    case IORING_OP_ASYNC_CANCEL:
      return off === 0n && len === 0 && opFlags === 0 ? NONE : errno.EINVAL;
    case IORING_OP_CLOSE:
      return off === 0n && addr === 0n && len === 0 && opFlags === 0 ? NONE : errno.EINVAL;
    case IORING_OP_FSYNC:
      if (addr !== 0n || opFlags & ~IORING_FSYNC_DATASYNC) return errno.EINVAL;
      return { kind: "sync", isDataOnly: opFlags !== 0 };
    case IORING_OP_FALLOCATE:
      return prepareFallocate(request);
    case IORING_OP_READ:
    case IORING_OP_READV:
    case IORING_OP_WRITE:
    case IORING_OP_WRITEV:
      return prepareRw(memory, request);
    case IORING_OP_OPENAT:
      return prepareOpen(memory, request);
    default:
      return errno.EINVAL;
  }
}

/** Linux: io_fallocate_prep(), vfs_fallocate(). */
function prepareFallocate({ off, addr: bytes, len: mode, opFlags }: Request): Job | number {
  if (opFlags !== 0) return errno.EINVAL;
  if (off >= POSITION_END || bytes >= POSITION_END || bytes === 0n) return errno.EINVAL;
  if (mode & ~FALLOC_MODES) return errno.EOPNOTSUPP;
  if (mode & FALLOC_FL_PUNCH_HOLE && mode !== (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)) {
    return errno.EOPNOTSUPP;
  }
  if (off + bytes > BigInt(Number.MAX_SAFE_INTEGER)) return errno.EFBIG;
  return { kind: "fallocate", mode, position: Number(off), bytes: Number(bytes) };
}

/** Linux: io_prep_rw(), import_iovec(). */
function prepareRw(memory: UserMemory, request: Request): Job | number {
  const { op, off, addr, len, opFlags } = request;
  if (opFlags !== 0) return errno.EOPNOTSUPP;
  const isWrite = op === IORING_OP_WRITE || op === IORING_OP_WRITEV;
  const isVector = op === IORING_OP_READV || op === IORING_OP_WRITEV;
  const ranges = isVector ? readIovecs(memory, addr, len) : readBuffer(memory, addr, len);
  if (typeof ranges === "number") return ranges;
  const position = readPosition(off, isWrite);
  if (typeof position === "object" && position !== null) return position.error;
  return { kind: isWrite ? "write" : "read", ranges, position };
}

/** A position that no file reaches is past the end to a read, and too far for a write. */
function readPosition(off: bigint, isWrite: boolean): number | null | { error: number } {
  if (off === POSITION_OWN) return null;
  if (off >= POSITION_END) return { error: errno.EINVAL };
  if (off <= BigInt(Number.MAX_SAFE_INTEGER) - BigInt(MAX_RW_COUNT)) return Number(off);
  return isWrite ? { error: errno.EFBIG } : Number.MAX_SAFE_INTEGER - MAX_RW_COUNT;
}

/** EFAULT: not wholly in the part of the memory that may be named. */
function readBuffer(memory: UserMemory, addr: bigint, bytes: number | bigint): Range[] | number {
  const end = BigInt(memory.bytes.length);
  const size = BigInt(bytes);
  if (size === 0n) return [];
  if (addr < BigInt(memory.guestStart) || size > end || addr + size > end) return errno.EFAULT;
  return [{ address: Number(addr), bytes: Math.min(Number(size), MAX_RW_COUNT) }];
}

function readIovecs(memory: UserMemory, addr: bigint, count: number): Range[] | number {
  if (count > UIO_MAXIOV) return errno.EINVAL;
  const table = readBuffer(memory, addr, count * IOVEC_BYTES);
  if (typeof table === "number") return table;
  const ranges: Range[] = [];
  let left = MAX_RW_COUNT;
  for (let i = 0; i < count; i++) {
    const iovec = Number(addr) + i * IOVEC_BYTES;
    const base = memory.view.getBigUint64(iovec, true);
    const size = memory.view.getBigUint64(iovec + 8, true);
    if (size >= POSITION_END) return errno.EINVAL;
    const range = readBuffer(memory, base, size);
    if (typeof range === "number") return range;
    for (const { address, bytes } of range) {
      ranges.push({ address, bytes: Math.min(bytes, left) });
      left -= Math.min(bytes, left);
    }
  }
  return ranges;
}

/** Linux: getname(). Not done: paths from an open directory (EOPNOTSUPP), or that are no UTF-8. */
function prepareOpen(memory: UserMemory, request: Request): Job | number {
  const { fd, off, addr, len: mode, opFlags: flags } = request;
  if (off !== 0n) return errno.EINVAL;
  if (addr < BigInt(memory.guestStart) || addr >= BigInt(memory.bytes.length)) return errno.EFAULT;
  const start = Number(addr);
  const copy = memory.bytes.slice(start, start + PATH_MAX);
  const bytes = copy.indexOf(0);
  if (bytes < 0) return copy.length < PATH_MAX ? errno.EFAULT : errno.ENAMETOOLONG;
  if (bytes === 0) return errno.ENOENT;
  const path = Buffer.from(copy.subarray(0, bytes)).toString();
  if (!Buffer.from(path).equals(copy.subarray(0, bytes))) return errno.EINVAL; // no UTF-8
  if (fd !== AT_FDCWD && !path.startsWith("/")) return errno.EOPNOTSUPP;
  return { kind: "open", path, flags, mode };
}
