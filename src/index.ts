import type { Cgroup } from "./kernel/cgroup.js";
import { Kernel as TaskKernel } from "./kernel/kernel.js";
import type { PsOptions, PsRow } from "./kernel/ps.js";
import type { SpawnOptions } from "./kernel/spawn.js";
import { Process } from "./loopback.js";
import { SIGNALS } from "./spec/signal.js";

/**
 * One machine's tables of processes, users and cgroups. `spawn` makes a process, the process opens
 * devices, and each device's worker is a thread made from that process.
 */
export class Kernel {
  /** The model underneath: tasks, ps, kill, cgroups. */
  readonly model: TaskKernel;

  constructor(options?: ConstructorParameters<typeof TaskKernel>[0]) {
    this.model = new TaskKernel(options);
  }

  /** A user process. Throws EINVAL for an option out of range, EAGAIN when the machine is full. */
  spawn(options: SpawnOptions = {}): Process {
    return new Process(this.model, this.model.spawn(options));
  }

  /** The processes as ps(1) lists them, each below its parent; with `threads` as `ps -eL`. */
  ps(options?: PsOptions): PsRow[] {
    return this.model.ps(options);
  }

  /**
   * The control group at an absolute path like "/tenants/a", made on demand: its limits may be set
   * at any time, and hold for the real threads. Throws EINVAL for a path that climbs out.
   */
  cgroup(path: string): Cgroup {
    return this.model.cgroup(path);
  }

  /**
   * Sends a signal, to a process or a worker: "SIGKILL" or 9, "SIGSTOP" or 19, …; 0 asks whether
   * there is one. As kill(2): a worker that is a thread stands for its whole process. Throws ESRCH,
   * EINVAL.
   */
  kill(pid: number, sig: number | keyof typeof SIGNALS): void {
    this.model.kill(pid, typeof sig === "string" ? (SIGNALS[sig] ?? Number.NaN) : sig);
  }
}

export { type BlkIo, type BlkOptions, blk } from "./devices/blk.js";
export {
  type Console,
  type ConsoleOptions,
  type ConsolePortOptions,
  console,
} from "./devices/console.js";
export type { ConsoleListener } from "./devices/console-listener.js";
export type { ConsoleStream } from "./devices/console-stream.js";
export { type Net, type NetOptions, net } from "./devices/net.js";
export {
  Switch,
  type SwitchAddress,
  type SwitchOptions,
  type SwitchPort,
  type SwitchPortCounts,
  type SwitchPortOptions,
} from "./devices/net-switch.js";
export type { SwitchTap, TapEvent, TapOptions } from "./devices/net-tap.js";
export type { TapState } from "./devices/net-tap-pump.js";
export { type RngOptions, rng } from "./devices/rng.js";
export { openVhost, type VhostOpened } from "./devices/vhost-files.js";
export { type Vsock, type VsockOptions, vsock } from "./devices/vsock.js";
export type { Abortable } from "./driver/abort.js";
export type { BlkDriver, DiskOffset } from "./driver/blk.js";
export type { ConsoleDriver } from "./driver/console.js";
export type { ConsoleDriverPort } from "./driver/console-port.js";
export type { CustomDriver } from "./driver/custom.js";
export type { DmaBuffer } from "./driver/dma.js";
export type {
  HostileDriver,
  HostileOptions,
  PlayOptions,
} from "./driver/hostile/hostile-driver.js";
export type { HostileMemory } from "./driver/hostile/hostile-memory.js";
export type { HostileRequest } from "./driver/hostile/hostile-request.js";
export type { HostileDesc } from "./driver/hostile/hostile-ring.js";
export type {
  HostileEnding,
  HostileOutcome,
  HostileShape,
} from "./driver/hostile/hostile-shape.js";
export { HOSTILE_SHAPES } from "./driver/hostile/hostile-shapes.js";
export type { HostileStage } from "./driver/hostile/hostile-stage.js";
export type { NetDriver, NetDriverCounts } from "./driver/net.js";
export type { NetReceiveMode } from "./driver/net-control.js";
export type { ProbeOptions } from "./driver/probe.js";
export type { RngDriver } from "./driver/rng.js";
export type { VsockDriver } from "./driver/vsock.js";
export { openHostFile } from "./io-uring/host-file.js";
export { IoUring, type IoUringOptions } from "./io-uring/io-uring.js";
export type { ApplicationRing } from "./io-uring/ring.js";
export { type SqPollOptions, SqPollRing } from "./io-uring/sqpoll.js";
export { exitIoWq } from "./io-uring/tctx.js";
export type { UserBuffer } from "./io-uring/user-buffer.js";
export type { Cqe, Sqe } from "./io-uring/user-ring.js";
export type { Cgroup } from "./kernel/cgroup.js";
export type { CpuMax, CpuStat } from "./kernel/cpu-bandwidth.js";
export { EventFd } from "./kernel/eventfd.js";
export { fdClose, fdInstall } from "./kernel/files.js";
export type { PsOptions, PsRow, PsState } from "./kernel/ps.js";
export type { SpawnOptions } from "./kernel/spawn.js";
export { type DriverOptions, OpenDevice, type OpenOptions, Process } from "./loopback.js";
export { SharedMemory } from "./memory/shared-memory.js";
export { type Errno, VhostError } from "./spec/errno.js";
export {
  AT_FDCWD,
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  FALLOC_FL_ZERO_RANGE,
  IORING_FSYNC_DATASYNC,
  IORING_OP_ASYNC_CANCEL,
  IORING_OP_CLOSE,
  IORING_OP_FALLOCATE,
  IORING_OP_FSYNC,
  IORING_OP_NOP,
  IORING_OP_OPENAT,
  IORING_OP_READ,
  IORING_OP_READV,
  IORING_OP_WRITE,
  IORING_OP_WRITEV,
  IOSQE_ASYNC,
  IOSQE_CQE_SKIP_SUCCESS,
  IOSQE_IO_DRAIN,
  IOSQE_IO_HARDLINK,
  IOSQE_IO_LINK,
} from "./spec/io-uring.js";
export { VHOST_ACCESS_RO, VHOST_ACCESS_RW, VHOST_ACCESS_WO } from "./spec/vhost-iotlb.js";
export type { Chain, ChainSide, HeldChain } from "./vhost/chain.js";
export {
  custom,
  type DeviceEnvironment,
  type DeviceModule,
  type DeviceSpec,
  type VirtioDevice,
} from "./vhost/device.js";
export type { VhostFile } from "./vhost/ioctl/file.js";
export { type IoctlValues, ioctl, vhostIoctl } from "./vhost/ioctl/front.js";
export {
  type IotlbMapping,
  type IotlbRange,
  iotlbInvalidate,
  iotlbMessages,
  iotlbUpdate,
} from "./vhost/ioctl/iotlb-front.js";
export type { IotlbMsg } from "./vhost/ioctl/iotlb-message.js";
export { NetBackendFile } from "./vhost/ioctl/net-backend.js";
export { HELD, type Virtqueue } from "./vhost/virtqueue.js";
export type { VhostUserEvent, VhostUserListener } from "./vhost-user/events.js";
export { type ServeOptions, serveVhostUser, VhostUserServer } from "./vhost-user/server.js";
export type { ConnectOptions, VsockListener } from "./vsock/sockets.js";
export type { VsockStream } from "./vsock/stream.js";
