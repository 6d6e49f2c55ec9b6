import { VhostError } from "../spec/errno.js";
import { discardFds } from "./discard.js";
import { check, closeFd, lastError, libc } from "./libc.js";

const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SOCK_CLOEXEC = 0o2000000;
const SOCK_NONBLOCK = 0o4000;
const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;
const SO_PEERCRED = 17;
const SO_PEERGROUPS = 59;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;
const MSG_CMSG_CLOEXEC = 0x40000000;
const EAGAIN = 11;
const EINTR = 4;

const SHUT_RDWR = 2;
/** Descriptors that one message can carry. Linux: SCM_MAX_FD. */
const SCM_MAX_FD = 253;
const REST_BYTES = 65536;

/** The longest path of a socket: sockaddr_un has 108 bytes, one of them 0. Linux: unix(7). */
const SOCKET_PATH_BYTES_MAX = 107;
/** Groups that a process can have. Linux: NGROUPS_MAX. */
const PEER_GROUPS_MAX = 65536;
/** Connections that wait until they are accepted. */
const BACKLOG = 16;

// struct msghdr, struct iovec, struct cmsghdr on 64-bit Linux; offsets in bytes.
const MSGHDR_BYTES = 56;
const MSGHDR_IOV = 16;
const MSGHDR_IOV_COUNT = 24;
const MSGHDR_CONTROL = 32;
const MSGHDR_CONTROL_BYTES = 40;
const MSGHDR_FLAGS = 48;
const CMSG_HEADER_BYTES = 16;

function socketAddress(path: string): Uint8Array {
  const bytes = new TextEncoder().encode(path);
  if (bytes.length === 0 || bytes.length > SOCKET_PATH_BYTES_MAX) {
    throw new VhostError(
      "ENAMETOOLONG",
      `a socket's path has 1 to ${SOCKET_PATH_BYTES_MAX} bytes: ${path}`,
    );
  }
  const address = new Uint8Array(2 + SOCKET_PATH_BYTES_MAX + 1);
  address[0] = AF_UNIX;
  address.set(bytes, 2);
  return address;
}

function makeSocket(): number {
  const type = SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK;
  return check(libc().socket(AF_UNIX, type, 0), "no socket could be made");
}

/** Listens at `path`; returns the descriptor. Throws EADDRINUSE when there is a file. */
export function listenUnix(path: string): number {
  const address = socketAddress(path);
  const fd = makeSocket();
  try {
    check(libc().bind(fd, address, address.length), `can't listen at ${path}`);
    check(libc().listen(fd, BACKLOG), `can't listen at ${path}`);
    return fd;
  } catch (error) {
    closeFd(fd);
    throw error;
  }
}

/** Connects to `path`; returns the descriptor. Throws ENOENT, ECONNREFUSED, EACCES. */
export function connectUnix(path: string): number {
  const address = socketAddress(path);
  const fd = makeSocket();
  if (libc().connect(fd, address, address.length) === 0) return fd;
  const error = lastError(`can't connect to ${path}`);
  closeFd(fd);
  throw error;
}

/** The next connection of a listening socket, or `undefined` when none waits. */
export function acceptUnix(listener: number): number | undefined {
  const fd = libc().accept4(listener, 0, 0, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (fd !== -1) return fd;
  const error = lastError("a connection could not be accepted");
  if (error.code === "EAGAIN" || error.facts.errno === 103) return undefined; // ECONNABORTED
  throw error;
}

/** Who made the connection: its pid (0 when it is not of our world), user and group. */
export function peerCredentials(fd: number): { pid: number; uid: number; gid: number } {
  const ucred = new Uint32Array(3);
  const length = Uint32Array.of(ucred.byteLength);
  const result = libc().getsockopt(fd, SOL_SOCKET, SO_PEERCRED, ucred, length);
  check(result, "the peer is not known");
  const [pid = 0, uid = 0, gid = 0] = ucred;
  return { pid, uid, gid };
}

/** The groups of who made the connection, as they were then. Linux: SO_PEERGROUPS. */
export function peerGroups(fd: number): number[] {
  const groups = new Uint32Array(PEER_GROUPS_MAX);
  const length = Uint32Array.of(groups.byteLength);
  const result = libc().getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, length);
  check(result, "the peer's groups are not known");
  return [...groups.subarray(0, (length[0] as number) / 4)];
}

