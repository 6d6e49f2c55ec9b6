import { closeSync, constants, existsSync, openSync, readFileSync } from "node:fs";
import { errno, VhostError } from "../spec/errno.js";
import { drainEventfd } from "./eventfd.js";
import { lastError, libc } from "./libc.js";

const DEVICE = "/dev/net/tun";

// Linux: include/uapi/linux/if_tun.h. The numbers are those of x86 and Arm.
const TUNSETIFF = 0x400454ca;
const TUNSETOFFLOAD = 0x400454d0;
const TUNSETVNETHDRSZ = 0x400454d8;
const IFF_TAP = 0x0002;
/** Of an interface itself. Linux: include/uapi/linux/if.h. */
const IFF_UP = 0x1;
const IFF_NO_PI = 0x1000;
const IFF_VNET_HDR = 0x4000;
const TUN_F_CSUM = 0x01;
const TUN_F_TSO4 = 0x02;
const TUN_F_TSO6 = 0x04;
const TUN_F_TSO_ECN = 0x08;
const TUN_F_USO4 = 0x20;
const TUN_F_USO6 = 0x40;
const OFFLOADS = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN;

// struct ifreq on 64-bit Linux; offsets in bytes.
const IFREQ_BYTES = 40;
const IFREQ_FLAGS = 16;
/** A name's bytes, the 0 at its end among them. Linux: IFNAMSIZ. */
const IFNAMSIZ = 16;
/** What no interface's name has, and a `%`, for which the system would put a number. */
const NO_NAME = /[/:%\s\0]/;

// struct pollfd: int fd, short events, short revents.
const POLLFD_BYTES = 8;
const POLLFD_EVENTS = 4;
const POLLFD_REVENTS = 6;
const POLLIN = 0x1;

/** Throws EINVAL for what can't be the name of a network interface. */
export function checkInterfaceName(name: unknown): asserts name is string {
  const isText = typeof name === "string" && name !== "" && name !== "." && name !== "..";
  if (isText && Buffer.byteLength(name) < IFNAMSIZ && !NO_NAME.test(name)) return;
  const what = `1 to ${IFNAMSIZ - 1} bytes, without spaces and any of / : %`;
  throw new VhostError("EINVAL", `a TAP is named by its interface, "tap0": ${what}`, { name });
}

/** Whether there is an interface of that name that a TAP could be of. */
export function hasTapInterface(name: string): boolean {
  return existsSync(`/sys/class/net/${name}/tun_flags`);
}

/** Whether the interface is up; true where that can't be told. */
export function isInterfaceUp(name: string): boolean {
  try {
    return (Number(readFileSync(`/sys/class/net/${name}/flags`, "utf8")) & IFF_UP) !== 0;
  } catch {
    return true;
  }
}

/** A TAP that was opened. */
export interface OpenedTap {
  /** Never blocks. The caller's to close. */
  fd: number;
  /** Large packets of UDP go as those of TCP do (since Linux 6.2). */
  hasUso: boolean;
}

/**
 * Opens the TAP `name`, which is made unless it is there. Its packets have a `struct
 * virtio_net_hdr` of `headerBytes` in front, and may leave their checksum to the other side, and be
 * large ones, either way. Throws ENOSYS, EINVAL, ENOENT, EACCES, EPERM, EBUSY, saying what to do.
 * Linux: TUNSETIFF.
 */
