import { fdInstall } from "../kernel/files.js";
import type { Kernel } from "../kernel/kernel.js";
import type { Task } from "../kernel/task.js";
import { VhostError } from "../spec/errno.js";
import { VhostFile } from "../vhost/ioctl/file.js";
import { type VhostHandlers, type VhostKind, VhostState } from "../vhost/ioctl/state.js";
import type { VsockSockets } from "../vsock/sockets.js";
import { VhostNet } from "./vhost-net.js";
import { VhostVsock } from "./vhost-vsock.js";

const KINDS = new Map<string, VhostKind>([
  ["/dev/vhost-vsock", "vsock"],
  ["/dev/vhost-net", "net"],
  ["/dev/vhost-scsi", "scsi"],
]);

/** Of vhost-scsi, whose rings nobody works on here. */
const IDLE: VhostHandlers = { handleKick: () => {} };

/** An open /dev/vhost-…, as who opened it has it. */
export interface VhostOpened {
  /** What is open, for as long as anyone has it. */
  readonly file: VhostFile;
  /** Of /dev/vhost-vsock: the host's sockets to the guest. */
  readonly sockets: VsockSockets | undefined;
  /** Packets that went through it, either way. */
  packets(): number;
}

/** A device node, open and in no table yet; `undefined`: there is no such node. */
export function vhostFile(kernel: Kernel, path: string): VhostOpened | undefined {
  const kind = KINDS.get(path);
  if (!kind) return undefined;
  let device: VhostVsock | VhostNet | undefined;
  const state = new VhostState(kernel, kind, (of) => {
    if (kind === "scsi") return IDLE;
    device = kind === "vsock" ? new VhostVsock(of) : new VhostNet(of);
    return device;
  });
  const sockets = device instanceof VhostVsock ? device.sockets : undefined;
  return { file: new VhostFile(state), sockets, packets: () => device?.packets ?? 0 };
}

/**
 * Opens a device node in the caller's name: "/dev/vhost-vsock", "-net" or "-scsi"; `fd` is its
 * descriptor. What it is asked for goes by `ioctl`; its rings are those that a program lays out in
 * its memory. They are worked on by `file.runPending()`, and by every ioctl that waits for the
 * workers. Behind scsi there is no device, only its ioctls. ENOENT: no such node; EBADF:
 * the process has no table of files. Linux: open(2).
 */
export function openVhost(kernel: Kernel, task: Task, path: string): VhostOpened & { fd: number } {
  const opened = vhostFile(kernel, path);
  if (!opened) throw new VhostError("ENOENT", `there is no ${path}`, { path });
  if (!task.files) throw new VhostError("EBADF", "the caller has no open files", { pid: task.pid });
  return { ...opened, fd: fdInstall(task.files, opened.file) };
}
