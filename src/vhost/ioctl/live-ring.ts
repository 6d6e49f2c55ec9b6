import type { SharedMemory } from "../../memory/shared-memory.js";
import type { Rings } from "../../ring/load.js";
import type { DeviceRing } from "../../ring/ring.js";
import { allocDeviceState, ringFlags, type StateBlock } from "../../ring/state-block.js";
import { RingTables } from "../../ring/tables.js";
import { hasFeature } from "../../spec/features.js";
import {
  REGION_BYTES,
  REGION_GUEST,
  REGION_LINEAR,
  REGION_SIZE,
  VQ_AVAIL_SEEN,
  VQ_DESC,
  VQ_DEVICE,
  VQ_DRIVER,
  VQ_F_LINUX,
  VQ_F_LOG,
  VQ_F_LOG_USED,
  VQ_FLAGS,
  VQ_IN_FLIGHT,
  VQ_LAST_AVAIL,
  VQ_LOG,
  VQ_LOG_BYTES,
  VQ_LOG_USED,
  VQ_NOTIFY_DISABLED,
  VQ_REGION_COUNT,
} from "../../spec/ring-state.js";
import { VHOST_F_LOG_ALL, VHOST_MEMORY_MAX_NREGIONS } from "../../spec/vhost.js";
import { VIRTIO_F_EVENT_IDX, VIRTIO_F_NOTIFY_ON_EMPTY } from "../../spec/virtio-config.js";
import { VIRTQ_AVAIL_F_NO_INTERRUPT, VIRTQ_RING_FLAGS } from "../../spec/virtio-ring.js";
import { Chain } from "../chain.js";
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
  readonly rings: Rings;
}

/** Each region of a table may be two (see `readMemoryTable`), and each of these in parts. */
const REGIONS_MAX = 4 * VHOST_MEMORY_MAX_NREGIONS;

/** No chain is there. */
export const EMPTY = -1;
/** A chain is there that can't be followed: it stays. */
export const BROKEN = -2;

/**
 * A ring that runs, in the owner's memory, by the policy "linux". The owner may have said that it
 * lies where nothing is mapped: such a ring is left alone, and has an error at each look.
 */
export class LiveRing {
  readonly #memory: LiveMemory;
  readonly #num: number;
  readonly #state: StateBlock;
  readonly #ring: DeviceRing;
  readonly #tables: RingTables;
  readonly #chain: Chain;
  /** Address of its region table. */
  readonly #regions: number;
  /** Descriptors and available ring are mapped. */
  #isReadable = false;
  /** The used ring can be written. */
  #isWritable = false;
  #setup: LiveSetup;
  #changeCount = 0;
  #isNotifyOnEmpty = false;

  /**
   * Begins at `position`; the device area must be mapped. Throws ENOMEM: the owner's memory has no
   * room for the ring's state.
   */
  constructor(memory: LiveMemory, setup: LiveSetup, position: number, isNotifyDisabled: boolean) {
    const { shared, rings } = memory;
    this.#memory = memory;
    this.#setup = setup;
    this.#num = setup.num;
    const nowhere = { num: setup.num, desc: 0, driver: 0, device: 0, features: 0n };
    this.#regions = shared.allocHost(REGIONS_MAX * REGION_BYTES);
    try {
      this.#state = allocDeviceState(shared, { ...nowhere, policy: "linux" }, this.#regions, 0);
    } catch (error) {
      shared.host.free(this.#regions);
      throw error;
    }
    this.update(setup);
    this.#set(VQ_NOTIFY_DISABLED, isNotifyDisabled ? 1 : 0);
    const { vq } = this.#state;
    this.#ring = rings.device(vq);
    this.#tables = new RingTables(shared.memory, vq);
    this.#chain = new Chain(shared.memory, this.#tables);
    this.#ring.start(position);
  }

  #set(offset: number, value: number): void {
    this.#memory.shared.view.setUint32(this.#state.vq + offset, value, true);
  }

