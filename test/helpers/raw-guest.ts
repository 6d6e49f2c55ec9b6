// A guest without a driver: it writes its rings by hand, as a hostile one would, and a device of
// the product works on them through the whole path.

import { setImmediate as nextTurn } from "node:timers/promises";
import { Kernel } from "#dist/index.js";
import type { Process } from "#dist/loopback.js";
import type { MemoryRegion } from "#dist/memory/guest-memory.js";
import { GUEST_BASE, type SharedMemory } from "#dist/memory/shared-memory.js";
import { descBytes, deviceAreaBytes, driverAreaBytes } from "#dist/memory/vring.js";
import { VHOST_F_LOG_ALL } from "#dist/spec/vhost.js";
import {
  VIRTIO_F_ACCESS_PLATFORM,
  VIRTIO_F_EVENT_IDX,
  VIRTIO_F_VERSION_1,
} from "#dist/spec/virtio-config.js";
import { VIRTQ_DESC_BYTES, VIRTQ_DESC_F_NEXT, VIRTQ_DESC_F_WRITE } from "#dist/spec/virtio-ring.js";
import { type DevOptions, VhostDev } from "#dist/vhost/dev.js";
import type { DeviceSpec } from "#dist/vhost/device.js";
import { type RawDesc, RawRing } from "./raw-ring.js";

/** How the device is run: the four ways that every device must be the same in. */
export interface Mode {
  run: "thread" | "inline";
  ring: "wasm" | "ts";
}

export const MODES: readonly Mode[] = [
  { run: "thread", ring: "wasm" },
  { run: "thread", ring: "ts" },
  { run: "inline", ring: "wasm" },
  { run: "inline", ring: "ts" },
];

/** The modes of a disk: by the worker itself, and by io workers. */
export const IO_MODES = MODES.flatMap((mode) => [
  { ...mode, io: "inline" as const },
  { ...mode, io: "uring" as const },
]);

/** Of each kind of worker and of ring one. */
export const WAYS = MODES.filter(({ run, ring }) => (run === "thread") === (ring === "wasm"));

/** The modes with a real worker. */
export const THREADS = MODES.filter(({ run }) => run === "thread");

export const bit = (number: number): bigint => 1n << BigInt(number);
export const VERSION_1 = bit(VIRTIO_F_VERSION_1);
export const ACCESS_PLATFORM = bit(VIRTIO_F_ACCESS_PLATFORM);
export const EVENT_IDX = bit(VIRTIO_F_EVENT_IDX);
export const LOG_ALL = bit(VHOST_F_LOG_ALL);

/** One piece of a chain: bytes to read, or room to write. */
export type RawPiece = Uint8Array | number;

/** A used element: which chain, how many bytes. */
export interface Used {
  head: number;
  length: number;
}

/** A ring in guest memory, and the few things that a raw driver does with it. */
export class GuestRing extends RawRing {
  readonly desc: number;
  readonly avail: number;
  readonly used: number;
  #nextDesc = 0;
  #seenUsed: number;

  constructor(
    readonly guest: RawGuest,
    readonly index: number,
    readonly num: number,
    base = 0,
  ) {
    super(guest.shared.memory);
    const { shared } = guest;
    this.desc = shared.allocGuest(descBytes(num), 16);
    this.avail = shared.allocGuest(driverAreaBytes(num), 16);
    this.used = shared.allocGuest(deviceAreaBytes(num), 16);
    this.availIdx = this.usedIdx = this.#seenUsed = base;
  }

  /** A descriptor nobody uses at the moment, as long as few chains are in flight. */
  takeDesc(): number {
    return this.#nextDesc++ % this.num;
  }

  /** Writes descriptors that follow one another, and gives the head; offers nothing. */
  link(descs: readonly RawDesc[]): number {
    const at = descs.map(() => this.takeDesc());
    for (const [i, desc] of descs.entries()) {
      const next = at[i + 1];
      const flags = desc.flags | (next === undefined ? 0 : VIRTQ_DESC_F_NEXT);
      this.writeDesc(at[i] as number, { ...desc, flags, next: next ?? desc.next ?? 0 });
    }
    return at[0] as number;
  }

  /** Writes a table of descriptors that follow one another, for an indirect descriptor. */
  table(descs: readonly RawDesc[]): { address: number; bytes: number } {
    const bytes = descs.length * VIRTQ_DESC_BYTES;
    const address = this.guest.shared.allocGuest(bytes);
    for (const [i, desc] of descs.entries()) {
      const isLast = i === descs.length - 1;
      const flags = desc.flags | (isLast ? 0 : VIRTQ_DESC_F_NEXT);
      this.writeDescAt(address + i * VIRTQ_DESC_BYTES, {
        next: isLast ? 0 : i + 1,
        ...desc,
        flags,
      });
    }
    return { address, bytes };
  }

  /** Makes `head` available and kicks. */
  send(head: number): void {
    this.offer(head);
    this.guest.dev.worker.kick(this.index);
  }

