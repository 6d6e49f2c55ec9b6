import { VhostError } from "../spec/errno.js";
import { CLONE_FILES } from "../spec/sched.js";
import type { KernelCloneArgs } from "./fork.js";
import type { Task } from "./task.js";

/** Something open, in one or more tables. Linux: file. */
export class OpenFile {
  /** Tables entries that refer to it. Linux: f_count. */
  count = 1;
  readonly #release: () => void;

  /** `release` is called once, when the last reference goes; it must not throw. */
  constructor(release: () => void) {
    this.#release = release;
  }

  /** One reference less. Linux: fput(). */
  put(): void {
    this.count--;
    if (this.count === 0) this.#release();
  }
}

/** The table of a process's open files, by descriptor number. Linux: files_struct. */
export class Files {
  /** Tasks that share the table. */
  users = 1;
  readonly fds = new Map<number, OpenFile>();
  /** Descriptors that a new program does not get. Linux: close_on_exec. */
  readonly closeOnExec = new Set<number>();
}

/** Puts `file` at the lowest free descriptor, and says which. Linux: fd_install(). */
export function fdInstall(files: Files, file: OpenFile): number {
  let fd = 0;
  while (files.fds.has(fd)) fd++;
  files.fds.set(fd, file);
  return fd;
}

/** Takes a descriptor out of the table; the last reference closes the file. EBADF: none such. */
export function fdClose(files: Files, fd: number): void {
  const file = files.fds.get(fd);
  if (!file) throw new VhostError("EBADF", `${fd} is not open`, { fd });
  files.fds.delete(fd);
  files.closeOnExec.delete(fd);
  file.put();
}

/**
 * The child's table: none when the caller has none, nor with `noFiles`; with CLONE_FILES the
 * caller's; else a copy whose entries are further references. Linux: copy_files(), dup_fd().
 */
export function copyFiles(current: Task, args: KernelCloneArgs): Files | null {
  const old = current.files;
  if (old === null || args.noFiles) return null;
  if (args.flags & CLONE_FILES) {
    old.users++;
    return old;
  }
  return dupFd(old);
}

/** A table with further references to the same files. Linux: dup_fd(). */
function dupFd(old: Files): Files {
  const files = new Files();
  for (const [fd, file] of old.fds) {
    file.count++;
    files.fds.set(fd, file);
  }
  for (const fd of old.closeOnExec) files.closeOnExec.add(fd);
  return files;
}

/**
 * The table for its one user alone: itself, or a copy where others use it. Linux: unshare_files().
 */
export function unshareFiles(files: Files | null): Files | null {
  if (files === null || files.users === 1) return files;
  const own = dupFd(files);
  putFiles(files);
  return own;
}

/** Closes what a new program does not get. Linux: do_close_on_exec(). */
export function closeOnExec(files: Files | null): void {
  for (const fd of files?.closeOnExec ?? []) if (files?.fds.has(fd)) fdClose(files, fd);
}

/** One user less; the last one closes every descriptor. Linux: put_files_struct(). */
export function putFiles(files: Files | null): void {
  if (files === null) return;
  files.users--;
  if (files.users > 0) return;
  const open = [...files.fds.values()];
  files.fds.clear();
  for (const file of open) file.put();
}
