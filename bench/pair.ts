import { GuestMemory } from "#dist/memory/guest-memory.js";
import { SharedMemory } from "#dist/memory/shared-memory.js";
import { vringAreas } from "#dist/memory/vring.js";
import { loadRings, type RingKind, type Rings } from "#dist/ring/load.js";
import type { DeviceRing, DriverRing } from "#dist/ring/ring.js";
import { allocDeviceState, allocDriverState, type RingSetup } from "#dist/ring/state-block.js";
import { RingTables } from "#dist/ring/tables.js";
import { featureMask } from "#dist/spec/features.js";
import {
  VIRTIO_F_EVENT_IDX,
  VIRTIO_F_IN_ORDER,
  VIRTIO_F_INDIRECT_DESC,
  VIRTIO_F_RING_PACKED,
} from "#dist/spec/virtio-config.js";
import { VIRTQ_DESC_BYTES } from "#dist/spec/virtio-ring.js";

/** Memory of a bench: host part 2 MiB, guest part the rest, most of it buffers. */
const MEMORY_BYTES = 16 << 20;
const PAGE_BYTES = 65536;
/** A buffer has its page, so that it never lies across two regions. */
const BUFFER_BYTES = 4096;
/** Buffers of all pairs together; nothing is ever written to them. */
const BUFFERS = 3072;
/** No two areas on one cache line. */
const AREA_ALIGN = 64;
/** Both positions of a packed ring at its beginning. */
const PACKED_START = 0x8000_8000;
/** Descriptors of an indirect table. */
const INDIRECT_CAPACITY = 16;

/** What a ring is like. */
export interface PairShape {
  /** Entries of the ring. */
  num: number;
  /** Pieces of a chain: 1 (writable), or 3: a header, data, a status, as a block request has. */
  pieces: 1 | 3;
  indirect: boolean;
  format: "split" | "packed";
  inOrder: boolean;
  /** Regions that the guest's memory is divided into. */
  regionCount: number;
}

function featuresOf({ indirect, format, inOrder }: PairShape): bigint {
  return featureMask(
    VIRTIO_F_EVENT_IDX,
    ...(indirect ? [VIRTIO_F_INDIRECT_DESC] : []),
    ...(format === "packed" ? [VIRTIO_F_RING_PACKED] : []),
    ...(inOrder ? [VIRTIO_F_IN_ORDER] : []),
  );
}

/** One memory and one instance of each implementation, as a process has them. One thread. */
export class BenchMemory {
  readonly shared: SharedMemory;
  /** Linear address of the buffers. */
  readonly bufferStart: number;
  readonly #rings = new Map<RingKind, Rings>();

  constructor() {
    const pages = MEMORY_BYTES / PAGE_BYTES;
    const memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
    this.shared = SharedMemory.of(memory);
    this.bufferStart = this.shared.allocGuest(BUFFERS * BUFFER_BYTES, BUFFER_BYTES);
  }

  /** The implementation, loaded once. */
  rings(kind: RingKind): Rings {
    const rings = this.#rings.get(kind) ?? loadRings(this.shared.memory, kind);
    this.#rings.set(kind, rings);
    return rings;
  }
}

/** Buffers that the driver hands out, in turn: piece p of slot s is entry s × pieces + p. */
export interface Buffers {
  addresses: Uint32Array;
  lengths: Uint32Array;
  slots: number;
}

/** A page for each piece, all over the guest's memory in no order: 797 is prime to the count. */
function spreadBuffers(start: number, pieces: 1 | 3): Buffers {
  const addresses = Uint32Array.from({ length: BUFFERS }, (_, i) => {
    return start + ((i * 797) % BUFFERS) * BUFFER_BYTES;
  });
  const lengths = Uint32Array.from(addresses, (_, i) => {
    return pieces === 1 ? BUFFER_BYTES : ([16, BUFFER_BYTES, 1][i % 3] as number);
  });
  return { addresses, lengths, slots: BUFFERS / pieces };
}

/** A driver and a device of the same implementation over one ring. */
export class RingPair {
  readonly shape: PairShape;
  readonly setup: RingSetup;
  readonly driver: DriverRing;
  readonly device: DeviceRing;
  readonly driverTables: RingTables;
  readonly deviceTables: RingTables;
  readonly buffers: Buffers;
  readonly #releases: (() => void)[] = [];

  /** Takes memory; the ring is empty and started. */
  constructor({ shared, bufferStart }: BenchMemory, rings: Rings, shape: PairShape) {
    this.shape = shape;
    this.buffers = spreadBuffers(bufferStart, shape.pieces);
    const { num } = shape;
    const features = featuresOf(shape);
    const areas = vringAreas(num, shape.format === "packed");
    const [desc, driver, device] = [areas.desc, areas.driver, areas.device].map(({ bytes }) =>
      this.#guest(shared, bytes, AREA_ALIGN),
    ) as [number, number, number];
    this.setup = { num, desc, driver, device, features };
    const driverState = allocDriverState(shared, this.setup, this.#indirectTables(shared));
    const { regions, count } = this.#regions(shared);
    const deviceState = allocDeviceState(shared, this.setup, regions, count);
    this.#releases.push(driverState.release, deviceState.release);
    this.driverTables = new RingTables(shared.memory, driverState.vq);
    this.deviceTables = new RingTables(shared.memory, deviceState.vq);
    this.driver = rings.driver(driverState.vq);
    this.device = rings.device(deviceState.vq);
    this.driver.reset();
    this.device.start(shape.format === "packed" ? PACKED_START : 0);
  }

  #guest(shared: SharedMemory, bytes: number, align: number): number {
    const address = shared.allocGuest(bytes, align);
    this.#releases.push(() => shared.guest.free(address));
    return address;
  }

  #indirectTables(shared: SharedMemory): { address: number; capacity: number } | undefined {
    if (!this.shape.indirect) return undefined;
    const bytes = this.shape.num * INDIRECT_CAPACITY * VIRTQ_DESC_BYTES;
    return { address: this.#guest(shared, bytes, BUFFER_BYTES), capacity: INDIRECT_CAPACITY };
  }

  /** The guest's memory in equal parts. Only adjoining ones: the driver knows one distance. */
  #regions(shared: SharedMemory): { regions: number; count: number } {
    const count = this.shape.regionCount;
    const { guestStart, guestBytes } = shared;
    const end = guestStart + guestBytes;
    const part = Math.ceil(guestBytes / count / BUFFER_BYTES) * BUFFER_BYTES;
    const table = new GuestMemory(
      Array.from({ length: count }, (_, i) => {
        const linearAddress = guestStart + i * part;
        const sizeBytes = BigInt(Math.min(part, end - linearAddress));
        return { guestAddress: shared.toGuest(linearAddress), sizeBytes, linearAddress };
      }),
      guestStart,
      end,
    );
    const regions = shared.allocHost(table.tableBytes);
    this.#releases.push(() => shared.host.free(regions));
    table.writeTo(shared.view, regions);
    return { regions, count };
  }

  /** Gives its memory back. */
  release(): void {
    for (const release of this.#releases) release();
  }
}
