import { readlinkSync } from "node:fs";
import { errno } from "../spec/errno.js";
import { check, libc } from "./libc.js";

const EFD_CLOEXEC = 0o2000000;
const O_CLOEXEC = 0o2000000;
const EFD_NONBLOCK = 0o4000;
const F_SETFL = 4;
const O_RDWR = 2;
const O_NONBLOCK = 0o4000;

const RWF_NOWAIT = 0x8;
const POLLIN = 0x1;
const POLLOUT = 0x4;

/** What is written as a rule: eight bytes that count one. */
const ONE = new BigUint64Array([1n]);
/** What is read, and thrown away; and the iovec that says where to. */
const count = new BigUint64Array(new ArrayBuffer(8));
const iovec = new BigUint64Array(new ArrayBuffer(16));

/** A new eventfd at 0, which never blocks. Throws EMFILE, ENFILE. Linux: eventfd(2). */
export function makeEventfd(): number {
  return check(libc().eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "no eventfd could be made");
}

/** Makes descriptor `to`, which stays ours, mean the eventfd `from`. Linux: dup3(2). */
export function pointEventfd(to: number, from: number): void {
  check(libc().dup3(from, to, O_CLOEXEC), "an eventfd could not be shared");
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

/**
 * Wakes who waits for it. That the count is full already is no error: it is awake then. Blocks when
 * the other side filled it and made it blocking: for the thread of that side's worker alone.
 * `times`: how much it counts.
 */
export function signalEventfd(fd: number, times = 1): void {
  libc().write(fd, times === 1 ? ONE : new BigUint64Array([BigInt(times)]), 8);
}

/** Sets its count to 0. Never blocks, whatever the other side made of it (since Linux 5.8). */
export function drainEventfd(fd: number): void {
  iovec[0] = BigInt(libc().addressOf(count));
  iovec[1] = 8n;
  const result = libc().preadv2(fd, iovec, 1, -1, RWF_NOWAIT);
  if (result === -1 && libc().errno() === errno.EOPNOTSUPP) libc().read(fd, count, 8);
}

/** Empties it if it is so full that writing to it may block. */
export function makeRoom(fd: number): void {
  if (!isReady(fd, POLLOUT)) drainEventfd(fd);
}

/** Whether its count is more than 0; that stays. */
export function isSignalled(fd: number): boolean {
  return hasInput(fd);
}

/** Whether there is something to read, or to accept. Linux: poll(2). */
export function hasInput(fd: number): boolean {
  return isReady(fd, POLLIN);
}

function isReady(fd: number, events: number): boolean {
  const pollfd = new DataView(new ArrayBuffer(8));
  pollfd.setInt32(0, fd, true);
  pollfd.setInt16(4, events, true);
  return libc().poll(pollfd, 1, 0) > 0;
}
