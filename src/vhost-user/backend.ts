import { MEMORY_REGIONS_MAX } from "../memory/guest-memory.js";
import { VhostError } from "../spec/errno.js";
import { featureMask, hasFeature } from "../spec/features.js";
import {
  VHOST_F_LOG_ALL,
  VHOST_USER_CONFIG_BYTES_MAX,
  VHOST_USER_F_PROTOCOL_FEATURES,
  VHOST_USER_PROTOCOL_F_CONFIG,
  VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS,
  VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD,
  VHOST_USER_PROTOCOL_F_LOG_SHMFD,
  VHOST_USER_PROTOCOL_F_MQ,
  VHOST_USER_PROTOCOL_F_RARP,
  VHOST_USER_PROTOCOL_F_REPLY_ACK,
  VHOST_USER_PROTOCOL_F_RESET_DEVICE,
  VHOST_USER_PROTOCOL_F_STATUS,
} from "../spec/vhost-user.js";
import { VIRTIO_ID_NET } from "../spec/virtio-config.js";
import { ETH_GROUP, VIRTIO_NET_QUEUES } from "../spec/virtio-net.js";
import type { VhostDev } from "../vhost/dev.js";
import { MemoryTable, type RegionDescription } from "./memory-table.js";
import { type InflightDescription, Records } from "./records.js";
import type { FilePart, MemoryTrust } from "./region-map.js";
import { checkEventfd, type UserAddresses, type VringFdKind, VringState } from "./vrings.js";

/** Protocol features on offer: all that is done, and no others. */
const PROTOCOL_FEATURES = featureMask(
  VHOST_USER_PROTOCOL_F_LOG_SHMFD,
  VHOST_USER_PROTOCOL_F_MQ,
  VHOST_USER_PROTOCOL_F_REPLY_ACK,
  VHOST_USER_PROTOCOL_F_CONFIG,
  VHOST_USER_PROTOCOL_F_RESET_DEVICE,
  VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS,
  VHOST_USER_PROTOCOL_F_STATUS,
);

const PROTOCOL_FEATURES_BIT = featureMask(VHOST_USER_F_PROTOCOL_FEATURES);
/** Features that the protocol has beside the device's. */
const OWN_FEATURES = PROTOCOL_FEATURES_BIT | featureMask(VHOST_F_LOG_ALL);

/** What the back-end needs beside its device. */
export interface BackendOptions {
  trust: MemoryTrust;
  /** A ring can't run with what the front-end gave. */
  onUnusable(queue: number, error: VhostError): void;
}

/**
 * A device as a vhost-user front-end sets it up: a function for each request, which throws
 * `VhostError` for what it refuses and, unless it says otherwise, then has changed nothing. What
 * changes a ring or the memory stops all rings, and starts those that then can run. One call at a
 * time. Section "Communication".
 */
export class Backend {
  readonly #dev: VhostDev;
  readonly #memory: MemoryTable;
  readonly #vrings: VringState[];
  readonly #records: Records;
  readonly #onUnusable: BackendOptions["onUnusable"];
  #protocolFeatures = 0n;
  #status = 0;
  /** All rings were stopped, and none was enabled since. */
  #areAllStopped = false;

  /** `dev` has an owner and a device. */
  constructor(dev: VhostDev, { trust, onUnusable }: BackendOptions) {
    this.#dev = dev;
    this.#memory = new MemoryTable(dev, trust);
    this.#records = new Records(dev, trust);
    this.#vrings = Array.from({ length: dev.info.queueCount }, (_, i) => new VringState(i));
    this.#onUnusable = onUnusable;
  }

  /** Whether the front-end accepted a protocol feature. */
  hasProtocolFeature(bit: number): boolean {
    return hasFeature(this.#protocolFeatures, bit);
  }

  /** GET_FEATURES. */
  get features(): bigint {
    return this.#dev.offeredFeatures | OWN_FEATURES;
  }

  /** SET_FEATURES. Without protocol features, there is no message that would enable the rings. */
  async setFeatures(features: bigint): Promise<void> {
    await this.#paused(() => {
      this.#dev.setFeatures(features & ~OWN_FEATURES);
      this.#records.isLogging = hasFeature(features, VHOST_F_LOG_ALL);
      if (hasFeature(features, VHOST_USER_F_PROTOCOL_FEATURES)) return;
      for (const vring of this.#vrings) vring.isEnabled = true;
    });
  }

  /** SET_PROTOCOL_FEATURES. */
  setProtocolFeatures(features: bigint): void {
    const foreign = features & ~this.protocolFeatures;
    if (foreign !== 0n) {
      const mask = `0x${foreign.toString(16)}`;
      throw new VhostError("EOPNOTSUPP", `protocol features ${mask} were not offered`);
    }
    this.#protocolFeatures = features;
  }

