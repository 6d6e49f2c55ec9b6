import type { GuestMemory } from "../memory/guest-memory.js";
import type { SharedMemory } from "../memory/shared-memory.js";
import { checkQueueSize, type VringArea, vringAreas } from "../memory/vring.js";
import type { Recovery } from "../ring/inflight.js";
import { type DirtyLog, recover } from "../ring/recording-state.js";
import type { Policy, RingSetup } from "../ring/state-block.js";
import { sumErrors } from "../ring/tables.js";
import { VhostError } from "../spec/errno.js";
import { VIRTQ_RING_IDX } from "../spec/virtio-ring.js";
import type { VringNotify } from "./control.js";
import { LiveRing, type RegionTable } from "./live-ring.js";
import { isPacked, VringSettings } from "./vring-settings.js";

/** Guest addresses of a queue's three areas. */
export interface VringAddresses {
  desc: bigint;
  driver: bigint;
  device: bigint;
}

/** A dirty log, for all rings of a device: linear address and bytes of the bitmap. */
export type DirtyLogRange = Pick<DirtyLog, "address" | "bytes">;

/** A ring's size, and the linear addresses of its areas. */
export type VringPlaces = Omit<RingSetup, "features">;

/** Where the rings of a device lie, and what it records of them. */
export interface RingsEnvironment {
  shared: SharedMemory;
  memory: GuestMemory;
  regions: RegionTable;
  features: bigint;
  policy: Policy;
  log: DirtyLogRange | undefined;
}

/** The index in a packed ring's position; the other bit is the wrap counter. */
const INDEX = 0x7fff;
const U16 = 0xffff;

/** What the owner has said of one queue, and its state while it runs. */
export class Vring extends VringSettings {
  readonly #sizeMax: number;
  #pastErrors: Record<string, number> = {};
  /** Unset: the queue is not used. */
  addresses: VringAddresses | undefined;
  /** How it notifies, where eventfds do that. */
  notify: VringNotify = {};
  /** Linear address of its region of an in-flight area, if there is one. */
  inflightRegion: number | undefined;
  /** Guest address at which writes to the device area are marked, while there is a dirty log. */
  logAddress: bigint | undefined;

  /** `sizeMax`: the largest size the device takes; also the size until it is set. */
  constructor(sizeMax: number) {
    super(sizeMax);
    this.#sizeMax = sizeMax;
  }

  /** Sets the size. Throws EINVAL when no ring under `features` has it, or above the device's. */
  override setNum(num: number, features: bigint): void {
    if (num > this.#sizeMax) {
      throw new VhostError("EINVAL", `the device's queues have at most ${this.#sizeMax} entries`, {
        num,
      });
    }
    super.setNum(num, features);
  }

  /** Sets size and areas. Throws EINVAL. */
  setUp({ num, ...addresses }: VringAddresses & { num: number }, features: bigint): void {
    this.setNum(num, features);
    this.addresses = addresses;
  }

  /**
   * As it was set. Some front-ends (DPDK's virtio_user) say one position of a packed ring, and
   * leave the upper half 0: it is both.
   */
  override base(features: bigint): number {
    const base = super.base(features);
    const isHalf = isPacked(features) && base <= 0xffff && this.inflightRegion === undefined;
    return isHalf ? base * 0x10001 : base;
  }

