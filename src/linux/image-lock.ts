import { type Libc, libcIfAny } from "./libc.js";

// fcntl(2): locks of an open file description, for they end with its last descriptor.
const F_OFD_GETLK = 36;
const F_OFD_SETLK = 37;
const F_RDLCK = 0;
const F_WRLCK = 1;
const F_UNLCK = 2;
const EAGAIN = 11;
const EACCES = 13;

// struct flock on 64-bit Linux; offsets in bytes.
const FLOCK_BYTES = 32;
const FLOCK_START = 8;
const FLOCK_LENGTH = 16;

// The bytes that QEMU locks, shared: one for each thing it does with an image, and one for each
// that no other may do. QEMU: raw_apply_lock_bytes(), "image locking".
const DOES_START = 100;
const FORBIDS_START = 200;
const READ = 0;
const WRITE = 1;
const RESIZE = 3;

function flock(type: number, start: number): DataView {
  const lock = new DataView(new ArrayBuffer(FLOCK_BYTES));
  lock.setInt16(0, type, true);
  lock.setBigInt64(FLOCK_START, BigInt(start), true);
  lock.setBigInt64(FLOCK_LENGTH, 1n, true);
  return lock;
}

/** Whether another holds that byte. */
function isHeld(calls: Libc, fd: number, start: number): boolean {
  const lock = flock(F_WRLCK, start);
  return calls.fcntlLock(fd, F_OFD_GETLK, lock) === 0 && lock.getInt16(0, true) !== F_UNLCK;
}

/**
 * Locks an image the way QEMU does, until its descriptor is closed: many may read it, or one may
 * write. `false`: another program has it. Where there are no such locks (no koffi, another system,
 * a file system without them) nothing is locked, and it is `true`. `isFurther`: the caller has it
 * locked by another descriptor, and is not in its own way. Any thread.
 */
export function lockImage(fd: number, isReadOnly: boolean, isFurther = false): boolean {
  const calls = libcIfAny();
  if (!calls) return true;
  const does = isReadOnly ? [READ] : [READ, WRITE];
  const forbids = [WRITE, RESIZE];
  const bytes = [
    ...does.map((what) => DOES_START + what),
    ...forbids.map((w) => FORBIDS_START + w),
  ];
  const isRefused = (start: number) =>
    calls.fcntlLock(fd, F_OFD_SETLK, flock(F_RDLCK, start)) === -1 &&
    [EACCES, EAGAIN].includes(calls.errno());
  if (bytes.some(isRefused)) return false;
  if (isFurther) return true;
  return !(
    does.some((what) => isHeld(calls, fd, FORBIDS_START + what)) ||
    forbids.some((what) => isHeld(calls, fd, DOES_START + what))
  );
}
