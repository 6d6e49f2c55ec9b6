import type { BlkDriver } from "../driver/blk.js";
import { blk, Kernel, type OpenDevice, type Process } from "../index.js";
import type { Epoch } from "../kernel/epoch.js";
import { copyProcess } from "../kernel/fork.js";
import { isHalted } from "../kernel/send-signal.js";
import type { Task } from "../kernel/task.js";
import { VhostError } from "../spec/errno.js";
import { CLONE_VM, SIGCHLD } from "../spec/sched.js";

/** How long a read may take before it counts as waiting, in milliseconds. */
const READ_WAIT_MS = 2000;
const SERVED = "a read is served";
/** Reads until a worker that is to halt must have done so. */
const READS_MAX = 1000;
const DISK_BYTES = 1 << 16;
const SECTOR_BYTES = 512;

/** Which kernel, and how its workers are made. */
export interface Mode {
  readonly epoch: Epoch;
  readonly forkFromOwner: boolean;
}

/** An open disk, the guest's side of it, and who works for it. */
export interface OpenDisk {
  readonly device: OpenDevice<"blk">;
  readonly drive: BlkDriver;
  readonly worker: Task;
}

/** A kernel of its own with one process, in a cgroup, that opens disks in the mode asked for. */
export class Scene implements AsyncDisposable {
  readonly kernel: Kernel;
  readonly owner: Process;
  readonly #forkFromOwner: boolean;

  /** `uid`: the owner's user; other than 0, it has no capability. */
  constructor({ epoch, forkFromOwner }: Mode, uid = 1000) {
    this.#forkFromOwner = forkFromOwner;
    this.kernel = new Kernel({ epoch });
    const limits = { rlimits: { NPROC: 8 }, cgroup: "/tenant" };
    this.owner = this.kernel.spawn({ comm: "vmm", uid, gid: uid, memoryBytes: 1 << 20, ...limits });
  }

  /** Opens a disk, whose worker is a real thread. Rejects as `Process.open`. */
  async open(): Promise<OpenDisk> {
    const spec = blk({ memoryBytes: DISK_BYTES });
    const device = await this.owner.open(spec, { forkFromOwner: this.#forkFromOwner });
    return { device, drive: await device.driver(), worker: device.workerTask };
  }

  /** "made", or the code of the refusal. */
  async tryOpen(): Promise<string> {
    try {
      await this.open();
      return "made";
    } catch (error) {
      return codeOf(error);
    }
  }

  /** A second process that has all open that the owner has open. */
  fork(): Task {
    return copyProcess(this.kernel.model, this.owner.task, {
      flags: CLONE_VM,
      exitSignal: SIGCHLD,
    });
  }

  /** Ends all that lives, and waits for its threads. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.owner.exit();
  }
}

/** What becomes of a read: served, refused, or neither within two seconds. */
export async function tryRead(drive: BlkDriver): Promise<string> {
  const signal = AbortSignal.timeout(READ_WAIT_MS);
  try {
    await drive.read(0, SECTOR_BYTES, { signal });
    return SERVED;
  } catch (error) {
    return signal.aborted ? "a read waits" : `a read fails: ${codeOf(error)}`;
  }
}

/**
 * Whether the worker may run, and what becomes of a read. A thread halts where it next looks, so
 * some reads may still be served that came after.
 */
export async function tryHalted({ worker, drive }: OpenDisk): Promise<string> {
  if (!isHalted(worker)) return `runs; ${await tryRead(drive)}`;
  let outcome = SERVED;
  for (let reads = 0; reads < READS_MAX && outcome === SERVED; reads++) {
    outcome = await tryRead(drive);
  }
  return `halted; ${outcome}`;
}

/** The code of what `action` throws, or "made". */
export function attempt(action: () => unknown): string {
  try {
    action();
    return "made";
  } catch (error) {
    return codeOf(error);
  }
}

/** Its code. Rethrows what is none of ours: that would be a mistake of the program. */
export function codeOf(error: unknown): string {
  if (error instanceof VhostError) return error.code;
  throw error;
}