export function openTap(name: string, headerBytes: number): OpenedTap {
  checkInterfaceName(name);
  libc();
  const fd = openDevice();
  try {
    return { fd, hasUso: setUp(fd, name, headerBytes) };
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

function openDevice(): number {
  try {
    return openSync(DEVICE, constants.O_RDWR | constants.O_NONBLOCK);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "EACCES" || code === "EPERM") {
      throw new VhostError(code, `${DEVICE} can't be opened: this user needs rw of it`, {}, error);
    }
    if (code === "EMFILE" || code === "ENFILE") {
      throw new VhostError(code, `${DEVICE} can't be opened: too many open files`, {}, error);
    }
    const how = "modprobe tun, as root; a container is given the device by who starts it";
    throw new VhostError("ENOENT", `there is no ${DEVICE} (${code}): ${how}`, {}, error);
  }
}

/** Whether it has USO. */
function setUp(fd: number, name: string, headerBytes: number): boolean {
  const ifreq = new Uint8Array(IFREQ_BYTES);
  new TextEncoder().encodeInto(name, ifreq);
  const view = new DataView(ifreq.buffer);
  view.setInt16(IFREQ_FLAGS, IFF_TAP | IFF_NO_PI | IFF_VNET_HDR, true);
  const { ioctl, addressOf } = libc();
  if (ioctl(fd, TUNSETIFF, addressOf(ifreq)) === -1) throw refusal(name);
  const size = Int32Array.of(headerBytes);
  const isSet = ioctl(fd, TUNSETVNETHDRSZ, addressOf(size)) === 0;
  if (isSet && ioctl(fd, TUNSETOFFLOAD, OFFLOADS | TUN_F_USO4 | TUN_F_USO6) === 0) return true;
  if (isSet && ioctl(fd, TUNSETOFFLOAD, OFFLOADS) === 0) return false;
  throw lastError(`the TAP ${name} can't be set up`);
}

/** Why TUNSETIFF failed, and what to do. */
function refusal(name: string): VhostError {
  const error = lastError(`the TAP ${name} can't be had`);
  const make = `ip tuntap add dev ${name} mode tap`;
  const how: Record<string, string> = {
    EPERM: `it needs CAP_NET_ADMIN, or root to make it for this user: ${make} user NAME`,
    EBUSY: "another program has it, or another part of this one",
    EINVAL: `there is an interface of that name and of another kind; made anew: ${make}`,
  };
  const what = how[error.code];
  if (what === undefined) return error;
  return new VhostError(error.code, `the TAP ${name} can't be had: ${what}`, { name });
}

/** In a result of `TapFile`: the interface is gone, and does not come back for this descriptor. */
export const TAP_GONE = -1;
/** In a result of `TapFile.write`: the interface is down, and takes nothing. */
export const TAP_DOWN = -2;
/** In a result of `TapFile`: the packet is lost, for another reason. */
export const TAP_REFUSED = -3;

/** Reads and writes an open TAP, and sleeps for it. One thread. Nothing here throws or blocks. */
export class TapFile {
  readonly #fd: number;
  readonly #wakeFd: number;
  readonly #pollfds = new DataView(new ArrayBuffer(2 * POLLFD_BYTES));

  /** `fd`: of `openTap`. `wakeFd`: an eventfd that ends `sleep`. Both stay the caller's. */
  constructor(fd: number, wakeFd: number) {
    this.#fd = fd;
    this.#wakeFd = wakeFd;
    for (const [i, one] of [fd, wakeFd].entries()) {
      this.#pollfds.setInt32(i * POLLFD_BYTES, one, true);
      this.#pollfds.setInt16(i * POLLFD_BYTES + POLLFD_EVENTS, POLLIN, true);
    }
  }

  /**
   * Reads a packet, header first; its bytes, or 0: there is none; or TAP_GONE, or TAP_REFUSED:
   * virtio's header has no word for it. Linux: tun_put_user().
   */
  read(into: Uint8Array): number {
    const bytes = libc().read(this.#fd, into, into.length);
    if (bytes >= 0) return bytes;
    const number = libc().errno();
    if (number === errno.EAGAIN || number === errno.EINTR) return 0;
    return number === errno.EINVAL ? TAP_REFUSED : TAP_GONE;
  }

  /** Writes a packet, header first; its bytes, or TAP_… . Linux: tun_get_user(). */
  write(packet: Uint8Array): number {
    const bytes = libc().write(this.#fd, packet, packet.length);
    if (bytes >= 0) return bytes;
    const number = libc().errno();
    if (number === errno.EIO) return TAP_DOWN;
    return number === errno.EBADFD ? TAP_GONE : TAP_REFUSED;
  }

  /** Sleeps until there is a packet, the interface is gone, it is woken, or for `timeoutMs`. */
  sleep(timeoutMs: number): void {
    if (libc().poll(this.#pollfds, 2, timeoutMs) <= 0) return;
    const isWoken = this.#pollfds.getInt16(POLLFD_BYTES + POLLFD_REVENTS, true) !== 0;
    if (isWoken) drainEventfd(this.#wakeFd);
  }
}
