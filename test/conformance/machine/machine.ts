// One machine: a kernel of an epoch, what its device nodes are, and its workers' time to work.

import type { Epoch } from "#dist/kernel/epoch.js";
import type { OpenFile } from "#dist/kernel/files.js";
import { Kernel } from "#dist/kernel/kernel.js";
import { kthreadCreate } from "#dist/kernel/kthread.js";
import type { Mm } from "#dist/kernel/mm.js";
import type { Task } from "#dist/kernel/task.js";
import { InlineThread } from "#dist/kernel/thread.js";
import { PF_NO_SETAFFINITY, PF_WQ_WORKER } from "#dist/spec/sched.js";
import { CgroupFs } from "./cgroupfs.js";
import { ScriptError } from "./errors.js";
import type { IoUring } from "./io-uring.js";
import type { IoWq } from "./io-wq.js";
import type { Pipe } from "./pipe.js";
import { Proc } from "./proc.js";
import { PF_RANDOMIZE } from "./procfs.js";
import type { VhostDevice } from "./vhost-device.js";

/** A call that may have to wait. */
export interface PendingCall {
  readonly done: boolean;
  /** "OK" or the name of an errno; `undefined` while it is not done. */
  readonly result: string | undefined;
}

/** A machine that scripts run programs on. */
export class Machine {
  readonly kernel: Kernel;
  readonly cgroups: CgroupFs;
  readonly devices = new Set<VhostDevice>();
  /** What an open file is, where it is more than a number. */
  readonly opened = new WeakMap<OpenFile, unknown>();
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

  constructor(epoch: Epoch = "v6.12") {
    this.kernel = new Kernel({ epoch });
    this.sleepsIn.set(this.kernel.kthreadd, "kthreadd");
    this.#bootKworker();
    this.cgroups = new CgroupFs(this.kernel);
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
    const task = this.kernel.spawn({ comm, memoryBytes: 65536 });
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
      const runs = [...this.devices].map((device) => device.run());
      worked = [...runs, ...this.#progressIo()].includes(true);
      for (const isDone of this.#waiting) {
        if (!isDone()) continue;
        this.#waiting.delete(isDone);
        worked = true;
      }
    }
  }
}
