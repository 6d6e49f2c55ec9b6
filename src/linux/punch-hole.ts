import { errno } from "../spec/errno.js";
import { libcIfAny } from "./libc.js";

const FALLOC_FL_KEEP_SIZE = 0x1;
const FALLOC_FL_PUNCH_HOLE = 0x2;

/**
 * Gives the space of a part of a file back to the file system; it reads as zeroes then. Where that
 * can't be had (no koffi, another system, a file system without holes) nothing happens: it is a
 * hint. Linux: fallocate(2).
 */
export function punchHole(fd: number, offset: number, length: number): void {
  fallocate(fd, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, offset, length);
}

/**
 * Changes what a part of a file takes up; `mode`: FALLOC_FL_… bits. @returns 0, or a negative error
 * number: -EOPNOTSUPP also without koffi, and on another system. Linux: fallocate(2).
 */
export function fallocate(fd: number, mode: number, offset: number, length: number): number {
  const libc = libcIfAny();
  if (libc === null) return -errno.EOPNOTSUPP;
  return libc.fallocate(fd, mode, offset, length) === 0 ? 0 : -libc.errno();
}
