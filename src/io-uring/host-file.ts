import { closeSync, fstatSync } from "node:fs";
import { OpenFile } from "../kernel/files.js";
import { IO_WQ_HASH_BUCKETS } from "./io-work.js";

/** A file of the host's in a table of open files. Linux: file. */
export class HostFile extends OpenFile {
  /** The host's number; what an SQE names is the owner's. */
  readonly hostFd: number;
  /** A regular file or a block device: I/O on it ends. Else it may wait for ever. */
  readonly isBounded: boolean;
  /** Writes with the same number go one after the other; nothing but regular files have one. */
  readonly hash: number | undefined;

  /** Takes `hostFd` over: it is closed with the last reference. Throws what fstat(2) throws. */
  constructor(hostFd: number) {
    super(() => closeSync(hostFd));
    const stat = fstatSync(hostFd);
    this.hostFd = hostFd;
    this.isBounded = stat.isFile() || stat.isBlockDevice();
    this.hash = stat.isFile() ? stat.ino % IO_WQ_HASH_BUCKETS : undefined;
  }
}
