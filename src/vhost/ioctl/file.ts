import { OpenFile } from "../../kernel/files.js";
import { VhostError } from "../../spec/errno.js";
import { Turns } from "../turns.js";
import type { VhostState } from "./state.js";

// Messages by which a program answers where a device's addresses lie. Linux: vhost_msg_v2.
/** Bytes of a message: type, what was asked, padding. */
const MSG_BYTES = 72;
/** Offset of the message proper in version 1 and 2, less the type's four bytes. */
const MSG_SKIP: Record<number, number> = { 1: 4, 2: 4 };
/** Bytes of the message proper. */
const IOTLB_MSG_BYTES = 32;

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
   * read(2): the bytes of a message, of which there are none: 0 for less room than one takes;
   * EAGAIN; EBADFD: it would wait for ever. Linux: vhost_chr_read_iter().
   */
  read(bytes: number, isNonblock: boolean): number {
    this.#mustTalk();
    if (bytes < MSG_BYTES) return 0;
    if (isNonblock) throw new VhostError("EAGAIN", "no message waits");
    throw new VhostError("EBADFD", "the device asks nothing: none of its addresses is its own");
  }

  /**
   * write(2): an answer to a question, of which there are none. EINVAL: it is no message; EFAULT:
   * it is one. Linux: vhost_chr_write_iter().
   */
  write(bytes: Uint8Array<ArrayBuffer>): number {
    this.#mustTalk();
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    const skip = bytes.length < 4 ? undefined : MSG_SKIP[view.getInt32(0, true)];
    if (skip === undefined || bytes.length < 4 + skip + IOTLB_MSG_BYTES) {
      throw new VhostError("EINVAL", "it is no message", { bytes: bytes.length });
    }
    throw new VhostError("EFAULT", "the device has asked nothing");
  }

  /** poll(2): no message waits; vhost-scsi is always ready. POLL… bits. */
  poll(): number {
    return this.state.kind === "scsi" ? POLLIN | POLLOUT : 0;
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
