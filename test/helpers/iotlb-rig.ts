// A vhost-net or vhost-vsock by ioctl whose driver accepted VIRTIO_F_ACCESS_PLATFORM, with two
// rings somewhere in a guest's memory.

import { setImmediate as nextTurn } from "node:timers/promises";
import { expect } from "vitest";
import type { EventFd } from "#dist/kernel/eventfd.js";
import { NetBackendFile } from "#dist/vhost/ioctl/net-backend.js";
import type { Random } from "../fuzz/random.js";
import { until } from "./devices.js";
import { IoctlLab } from "./ioctl.js";
import { ACCESS_PLATFORM, VERSION_1 } from "./raw-guest.js";
import { IovaRing, PAGE, Viommu } from "./viommu.js";

export const CID = 42n;

/** How the worker is run. */
export const RUNS = ["inline", "thread"] as const;

/** Rounds in which nothing comes of a worker that is a thread: then nothing does. */
const QUIET_ROUNDS = 3;

/** Bytes, `what` they are, must be these. `expect` looks at each: only where they differ. */
export function expectSame(actual: Uint8Array, expected: Uint8Array, what: string): void {
  if (Buffer.compare(actual, expected) !== 0) expect(actual, what).toEqual(expected);
}

/** What is not as in most tests. */
export interface IotlbRigOptions {
  readonly run?: (typeof RUNS)[number];
  readonly num?: number;
  /** Besides VERSION_1 and ACCESS_PLATFORM. */
  readonly features?: bigint;
  /** Default: as soon as the used rings are known. */
  readonly isStarted?: boolean;
  readonly base?: bigint;
}

interface Events {
  readonly kick: EventFd;
  readonly call: EventFd;
  readonly err: EventFd;
}

export class IotlbRig {
  readonly lab = new IoctlLab(16 << 20);
  readonly device;
  readonly iommu: Viommu;
  /** RX and TX. */
  readonly rings: readonly [IovaRing, IovaRing];
  readonly events: readonly [Events, Events];
  /** Frames of the guest's. */
  readonly wire: Uint8Array[] = [];
  readonly tap = new NetBackendFile(
    () => {},
    (frame) => this.wire.push(frame),
  );
  readonly #run: (typeof RUNS)[number];
  readonly #tapFd: number;
  #heap: bigint;

  constructor(
    readonly kind: "net" | "vsock",
    readonly random: Random,
    options: IotlbRigOptions = {},
  ) {
    const { num = 8, features = 0n, isStarted = true, base = 0x7f00_1234_0000n } = options;
    const { lab } = this;
    this.#run = options.run ?? "inline";
    this.device = lab.open(kind, this.#run);
    this.iommu = new Viommu(lab, this.device, random);
    this.#tapFd = lab.install(this.tap);
    this.#heap = base + 0x100_0000n;
    const isEventIdx = (features & (1n << 29n)) !== 0n;
    const ring = (at: bigint) => new IovaRing(this.iommu, num, at, isEventIdx);
    this.rings = [ring(base), ring(base + 0x80_0000n)];
    this.must("VHOST_SET_OWNER");
    this.must("VHOST_SET_FEATURES", { value: VERSION_1 | ACCESS_PLATFORM | features });
    const whole = { guest_phys_addr: 0n, memory_size: 1n << 20n, userspace_addr: 1n << 20n };
    this.must("VHOST_SET_MEM_TABLE", { regions: [whole] });
    if (kind === "vsock") this.must("VHOST_VSOCK_SET_GUEST_CID", { value: CID });
    this.events = [this.#setUp(0), this.#setUp(1)];
    if (isStarted) {
      for (const { used } of this.rings) this.iommu.tell(used & ~BigInt(PAGE - 1));
      for (const result of this.start()) if (result !== "OK") throw new Error(result);
    }
  }

  #setUp(index: 0 | 1): Events {
    const ring = this.rings[index];
    this.must("VHOST_SET_VRING_NUM", { index, num: ring.num });
    this.must("VHOST_SET_VRING_ADDR", { index, ...ring.addresses });
    const event = (which: string) => {
      const { fd, file } = this.lab.eventfd();
      this.must(`VHOST_SET_VRING_${which}`, { index, fd });
      return file;
    };
    return { kick: event("KICK"), call: event("CALL"), err: event("ERR") };
  }

  /** A worker that is a thread is not waited for: see `idle`. */
  ioctl(name: string, values = {}): string {
    return this.lab.call(this.lab.owner, this.device.fd, name, values);
  }

  /** What the worker was asked for by ioctls is done. */
  async idle(): Promise<this> {
    await until(() => this.device.file.state.workers.isSettled);
    return this;
  }

  /** The worker works and is answered, until nothing moves any more. */
  async settle(): Promise<void> {
    if (this.#run === "inline") {
      this.iommu.settle();
      return;
    }
    for (let quiet = 0; quiet < QUIET_ROUNDS; ) {
      const before = this.#seen();
      if (this.random.below(2) === 0) this.iommu.listen();
      if (this.random.below(2) === 0) await nextTurn();
      if (this.iommu.answerOne()) {
        quiet = 0;
        continue;
      }
      await this.device.file.state.workers.turnsOver();
      await nextTurn();
      this.iommu.listen();
      quiet = this.#seen() === before ? quiet + 1 : 0;
    }
  }

  /** What moves while there is something to do. */
  #seen(): string {
    const used = this.rings.map(({ usedIdx }) => usedIdx);
    return [this.iommu.askedCount, this.device.packets(), this.wire.length, ...used].join();
  }

