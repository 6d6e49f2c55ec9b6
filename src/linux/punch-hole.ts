import { libcIfAny } from "./libc.js";

const FALLOC_FL_KEEP_SIZE = 0x1;
const FALLOC_FL_PUNCH_HOLE = 0x2;

/**
 * Gives the space of a part of a file back to the file system; it reads as zeroes then. Where that
 * can't be had (no koffi, another system, a file system without holes) nothing happens: it is a
 * hint. Linux: fallocate(2).
 */
export function punchHole(fd: number, offset: number, length: number): void {
  libcIfAny()?.fallocate(fd, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, offset, length);
}
