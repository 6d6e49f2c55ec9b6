import type { MemoryRegion } from "../memory/guest-memory.js";
import type { SharedMemory } from "../memory/shared-memory.js";
import type { DriverRing } from "../ring/ring.js";
import type { VhostError } from "../spec/errno.js";

/** Guest addresses of a queue's areas, and its size. */
export interface QueueAddresses {
  num: number;
  desc: bigint;
  driver: bigint;
  device: bigint;
}

/**
 * How a driver reaches its device: what a bus such as PCI is to a guest. All from one thread.
 * virtio 1.3, 4 Virtio Transport Options. Linux: struct virtio_config_ops.
 */
export interface Transport {
  /** The guest's memory: rings and buffers are allocated here. */
  readonly shared: SharedMemory;
  /** virtio 1.3, 5 Device Types. */
  readonly deviceId: number;
  /** Features on offer, as a mask. */
  readonly deviceFeatures: bigint;
  readonly queueCount: number;
  readonly queueSizeMax: number;
  /** Nothing works on the other side by itself: requests are published at once, not once a turn. */
  readonly isInline: boolean;
  /** virtio 1.3, 2.1 Device Status Field. */
  readonly status: number;
  /** Writes the status field; 0 resets the device. Resolves when the device has taken it. */
  setStatus(status: number): Promise<void>;
  /** Accepts features. FEATURES_OK is not taken when the device can't live with them. */
  setFeatures(features: bigint): void;
  /**
   * What guest addresses mean to the device from its next start on. Without a call: all of the
   * guest part is one region, at GUEST_BASE.
   */
  setMemTable(regions: readonly MemoryRegion[]): void;
  /** Tells the device of a queue, which is not enabled. */
  setupQueue(index: number, addresses: QueueAddresses): void;
  /**
   * Asks for the reset of one queue, with VIRTIO_F_RING_RESET; resolves when the device says that
   * it is done. virtio 1.3, 2.6.1 Virtqueue Reset.
   */
  resetQueue(index: number): Promise<void>;
  /** Whether the device goes by the queue: from DRIVER_OK or `enableQueue` on, to its reset. */
  isQueueEnabled(index: number): boolean;
  /**
   * Tells the device of a queue that was reset, and enables it. virtio 1.3, 2.6.1.2 Virtqueue
   * Re-enable.
   */
  enableQueue(index: number, addresses: QueueAddresses): Promise<void>;
  /** The whole configuration space. */
  readConfig(): Promise<Uint8Array>;
  writeConfig(offset: number, bytes: Uint8Array): Promise<void>;
  /** The driver's half of a ring over a state block. */
  driverRing(vq: number): DriverRing;
  /**
   * Available buffer notification. `data`, with VIRTIO_F_NOTIFICATION_DATA: up to where buffers
   * were made available, a u16. virtio 1.3, 2.9 Driver Notifications.
   */
  kick(index: number, data?: number): void;
  /** A number that every call changes; read it before looking at the rings. */
  callSequence(): number;
  /** Resolves at the first call since `seen` was read, or after `timeoutMs`. */
  waitCall(seen: number, timeoutMs: number): Promise<void>;
  /** The driver is gone; another may come. */
  detach(): void;
  /** Calls `listener` once, when the device is gone. */
  onDeath(listener: (error: VhostError) => void): void;
  /** Calls `listener` for each queue that the device will never go on with, while it goes on. */
  onQueueDeath?(listener: (index: number, error: VhostError) => void): void;
}
