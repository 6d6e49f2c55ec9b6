// A driver's way to a device, for tests: it sleeps for ever unless it is called, and remembers what
// passes through it.

import type { QueueAddresses, Transport } from "#dist/driver/transport.js";
import type { MemoryRegion } from "#dist/memory/guest-memory.js";
import { GUEST_BASE, type SharedMemory } from "#dist/memory/shared-memory.js";
import { loadRings, type RingKind } from "#dist/ring/load.js";
import type { DriverRing } from "#dist/ring/ring.js";
import type { VhostError } from "#dist/spec/errno.js";
import { VIRTIO_CONFIG_S_DRIVER_OK } from "#dist/spec/virtio-config.js";
import type { VhostDev } from "#dist/vhost/dev.js";

export class TestTransport implements Transport {
  status = 0;
  /** Kicks sent, and what each said besides its queue. */
  kicks = 0;
  readonly kickData: (number | undefined)[] = [];
  /** Times the driver went to sleep. */
  sleeps = 0;
  readonly queues: QueueAddresses[] = [];
  /** State blocks of the driver's rings, in the order they were made. */
  readonly vqs: number[] = [];
  #regions: readonly MemoryRegion[] | undefined;

  constructor(
    readonly dev: VhostDev,
    readonly ring: RingKind = "wasm",
  ) {}

  get shared(): SharedMemory {
    return this.dev.sharedMemory;
  }

  get deviceId(): number {
    return this.dev.info.deviceId;
  }

  get deviceFeatures(): bigint {
    return this.dev.offeredFeatures;
  }

  get queueCount(): number {
    return this.dev.info.queueCount;
  }

  get queueSizeMax(): number {
    return this.dev.info.queueSizeMax;
  }

  async setStatus(status: number): Promise<void> {
    if (status === 0) await this.dev.reset();
    if (status & ~this.status & VIRTIO_CONFIG_S_DRIVER_OK) {
      const { guestStart, guestBytes } = this.shared;
      const sizeBytes = BigInt(guestBytes);
      const whole = { guestAddress: GUEST_BASE, sizeBytes, linearAddress: guestStart };
      this.dev.setMemTable(this.#regions ?? [whole]);
      await this.dev.start();
    }
    this.status = status;
  }

  setFeatures(features: bigint): void {
    this.dev.setFeatures(features);
  }

  setMemTable(regions: readonly MemoryRegion[]): void {
    this.#regions = regions;
  }

  setupQueue(index: number, addresses: QueueAddresses): void {
    const { num, ...areas } = addresses;
    this.queues[index] = addresses;
    this.dev.setVringNum(index, num);
    this.dev.setVringAddr(index, areas);
  }

  resetQueue(index: number): Promise<void> {
    return this.dev.resetVring(index);
  }

  isQueueEnabled(index: number): boolean {
    return this.dev.isVringEnabled(index);
  }

  enableQueue(index: number, addresses: QueueAddresses): Promise<void> {
    this.queues[index] = addresses;
    return this.dev.startVring(index, addresses);
  }

  readConfig(): Promise<Uint8Array> {
    return this.dev.readConfig();
  }

  writeConfig(offset: number, bytes: Uint8Array): Promise<void> {
    return this.dev.writeConfig(offset, bytes);
  }

  driverRing(vq: number): DriverRing {
    this.vqs.push(vq);
    return loadRings(this.shared.memory, this.ring).driver(vq);
  }

  kick(index: number, data?: number): void {
    this.kicks++;
    this.kickData.push(data);
    this.dev.worker.kick(index, data);
  }

  callSequence(): number {
    return this.dev.worker.doorbell.callSequence();
  }

  waitCall(seen: number): Promise<void> {
    this.sleeps++;
    return this.dev.worker.doorbell.waitCall(seen, Number.POSITIVE_INFINITY);
  }

  readonly isInline = false;

  detach(): void {}

  onDeath(listener: (error: VhostError) => void): void {
    this.dev.worker.onDeath(listener);
  }
}
