import { writeRegions } from "../../memory/guest-memory.js";
import type { SharedMemory } from "../../memory/shared-memory.js";
import { ringFlags } from "../../ring/state-block.js";
import { hasFeature } from "../../spec/features.js";
import {
  REGION_BYTES,
  VQ_F_LINUX,
  VQ_F_LOG,
  VQ_F_LOG_USED,
  VQ_FLAGS,
  VQ_LOG,
  VQ_LOG_BYTES,
  VQ_LOG_USED,
  VQ_NOTIFY_DISABLED,
  VQ_USER,
  VQ_USER_NOTIFY_ON_EMPTY,
  VQ_USER_UNREADABLE,
  VQ_USER_UNWRITABLE,
} from "../../spec/ring-state.js";
import { VHOST_F_LOG_ALL, VHOST_MEMORY_MAX_NREGIONS } from "../../spec/vhost.js";
import { VIRTIO_F_NOTIFY_ON_EMPTY } from "../../spec/virtio-config.js";
import { LiveRing } from "../live-ring.js";
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
 * A ring by the policy "linux", with a region table of its own. The owner may have said that it
 * lies where nothing is mapped: the block says so, see `UserRing`. An `IotlbRing` has the block
 * alone.
 */
export class UserLiveRing extends LiveRing {
  readonly #user: UserMemory;
  readonly #num: number;
  /** Address of its region table. */
  readonly #regions: number;
  #seenErrors = 0;

  /**
   * Laid out, and not begun. The device area must be mapped. Throws ENOMEM: the owner's memory has
   * no room for the ring's state.
   */
  constructor({ shared, user }: LiveMemory, setup: LiveSetup, isNotifyDisabled: boolean) {
    const regions = shared.allocHost(REGIONS_MAX * REGION_BYTES);
    try {
      const { num } = setup;
      const nowhere = {
        num,
        desc: 0,
        driver: 0,
        device: 0,
        features: 0n,
        policy: "linux",
      } as const;
      super(shared, nowhere, { address: regions, count: 0 });
    } catch (error) {
      shared.host.free(regions);
      throw error;
    }
    this.#user = user;
    this.#num = setup.num;
    this.#regions = regions;
    this.update(setup);
    this.#set(VQ_NOTIFY_DISABLED, isNotifyDisabled ? 1 : 0);
  }

  #set(offset: number, value: number): void {
    this.tables.setWord(offset, value);
  }

  /** What it goes by, or what is mapped, has changed; its size has not. No worker is at it. */
  update({ regions, areas, features, log }: LiveSetup): void {
    this.#goBy(regions);
    this.#setAreas(areas, features);
    this.#setLog(features, log);
  }

  #goBy(regions: readonly UserRegion[]): void {
    const mapped = mappedRegions(regions, this.#user).slice(0, REGIONS_MAX);
    writeRegions(this.shared.view, this.#regions, mapped);
    this.setRegions({ address: this.#regions, count: mapped.length });
  }

  #setAreas({ desc, avail, used }: VqAreas, features: bigint): void {
    const user = this.#user;
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
    this.setPlaces({ desc: linear(desc), driver: linear(avail), device: linear(used) });
  }

  /** A log that lies where nothing is mapped has no room for any page. */
  #setLog(features: bigint, log: VqLog): void {
    const user = this.#user;
    const isLogged = hasFeature(features, VHOST_F_LOG_ALL);
    const isMapped = user.isMapped(log.base, 1n);
    const flags =
      (isLogged ? VQ_F_LOG : 0) | (isLogged && log.used !== undefined ? VQ_F_LOG_USED : 0);
    this.#set(VQ_FLAGS, ringFlags(features) | VQ_F_LINUX | flags);
    this.#set(VQ_LOG, isMapped ? Number(log.base) : 0);
    this.#set(VQ_LOG_BYTES, isMapped ? user.end - Number(log.base) : 0);
    this.shared.view.setBigUint64(this.vq + VQ_LOG_USED, log.used ?? 0n, true);
  }

  /** Whether the driver was told not to kick. */
  get isNotifyDisabled(): boolean {
    return this.tables.word(VQ_NOTIFY_DISABLED) !== 0;
  }

  /** How many errors came since it was asked last. */
  takeErrors(): number {
    const { errorTotal } = this.tables;
    const count = (errorTotal - this.#seenErrors) >>> 0;
    this.#seenErrors = errorTotal;
    return count;
  }

  override release(): void {
    super.release();
    this.shared.host.free(this.#regions);
  }
}
