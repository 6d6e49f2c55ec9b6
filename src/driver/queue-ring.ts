import { checkQueueSize, type VringArea, vringAreas } from "../memory/vring.js";
import type { DriverRing } from "../ring/ring.js";
import { allocDriverState, type StateBlock } from "../ring/state-block.js";
import { RingTables } from "../ring/tables.js";
import { hasFeature } from "../spec/features.js";
import { VIRTIO_F_INDIRECT_DESC, VIRTIO_F_RING_PACKED } from "../spec/virtio-config.js";
import { VIRTQ_DESC_BYTES } from "../spec/virtio-ring.js";
import { DmaBuffer } from "./dma.js";
import type { QueueAddresses, Transport } from "./transport.js";

/** Pieces that go into an indirect table; longer chains are direct. */
const INDIRECT_CAPACITY = 32;
/** The areas that one side alone writes lie on no cache line together. */
const AREA_ALIGN = 64;

/** A ring in guest memory, and the driver's half of it: what a reset of its queue makes anew. */
export class QueueRing {
  readonly #areas: DmaBuffer[] = [];
  #state: StateBlock | undefined;
  /** What the device is told. */
  readonly addresses: QueueAddresses;
  readonly ring: DriverRing;
  readonly tables: RingTables;

  /** Lays it out, empty. Throws EINVAL for a size that no ring has, ENOMEM; nothing is kept. */
  constructor(transport: Transport, num: number, features: bigint) {
    const { shared } = transport;
    const isPacked = hasFeature(features, VIRTIO_F_RING_PACKED);
    checkQueueSize(num, isPacked);
    try {
      const areas = vringAreas(num, isPacked);
      const desc = this.#place(transport, areas.desc);
      const driver = this.#place(transport, { ...areas.driver, align: AREA_ALIGN });
      const device = this.#place(transport, { ...areas.device, align: AREA_ALIGN });
      const capacity = INDIRECT_CAPACITY;
      const tables = { bytes: num * capacity * VIRTQ_DESC_BYTES, align: VIRTQ_DESC_BYTES };
      const hasIndirect = hasFeature(features, VIRTIO_F_INDIRECT_DESC);
      const indirect = hasIndirect
        ? { address: this.#place(transport, tables), capacity }
        : undefined;
      this.#state = allocDriverState(shared, { num, desc, driver, device, features }, indirect);
      const guest = (address: number) => shared.toGuest(address);
      this.addresses = { num, desc: guest(desc), driver: guest(driver), device: guest(device) };
    } catch (error) {
      this.release();
      throw error;
    }
    this.tables = new RingTables(shared.memory, this.#state.vq);
    this.ring = transport.driverRing(this.#state.vq);
    this.ring.reset();
  }

  #place({ shared }: Transport, { bytes, align }: VringArea): number {
    const buffer = new DmaBuffer(shared, bytes, align);
    this.#areas.push(buffer);
    return buffer.address;
  }

  /** Gives its memory back, when the device has no more to do with it. */
  release(): void {
    for (const buffer of this.#areas) buffer.free();
    this.#state?.release();
    this.#state = undefined;
  }
}