  /** Ends the process, and the worker's thread with it. */
  async close(): Promise<void> {
    const { kernel, owner } = this.lab;
    kernel.exitGroup(owner, 0);
    await until(() => kernel.tasks().every(({ comm }) => !comm.startsWith("vhost-")));
  }

  must(name: string, values = {}): void {
    const result = this.ioctl(name, values);
    if (result !== "OK") throw new Error(`${name}: ${result}`);
  }

  /** What each of the calls that start the rings says. */
  start(): string[] {
    if (this.kind === "vsock") return [this.ioctl("VHOST_VSOCK_SET_RUNNING", { value: 1 })];
    return [0, 1].map((index) => this.ioctl("VHOST_NET_SET_BACKEND", { index, fd: this.#tapFd }));
  }

  /** Memory of the guest's that nobody has; it may begin anywhere in a page. */
  alloc(bytes: number): bigint {
    const at = this.#heap + BigInt(this.random.below(PAGE));
    this.iommu.map(at, bytes);
    this.#heap = (at + BigInt(bytes + PAGE)) & ~BigInt(PAGE - 1);
    return at;
  }

  /** A chain of readable bytes: in descriptors from `index` on, so many parts. */
  send(index: number, bytes: Uint8Array, parts = 1): void {
    const [, tx] = this.rings;
    const size = Math.ceil(bytes.length / parts);
    for (let i = 0; i < parts; i++) {
      const part = bytes.subarray(i * size, (i + 1) * size);
      const addr = this.alloc(Math.max(1, part.length));
      this.iommu.write(addr, part);
      const isLast = i === parts - 1;
      const next = isLast ? 0 : index + i + 1;
      tx.setDesc(index + i, { addr, len: part.length, flags: isLast ? 0 : 1, next });
    }
    tx.publish(index);
  }

  /** A buffer for the device to write: where. */
  post(index: number, bytes: number): bigint {
    const addr = this.alloc(bytes);
    this.rings[0].setDesc(index, { addr, len: bytes, flags: 2 });
    this.rings[0].publish(index);
    return addr;
  }

  kick(index: 0 | 1): void {
    this.events[index].kick.write(1n);
  }

  /** How often an eventfd was written since the last look. */
  count(index: 0 | 1, which: "call" | "err"): number {
    const file = this.events[index][which];
    return file.value === 0n ? 0 : Number(file.read());
  }

  lastAvail(index: number): number {
    this.must("VHOST_GET_VRING_BASE", { index });
    return this.lab.answer(4);
  }
}
