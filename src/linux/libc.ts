import { createRequire } from "node:module";
import { arch, endianness, platform } from "node:os";
import { getSystemErrorMap } from "node:util";
import { errnoName, VhostError } from "../spec/errno.js";

/** Bytes in memory that a system call reads or writes: an array, or an address. */
export type Pointer = ArrayBufferView | number;

/** System calls that Node lacks, as the C library declares them; all return -1 on an error. */
const PROTOTYPES = {
  socket: "int socket(int domain, int type, int protocol)",
  bind: "int bind(int fd, void *address, uint length)",
  listen: "int listen(int fd, int backlog)",
  connect: "int connect(int fd, void *address, uint length)",
  accept4: "int accept4(int fd, uintptr_t address, uintptr_t length, int flags)",
  getsockopt: "int getsockopt(int fd, int level, int name, void *value, void *length)",
  setsockopt: "int setsockopt(int fd, int level, int name, void *value, uint length)",
  recvmsg: "int64_t recvmsg(int fd, void *message, int flags)",
  sendmsg: "int64_t sendmsg(int fd, void *message, int flags)",
  shutdown: "int shutdown(int fd, int how)",
  close: "int close(int fd)",
  fcntl: "int fcntl(int fd, int command, int argument)",
  ioctl: "int ioctl(int fd, ulong request, uintptr_t argument)",
  fcntlLock: "int fcntl(int fd, int command, void *lock)",
  mmap: "intptr_t mmap(uintptr_t at, size_t length, int prot, int flags, int fd, int64_t offset)",
  mremap:
    "intptr_t mremap(uintptr_t at, size_t length, size_t new_length, int flags, uintptr_t to)",
  munmap: "int munmap(uintptr_t at, size_t length)",
  memfd_create: "int memfd_create(const char *name, uint flags)",
  eventfd: "int eventfd(uint count, int flags)",
  dup3: "int dup3(int from, int to, int flags)",
  read: "int64_t read(int fd, void *to, size_t length)",
  write: "int64_t write(int fd, const void *from, size_t length)",
  preadv2: "int64_t preadv2(int fd, void *iov, int count, int64_t offset, int flags)",
  pread: "int64_t pread(int fd, uintptr_t to, size_t length, int64_t offset)",
  pwrite: "int64_t pwrite(int fd, uintptr_t from, size_t length, int64_t offset)",
  fallocate: "int fallocate(int fd, int mode, int64_t offset, int64_t length)",
  poll: "int poll(void *fds, unsigned long count, int timeout)",
  epoll_create1: "int epoll_create1(int flags)",
  epoll_ctl: "int epoll_ctl(int epoll, int operation, int fd, void *event)",
  epoll_wait: "int epoll_wait(int epoll, void *events, int count, int timeout)",
  prctl: "int prctl(int option, const char *text)",
  setfsuid: "int setfsuid(uint uid)",
  setfsgid: "int setfsgid(uint gid)",
  capset: "int capset(void *header, const void *data)",
  syscall: "long syscall(long number, size_t first, void *second)",
} as const;

type CallName = keyof typeof PROTOTYPES;
type Call = (...args: (Pointer | string | null)[]) => number;

/** The C library: each call returns what it returned; `errno` is for the one before. */
export interface Libc extends Record<CallName, Call> {
  /** The error number of the last call of this thread. */
  errno(): number;
  /** The address of an array's first byte. It is only good as long as the array lives. */
  addressOf(array: ArrayBufferView): number;
}

let loaded: Libc | undefined;

/**
 * The C library, for the thread that calls: of Linux, on 64-bit x86 or Arm. Throws ENOSYS, saying
 * what is missing, elsewhere or when the optional package koffi is not installed.
 */
export function libc(): Libc {
  loaded ??= load();
  return loaded;
}

/** `null`: there is none here, and it need not be looked for again. */
let known: Libc | null | undefined;

/** The C library, or `null` where `libc` would throw: for what can be done without. */
export function libcIfAny(): Libc | null {
  if (known !== undefined) return known;
  try {
    known = libc();
  } catch {
    known = null;
  }
  return known;
}

function load(): Libc {
  const machine = `${platform()} on ${arch()}`;
  const isKnown = platform() === "linux" && ["x64", "arm64"].includes(arch());
  if (!isKnown || endianness() !== "LE") {
    throw new VhostError("ENOSYS", `this needs Linux on x64 or arm64; this is ${machine}`);
  }
  const koffi = loadKoffi();
  const library = koffi.load(null); // the program itself, and so the C library it is linked to
  const calls = Object.entries(PROTOTYPES).map(([name, text]) => [name, library.func(text)]);
  return {
    ...(Object.fromEntries(calls) as Record<CallName, Call>),
    errno: () => koffi.errno(),
    addressOf: (array) => Number(koffi.address(array)),
  };
}

function loadKoffi(): typeof import("koffi") {
  try {
    return createRequire(import.meta.url)("koffi");
  } catch (error) {
    const how = "install it with: npm install koffi";
    throw new VhostError("ENOSYS", `this needs the optional package koffi; ${how}`, {}, error);
  }
}

/** Name and reason of an error number of the system's: "ENOSPC", "no space left on device". */
export function describeErrno(number: number): [name: string, why: string] {
  return getSystemErrorMap().get(-number) ?? [`error ${number}`, `error ${number}`];
}

/** The error of the call before, as `VhostError`: `what` says what was being done. */
export function lastError(what: string): VhostError {
  const number = libc().errno();
  const [name, why] = describeErrno(number);
  const code = errnoName(number);
  const reason = code ? why : `${why} (${name})`;
  return new VhostError(code ?? "EIO", `${what}: ${reason}`, { errno: number });
}

/** `result`, unless it is -1: then throws the error, where `what` says what was being done. */
export function check(result: number, what: string): number {
  if (result === -1) throw lastError(what);
  return result;
}

/** Closes a descriptor of ours. Never fails in a way that anyone could mend. */
export function closeFd(fd: number): void {
  libc().close(fd);
}
