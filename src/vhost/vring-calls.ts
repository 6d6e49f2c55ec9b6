import { VhostError } from "../spec/errno.js";
import type { VringNotify } from "./control.js";
import type { RingSet } from "./ring-set.js";
import type { Vring, VringAddresses } from "./vring.js";
import { WorkerCalls } from "./worker-calls.js";

/** The part of a device's control side that is about single rings. Linux: vhost_vring_ioctl(). */
export abstract class VringCalls extends WorkerCalls {
  /** Features that were accepted. */
  abstract get features(): bigint;
  /** All rings, of a device that may be gone. */
  protected abstract get vrings(): RingSet;
  /** A ring to set up. Throws ENOBUFS; EBUSY while it runs, or an operation is under way. */
  protected abstract stoppedVring(index: number): Vring;

  /** Sets a queue's size. Throws EBUSY, ENOBUFS, EINVAL. Linux: VHOST_SET_VRING_NUM. */
  setVringNum(index: number, num: number): void {
    this.stoppedVring(index).setNum(num, this.features);
  }

  /** A queue's size. Throws ENOBUFS. */
  vringNum(index: number): number {
    return this.vrings.at(index).num;
  }

  /**
   * Sets a queue's areas, guest addresses; without any, it is not used. Throws EBUSY, ENOBUFS.
   * Linux: VHOST_SET_VRING_ADDR.
   */
  setVringAddr(index: number, addresses: VringAddresses | undefined): void {
    this.stoppedVring(index).addresses = addresses;
  }

  /**
   * Where the queue's chains in flight are recorded: linear address of its region (aligned to 8,
   * `inflightRegionBytes` long, in no memory table), or nowhere. It begins by what is said there.
   * Throws EBUSY, ENOBUFS.
   */
  setVringInflight(index: number, region: number | undefined): void {
    this.stoppedVring(index).inflightRegion = region;
  }

  /**
   * The guest address at which what the device writes to the queue's device area is marked, too;
   * without one, it is not. Throws EBUSY, ENOBUFS; EINVAL for what is no address. Linux:
   * VHOST_VRING_F_LOG.
   */
  setVringLog(index: number, address: bigint | undefined): void {
    if (address !== undefined && BigInt.asUintN(64, address) !== address) {
      throw new VhostError("EINVAL", "where a ring is logged is a guest address", { address });
    }
    this.stoppedVring(index).logAddress = address;
  }

  /**
   * Sets a queue's eventfds, which the caller keeps open while the queue runs. Throws EBUSY,
   * ENOBUFS. Linux: VHOST_SET_VRING_KICK, VHOST_SET_VRING_CALL.
   */
  setVringNotify(index: number, notify: VringNotify): void {
    this.stoppedVring(index).notify = notify;
  }

  /** Sets the next entry to pop. Throws EBUSY, ENOBUFS, EINVAL. Linux: VHOST_SET_VRING_BASE. */
  setVringBase(index: number, base: number): void {
    this.stoppedVring(index).setBase(base, this.features);
  }

  /**
   * The next entry to pop: as of now while the queue runs, else of its stop. Throws ENOBUFS. Linux:
   * VHOST_GET_VRING_BASE.
   */
  getVringBase(index: number): number {
    return this.vrings.at(index).position(this.features);
  }

  /** Whether the queue, as of the last stop, still waits for its first kick. Throws ENOBUFS. */
  awaitsKick(index: number): boolean {
    return this.vrings.at(index).notify.awaitsKick ?? false;
  }

  /** Whether the queue runs. Throws ENOBUFS. virtio 1.3, 4.1.4.3: queue_enable. */
  isVringEnabled(index: number): boolean {
    return this.vrings.at(index).isActive;
  }
}
