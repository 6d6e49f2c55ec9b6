import type { GuestMemory } from "../memory/guest-memory.js";
import type { SharedMemory } from "../memory/shared-memory.js";
import { checkQueueSize, descBytes, deviceAreaBytes, driverAreaBytes } from "../memory/vring.js";
import { allocDeviceState, type StateBlock } from "../ring/state-block.js";
import { RingTables } from "../ring/tables.js";
import { VhostError } from "../spec/errno.js";
import { VIRTQ_AVAIL_ALIGN, VIRTQ_DESC_ALIGN, VIRTQ_USED_ALIGN } from "../spec/virtio-ring.js";
import type { VringNotify } from "./control.js";

/** Guest addresses of a queue's three areas. */
export interface VringAddresses {
  desc: bigint;
  driver: bigint;
  device: bigint;
}

/** What the owner has said of one queue, and its state while it runs. */
export class Vring {
  readonly #sizeMax: number;
  #num: number;
  #base = 0;
  #state: StateBlock | undefined;
  #tables: RingTables | undefined;
  #pastErrors: Record<string, number> = {};
  /** Unset: the queue is not used. */
  addresses: VringAddresses | undefined;
  /** How it notifies, where eventfds do that. */
  notify: VringNotify = {};

  /** `sizeMax`: the largest size the device takes; also the size until it is set. */
  constructor(sizeMax: number) {
    this.#sizeMax = sizeMax;
    this.#num = sizeMax;
  }

  /** Sets the size. Throws EINVAL when it is no power of two or above the device's. */
  setNum(num: number): void {
    checkQueueSize(num);
    if (num > this.#sizeMax) {
      throw new VhostError("EINVAL", `the device's queues have at most ${this.#sizeMax} entries`, {
        num,
      });
    }
    this.#num = num;
  }

  /** The next entry to pop when the queue starts. */
  get base(): number {
    return this.#base;
  }

  /** Sets it: u16. Throws EINVAL. */
  setBase(base: number): void {
    if (!Number.isInteger(base) || base < 0 || base > 0xffff) {
      throw new VhostError("EINVAL", "a ring's base is 0 to 65535", { base });
    }
    this.#base = base;
  }

  /** Linear addresses of the areas. Throws EFAULT, EINVAL. */
  translate(memory: GuestMemory): { num: number; desc: number; driver: number; device: number } {
    const { desc, driver, device } = this.addresses as VringAddresses;
    const num = this.#num;
    return {
      num,
      desc: memory.translate(desc, descBytes(num), VIRTQ_DESC_ALIGN, "descriptor table"),
      driver: memory.translate(driver, driverAreaBytes(num), VIRTQ_AVAIL_ALIGN, "driver area"),
      device: memory.translate(device, deviceAreaBytes(num), VIRTQ_USED_ALIGN, "device area"),
    };
  }

  /** Lays out the state block; returns its address. Throws EFAULT, EINVAL, ENOMEM. */
  layOut(shared: SharedMemory, memory: GuestMemory, regions: number, features: bigint): number {
    const setup = { ...this.translate(memory), features };
    this.#state = allocDeviceState(shared, setup, regions, memory.regions.length);
    this.#tables = new RingTables(shared.memory, this.#state.vq);
    return this.#state.vq;
  }

  /** How often each error happened, by name, since the queue was made. */
  errorCounts(): Record<string, number> {
    const counts = { ...this.#pastErrors };
    for (const [name, count] of Object.entries(this.#tables?.errorCounts() ?? {})) {
      counts[name] = (counts[name] ?? 0) + count;
    }
    return counts;
  }

  /** Forgets what the driver has said; errors stay counted. Only when it is released. */
  reset(): void {
    this.#num = this.#sizeMax;
    this.#base = 0;
    this.addresses = undefined;
    this.notify = {};
  }

  /** Gives the state block back; the queue must not run any more. */
  release(): void {
    this.#pastErrors = this.errorCounts();
    this.#tables = undefined;
    this.#state?.release();
    this.#state = undefined;
  }
}
