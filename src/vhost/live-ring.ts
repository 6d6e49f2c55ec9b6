import type { SharedMemory } from "../memory/shared-memory.js";
import { allocDeviceState, type RingSetup, type StateBlock } from "../ring/state-block.js";
import { RingTables } from "../ring/tables.js";
import {
  VQ_DESC,
  VQ_DEVICE,
  VQ_DRIVER,
  VQ_LAST_AVAIL,
  VQ_REGION_COUNT,
  VQ_REGIONS,
} from "../spec/ring-state.js";

/** Linear addresses of a ring's areas. */
export type RingPlaces = Pick<RingSetup, "desc" | "driver" | "device">;

/** A region table in the owner's memory: linear address and count. */
export interface RegionTable {
  readonly address: number;
  readonly count: number;
}

/**
 * A ring that runs, in its owner's memory, as its worker finds it: a state block. What is set here
 * is set while no worker is at it. Owner's thread.
 */
export class LiveRing {
  protected readonly shared: SharedMemory;
  protected readonly tables: RingTables;
  readonly #state: StateBlock;

  /** Laid out, and not begun. `regions` outlives it. Throws ENOMEM. */
  constructor(shared: SharedMemory, setup: RingSetup, regions: RegionTable) {
    this.shared = shared;
    this.#state = allocDeviceState(shared, setup, regions.address, regions.count);
    this.tables = new RingTables(shared.memory, this.#state.vq);
  }

  /** Address of its state block. */
  get vq(): number {
    return this.#state.vq;
  }

  /** It goes by another region table. */
  setRegions({ address, count }: RegionTable): void {
    this.tables.setWord(VQ_REGIONS, address);
    this.tables.setWord(VQ_REGION_COUNT, count);
  }

  /** Its areas are there. */
  setPlaces({ desc, driver, device }: RingPlaces): void {
    this.tables.setWord(VQ_DESC, desc);
    this.tables.setWord(VQ_DRIVER, driver);
    this.tables.setWord(VQ_DEVICE, device);
  }

  /**
   * Where it stands, once it has begun: its worker may be past that already. Linux: last_avail_idx.
   */
  get position(): number {
    return this.tables.position;
  }

  /** Says where a split ring begins, before a worker is at it. */
  set position(position: number) {
    this.tables.setWord(VQ_LAST_AVAIL, position);
  }

  /** How often each error happened, by name. */
  errorCounts(): Record<string, number> {
    return this.tables.errorCounts();
  }

  /** Gives its memory back. No worker comes to it any more. */
  release(): void {
    this.#state.release();
  }
}
