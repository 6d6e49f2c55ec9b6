import { OpenFile } from "../../kernel/files.js";
import { VhostError } from "../../spec/errno.js";
import { Turns } from "../turns.js";
import type { VhostState } from "./state.js";

/** An open /dev/vhost-…: the last close ends the device. Kernel's thread. */
export class VhostFile extends OpenFile {
  readonly state: VhostState;
  /** Whose ioctl it is. */
  readonly turns = new Turns();

  /** Of a device that nobody has yet. */
  constructor(state: VhostState) {
    super(() => state.release());
    this.state = state;
  }

  /**
   * Workers without threads do what they may. Returns whether there was anything: call until there
   * is not.
   */
  runPending(): boolean {
    return this.state.workers.run();
  }

  /** EINVAL: vhost-scsi has no such messages. */
  #mustTalk(): void {
    if (this.state.kind !== "scsi") return;
    throw new VhostError("EINVAL", "vhost-scsi can't be read or written");
  }

  /**
   * read(2): the bytes of a message, a question where an address of the device's is; 0 for less
   * room than one takes. EAGAIN: there is none, also where a read that may wait would do so:
   * `onReadable` says when to come back; EBADFD: it would wait for ever. Linux:
   * vhost_chr_read_iter().
   */
  read(into: Uint8Array, isNonblock: boolean): number {
    this.#mustTalk();
    return this.state.iotlb.read(into, isNonblock);
  }

  /**
   * write(2): an answer, or what is not there any more: bytes taken. Unlike Linux's, it does not
   * wait: where the worker is a thread, a chain that was popped before is worked on to its end, and
   * the ring as it was then, for the rest of the turn; `iotlbInvalidate` waits for that. EINVAL: it
   * is no message; EFAULT: it is one that can't be, or the device has no addresses of its own. Then
   * nothing has changed. Linux: vhost_chr_write_iter().
   */
  write(bytes: Uint8Array): number {
    this.#mustTalk();
    return this.state.iotlb.write(bytes);
  }

  /** poll(2): POLLIN and POLLRDNORM when a message waits; vhost-scsi is always ready. */
  poll(): number {
    if (this.state.kind === "scsi") return POLLIN | POLLOUT;
    return this.state.iotlb.misses.unreadCount > 0 ? POLLIN | POLLRDNORM : 0;
  }

  /**
   * Calls `waiter` once, when a message has come or there will be none any more: look again then.
   * Returns how to give that up.
   */
  onReadable(waiter: () => void): () => void {
    return this.state.iotlb.misses.onTell(waiter);
  }

  /** mmap(2) and all that it has not. */
  mmap(): never {
    throw new VhostError("ENODEV", "a vhost device can't be mapped");
  }

  /** lseek(2): it has no position, and stays at 0. */
  lseek(): number {
    return 0;
  }
}

const POLLIN = 0x1;
const POLLOUT = 0x4;
const POLLRDNORM = 0x40;
