import { fdInstall } from "../kernel/files.js";
import { Kernel } from "../kernel/kernel.js";
import type { Task } from "../kernel/task.js";
import { VhostError } from "../spec/errno.js";
import { checkNames } from "../spec/options.js";
import type { MakeBacking, VhostBacking } from "../vhost/ioctl/backing.js";
import { VhostFile } from "../vhost/ioctl/file.js";
import { type VhostKind, VhostState } from "../vhost/ioctl/state.js";
import type { VhostRun } from "../vhost/ioctl/workers.js";
import { checkWorkerOptions } from "../vhost/worker-handle.js";
import type { VsockSockets } from "../vsock/sockets.js";
import { VhostNet } from "./vhost-net.js";
import { VhostVsock } from "./vhost-vsock.js";

const KINDS = new Map<string, VhostKind>([
  ["/dev/vhost-vsock", "vsock"],
  ["/dev/vhost-net", "net"],
  ["/dev/vhost-scsi", "scsi"],
]);

/** What is behind a node. Of vhost-scsi, there is nothing here that works on its rings. */
const BACKINGS: Partial<Record<VhostKind, MakeBacking>> = {
  vsock: () => new VhostVsock(),
  net: (state) => new VhostNet(state),
};

/** An open /dev/vhost-…, as who opened it has it. */
export interface VhostOpened {
  /** What is open, for as long as anyone has it. */
  readonly file: VhostFile;
  /** Of /dev/vhost-vsock: the host's sockets to the guest. */
  readonly sockets: VsockSockets | undefined;
  /** Chains of its rings that were taken. */
  packets(): number;
}

/** A device node, open and in no table yet; `undefined`: there is no such node. */
export function vhostFile(
  kernel: Kernel,
  path: string,
  run: VhostRun = {},
): VhostOpened | undefined {
  const kind = KINDS.get(path);
  if (!kind) return undefined;
  let backing: VhostBacking | undefined;
  const make: MakeBacking | undefined = BACKINGS[kind];
  const state = new VhostState(kernel, kind, run, (its) => {
    backing = make?.(its);
    return backing;
  });
  const sockets = backing instanceof VhostVsock ? backing.sockets : undefined;
  return { file: new VhostFile(state), sockets, packets: () => state.workers.chainCount };
}

function checkOpener(kernel: unknown, task: Partial<Task> | null, run: unknown): void {
  if (!(kernel instanceof Kernel)) {
    throw new VhostError("EINVAL", "openVhost takes a kernel's model: kernel.model", { kernel });
  }
  if (typeof task?.pid !== "number" || task.signal === undefined) {
    throw new VhostError("EINVAL", "openVhost takes a task: process.task", { task });
  }
  if (typeof run !== "object" || run === null) {
    throw new VhostError("EINVAL", 'options of openVhost are like { run: "inline" }', { run });
  }
  checkNames("openVhost", run, ["run", "ring"]);
  checkWorkerOptions(run);
}

/**
 * Opens a device node in the caller's name: "/dev/vhost-vsock", "-net" or "-scsi"; `fd` is its
 * descriptor. What it is asked for goes by `ioctl`; its rings are those that a program lays out in
 * its memory, and the worker that VHOST_SET_OWNER makes from the caller works on them: a thread,
 * unless `run.run` is "inline", when `file.runPending()` does it, and every ioctl that waits for
 * the workers. Behind scsi there is no device, only its ioctls. ENOENT: no such node; EBADF: the
 * process has no table of files; EINVAL: an option that is wrong or not known. Linux: open(2).
 */
export function openVhost(
  kernel: Kernel,
  task: Task,
  path: string,
  run: VhostRun = {},
): VhostOpened & { fd: number } {
  checkOpener(kernel, task, run);
  const opened = vhostFile(kernel, path, run);
  if (!opened) throw new VhostError("ENOENT", `there is no ${path}`, { path });
  if (!task.files) throw new VhostError("EBADF", "the caller has no open files", { pid: task.pid });
  return { ...opened, fd: fdInstall(task.files, opened.file) };
}