  /**
   * Throws EINVAL for a position that a packed ring of this size can't be at, and for two that are
   * not the same: what lies between them was in flight, and nothing is known of it.
   */
  #checkBase(base: number, features: bigint): void {
    if (!isPacked(features)) return;
    const [avail, used] = [base & 0xffff, base >>> 16];
    if (avail === used && (avail & INDEX) < this.num) return;
    throw new VhostError("EINVAL", "a base that the ring can't go on at", { base, num: this.num });
  }

  /**
   * Linear addresses of the areas, by the size that was set. Throws EFAULT; EINVAL for these, the
   * size or the base.
   */
  translate(memory: GuestMemory, features: bigint): VringPlaces {
    const { desc, driver, device } = this.addresses as VringAddresses;
    const { num } = this;
    checkQueueSize(num, isPacked(features));
    if (this.inflightRegion === undefined) this.#checkBase(this.base(features), features);
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

  /** Where it goes on, and what is to be done again. Throws EINVAL. */
  #recover(shared: SharedMemory, setup: RingSetup): Recovery | undefined {
    if (this.inflightRegion === undefined) return undefined;
    const { features } = setup;
    const recovery = recover(shared, setup, this.inflightRegion, this.base(features));
    // Where nothing was in flight, the position may be the base, which the region did not check.
    if (recovery.resubmitCount === 0) this.#checkBase(recovery.position, features);
    return recovery;
  }

  /**
   * Throws what `layOut` throws, but for ENOMEM. Side effect: as `recover`. `isNew`: the base was
   * said since, and a 0 that the ring can't be at is mended: whether it was.
   */
  check(shared: SharedMemory, memory: GuestMemory, features: bigint, isNew = false): boolean {
    const setup: RingSetup = { ...this.translate(memory, features), features };
    const mayMend = isNew && this.inflightRegion === undefined && !isPacked(features);
    const isMended = mayMend && this.#mend(shared, setup);
    this.#recover(shared, setup);
    return isMended;
  }

  /**
   * DPDK's virtio_user says 0 for a split ring whenever a back-end connects, and leaves it to that
   * to find out: it goes on at the used index, and what was in flight is popped again.
   */
  #mend({ memory }: SharedMemory, { num, driver, device, features }: RingSetup): boolean {
    if (this.base(features) !== 0) return false;
    const words = new Uint16Array(memory.buffer);
    const idxOf = (area: number) => Atomics.load(words, (area + VIRTQ_RING_IDX) >>> 1);
    const used = idxOf(device);
    const pending = (idxOf(driver) - used) & U16; // whole: the driver may be moving it
    const isPast = (-used & U16) > pending;
    if (pending > num || !isPast) return false;
    this.setBase(used, features);
    return true;
  }

  #dirtyLog(log: RingsEnvironment["log"]): DirtyLog | undefined {
    if (!log || this.logAddress === undefined) return log;
    const { desc } = this.addresses as VringAddresses;
    return { ...log, ring: { desc, device: this.logAddress } };
  }

  /**
   * Lays out the state block; returns its address, and where the ring goes on. Throws EFAULT,
   * EINVAL, ENOMEM.
   */
  layOut(environment: RingsEnvironment): { vq: number; position: number } {
    const { shared, memory, regions, features, policy, log } = environment;
    const setup: RingSetup = { ...this.translate(memory, features), features, policy };
    const recovery = this.#recover(shared, setup);
    const inflight = recovery && { region: this.inflightRegion as number, recovery };
    const recorded = { ...setup, log: this.#dirtyLog(log), inflight };
    this.live = new LiveRing(shared, recorded, regions);
    return { vq: this.live.vq, position: recovery?.position ?? this.base(features) };
  }

  /** It goes by another memory table, in which its areas are there. No worker is at it. */
  remap({ regions }: RingsEnvironment, places: VringPlaces): void {
    this.live?.setRegions(regions);
    this.live?.setPlaces(places);
  }

  /** How often each error happened, by name, since the queue was made. */
  errorCounts(): Record<string, number> {
    return sumErrors(this.#pastErrors, this.live?.errorCounts() ?? {});
  }

  /** Forgets what the driver has said; errors stay counted. Only when it is released. */
  reset(): void {
    this.forget(this.#sizeMax);
    this.addresses = undefined;
    this.notify = {};
    this.inflightRegion = undefined;
    this.logAddress = undefined;
  }

  /** Gives the state block back; the queue must not run any more. */
  release(): void {
    this.#pastErrors = this.errorCounts();
    this.live?.release();
    this.live = undefined;
  }
}