  /** What it goes by has changed; its size has not. Never fails. */
  update(setup: LiveSetup): void {
    this.#setup = setup;
    this.#changeCount = this.#memory.user.changeCount;
    this.#setRegions(setup.regions);
    this.#setAreas(setup.areas);
    this.#setLog(setup);
    this.#isNotifyOnEmpty = hasFeature(setup.features, VIRTIO_F_NOTIFY_ON_EMPTY);
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

  /** What is mapped may have changed since the last look. */
  #look(): void {
    if (this.#memory.user.changeCount !== this.#changeCount) this.update(this.#setup);
  }

  #setAreas({ desc, avail, used }: VqAreas): void {
    const { user } = this.#memory;
    const bytes = areaBytes(this.#num);
    this.#isWritable = user.isWritable(used, bytes.used);
    this.#isReadable = user.isMapped(desc, bytes.desc) && user.isMapped(avail, bytes.avail);
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

  /** The next entry to pop. Linux: last_avail_idx. */
  get position(): number {
    return this.#tables.word(VQ_LAST_AVAIL);
  }

  /** Whether the driver was told not to kick. */
  get isNotifyDisabled(): boolean {
    return this.#tables.word(VQ_NOTIFY_DISABLED) !== 0;
  }

  /** Errors so far. */
  get errorTotal(): number {
    return this.#tables.errorTotal;
  }

  /** False: it could not be told to the driver. Linux: vhost_disable_notify(). */
  disableKick(): boolean {
    this.#look();
    if (this.isNotifyDisabled) return true;
    if (this.#isWritable || this.#hasEventIdx) this.#ring.disableKick();
    else this.#set(VQ_NOTIFY_DISABLED, 1);
    return this.#isWritable || this.#hasEventIdx;
  }

  /**
   * Whether something has come meanwhile; `undefined`: it could not be told to the driver, or not
   * be looked. Linux: vhost_enable_notify().
   */
  enableKick(): boolean | undefined {
    this.#look();
    if (!this.isNotifyDisabled) return false;
    if (this.#isWritable && this.#isReadable) return this.#ring.enableKick();
    this.#set(VQ_NOTIFY_DISABLED, 0);
    return undefined;
  }

  get #hasEventIdx(): boolean {
    return hasFeature(this.#setup.features, VIRTIO_F_EVENT_IDX);
  }

  /**
   * Pops one: its head; or EMPTY, BROKEN; `undefined`: nothing can be read. Then `chain` shows it.
   * Linux: vhost_get_vq_desc().
   */
  getDesc(): number | undefined {
    this.#look();
    if (!this.#isReadable) return undefined;
    const count = this.#ring.getDescs(1);
    if (count === 0) return EMPTY;
    return count < 0 ? BROKEN : this.#tables.head(0);
  }

  /** What was popped last is the next to pop again. Linux: vhost_discard_vq_desc(). */
  discard(): void {
    this.#set(VQ_LAST_AVAIL, (this.position - 1) & 0xffff);
    this.#set(VQ_IN_FLIGHT, this.#tables.inFlight - 1);
  }

  /** The chain that was popped last. */
  get chain(): Chain {
    return this.#chain.show(0);
  }

  /** Puts it in the used ring, for all to see. False: it can't be. Linux: vhost_add_used(). */
  addUsed(bytes: number): boolean {
    if (!this.#isWritable) return false;
    this.#tables.setUsedBytes(0, bytes);
    this.#ring.addUsedN(1);
    this.#ring.publish();
    return true;
  }

  /** Whether the driver is to be called. Linux: vhost_notify(). */
  callNeeded(): boolean {
    if (!this.#isReadable) return false;
    const isEmpty = this.#tables.word(VQ_AVAIL_SEEN) === this.position;
    if (this.#isNotifyOnEmpty && isEmpty) return true;
    if (this.#isWritable || this.#hasEventIdx) return this.#ring.callNeeded();
    const at = this.#tables.word(VQ_DRIVER) + VIRTQ_RING_FLAGS; // also for what is in no used ring
    const flags = this.#memory.shared.view.getUint16(at, true);
    return (flags & VIRTQ_AVAIL_F_NO_INTERRUPT) === 0;
  }

  /** Its state, for a ring of another kind that goes on with it; this one is not used any more. */
  handOver(): StateBlock {
    this.#memory.shared.host.free(this.#regions);
    return this.#state;
  }

  /** Gives its memory back. */
  release(): void {
    this.#state.release();
    this.#memory.shared.host.free(this.#regions);
  }
}
