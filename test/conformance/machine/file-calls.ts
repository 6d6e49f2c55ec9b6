// What a thread does by way of file descriptors: files, pipes, cgroup files.

import { fdClose, fdInstall, OpenFile } from "#dist/kernel/files.js";
import type { Kernel } from "#dist/kernel/kernel.js";
import type { Task } from "#dist/kernel/task.js";
import { VhostFile } from "#dist/vhost/ioctl/file.js";
import { CGROUP_MOUNT } from "./cgroupfs.js";
import { ScriptError, SyscallError } from "./errors.js";
import type { Machine } from "./machine.js";
import { isPipeEnd, Pipe, type PipeEnd } from "./pipe.js";

/** The O_ flags that mean something here. */
const OPEN_FLAGS = [
  ...["O_RDONLY", "O_WRONLY", "O_RDWR", "O_CLOEXEC", "O_NONBLOCK", "O_PATH", "O_CREAT"],
] as const;

/** An open file of which nothing but the place is known. */
export const OPATH = Symbol("O_PATH");

/** The part of a thread that has to do with its open files. */
export abstract class FileCalls {
  constructor(
    readonly machine: Machine,
    readonly task: Task,
  ) {}

  /** Number of the thread. */
  get tid(): number {
    return this.task.pid;
  }

  protected get kernel(): Kernel {
    return this.machine.kernel;
  }

  protected abstract call<T>(body: () => T): T;
  protected abstract try(body: () => void): string;
  protected abstract leaveKernel(): void;

  /**
   * Opens a device node, a FIFO, or any other path, behind which is a file that takes everything
   * and is empty. `flags` as in C: "O_RDWR | O_CLOEXEC"; default O_RDWR. Throws EMFILE; ENXIO: a
   * FIFO that nobody reads, with O_WRONLY | O_NONBLOCK.
   */
  open(path: string, flags = "O_RDWR"): number {
    const words = new Set(flags.split("|").map((word) => word.trim()));
    for (const word of words) {
      if (word === "" || (OPEN_FLAGS as readonly string[]).includes(word)) continue;
      throw new ScriptError(`${word} is no flag that open has here: ${OPEN_FLAGS.join(" ")}`);
    }
    return this.call(() => {
      const fd = this.install(this.#opened(path, words));
      if (words.has("O_CLOEXEC")) this.files.closeOnExec.add(fd);
      if (words.has("O_NONBLOCK")) this.machine.nonblocking.add(this.file(fd));
      return fd;
    });
  }

  #opened(path: string, words: ReadonlySet<string>): OpenFile {
    if (words.has("O_PATH")) return this.#file(OPATH);
    const device = this.machine.openDevice(path);
    if (device !== undefined) return device;
    const fifo = this.machine.fifos.get(path);
    if (fifo === undefined) return this.#file(path);
    const reads = !words.has("O_WRONLY");
    const writes = !words.has("O_RDONLY") && (words.has("O_WRONLY") || words.has("O_RDWR"));
    if (reads && writes) return this.pipeEnd({ pipe: fifo, reads, writes });
    const isMet = reads ? fifo.writers > 0 : fifo.readers + fifo.waitingReaders > 0;
    if (!isMet && !words.has("O_NONBLOCK")) throw new ScriptError(`open ${path} waits for ever`);
    if (!isMet && writes) throw new SyscallError("ENXIO");
    return this.pipeEnd({ pipe: fifo, reads, writes });
  }

