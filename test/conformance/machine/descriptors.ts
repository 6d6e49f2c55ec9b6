// What a thread does by way of file descriptors: devices, eventfds, cgroup files.

import { fdClose, fdInstall, OpenFile } from "#dist/kernel/files.js";
import type { Kernel } from "#dist/kernel/kernel.js";
import type { Task } from "#dist/kernel/task.js";
import { CGROUP_MOUNT } from "./cgroupfs.js";
import { ScriptError, SyscallError } from "./errors.js";
import { type AsyncRequest, IoUring, IoWq } from "./io-uring.js";
import type { Machine, PendingCall } from "./machine.js";
import { Ring } from "./ring.js";
import { type DeviceKind, VhostDevice } from "./vhost-device.js";
import { flushes, type IoctlArg, vhostIoctl } from "./vhost-ioctl.js";

const DEVICES: Record<string, DeviceKind> = {
  "/dev/vhost-vsock": "vsock",
  "/dev/vhost-net": "net",
  "/dev/vhost-scsi": "scsi",
};

/** Rings of a running vsock device. */
export interface VsockRings {
  readonly rx: Ring;
  readonly tx: Ring;
}

/** The half of a thread that has to do with its open files. */
export abstract class Descriptors {
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

  /** Opens a device node, or any other path, behind which is nothing. Throws EMFILE. */
  open(path: string, flags: "O_CLOEXEC" | "" = ""): number {
    return this.call(() => {
      const kind = DEVICES[path];
      const file = kind === undefined ? new OpenFile(() => {}) : this.#device(kind);
      const fd = this.#install(file);
      if (flags === "O_CLOEXEC") this.#files.closeOnExec.add(fd);
      return fd;
    });
  }