  /**
   * GET_PROTOCOL_FEATURES. What is in flight is not recorded as Linux's vhost goes about it; where
   * a guest is, is told by a network device alone.
   */
  get protocolFeatures(): bigint {
    const { policy, info } = this.#dev;
    const own = featureMask(
      ...(policy === "linux" ? [] : [VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD]),
      ...(info.canAnnounce ? [VHOST_USER_PROTOCOL_F_RARP] : []),
    );
    return PROTOCOL_FEATURES | own;
  }

  /** GET_MAX_MEM_SLOTS. */
  get memorySlots(): number {
    return MEMORY_REGIONS_MAX;
  }

  /**
   * GET_QUEUE_NUM. Of a network device, pairs: QEMU and DPDK count them so. Two at least:
   * front-ends that count rings want as many for one pair; the others see that MQ is not on offer.
   */
  get queueNum(): number {
    const { deviceId, queueCount } = this.#dev.info;
    if (deviceId !== VIRTIO_ID_NET) return queueCount;
    return Math.max(VIRTIO_NET_QUEUES, Math.floor(queueCount / VIRTIO_NET_QUEUES));
  }

  /** SET_MEM_TABLE. Takes the descriptors. When mapping fails, no memory is left. */
  async setMemTable(regions: readonly RegionDescription[], fds: number[]): Promise<void> {
    this.#memory.check(regions, fds);
    await this.#paused(() => this.#memory.replace(regions, fds));
  }

  /** ADD_MEM_REG. Takes the descriptor. */
  async addMemoryRegion(region: RegionDescription, fds: number[]): Promise<void> {
    this.#memory.checkAdded(region, fds[0] as number);
    await this.#paused(() => this.#memory.add(region, fds));
  }

  /** REM_MEM_REG. */
  async removeMemoryRegion(region: RegionDescription): Promise<void> {
    const found = this.#memory.find(region);
    await this.#paused(() => this.#memory.remove(found));
  }

