// A process with open vhost devices, tasks that share more or less with it, and the state of a
// device as plain values: what a refused call must leave as it was.

import { type VhostOpened, vhostFile } from "#dist/devices/vhost-files.js";
import { EventFd } from "#dist/kernel/eventfd.js";
import { fdInstall, type OpenFile } from "#dist/kernel/files.js";
import { copyProcess, wakeUpNewTask } from "#dist/kernel/fork.js";
import { Kernel } from "#dist/kernel/kernel.js";
import type { Task } from "#dist/kernel/task.js";
import { SharedMemory } from "#dist/memory/shared-memory.js";
import { VhostError } from "#dist/spec/errno.js";
import { CLONE_SIGHAND, CLONE_THREAD, CLONE_VM, SIGCHLD } from "#dist/spec/sched.js";
import { encodeArg, type IoctlValues, requestOf } from "#dist/vhost/ioctl/front.js";
import { beginIoctl } from "#dist/vhost/ioctl/ioctl.js";
import type { VhostKind, VhostState } from "#dist/vhost/ioctl/state.js";

export const KINDS: readonly VhostKind[] = ["vsock", "net", "scsi"];
export const QUEUES: Record<VhostKind, number> = { vsock: 2, net: 2, scsi: 130 };
/** A user address where nothing is mapped, and one of the kernel's. */
export const UNMAPPED = 64n;
export const KERNEL_ADDRESS = 0xffff_8000_0000_0000n;

/** Who calls. */
export type Caller = "owner" | "thread" | "sharer" | "child";

/** Objects by number, for plain values that stand for them. */
const numbers = new WeakMap<object, number>();
let lastNumber = 0;

function numberOf(object: object | null): number {
  if (object === null) return 0;
  if (!numbers.has(object)) numbers.set(object, ++lastNumber);
  return numbers.get(object) as number;
}

/** Why a call was refused; `undefined`: it was not. */
export function refusalOf(call: () => unknown): string | undefined {
  try {
    call();
  } catch (error) {
    if (!(error instanceof VhostError)) throw error;
    return error.code;
  }
  return undefined;
}

/** A machine, a process that opens devices, and its kin. */
export class IoctlLab {
  /** Workers are threads, which no call waits for: who calls does. */
  hasThreads = false;
  readonly kernel = new Kernel({ epoch: "v6.12" });
  readonly owner: Task;
  readonly shared: SharedMemory;
  readonly memory: WebAssembly.Memory;
  /** An address of the owner's for arguments. */
  readonly scratch: number;

  constructor(memoryBytes = 1 << 20) {
    this.owner = this.kernel.spawn({ comm: "vmm", memoryBytes });
    const { mm } = this.owner;
    if (!mm) throw new Error("it has no memory");
    this.memory = mm.memory;
    this.shared = SharedMemory.of(mm.memory);
    this.scratch = this.shared.allocGuest(8192, 4096);
  }

  open(kind: VhostKind, run: "inline" | "thread" = "inline"): VhostOpened & { fd: number } {
    if (run === "thread") this.hasThreads = true;
    const opened = vhostFile(this.kernel, `/dev/vhost-${kind}`, { run });
    if (!opened) throw new Error("no such node");
    return { ...opened, fd: this.install(opened.file) };
  }

  install(file: OpenFile): number {
    if (!this.owner.files) throw new Error("it has no table");
    return fdInstall(this.owner.files, file);
  }

  /** A task made from the owner now: it has what is open. */
  kin(caller: Caller): Task {
    if (caller === "owner") return this.owner;
    const flags = { thread: CLONE_VM | CLONE_SIGHAND | CLONE_THREAD, sharer: CLONE_VM, child: 0 };
    const args = { flags: flags[caller], exitSignal: SIGCHLD };
    const task = copyProcess(this.kernel, this.owner, args);
    wakeUpNewTask(task);
    return task;
  }

  eventfd(initial = 0n): { fd: number; file: EventFd } {
    const file = new EventFd(initial);
    return { file, fd: this.install(file) };
  }

  /** ioctl(2) with a pointer; the device's workers have done what they could. "OK" or an errno. */
  raw(task: Task, fd: number, request: number, arg: bigint): string {
    const { error, isDone } = beginIoctl(task, fd, request, arg);
    const file = task.files?.fds.get(fd) as VhostOpened["file"] | undefined;
    for (let left = 10_000; file?.runPending?.() && left > 0; left--) {}
    if (!isDone() && !this.hasThreads) return "it waits";
    return error?.code ?? "OK";
  }

  /** The same with a struct's values, in the caller's memory. */
  call(task: Task, fd: number, name: string, values: IoctlValues = {}): string {
    const request = requestOf(name);
    const bytes = encodeArg(request, values);
    if (task.mm) new Uint8Array(task.mm.memory.buffer).set(bytes, this.scratch);
    return this.raw(task, fd, request.request, BigInt(this.scratch));
  }

  /** What a call has left in the argument's place: a number at an offset. */
  answer(offset = 0): number {
    return this.shared.view.getUint32(this.scratch + offset, true);
  }

  /** Everything that a device is, and what it counts on, as plain values. */
  snapshot(state: VhostState): object {
    return {
      owned: state.owner.isSet,
      features: state.features,
      backendFeatures: state.backendFeatures,
      regions: state.regions,
      forkFromOwner: state.forkFromOwner,
      logFd: numberOf(state.logFd),
      cid: state.cid,
      iotlb: state.iotlb.table?.maps.map((map) => ({ ...map })),
      asked: [state.iotlb.misses.unreadCount, state.iotlb.misses.pendingCount],
      workers: state.workers.ids,
      tasks: this.kernel.tasks().length,
      mmUsers: this.owner.mm?.users,
      hostBytes: this.shared.host.freeBytes,
      files: [...(this.owner.files?.fds.values() ?? [])].map(({ count }) => count),
      vqs: state.vqs.map((vq) => ({
        num: vq.num,
        areas: vq.areas,
        log: vq.log,
        base: vq.position(state.features),
        busyloopMicroseconds: vq.busyloopMicroseconds,
        isActive: vq.isActive,
        backend: numberOf(vq.backend as object | null),
        worker: numberOf(state.workers.of(vq) ?? null),
        events: (["kick", "call", "err"] as const).map((which) => numberOf(vq.event(which))),
      })),
    };
  }
}
