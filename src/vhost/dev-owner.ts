import { type Mm, mmget, mmput } from "../kernel/mm.js";
import { mustLive, type Task } from "../kernel/task.js";
import { VhostError } from "../spec/errno.js";

/**
 * Whose a device is, and that one's memory, which is held. Kernel's thread. Linux: vhost_dev's mm.
 */
export class DevOwner {
  #pid: number | undefined;
  #mm: Mm | null = null;

  /** Linux: vhost_dev_has_owner(). */
  get isSet(): boolean {
    return this.#pid !== undefined;
  }

  /**
   * `task` is the owner from here on, if `make` can make what it is to have: that is returned.
   * Throws EBUSY when there is an owner, ESRCH for one that has exited, EINVAL for one without
   * memory, and what `make` throws; then nothing has changed. Linux: vhost_dev_set_owner().
   */
  set<T>(task: Task, make: (mm: Mm) => T): T {
    const { mm, pid } = task;
    if (this.isSet) throw new VhostError("EBUSY", "the device has an owner", { pid: this.#pid });
    mustLive(task);
    if (!mm) throw new VhostError("EINVAL", "the owner has no memory", { pid });
    const made = make(mm);
    mmget(mm);
    this.#mm = mm;
    this.#pid = pid;
    return made;
  }

  /** By memory alone: threads pass, a forked child does not. Linux: vhost_dev_check_owner(). */
  is(task: Task): boolean {
    return this.#mm !== null && this.#mm === task.mm;
  }

  /** EPERM: the caller is not the owner. */
  mustBe(task: Task): void {
    if (this.is(task)) return;
    throw new VhostError("EPERM", "the caller does not own the device", { pid: task.pid });
  }

  /** The owner's memory. Throws EFAULT without an owner. */
  get memory(): WebAssembly.Memory {
    if (this.#mm) return this.#mm.memory;
    throw new VhostError("EFAULT", "the device has no owner in whose memory rings can be");
  }

  /** The memory is not held any more; the device does not go to another. */
  release(): void {
    mmput(this.#mm);
    this.#mm = null;
  }

  /** It is nobody's. Linux: vhost_detach_mm(). */
  clear(): void {
    this.release();
    this.#pid = undefined;
  }
}
