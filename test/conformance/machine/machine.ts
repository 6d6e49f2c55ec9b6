// One machine: a kernel of an epoch, what its device nodes are, and its workers' time to work.

import { vhostFile } from "#dist/devices/vhost-files.js";
import { accountCpu } from "#dist/kernel/cgroup.js";
import type { Epoch } from "#dist/kernel/epoch.js";
import type { OpenFile } from "#dist/kernel/files.js";
import { Kernel } from "#dist/kernel/kernel.js";
import { kthreadCreate } from "#dist/kernel/kthread.js";
import { type Mm, WASM_PAGE_BYTES } from "#dist/kernel/mm.js";
import type { Task } from "#dist/kernel/task.js";
import { InlineThread } from "#dist/kernel/thread.js";
import { SharedMemory } from "#dist/memory/shared-memory.js";
import { PF_NO_SETAFFINITY, PF_WQ_WORKER } from "#dist/spec/sched.js";
import { VHOST_PAGE_SIZE } from "#dist/spec/vhost.js";
import { VhostFile } from "#dist/vhost/ioctl/file.js";
import type { VsockSockets } from "#dist/vsock/sockets.js";
import { CgroupFs } from "./cgroupfs.js";
import { ScriptError } from "./errors.js";
import type { IoUring } from "./io-uring.js";
import type { IoWq } from "./io-wq.js";
import type { Pipe } from "./pipe.js";
import { Proc } from "./proc.js";
import { PF_RANDOMIZE } from "./procfs.js";

/** A call that may have to wait. */
export interface PendingCall {
  readonly done: boolean;
  /** "OK" or the name of an errno; `undefined` while it is not done. */
  readonly result: string | undefined;
}

/** Bytes of the memory of a process: what is below is the system's, of 1 MiB the first 192 KiB. */
export const MEMORY_BYTES = 1 << 20;
/** What an ioctl's argument takes, at the beginning of a process's memory. */
const ARGUMENT_BYTES = 2 * VHOST_PAGE_SIZE;
/** Microseconds of a packet. */
const PACKET_US = 2;

/** A device that somebody has open. */
export interface Opened {
  readonly sockets: VsockSockets | undefined;
  /** Packets that went through it. */
  readonly packets: () => number;
}

/** A machine that scripts run programs on. */
export class Machine {
  readonly kernel: Kernel;
  readonly cgroups: CgroupFs;
  readonly #devices = new Map<VhostFile, Opened>();
  readonly #start: number;
  #mapped = 0;
  /** What an open file is, where it is more than a number. */
  readonly opened = new WeakMap<OpenFile, unknown>();
  /** Open files that do not let a call wait. */
  readonly nonblocking = new WeakSet<OpenFile>();
  /** The workers that io_uring has for a thread. */
  readonly ioWqs = new Map<Task, IoWq>();
  readonly rings = new Set<IoUring>();
  /** FIFOs by path. */
  readonly fifos = new Map<string, Pipe>();
  /** Seconds since it booted. */
  nowSeconds = 0;
  /** The kernel function that a task of the kernel's own sleeps in. */
  readonly sleepsIn = new WeakMap<Task, string>();
  /** What program an address space is of, where another one had it before. */
  readonly exes = new WeakMap<Mm, Mm>();
  /** Bytes that an address space has beside its first ones. */
  readonly mapped = new WeakMap<Mm, number>();
  readonly #waiting = new Set<() => boolean>();

  /** `memoryBytes`: of every process. */
  constructor(
    epoch: Epoch = "v6.12",
    readonly memoryBytes = MEMORY_BYTES,
  ) {
    this.kernel = new Kernel({ epoch });
    this.#start = guestStartOf(memoryBytes);
    this.sleepsIn.set(this.kernel.kthreadd, "kthreadd");
    this.#bootKworker();
    this.cgroups = new CgroupFs(this.kernel);
  }

  /** The devices that somebody has open. */
  get devices(): ReadonlyMap<VhostFile, Opened> {
    for (const file of this.#devices.keys()) if (file.count === 0) this.#devices.delete(file);
    return this.#devices;
  }

  /** Opens a device node; `undefined`: the path is none. */
  openDevice(path: string): OpenFile | undefined {
    const opened = vhostFile(this.kernel, path, { run: "inline" });
    if (opened) this.#devices.set(opened.file, opened);
    return opened?.file;
  }

  /** Says of a device's workers in what they sleep. */
  nameWorkers(file: OpenFile): void {
    if (!(file instanceof VhostFile)) return;
    const { workers, forkFromOwner } = file.state;
    const fn = forkFromOwner ? "vhost_task_fn" : "vhost_run_work_kthread_list";
    for (const task of workers.tasks) if (!this.sleepsIn.has(task)) this.sleepsIn.set(task, fn);
  }

  /** An address at which so many bytes, whole pages, are free in the memory of every process. */
  mapAddress(bytes: number): number {
    const address = this.#start + ARGUMENT_BYTES + this.#mapped;
    this.#mapped += bytes;
    return address;
  }

  /** A worker of a work queue of the first CPU. */
  #bootKworker(): void {
    const fn = () => new InlineThread();
    const task = kthreadCreate(this.kernel, { name: "kworker/0:0", fn });
    task.flags |= PF_WQ_WORKER | PF_NO_SETAFFINITY;
    task.sched.cpus = [0];
    this.sleepsIn.set(task, "worker_thread");
  }

  /** A program that root has started, in the root group: from it all others are forked. */
  boot(comm = "program"): Proc {
    const task = this.kernel.spawn({ comm, memoryBytes: this.memoryBytes });
    task.flags |= PF_RANDOMIZE;
    return new Proc(this, task);
  }

  /** A child has its parent's program, in whatever address space. */
  sameExe({ mm }: Task, child: Task): void {
    if (mm === null || child.mm === null || child.mm === mm) return;
    this.exes.set(child.mm, this.exes.get(mm) ?? mm);
    this.mapped.set(child.mm, this.mapped.get(mm) ?? 0);
  }

  /** `isDone` is asked after each step until it says so. */
  wait(isDone: () => boolean): void {
    this.#waiting.add(isDone);
  }

  /** Time passes. */
  pass(seconds: number): void {
    if (!(seconds >= 0)) throw new ScriptError("time passes forwards");
    this.nowSeconds += seconds;
    for (const wq of this.ioWqs.values()) wq.expire();
  }

  #progressIo(): boolean[] {
    for (const owner of this.ioWqs.keys()) if (owner.exitState !== 0) this.ioWqs.delete(owner);
    const all = [...this.rings, ...this.ioWqs.values()];
    return all.map((one) => one.progress());
  }

  /** Lets everything happen that can: workers work, calls that waited go on. */
  settle(): void {
    this.cgroups.observe();
    for (let worked = true; worked; ) {
      const runs = [...this.devices].map((device) => runDevice(...device));
      worked = [...runs, ...this.#progressIo()].includes(true);
      for (const isDone of this.#waiting) {
        if (!isDone()) continue;
        this.#waiting.delete(isDone);
        worked = true;
      }
    }
  }
}

/** Where the memory of a process that has so many bytes begins. */
function guestStartOf(bytes: number): number {
  const pages = bytes / WASM_PAGE_BYTES;
  const memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
  return SharedMemory.of(memory).guestStart;
}

/** Lets a device's workers work; their time is that of the packets. */
function runDevice(file: VhostFile, { packets }: Opened): boolean {
  let before = packets();
  return file.state.workers.run((task) => {
    accountCpu(task, (packets() - before) * PACKET_US);
    before = packets();
  });
}
