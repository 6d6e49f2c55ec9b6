// What a thread does with vhost devices and their rings.

import { ScriptError, SyscallError } from "./errors.js";
import { OPATH } from "./file-calls.js";
import type { PendingCall } from "./machine.js";
import { Ring } from "./ring.js";
import { UringCalls } from "./uring-calls.js";
import { VhostDevice } from "./vhost-device.js";
import { flushes, type IoctlArg, vhostIoctl } from "./vhost-ioctl.js";

/** Rings of a running vsock device. */
export interface VsockRings {
  readonly rx: Ring;
  readonly tx: Ring;
}

/** The part of a thread that has to do with vhost devices. */
export abstract class Descriptors extends UringCalls {
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

  #vhost(fd: number): VhostDevice {
    const device = this.machine.opened.get(this.file(fd));
    if (device instanceof VhostDevice) return device;
    if (device === OPATH) throw new SyscallError("EBADF");
    throw new SyscallError("ENOTTY");
  }
}