  #device(kind: DeviceKind): OpenFile {
    const device = new VhostDevice(this.kernel, kind, this.machine.sleepsIn);
    const file = new OpenFile(() => {
      device.release();
      this.machine.devices.delete(device);
    });
    this.machine.opened.set(file, device);
    this.machine.devices.add(device);
    return file;
  }

  /** Both ends of a pipe. Throws EMFILE. */
  pipe(): [number, number] {
    return this.call(() => [
      this.#install(new OpenFile(() => {})),
      this.#install(new OpenFile(() => {})),
    ]);
  }

  /** A ring of io_uring; with `sqpoll` a thread polls it. Throws what making that fails with. */
  ioUringSetup({ sqpoll = false, entries = 8 } = {}): number {
    return this.call(() => {
      const ring = new IoUring(this.kernel, entries);
      if (sqpoll) ring.pollFor(this.task, this.machine.sleepsIn);
      const file = new OpenFile(() => ring.release());
      this.machine.opened.set(file, ring);
      return this.#install(file);
    });
  }

  /** Submits a request marked IOSQE_ASYNC, which is never done. */
  ioUringSubmitAsync(fd: number, request: AsyncRequest = "read-empty-pipe"): string {
    return this.try(() => this.#ioWq(fd).submit(request));
  }

  /**
   * IORING_REGISTER_IOWQ_MAX_WORKERS: writes the old values over `counts`. EINVAL: more than
   * INT_MAX.
   */
  ioUringRegisterMaxWorkers(fd: number, counts: [bounded: number, unbounded: number]): string {
    return this.try(() => {
      if (!counts.every((count) => count >= 0 && count <= 0x7fffffff)) {
        throw new SyscallError("EINVAL");
      }
      const isNew = !this.machine.ioWqs.has(this.task);
      const old = this.#ioWq(fd).setMax(...counts);
      [counts[0], counts[1]] = isNew ? [0, 0] : old;
    });
  }

  /** Workers of this thread. The first ring that it names says how many may be bounded. */
  #ioWq(fd: number): IoWq {
    const ring = this.machine.opened.get(this.#file(fd));
    if (!(ring instanceof IoUring)) throw new SyscallError("EOPNOTSUPP");
    const { ioWqs, sleepsIn } = this.machine;
    const wq = ioWqs.get(this.task) ?? new IoWq(this.kernel, this.task, sleepsIn, ring.entries);
    ioWqs.set(this.task, wq);
    return wq;
  }

  /** Another descriptor of the same file. Throws EBADF, EMFILE. */
  dup(fd: number): number {
    return this.call(() => this.#share(this.#file(fd)));
  }

  /** Gives `to` a descriptor of the same file, as SCM_RIGHTS does. Throws EBADF, EMFILE. */
  sendFd(fd: number, to: Descriptors): number {
    return this.call(() => to.#share(this.#file(fd)));
  }

  close(fd: number): string {
    return this.try(() => fdClose(this.#files, fd));
  }

  /**
   * An ioctl; results are written into `arg`. One that would have to wait is a mistake of the
   * script: `beginIoctl` is for those.
   */
  ioctl(fd: number, name: string, arg?: IoctlArg): string {
    const { result } = this.beginIoctl(fd, name, arg);
    if (result !== undefined) return result;
    throw new ScriptError(`${name} has to wait: begin it`);
  }

  /** An ioctl that may have to wait; the thread is in it, state D, until it is done. */
  beginIoctl(fd: number, name: string, arg?: IoctlArg): PendingCall {
    const pending: { done: boolean; result: string | undefined } = {
      done: false,
      result: undefined,
    };
    let isFlushed = () => true;
    const result = this.try(() => {
      const device = this.#vhost(fd);
      try {
        vhostIoctl(name, { dev: device, task: this.task, arg, others: this.machine.devices });
      } finally {
        if (flushes(name, device)) isFlushed = device.flush();
      }
    });
    const finish = () => {
      if (!isFlushed()) return false;
      Object.assign(pending, { done: true, result });
      return true;
    };
    this.machine.settle();
    if (finish()) return pending;
    this.task.inKernel = true;
    this.machine.wait(() => {
      if (!finish()) return false;
      this.leaveKernel();
      return true;
    });
    return pending;
  }

  /** Sets a vsock device up, whose owner this is, and starts it: "OK", or what failed first. */
  startVsock(fd: number, cid: number, rings: VsockRings, num = 8): string {
    const vring = (name: string, more: (ring: Ring) => object) =>
      [rings.rx, rings.tx].map((ring, index): [string, IoctlArg] => [
        name,
        { index, ...more(ring) },
      ]);
    const steps: [string, IoctlArg][] = [
      ["VHOST_SET_FEATURES", 0x100000000n],
      ["VHOST_SET_MEM_TABLE", {}],
      ...vring("VHOST_SET_VRING_NUM", () => ({ num })),
      ...vring("VHOST_SET_VRING_BASE", () => ({ num: 0 })),
      ...vring("VHOST_SET_VRING_ADDR", (ring) => ({ ring })),
      ...vring("VHOST_SET_VRING_KICK", (ring) => ({ ring })),
      ...vring("VHOST_SET_VRING_CALL", (ring) => ({ ring })),
      ...vring("VHOST_SET_VRING_ERR", (ring) => ({ ring })),
      ["VHOST_VSOCK_SET_GUEST_CID", cid],
      ["VHOST_VSOCK_SET_RUNNING", 1],
    ];
    for (const [name, arg] of steps) {
      const result = this.ioctl(fd, name, arg);
      if (result !== "OK") return result;
    }
    return "OK";
  }

  /** Memory for the rings of a vsock device, which children share. */
  mapVsockRings(num = 8): VsockRings {
    return { rx: new Ring(num), tx: new Ring(num) };
  }

  /** Writes the ring's kick eventfd, which this process has. */
  kick(ring: Ring): void {
    this.call(() => ring.kick.signal());
  }

  /** Makes packets available, kicks. */
  sendPackets(ring: Ring, count = 1): void {
    ring.add(count);
    this.kick(ring);
  }

  mkdir(path: string): string {
    return this.try(() => this.machine.cgroups.mkdir(cgroupPath(path)));
  }

  rmdir(path: string): string {
    return this.try(() => this.machine.cgroups.rmdir(cgroupPath(path)));
  }

  /** Writes a file of a cgroup. */
  write(path: string, text: string | number): string {
    return this.try(() => this.machine.cgroups.write(cgroupPath(path), `${text}`, this.task));
  }

  /** Text of a file of a cgroup. Throws ENOENT. */
  read(path: string): string {
    return this.call(() => this.machine.cgroups.read(cgroupPath(path)));
  }

  get #files() {
    const { files } = this.task;
    if (files === null) throw new ScriptError(`thread ${this.tid} has no open files`);
    return files;
  }

  #file(fd: number): OpenFile {
    const file = this.#files.fds.get(fd);
    if (file === undefined) throw new SyscallError("EBADF");
    return file;
  }

  #vhost(fd: number): VhostDevice {
    const device = this.machine.opened.get(this.#file(fd));
    if (device instanceof VhostDevice) return device;
    throw new SyscallError("ENOTTY");
  }

  #share(file: OpenFile): number {
    file.count++;
    return this.#install(file);
  }

  #install(file: OpenFile): number {
    if (this.#files.fds.size < this.task.signal.rlimits.NOFILE.cur) {
      return fdInstall(this.#files, file);
    }
    file.put();
    throw new SyscallError("EMFILE");
  }
}

/** A path below the mount, as `CgroupFs` has it. ENOENT: it is elsewhere. */
export function cgroupPath(path: string): string {
  if (path === CGROUP_MOUNT) return "/";
  if (path.startsWith(`${CGROUP_MOUNT}/`)) return path.slice(CGROUP_MOUNT.length);
  throw new SyscallError("ENOENT");
}
