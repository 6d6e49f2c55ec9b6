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
  const files = new Files();
  for (const [fd, file] of old.fds) {
    file.count++;
    files.fds.set(fd, file);
  }
  return files;
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
