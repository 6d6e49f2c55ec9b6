// What a thread does with vhost devices and their rings.

import { SharedMemory } from "#dist/memory/shared-memory.js";
import { VHOST_PAGE_SIZE } from "#dist/spec/vhost.js";
import { VhostFile } from "#dist/vhost/ioctl/file.js";
import { type BegunIoctl, beginIoctl } from "#dist/vhost/ioctl/ioctl.js";
import { NetBackendFile } from "#dist/vhost/ioctl/net-backend.js";
import { mprotectRead, munmap } from "#dist/vhost/user-access.js";
import { ScriptError, SyscallError } from "./errors.js";
import { OPATH } from "./file-calls.js";
import { encodeIoctl, type IoctlArg, requestNamed } from "./ioctl-arg.js";
import type { PendingCall } from "./machine.js";
import { Ring, ringBytes } from "./ring.js";
import { UringCalls } from "./uring-calls.js";

/** Rings of a running vsock device. */
export interface VsockRings {
  readonly rx: Ring;
  readonly tx: Ring;
}

/** All of a process's memory, as a memory table has it: guest addresses are user addresses. */
export function wholeMemory(memory: WebAssembly.Memory): Record<string, bigint> {
  const { guestStart, guestBytes } = SharedMemory.of(memory);
  const start = BigInt(guestStart);
  return { guest_phys_addr: start, memory_size: BigInt(guestBytes), userspace_addr: start };
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
    let begun: BegunIoctl | undefined;
    const result = this.try(() => {
      if (this.machine.opened.get(this.file(fd)) === OPATH) throw new SyscallError("EBADF");
      begun = this.#begin(fd, name, arg);
      if (begun.error) throw begun.error;
    });
    const finish = () => {
      if (begun?.isDone() === false) return false;
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

  /** The argument lies at the beginning of the caller's memory. */
  #begin(fd: number, name: string, arg: IoctlArg): BegunIoctl {
    const { task } = this;
    const request = requestNamed(name);
    const { bytes, address, finish } = encodeIoctl(request, arg, task);
    const shared = task.mm && SharedMemory.of(task.mm.memory);
    const at = shared?.guestStart ?? 0;
    if (bytes) shared?.bytes.set(bytes, at);
    const begun = beginIoctl(task, fd, request.request, bytes ? BigInt(at) : address);
    this.machine.nameWorkers(this.file(fd));
    finish(shared?.bytes.slice(at, at + (bytes?.length ?? 0)) ?? new Uint8Array(0));
    return begun;
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
      ["VHOST_SET_MEM_TABLE", { regions: [wholeMemory(this.memory)] }],
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
    return { rx: this.mapRing(num), tx: this.mapRing(num) };
  }

  /** Memory for one ring. */
  mapRing(num = 8): Ring {
    return new Ring(this.memory, { num, address: this.mapPages(ringBytes(num)) });
  }

  /** Maps so many bytes, zeroed, at an address that is free in every process. */
  mapPages(bytes: number): number {
    const address = this.machine.mapAddress(Math.ceil(bytes / VHOST_PAGE_SIZE) * VHOST_PAGE_SIZE);
    if (address + bytes <= this.memory.buffer.byteLength) return address;
    throw new ScriptError("the machine's processes have no more memory");
  }

  /** Pages that are not there any more. */
  munmap(address: number, bytes: number): void {
    this.call(() => munmap(this.memory, BigInt(address), BigInt(bytes)));
  }

  /** Pages that can't be written any more. */
  mprotectRead(address: number, bytes: number): void {
    this.call(() => mprotectRead(this.memory, BigInt(address), BigInt(bytes)));
  }

  protected get memory(): WebAssembly.Memory {
    const { mm } = this.task;
    if (mm === null) throw new ScriptError("it has no memory");
    return mm.memory;
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

  /** poll(2) of a vhost device: POLL… bits. */
  poll(fd: number): number {
    return this.call(() => this.vhost(fd).poll());
  }

  /** mmap(2) of a vhost device. */
  mapFile(fd: number): string {
    return this.try(() => this.vhost(fd).mmap());
  }

  /** lseek(2) of a vhost device: where it is. */
  lseek(fd: number): number {
    return this.call(() => this.vhost(fd).lseek());
  }

  /** A tap, or a raw packet socket: its descriptor; `sent` is called with the guest's frames. */
  openTap(sent: (frame: Uint8Array) => void = () => {}): { fd: number; file: NetBackendFile } {
    const file = new NetBackendFile(() => {}, sent);
    return { fd: this.call(() => this.install(file)), file };
  }

  /** What the machine has of the device behind a descriptor. */
  opened(fd: number) {
    return this.machine.devices.get(this.vhost(fd));
  }

  /** The device behind a descriptor. */
  protected vhost(fd: number): VhostFile {
    const file = this.file(fd);
    if (file instanceof VhostFile) return file;
    throw new ScriptError(`descriptor ${fd} is no vhost device`);
  }
}
