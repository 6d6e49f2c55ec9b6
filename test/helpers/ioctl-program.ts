// A program that has a vhost device by ioctl, whose worker is a thread: it lays its rings out, and
// kicks and is called by eventfds.

import { expect } from "vitest";
import { ioctl, openVhost, type VhostOpened } from "#dist/index.js";
import type { Epoch } from "#dist/kernel/epoch.js";
import { fdInstall, type OpenFile } from "#dist/kernel/files.js";
import { Kernel } from "#dist/kernel/kernel.js";
import type { Task } from "#dist/kernel/task.js";
import { SharedMemory } from "#dist/memory/shared-memory.js";
import { VIRTIO_F_VERSION_1 } from "#dist/spec/virtio-config.js";
import type { IoctlValues } from "#dist/vhost/ioctl/front.js";
import type { VhostKind } from "#dist/vhost/ioctl/state.js";
import { Ring, ringBytes } from "../conformance/machine/ring.js";
import { threadCount, until } from "./devices.js";

export const CID = 42;

export interface ProgramOptions {
  kind?: VhostKind;
  epoch?: Epoch;
  num?: number;
  ring?: "wasm" | "ts";
  /** VHOST_SET_FORK_FROM_OWNER. */
  forkFromOwner?: boolean;
}

export class IoctlProgram {
  readonly kernel: Kernel;
  readonly task: Task;
  readonly shared: SharedMemory;
  readonly opened: VhostOpened & { fd: number };
  /** To the guest, from the guest. */
  readonly rx: Ring;
  readonly tx: Ring;
  readonly #forkFromOwner: boolean;

  constructor({ kind = "vsock", epoch = "v6.12", num = 16, ...rest }: ProgramOptions = {}) {
    this.kernel = new Kernel({ epoch });
    this.task = this.kernel.spawn({ comm: "vmm", uid: 1000, memoryBytes: 4 << 20 });
    const memory = this.task.mm?.memory;
    if (!memory) throw new Error("it has no memory");
    this.shared = SharedMemory.of(memory);
    const run = { ring: rest.ring ?? "wasm" };
    this.opened = openVhost(this.kernel, this.task, `/dev/vhost-${kind}`, run);
    this.#forkFromOwner = rest.forkFromOwner ?? true;
    const ring = () => {
      const address = this.shared.allocGuest(ringBytes(num), 4096);
      return new Ring(memory, { num, address });
    };
    this.rx = ring();
    this.tx = ring();
  }

  get fd(): number {
    return this.opened.fd;
  }

  ioctl(name: string, values: IoctlValues = {}, task = this.task) {
    return ioctl(task, this.fd, name, values);
  }

  /** The program's descriptor for a file, which stays the test's as well. */
  install(file: OpenFile): number {
    if (!this.task.files) throw new Error("it has no table");
    file.count++;
    return fdInstall(this.task.files, file);
  }

  /** All of its memory; guest addresses are its own. */
  get wholeMemory() {
    const { guestStart, guestBytes } = this.shared;
    const start = BigInt(guestStart);
    return { guest_phys_addr: start, memory_size: BigInt(guestBytes), userspace_addr: start };
  }

  /** Where a ring is. */
  place(ring: Ring): Record<string, bigint | number> {
    const index = ring === this.rx ? 0 : 1;
    const [desc, avail, used] = [BigInt(ring.desc), BigInt(ring.avail), BigInt(ring.used)];
    return { index, desc_user_addr: desc, avail_user_addr: avail, used_user_addr: used };
  }

  /** Owner, memory, rings: all but what starts it. */
  async setUp(): Promise<this> {
    await this.ioctl("VHOST_SET_FORK_FROM_OWNER", { value: this.#forkFromOwner ? 1 : 0 });
    await this.ioctl("VHOST_SET_OWNER");
    await this.ioctl("VHOST_SET_FEATURES", { value: 1n << BigInt(VIRTIO_F_VERSION_1) });
    await this.ioctl("VHOST_SET_MEM_TABLE", { regions: [this.wholeMemory] });
    for (const [index, ring] of [this.rx, this.tx].entries()) {
      await this.ioctl("VHOST_SET_VRING_NUM", { index, num: ring.num });
      await this.ioctl("VHOST_SET_VRING_ADDR", this.place(ring));
      for (const what of ["kick", "call", "err"] as const) {
        const fd = this.install(ring[what].file);
        await this.ioctl(`VHOST_SET_VRING_${what.toUpperCase()}`, { index, fd });
      }
    }
    return this;
  }

  /** A vsock device that runs. */
  async start(): Promise<this> {
    await this.setUp();
    await this.ioctl("VHOST_VSOCK_SET_GUEST_CID", { value: BigInt(CID) });
    await this.ioctl("VHOST_VSOCK_SET_RUNNING", { value: 1 });
    return this;
  }
}

/** Its end, after which nothing of the device is left; `threads`: as many as before it. */
export async function closeProgram(
  { task, kernel, opened }: IoctlProgram,
  threads: number,
): Promise<void> {
  kernel.exitGroup(task, 0);
  expect(opened.file.count).toBe(0);
  await until(() => threadCount() === threads);
  expect(kernel.tasks().filter(({ comm }) => comm.startsWith("vhost-"))).toEqual([]);
}