  /** The next used element: waits for the call, not for time. */
  async next(): Promise<Used> {
    await this.guest.until(() => this.usedIdx !== this.#seenUsed);
    const [head, length] = this.usedElem(this.#seenUsed % this.num);
    this.#seenUsed = (this.#seenUsed + 1) & 0xffff;
    return { head, length };
  }

  /** Goes on as if everything up to used index `usedIdx` had been seen. */
  forget(usedIdx = this.usedIdx): void {
    this.#seenUsed = usedIdx;
  }

  /** Used elements that were not taken by `next`. */
  get unseen(): number {
    return (this.usedIdx - this.#seenUsed) & 0xffff;
  }

  /** Sends one chain of fresh buffers; the length used, and what then lies in the writable ones. */
  async request(pieces: readonly RawPiece[]): Promise<{ length: number; written: Uint8Array }> {
    const head = this.link(pieces.map((piece) => this.guest.describe(piece)));
    this.send(head);
    const { length } = await this.next();
    return { length, written: this.guest.takeWritten() };
  }
}

export interface RawGuestOptions extends DevOptions {
  features?: bigint;
  num?: number;
  queues?: number;
  memoryBytes?: number;
  /** Memory table; default: the whole guest part at GUEST_BASE. */
  regions?: (shared: SharedMemory) => MemoryRegion[];
  process?: Process;
}

/** A process, a device of it that is started, and its rings. */
export class RawGuest implements AsyncDisposable {
  readonly rings: GuestRing[] = [];
  #written: { address: number; bytes: number }[] = [];

  private constructor(
    readonly kernel: Kernel,
    readonly process: Process,
    readonly dev: VhostDev,
    readonly isInline: boolean,
  ) {}

  static async open(spec: DeviceSpec, options: RawGuestOptions = {}): Promise<RawGuest> {
    const { features = VERSION_1, num = 64, queues = 1, regions, memoryBytes, ...rest } = options;
    const kernel = new Kernel();
    const process =
      options.process ?? kernel.spawn({ uid: 1000, memoryBytes: memoryBytes ?? 4 << 20 });
    const dev = new VhostDev(kernel.model, rest);
    const guest = new RawGuest(kernel, process, dev, rest.run === "inline");
    dev.setOwner(process.task);
    await dev.setBackend(spec);
    dev.setFeatures(features);
    dev.setMemTable(regions?.(guest.shared) ?? [guest.whole]);
    for (let index = 0; index < queues; index++) guest.addRing(index, num);
    await dev.start();
    return guest;
  }

  /** The guest part as one region. */
  get whole(): MemoryRegion {
    const { guestStart, guestBytes } = this.shared;
    const sizeBytes = BigInt(guestBytes);
    return { guestAddress: GUEST_BASE, sizeBytes, linearAddress: guestStart };
  }

  get shared(): SharedMemory {
    return this.dev.sharedMemory;
  }

  /** The first ring. */
  get ring(): GuestRing {
    return this.rings[0] as GuestRing;
  }

  /** Lays a ring out in guest memory and tells the device of it. */
  addRing(index: number, num: number, base = 0): GuestRing {
    const ring = new GuestRing(this, index, num, base);
    this.rings[index] = ring;
    this.dev.setVringNum(index, num);
    this.dev.setVringAddr(index, {
      desc: this.at(ring.desc),
      driver: this.at(ring.avail),
      device: this.at(ring.used),
    });
    return ring;
  }

  /** Guest address of a linear one. */
  at(linear: number): bigint {
    return this.shared.toGuest(linear);
  }

  /** A buffer in guest memory that holds `bytes`; its linear address. */
  put(bytes: Uint8Array): number {
    const address = this.shared.allocGuest(Math.max(1, bytes.length));
    this.shared.bytes.set(bytes, address);
    return address;
  }

  /** A descriptor of a fresh buffer. Room to write begins as 0xaa; see `takeWritten`. */
  describe(piece: RawPiece): RawDesc {
    if (typeof piece !== "number") {
      return { addr: this.at(this.put(piece)), len: piece.length, flags: 0 };
    }
    const address = this.put(new Uint8Array(piece).fill(0xaa));
    this.#written.push({ address, bytes: piece });
    return { addr: this.at(address), len: piece, flags: VIRTQ_DESC_F_WRITE };
  }

  /** What now lies in the writable buffers described since the last call, one after the other. */
  takeWritten(): Uint8Array {
    const parts = this.#written.splice(0);
    return Buffer.concat(
      parts.map(({ address, bytes }) => this.shared.bytes.slice(address, address + bytes)),
    );
  }

  /** Waits until `test` holds: a turn of the event loop, or of the device, at a time. */
  async until(test: () => boolean): Promise<void> {
    while (!test()) {
      const seen = this.dev.worker.doorbell.callSequence();
      if (this.isInline) this.runAll();
      if (test()) return;
      if (!this.isInline) await this.dev.worker.doorbell.waitCall(seen, 5);
      await nextTurn();
    }
  }

  /** Inline: does all that is pending. */
  runAll(): void {
    while (this.dev.runPending()) {}
  }

  /** The device's counts of ring errors on one queue. */
  errors(queue = 0): Record<string, number> {
    return this.dev.errorCounts()[queue] ?? {};
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.dev.close();
    await this.process.exit();
  }
}
