import type { SharedMemory } from "../../memory/shared-memory.js";
import { allocDeviceState, ringFlags, type StateBlock } from "../../ring/state-block.js";
import { RingTables } from "../../ring/tables.js";
import { hasFeature } from "../../spec/features.js";
import {
  REGION_BYTES,
  REGION_GUEST,
  REGION_LINEAR,
  REGION_SIZE,
  VQ_DESC,
  VQ_DEVICE,
  VQ_DRIVER,
  VQ_F_LINUX,
  VQ_F_LOG,
  VQ_F_LOG_USED,
  VQ_FLAGS,
  VQ_LAST_AVAIL,
  VQ_LOG,
  VQ_LOG_BYTES,
  VQ_LOG_USED,
  VQ_NOTIFY_DISABLED,
  VQ_REGION_COUNT,
  VQ_USER,
  VQ_USER_NOTIFY_ON_EMPTY,
  VQ_USER_UNREADABLE,
  VQ_USER_UNWRITABLE,
} from "../../spec/ring-state.js";
import { VHOST_F_LOG_ALL, VHOST_MEMORY_MAX_NREGIONS } from "../../spec/vhost.js";
import { VIRTIO_F_NOTIFY_ON_EMPTY } from "../../spec/virtio-config.js";
import type { UserMemory } from "../user-access.js";
import { areaBytes, type VqAreas, type VqLog } from "./access.js";
import { mappedRegions, type UserRegion } from "./memory-table.js";

/** What a running ring goes by, and what may change while it runs. */
export interface LiveSetup {
  readonly num: number;
  readonly areas: VqAreas;
  readonly features: bigint;
  readonly regions: readonly UserRegion[];
  readonly log: VqLog;
}

/** The memory that rings of a device run in. */
export interface LiveMemory {
  readonly shared: SharedMemory;
  readonly user: UserMemory;
}

/** Each region of a table may be two (see `readMemoryTable`), and each of these in parts. */
const REGIONS_MAX = 4 * VHOST_MEMORY_MAX_NREGIONS;

/**
 * A ring that runs, in the owner's memory, by the policy "linux", as its worker finds it: a state
 * block and a region table of its own. The owner may have said that it lies where nothing is
 * mapped: the block says so, see `UserRing`. An `IotlbRing` has the block alone. Kernel's thread.
 */
export class LiveRing {
  readonly #memory: LiveMemory;
  readonly #num: number;
  readonly #state: StateBlock;
  readonly #tables: RingTables;
  /** Address of its region table. */
  readonly #regions: number;
  #seenErrors = 0;

  /**
   * Laid out, and not begun. The device area must be mapped. Throws ENOMEM: the owner's memory has
   * no room for the ring's state.
   */
  constructor(memory: LiveMemory, setup: LiveSetup, isNotifyDisabled: boolean) {
    const { shared } = memory;
    this.#memory = memory;
    this.#num = setup.num;
    const nowhere = { num: setup.num, desc: 0, driver: 0, device: 0, features: 0n };
    this.#regions = shared.allocHost(REGIONS_MAX * REGION_BYTES);
    try {
      this.#state = allocDeviceState(shared, { ...nowhere, policy: "linux" }, this.#regions, 0);
    } catch (error) {
      shared.host.free(this.#regions);
      throw error;
    }
    this.#tables = new RingTables(shared.memory, this.#state.vq);
    this.update(setup);
    this.#set(VQ_NOTIFY_DISABLED, isNotifyDisabled ? 1 : 0);
  }

  #set(offset: number, value: number): void {
    this.#tables.setWord(offset, value);
  }

  /** Address of its state block. */
  get vq(): number {
    return this.#state.vq;
  }

  /** What it goes by, or what is mapped, has changed; its size has not. No worker is at it. */
  update(setup: LiveSetup): void {
    this.#setRegions(setup.regions);
    this.#setAreas(setup.areas, setup.features);
    this.#setLog(setup);
  }

  #setRegions(regions: readonly UserRegion[]): void {
    const { shared, user } = this.#memory;
    const mapped = mappedRegions(regions, user).slice(0, REGIONS_MAX);
    for (const [i, { guestAddress, sizeBytes, linearAddress }] of mapped.entries()) {
      const at = this.#regions + i * REGION_BYTES;
      shared.view.setBigUint64(at + REGION_GUEST, guestAddress, true);
      shared.view.setBigUint64(at + REGION_SIZE, sizeBytes, true);
      shared.view.setUint32(at + REGION_LINEAR, linearAddress, true);
    }
    this.#set(VQ_REGION_COUNT, mapped.length);
  }

  #setAreas({ desc, avail, used }: VqAreas, features: bigint): void {
    const { user } = this.#memory;
    const bytes = areaBytes(this.#num);
    const isReadable = user.isMapped(desc, bytes.desc) && user.isMapped(avail, bytes.avail);
    const isWritable = user.isWritable(used, bytes.used);
    this.#set(
      VQ_USER,
      (isReadable ? 0 : VQ_USER_UNREADABLE) |
        (isWritable ? 0 : VQ_USER_UNWRITABLE) |
        (hasFeature(features, VIRTIO_F_NOTIFY_ON_EMPTY) ? VQ_USER_NOTIFY_ON_EMPTY : 0),
    );
    const linear = (address: bigint) => (address < BigInt(user.end) ? Number(address) : 0);
    this.#set(VQ_DESC, linear(desc));
    this.#set(VQ_DRIVER, linear(avail));
    this.#set(VQ_DEVICE, linear(used));
  }

  /** A log that lies where nothing is mapped has no room for any page. */
  #setLog({ features, log }: LiveSetup): void {
    const { shared, user } = this.#memory;
    const isLogged = hasFeature(features, VHOST_F_LOG_ALL);
    const isMapped = user.isMapped(log.base, 1n);
    const flags =
      (isLogged ? VQ_F_LOG : 0) | (isLogged && log.used !== undefined ? VQ_F_LOG_USED : 0);
    this.#set(VQ_FLAGS, ringFlags(features) | VQ_F_LINUX | flags);
    this.#set(VQ_LOG, isMapped ? Number(log.base) : 0);
    this.#set(VQ_LOG_BYTES, isMapped ? user.end - Number(log.base) : 0);
    shared.view.setBigUint64(this.#state.vq + VQ_LOG_USED, log.used ?? 0n, true);
  }

  /** The next entry to pop, once it has begun. Linux: last_avail_idx. */
  get position(): number {
    return this.#tables.word(VQ_LAST_AVAIL);
  }

  /** Says where it begins: known before a worker is at it. */
  set position(position: number) {
    this.#set(VQ_LAST_AVAIL, position);
  }

  /** Whether the driver was told not to kick. */
  get isNotifyDisabled(): boolean {
    return this.#tables.word(VQ_NOTIFY_DISABLED) !== 0;
  }

  /** How many errors came since it was asked last. */
  takeErrors(): number {
    const { errorTotal } = this.#tables;
    const count = (errorTotal - this.#seenErrors) >>> 0;
    this.#seenErrors = errorTotal;
    return count;
  }

  /** Gives its memory back. */
  release(): void {
    this.#state.release();
    this.#memory.shared.host.free(this.#regions);
  }
}
