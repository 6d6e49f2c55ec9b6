import type { GuestMemory } from "../memory/guest-memory.js";
import type { SharedMemory } from "../memory/shared-memory.js";
import { checkQueueSize, type VringArea, vringAreas } from "../memory/vring.js";
import { allocDeviceState, type RingSetup, type StateBlock } from "../ring/state-block.js";
import { RingTables } from "../ring/tables.js";
import { VhostError } from "../spec/errno.js";
import { hasFeature } from "../spec/features.js";
import { VIRTIO_F_RING_PACKED } from "../spec/virtio-config.js";
import type { VringNotify } from "./control.js";

/** Guest addresses of a queue's three areas. */
export interface VringAddresses {
  desc: bigint;
  driver: bigint;
  device: bigint;
}

const isPacked = (features: bigint) => hasFeature(features, VIRTIO_F_RING_PACKED);
/** Where a packed ring begins: both positions 0x8000. */
const PACKED_BASE = 0x8000_8000;
/** The index in a packed ring's position; the other bit is the wrap counter. */
const INDEX = 0x7fff;

/** What the owner has said of one queue, and its state while it runs. */
export class Vring {
  readonly #sizeMax: number;
  #num: number;
  #base: number | undefined;
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

  /** Sets the size. Throws EINVAL when no ring under `features` has it, or above the device's. */
  setNum(num: number, features: bigint): void {
    checkQueueSize(num, isPacked(features));
    if (num > this.#sizeMax) {
      throw new VhostError("EINVAL", `the device's queues have at most ${this.#sizeMax} entries`, {
        num,
      });
    }
    this.#num = num;
  }

  /** Where the queue goes on when it starts: what `DeviceRing.start` takes. */
  base(features: bigint): number {
    return this.#base ?? (isPacked(features) ? PACKED_BASE : 0);
  }

  /** Sets it: u16, or for a packed ring two positions. Throws EINVAL. */
  setBase(base: number, features: bigint): void {
    const most = isPacked(features) ? 0xffff_ffff : 0xffff;
    if (!Number.isInteger(base) || base < 0 || base > most) {
      throw new VhostError("EINVAL", `a ring's base is 0 to ${most}`, { base });
    }
    this.#base = base;
  }

  /**
   * Throws EINVAL for a position that a packed ring of this size can't be at, and for two that are
   * not the same: what lies between them was in flight, and nothing is known of it.
   */
  #checkBase(features: bigint): void {
    if (!isPacked(features)) return;
    const base = this.base(features);
    const [avail, used] = [base & 0xffff, base >>> 16];
    if (avail === used && (avail & INDEX) < this.#num) return;
    throw new VhostError("EINVAL", "a base that the ring can't go on at", { base, num: this.#num });
  }

  /**
   * Linear addresses of the areas, by the size that was set. Throws EFAULT; EINVAL for these, the
   * size or the base.
   */
  translate(memory: GuestMemory, features: bigint): Omit<RingSetup, "features"> {
    const { desc, driver, device } = this.addresses as VringAddresses;
    const num = this.#num;
    checkQueueSize(num, isPacked(features));
    this.#checkBase(features);
    const areas = vringAreas(num, isPacked(features));
    const place = (address: bigint, { bytes, align }: VringArea, what: string) =>
      memory.translate(address, bytes, align, what);
    return {
      num,
      desc: place(desc, areas.desc, "descriptor table"),
      driver: place(driver, areas.driver, "driver area"),
      device: place(device, areas.device, "device area"),
    };
  }

  /** Lays out the state block; returns its address. Throws EFAULT, EINVAL, ENOMEM. */
  layOut(shared: SharedMemory, memory: GuestMemory, regions: number, features: bigint): number {
    const setup = { ...this.translate(memory, features), features };
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
    this.#base = undefined;
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
