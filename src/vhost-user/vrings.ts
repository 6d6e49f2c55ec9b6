import { isEventfd, isSignalled, makeRoom, setNonblocking } from "../linux/eventfd.js";
import { closeFd } from "../linux/libc.js";
import { VhostError } from "../spec/errno.js";
import type { VhostDev } from "../vhost/dev.js";
import type { MemoryTable } from "./memory-table.js";
import type { Records } from "./records.js";

/** Addresses of a ring's areas, as the front-end has them. */
export interface UserAddresses {
  desc: bigint;
  device: bigint;
  driver: bigint;
  /** Guest address at which writes to the device area are logged, if they are. */
  log?: bigint | undefined;
}

/** The eventfds of a ring. */
export type VringFdKind = "kick" | "call" | "err";

/**
 * One ring, as the front-end set it up. Two states, independent of one another: started by a first
 * kick, stopped by GET_VRING_BASE; enabled and disabled by SET_VRING_ENABLE. It runs while it is
 * both. Section "Ring states".
 */
export class VringState {
  readonly index: number;
  readonly #fds = new Map<VringFdKind, number>();
  addresses: UserAddresses | undefined;
  isEnabled = false;
  /** SET_VRING_KICK came, with a descriptor or without one, since the ring was stopped last. */
  #hasKick = false;
  /** Its first kick has not come yet. */
  awaitsKick = true;
  /** The device has it, to run. */
  isApplied = false;
  /** SET_VRING_BASE came since it was handed over last. */
  isBaseNew = false;
  /** What GET_VRING_BASE said, until SET_VRING_BASE. */
  stoppedAt: number | undefined;

  constructor(index: number) {
    this.index = index;
  }

  /** Whether the ring is started: from its first kick on. */
  get isStarted(): boolean {
    return this.#hasKick && !this.awaitsKick;
  }

  /** Whether it is not set up to be started. */
  get isStopped(): boolean {
    return !this.#hasKick;
  }

  /** Whether it may run, once a kick has come. */
  get isReady(): boolean {
    return this.#hasKick && this.isEnabled && this.addresses !== undefined;
  }

  /** Takes a descriptor, or that there is none: then the ring is polled, or not told of. */
  setFd(kind: VringFdKind, fd: number | undefined): void {
    const old = this.#fds.get(kind);
    const wasKicked = kind === "kick" && old !== undefined && isSignalled(old);
    if (wasKicked) this.awaitsKick = false;
    this.#closeFd(kind);
    if (fd !== undefined) this.#fds.set(kind, fd);
    if (kind !== "kick") return;
    this.#hasKick = true;
    if (fd === undefined) this.awaitsKick = false;
  }

  #closeFd(kind: VringFdKind): void {
    const fd = this.#fds.get(kind);
    this.#fds.delete(kind);
    if (fd !== undefined) closeFd(fd);
  }

  /** Hands the ring to the device, to run with the next start; or takes it away. */
  apply(dev: VhostDev, memory: MemoryTable, records: Records): void {
    const { index, addresses } = this;
    this.isApplied = false;
    if (!this.isReady || !addresses || memory.isEmpty) {
      dev.setVringAddr(index, undefined);
      return;
    }
    const [desc, driver, device] = [addresses.desc, addresses.driver, addresses.device].map(
      (address) => memory.toGuest(address),
    ) as [bigint, bigint, bigint];
    dev.setVringAddr(index, { desc, driver, device });
    dev.setVringLog(index, addresses.log);
    records.applyInflight(index);
    // It was in use, by a back-end that has gone: a driver whose ring is full kicks no more.
    if (dev.checkVring(index, this.isBaseNew)) this.awaitsKick = false;
    this.isBaseNew = false;
    const [kickFd, callFd, errFd] = [
      this.#fds.get("kick"),
      this.#fds.get("call"),
      this.#fds.get("err"),
    ];
    dev.setVringNotify(index, { kickFd, callFd, errFd, awaitsKick: this.awaitsKick });
    this.isApplied = true;
  }

  /** Stopped by GET_VRING_BASE: an old kick must not start it again, so its descriptor goes. */
  stop(): void {
    this.#closeFd("kick");
    this.#closeFd("call");
    this.#hasKick = false;
    this.awaitsKick = true;
  }

  /** Back to how it began. */
  reset(): void {
    this.stop();
    this.#closeFd("err");
    this.addresses = undefined;
    this.isEnabled = false;
    this.isBaseNew = false;
  }

  /**
   * Ends a system call in which the worker hangs, should the front-end have made an eventfd block
   * and filled it on purpose. One that is not full is left alone.
   */
  unblock(): void {
    for (const fd of this.#fds.values()) {
      setNonblocking(fd);
      makeRoom(fd);
    }
  }
}

/** Throws EINVAL for a descriptor that is no eventfd: reading or writing it could block. */
export function checkEventfd(fd: number): void {
  if (!isEventfd(fd)) throw new VhostError("EINVAL", "a ring's descriptor is no eventfd");
  setNonblocking(fd);
}