/** What one `receive` brought. */
export interface Received {
  /** Bytes; 0 when the other end is gone. */
  bytes: number;
  /** Descriptors, ours to close: none is dropped by the kernel, however many come. */
  fds: number[];
}

/** A message of bytes and descriptors, laid out for the kernel. */
class MessageHeader {
  readonly view = new DataView(new ArrayBuffer(MSGHDR_BYTES));
  readonly control: DataView;
  readonly #iov = new BigUint64Array(2);

  constructor(fdsMax: number) {
    this.control = new DataView(new ArrayBuffer(CMSG_HEADER_BYTES + 4 * fdsMax + 4));
    const { view } = this;
    view.setBigUint64(MSGHDR_IOV, BigInt(libc().addressOf(this.#iov)), true);
    view.setBigUint64(MSGHDR_IOV_COUNT, 1n, true);
    view.setBigUint64(MSGHDR_CONTROL, BigInt(libc().addressOf(this.control)), true);
  }

  point(address: number, bytes: number, controlBytes: number): void {
    this.#iov[0] = BigInt(address);
    this.#iov[1] = BigInt(bytes);
    this.view.setBigUint64(MSGHDR_CONTROL_BYTES, BigInt(controlBytes), true);
    this.view.setInt32(MSGHDR_FLAGS, 0, true);
  }
}

/** Messages with descriptors over a connected socket, without blocking. One thread. */
export class FdSocket {
  readonly fd: number;
  readonly #header = new MessageHeader(SCM_MAX_FD);

  /** `fd`: the socket, ours from now on. */
  constructor(fd: number) {
    this.fd = fd;
  }

  /** Reads what is there, into `into`; `undefined` when nothing is. Linux: recvmsg(2). */
  receive(into: Uint8Array): Received | undefined {
    const header = this.#header;
    const controlBytes = CMSG_HEADER_BYTES + 4 * SCM_MAX_FD;
    header.point(libc().addressOf(into), into.length, controlBytes);
    const bytes = libc().recvmsg(this.fd, header.view, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (bytes === -1) {
      if ([EAGAIN, EINTR].includes(libc().errno())) return undefined;
      throw lastError("the connection failed");
    }
    return { bytes, fds: this.#fdsOf() };
  }

  #fdsOf(): number[] {
    const { view, control } = this.#header;
    const given = Number(view.getBigUint64(MSGHDR_CONTROL_BYTES, true));
    if (given < CMSG_HEADER_BYTES || control.getInt32(12, true) !== SCM_RIGHTS) return [];
    const bytes = Number(control.getBigUint64(0, true)) - CMSG_HEADER_BYTES;
    return Array.from({ length: Math.floor(bytes / 4) }, (_, i) =>
      control.getInt32(CMSG_HEADER_BYTES + i * 4, true),
    );
  }

  /**
   * Sends all of `bytes` with `fds`, which stay ours. Throws EPIPE when the other end is gone, and
   * EAGAIN when it has not read so much that this no longer fits. Linux: sendmsg(2).
   */
  send(bytes: Uint8Array, fds: readonly number[] = []): void {
    const header = this.#header;
    const controlBytes = fds.length === 0 ? 0 : CMSG_HEADER_BYTES + 4 * fds.length;
    header.point(libc().addressOf(bytes), bytes.length, controlBytes);
    const { control } = header;
    control.setBigUint64(0, BigInt(controlBytes), true);
    control.setInt32(8, SOL_SOCKET, true);
    control.setInt32(12, SCM_RIGHTS, true);
    for (const [i, fd] of fds.entries()) control.setInt32(CMSG_HEADER_BYTES + i * 4, fd, true);
    const sent = libc().sendmsg(this.fd, header.view, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent !== bytes.length) throw lastError("the other end does not take the reply");
  }

  /** Closes the socket. What was sent and not read is read first, for the descriptors in it. */
  close(): void {
    libc().shutdown(this.fd, SHUT_RDWR); // nothing more can come
    const rest = new Uint8Array(REST_BYTES);
    try {
      for (let got = this.receive(rest); got && got.bytes > 0; got = this.receive(rest)) {
        void discardFds(got.fds);
      }
    } catch {
      // nothing is left
    }
    closeFd(this.fd);
  }
}
