import { closeSync, constants, fstatSync, openSync, readFileSync } from "node:fs";
import { fdInstall, OpenFile } from "../kernel/files.js";
import { mustLive } from "../kernel/task.js";
import { errnoOf, VhostError, whyOf } from "../spec/errno.js";
import { IO_WQ_HASH_BUCKETS } from "./io-work.js";
import { type TaskOwner, taskOf } from "./owner.js";

/** A file of the host's in a table of open files. Linux: file. */
export class HostFile extends OpenFile {
  /** The host's number; what an SQE names is the owner's. */
  readonly hostFd: number;
  /** A regular file or a block device. */
  readonly isBounded: boolean;
  /** Writes with the same number go one after the other; nothing but regular files have one. */
  readonly hash: number | undefined;

  /**
   * Takes `hostFd` over: it is closed with the last reference. When it throws, it stays the
   * caller's: EINVAL: neither a regular file nor a block device, and not open with O_NONBLOCK (a
   * thread asleep in a system call can't be ended); and what fstat(2) throws. Requests on files
   * with O_NONBLOCK that would wait get -EAGAIN, as Linux's do.
   */
  constructor(hostFd: number) {
    super(() => closeSync(hostFd));
    const stat = fstatSync(hostFd);
    this.hostFd = hostFd;
    this.isBounded = stat.isFile() || stat.isBlockDevice();
    this.hash = stat.isFile() ? stat.ino % IO_WQ_HASH_BUCKETS : undefined;
    if (this.isBounded || isNonblocking(hostFd)) return;
    throw new VhostError("EINVAL", "a pipe, socket or device must be open with O_NONBLOCK", {
      hostFd,
    });
  }
}

/**
 * Opens a file of the host's in the table of a process, with the program's rights; `flags` as for
 * Node's `open`. @returns its descriptor. Throws what open(2) does (ENOENT, EACCES …), naming the
 * path; what HostFile says; ESRCH for a process that has exited; EINVAL for what is no process, no
 * path or no flags.
 */
export function openHostFile(owner: TaskOwner, path: string, flags: string | number = "r"): number {
  const task = taskOf(owner);
  mustLive(task);
  if (task.files === null) throw new VhostError("EBADF", "a task without a table of files");
  const hostFd = open(path, flags);
  try {
    return fdInstall(task.files, new HostFile(hostFd));
  } catch (error) {
    closeSync(hostFd);
    throw error;
  }
}

function open(path: string, flags: string | number): number {
  if (typeof path !== "string") throw new VhostError("EINVAL", "path is a string", { path });
  try {
    return openSync(path, flags);
  } catch (error) {
    const { code = "EIO", message } = error as NodeJS.ErrnoException;
    if (code.startsWith("ERR_")) {
      throw new VhostError("EINVAL", `${path} can't be opened: ${message}`, { path, flags }, error);
    }
    const text = `${path} can't be opened: ${whyOf(error)}`;
    throw new VhostError(errnoOf(error), text, { path, flags }, error);
  }
}

/** False also where there is no /proc to ask. */
function isNonblocking(hostFd: number): boolean {
  try {
    const info = readFileSync(`/proc/self/fdinfo/${hostFd}`, "utf8");
    const flags = Number.parseInt(/^flags:\s*([0-7]+)/m.exec(info)?.[1] ?? "0", 8);
    return (flags & constants.O_NONBLOCK) !== 0;
  } catch {
    return false;
  }
}
