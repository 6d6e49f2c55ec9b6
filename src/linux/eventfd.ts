import { readlinkSync } from "node:fs";
import { check, libc } from "./libc.js";

const EFD_CLOEXEC = 0o2000000;
const EFD_NONBLOCK = 0o4000;
const F_SETFL = 4;
const O_RDWR = 2;
const O_NONBLOCK = 0o4000;

/** What is written: eight bytes that count one. */
const ONE = new BigUint64Array([1n]);
/** What is read, and thrown away. */
const count = new BigUint64Array(1);

/** A new eventfd at 0, which never blocks. Throws EMFILE, ENFILE. Linux: eventfd(2). */
export function makeEventfd(): number {
  return check(libc().eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "no eventfd could be made");
}

/**
 * Whether a descriptor from elsewhere is an eventfd: reading or writing one never does anything
 * else. Any other kind of file could block us.
 */
export function isEventfd(fd: number): boolean {
  return readlinkSync(`/proc/self/fd/${fd}`) === "anon_inode:[eventfd]";
}

/** Makes an eventfd of the other side's answer EAGAIN rather than block. */
export function setNonblocking(fd: number): void {
  check(libc().fcntl(fd, F_SETFL, O_RDWR | O_NONBLOCK), "an eventfd could not be set up");
}

/** Wakes who waits for it. That the count is full already is no error: it is awake then. */
export function signalEventfd(fd: number): void {
  libc().write(fd, ONE, 8);
}

/** Sets its count to 0. */
export function drainEventfd(fd: number): void {
  libc().read(fd, count, 8);
}