  #vring(index: number): VringState {
    const vring = this.#vrings[index];
    if (vring) return vring;
    throw new VhostError("EINVAL", `there is no ring ${index}, but ${this.#vrings.length} rings`, {
      queueCount: this.#vrings.length,
    });
  }

  /** A ring, to set up what must not change under its feet. */
  #stoppedVring(index: number): VringState {
    const vring = this.#vring(index);
    if (!vring.isStarted) return vring;
    throw new VhostError("EBUSY", `ring ${index} is started: GET_VRING_BASE stops it`);
  }

  /** SET_VRING_NUM. */
  async setVringNum(index: number, num: number): Promise<void> {
    await this.#paused(() => {
      this.#stoppedVring(index);
      this.#dev.setVringNum(index, num);
    });
  }

  /** SET_VRING_ADDR. Checked at once, when there is memory to check it against. */
  async setVringAddr(index: number, addresses: UserAddresses): Promise<void> {
    await this.#paused(() => {
      const vring = this.#vring(index);
      const { desc, driver, device } = addresses;
      if (!this.#memory.isEmpty) {
        for (const address of [desc, driver, device]) this.#memory.toGuest(address);
      }
      vring.addresses = addresses;
    });
  }

  /**
   * SET_VRING_BASE. QEMU stops all rings for a pause and for a reset of the guest's driver alike;
   * when one of them then does not go on where it was stopped, the driver has begun anew.
   */
  async setVringBase(index: number, base: number): Promise<void> {
    await this.#paused(async () => {
      const vring = this.#stoppedVring(index);
      this.#dev.setVringBase(index, base);
      const { stoppedAt } = vring;
      vring.stoppedAt = undefined;
      vring.isBaseNew = true;
      if (!this.#areAllStopped || stoppedAt === undefined || stoppedAt === base) return;
      this.#areAllStopped = false;
      await this.#dev.renew();
    });
  }

  /** GET_VRING_BASE: stops the ring, and says where it goes on. */
  async getVringBase(index: number): Promise<number> {
    return this.#paused(() => {
      const vring = this.#vring(index);
      vring.stop();
      this.#areAllStopped = this.#vrings.every(({ isStopped }) => isStopped);
      vring.stoppedAt = this.#dev.getVringBase(index);
      return vring.stoppedAt;
    });
  }

  /** SET_VRING_KICK, SET_VRING_CALL, SET_VRING_ERR. Takes the one in `fds`, if there is one. */
  async setVringFd(index: number, kind: VringFdKind, fds: number[]): Promise<void> {
    const vring = this.#vring(index);
    for (const fd of fds) checkEventfd(fd);
    await this.#paused(() => vring.setFd(kind, fds.shift()));
  }

  /** SET_LOG_BASE. Takes the descriptor. */
  async setLogBase(part: FilePart, fds: number[]): Promise<void> {
    this.#records.checkLog(part, fds[0] as number);
    await this.#paused(() => this.#records.replaceLog(part, fds));
  }

  /** GET_INFLIGHT_FD: a new area, and its descriptor, the caller's to close. */
  makeInflight(
    queues: Pick<InflightDescription, "queueCount" | "queueSize">,
  ): ReturnType<Records["make"]> {
    return this.#records.make(queues);
  }

  /** SET_INFLIGHT_FD. Takes the descriptor. */
  async setInflight(area: InflightDescription, fds: number[]): Promise<void> {
    this.#records.checkInflight(area, fds[0] as number);
    await this.#paused(() => this.#records.replaceInflight(area, fds));
  }

  /** SET_VRING_ENABLE. */
  async setVringEnable(index: number, isEnabled: boolean): Promise<void> {
    await this.#paused(() => {
      this.#vring(index).isEnabled = isEnabled;
      if (isEnabled) this.#areAllStopped = false;
    });
  }

  /** SEND_RARP: the guest of that address has moved here. */
  async sendRarp(mac: Uint8Array): Promise<void> {
    const isStation = ((mac[0] as number) & ETH_GROUP) === 0 && mac.some((byte) => byte !== 0);
    if (!isStation) throw new VhostError("EINVAL", "the address is not one station's", { mac });
    await this.#dev.announce(mac);
  }

  /** RESET_OWNER: deprecated; disabling all rings is what it may do. */
  async disableRings(): Promise<void> {
    await this.#paused(() => {
      for (const vring of this.#vrings) vring.isEnabled = false;
    });
  }

  /** GET_CONFIG: `length` bytes, zeroes where the device has none. */
  async getConfig(offset: number, length: number): Promise<Uint8Array> {
    checkConfigRange(offset, length);
    const bytes = new Uint8Array(length);
    const config = await this.#dev.readConfig();
    bytes.set(config.subarray(offset, offset + length));
    return bytes;
  }

  /** SET_CONFIG. */
  async setConfig(offset: number, bytes: Uint8Array): Promise<void> {
    checkConfigRange(offset, bytes.length);
    await this.#dev.writeConfig(offset, bytes);
  }

  /** GET_STATUS. */
  get status(): number {
    return this.#status;
  }

  /**
   * SET_STATUS; 0 stops and disables the rings. The device's own state stays: QEMU sends 0 at every
   * stop, a pause too, and goes by its own copy of the configuration after it.
   */
  async setStatus(status: number): Promise<void> {
    this.#status = status;
    if (status !== 0) return;
    await this.#paused(() => {
      for (const vring of this.#vrings) {
        vring.stop();
        vring.isEnabled = false;
      }
    });
  }

  /** RESET_DEVICE: everything but the memory and what was negotiated about the protocol. */
  async resetDevice(): Promise<void> {
    await this.#paused(async () => {
      for (const vring of this.#vrings) vring.reset();
      this.#status = 0;
      await this.#records.clear();
      await this.#dev.reset();
      this.#memory.publish();
    });
  }

  /** Stops what runs, does `change`, and starts what can run then. */
  async #paused<T>(change: () => T | Promise<T>): Promise<T> {
    await this.#dev.stop();
    for (const vring of this.#vrings) {
      if (vring.isApplied) vring.awaitsKick = this.#dev.awaitsKick(vring.index);
    }
    try {
      return await change();
    } finally {
      await this.#resume();
    }
  }

  async #resume(): Promise<void> {
    let count = 0;
    this.#records.applyLog();
    for (const vring of this.#vrings) {
      try {
        vring.apply(this.#dev, this.#memory, this.#records);
        if (vring.isApplied) count++;
      } catch (error) {
        vring.addresses = undefined; // said once
        this.#dev.setVringAddr(vring.index, undefined);
        this.#onUnusable(vring.index, error as VhostError);
      }
    }
    if (count > 0) await this.#dev.start();
  }

  /** Frees a worker that an eventfd holds up. Never blocks. */
  unblock(): void {
    for (const vring of this.#vrings) vring.unblock();
  }

  /** Gives back descriptors and mappings. After the device was closed: nothing may use them. */
  async release(): Promise<void> {
    for (const vring of this.#vrings) vring.reset();
    await Promise.all([this.#memory.clear(), this.#records.clear()]);
  }
}

function checkConfigRange(offset: number, length: number): void {
  if (offset + length <= VHOST_USER_CONFIG_BYTES_MAX) return;
  throw new VhostError("EINVAL", "beyond the configuration space", { offset, length });
}