  #file(opened: unknown, release = () => {}): OpenFile {
    const file = new OpenFile(release);
    this.machine.opened.set(file, opened);
    return file;
  }

  /** Makes a FIFO. EEXIST. */
  mkfifo(path: string): string {
    return this.try(() => {
      if (this.machine.fifos.has(path)) throw new SyscallError("EEXIST");
      this.machine.fifos.set(path, new Pipe());
    });
  }

  /** Both ends of a pipe: to read, to write. Throws EMFILE. */
  pipe(): [number, number] {
    const pipe = new Pipe();
    return this.call(() => {
      const read = this.install(this.pipeEnd({ pipe, reads: true, writes: false }));
      return [read, this.install(this.pipeEnd({ pipe, reads: false, writes: true }))];
    });
  }

  /** An open end, which counts. */
  protected pipeEnd(end: PipeEnd): OpenFile {
    const { pipe, reads, writes } = end;
    pipe.readers += Number(reads);
    pipe.writers += Number(writes);
    return this.#file(end, () => {
      pipe.readers -= Number(reads);
      pipe.writers -= Number(writes);
    });
  }

  /** Maps so many bytes more, or with a negative number less. */
  mmap(bytes: number): void {
    this.call(() => {
      const { mm } = this.task;
      if (mm === null) throw new ScriptError("it has no memory");
      const { mapped } = this.machine;
      mapped.set(mm, (mapped.get(mm) ?? 0) + bytes);
    });
  }

  /** Reads up to `length` bytes: how many. Throws EBADF. Whatever waits is a ScriptError. */
  readBytes(fd: number, length = 1): number {
    const device = (file: VhostFile) =>
      file.read(new Uint8Array(length), this.machine.nonblocking.has(file));
    return this.#transfer(fd, "reads", (pipe) => pipe.read(length), device, 0);
  }

  /** Writes `length` bytes, or these: how many. Throws EBADF, EPIPE. */
  writeBytes(fd: number, what: number | Uint8Array<ArrayBuffer> = 1): number {
    const bytes = typeof what === "number" ? new Uint8Array(what) : what;
    const { length } = bytes;
    const write = (pipe: Pipe) => {
      if (pipe.readers === 0) throw new SyscallError("EPIPE");
      return pipe.write(length);
    };
    return this.#transfer(fd, "writes", write, (file) => file.write(bytes), length);
  }

  #transfer(
    fd: number,
    how: "reads" | "writes",
    move: (pipe: Pipe) => number | undefined,
    device: (file: VhostFile) => number,
    elsewhere: number,
  ): number {
    return this.call(() => {
      const file = this.file(fd);
      const opened = this.machine.opened.get(file);
      if (opened === OPATH) throw new SyscallError("EBADF");
      if (file instanceof VhostFile) return device(file);
      if (!isPipeEnd(opened)) return elsewhere;
      if (!opened[how]) throw new SyscallError("EBADF");
      const count = move(opened.pipe);
      if (count === undefined) throw new ScriptError(`descriptor ${fd}: it waits for ever`);
      return count;
    });
  }

  /** Another descriptor of the same file. Throws EBADF, EMFILE. */
  dup(fd: number): number {
    return this.call(() => this.#share(this.file(fd)));
  }

  /** Gives `to` a descriptor of the same file, as SCM_RIGHTS does. Throws EBADF, EMFILE. */
  sendFd(fd: number, to: FileCalls): number {
    return this.call(() => to.#share(this.file(fd)));
  }

  /** fcntl(F_SETFD): whether the descriptor is closed by exec. EBADF. */
  setCloexec(fd: number, isSet: boolean): string {
    return this.try(() => {
      this.file(fd);
      if (isSet) this.files.closeOnExec.add(fd);
      else this.files.closeOnExec.delete(fd);
    });
  }

  close(fd: number): string {
    return this.try(() => fdClose(this.files, fd));
  }

  mkdir(path: string): string {
    return this.try(() => {
      this.#mustWriteCgroups();
      this.machine.cgroups.mkdir(cgroupPath(path));
    });
  }

  rmdir(path: string): string {
    return this.try(() => {
      this.#mustWriteCgroups();
      this.machine.cgroups.rmdir(cgroupPath(path));
    });
  }

  /** Writes a file of a cgroup. EACCES: not root's. */
  write(path: string, text: string | number): string {
    return this.try(() => {
      this.#mustWriteCgroups();
      this.machine.cgroups.write(cgroupPath(path), `${text}`, this.task);
    });
  }

  /** Text of a file of a cgroup. Throws ENOENT. */
  read(path: string): string {
    return this.call(() => this.machine.cgroups.read(cgroupPath(path)));
  }

  #mustWriteCgroups(): void {
    const { fsuid, caps } = this.task.cred;
    if (fsuid !== 0 && !caps.has(CAP_DAC_OVERRIDE)) throw new SyscallError("EACCES");
  }

  protected get files() {
    const { files } = this.task;
    if (files === null) throw new ScriptError(`thread ${this.tid} has no open files`);
    return files;
  }

  protected file(fd: number): OpenFile {
    const file = this.files.fds.get(fd);
    if (file === undefined) throw new SyscallError("EBADF");
    return file;
  }

  #share(file: OpenFile): number {
    file.count++;
    return this.install(file);
  }

  protected install(file: OpenFile): number {
    if (this.files.fds.size < this.task.signal.rlimits.NOFILE.cur) {
      return fdInstall(this.files, file);
    }
    file.put();
    throw new SyscallError("EMFILE");
  }
}

const CAP_DAC_OVERRIDE = 1;

/** A path below the mount, as `CgroupFs` has it. ENOENT: it is elsewhere. */
export function cgroupPath(path: string): string {
  if (path === CGROUP_MOUNT) return "/";
  if (path.startsWith(`${CGROUP_MOUNT}/`)) return path.slice(CGROUP_MOUNT.length);
  throw new SyscallError("ENOENT");
}
