// A device that is played by hand: the real driver's rings, and a test that writes into them what a
// device would, or should not.

import { setImmediate as nextTurn } from "node:timers/promises";
import type { ProbeOptions } from "#dist/driver/probe.js";
import type { Transport } from "#dist/driver/transport.js";
import { Kernel } from "#dist/index.js";
import { GUEST_BASE, type SharedMemory } from "#dist/memory/shared-memory.js";
import { VIRTIO_F_INDIRECT_DESC } from "#dist/spec/virtio-config.js";
import { VIRTQ_DESC_BYTES, VIRTQ_DESC_F_INDIRECT } from "#dist/spec/virtio-ring.js";
import { VhostDev } from "#dist/vhost/dev.js";
import type { DeviceSpec } from "#dist/vhost/device.js";
import { custom } from "./devices.js";
import { type RawDesc, RawRing } from "./raw-ring.js";
import { TestTransport } from "./test-transport.js";

/** A queue of the driver's, as the device sees it. */
export class PlayedRing extends RawRing {
  readonly num: number;
  readonly desc: number;
  readonly avail: number;
  readonly used: number;
  readonly index: number;
  readonly #transport: TestTransport;

  constructor(transport: TestTransport, index = 0) {
    super(transport.shared.memory);
    const queue = transport.queues[index];
    if (!queue) throw new RangeError(`the driver set up no queue ${index}`);
    this.#transport = transport;
    this.index = index;
    this.num = queue.num;
    this.desc = this.#linear(queue.desc);
    this.avail = this.#linear(queue.driver);
    this.used = this.#linear(queue.device);
  }

  #linear(guest: bigint): number {
    return Number(guest - GUEST_BASE) + this.#transport.shared.guestStart;
  }

  /** Uses a chain and calls. */
  answer(head: number, length: number): void {
    this.setUsedElem(this.usedIdx % this.num, head, length);
    this.jump(1);
  }

  /** Moves used.idx and calls. */
  jump(by: number): void {
    this.usedIdx = this.usedIdx + by;
    this.call();
  }

  /** Calls the driver. */
  call(): void {
    this.#transport.dev.worker.doorbell.call(this.index);
  }

  /** Descriptors of the chain in slot `slot` of the available ring; of a table, its entries. */
  chain(slot: number): Required<RawDesc>[] {
    const found = [this.readDescAt(this.desc + this.availHead(slot) * VIRTQ_DESC_BYTES)];
    let [last] = found as [Required<RawDesc>];
    let table = this.desc;
    if (last.flags & VIRTQ_DESC_F_INDIRECT) {
      table = this.#linear(last.addr);
      last = this.readDescAt(table);
      found[0] = last;
    }
    while (last.flags & 1) {
      last = this.readDescAt(table + last.next * VIRTQ_DESC_BYTES);
      found.push(last);
    }
    return found;
  }

  /** Linear address of the last buffer of the chain in slot `slot` of the available ring. */
  lastBuffer(slot: number): number {
    const last = this.chain(slot).at(-1) as RawDesc;
    return this.#linear(last.addr);
  }
}

/** What is played. */
export interface PlayedOptions extends ProbeOptions {
  ring: "wasm" | "ts";
  queues?: number;
  /** The device, which is never run; default: one of another kind, with an empty configuration. */
  spec?: DeviceSpec;
  /** Called with the memory before the driver comes. */
  prepare?: (shared: SharedMemory) => void;
}

/**
 * A driver on a device that never does anything by itself. Default: queues of 8 entries, without
 * INDIRECT_DESC.
 */
export async function openPlayed<T>(
  probe: (transport: Transport, options: ProbeOptions) => Promise<T>,
  { ring, queues = 2, prepare, spec, ...probeOptions }: PlayedOptions,
) {
  const kernel = new Kernel();
  const process = kernel.spawn({ memoryBytes: 4 << 20 });
  const dev = new VhostDev(kernel.model, { run: "inline" });
  dev.setOwner(process.task);
  await dev.setBackend(spec ?? custom("hangs", { config: 60, queues }));
  const transport = new TestTransport(dev, ring);
  prepare?.(transport.shared);
  const options = { queueSize: 8, withoutFeatures: [VIRTIO_F_INDIRECT_DESC], ...probeOptions };
  const driver = await probe(transport, options);
  const used = new PlayedRing(transport);
  /** Waits until so many requests are in the ring. */
  const sent = async (count: number) => {
    while (used.availIdx !== count) await nextTurn();
  };
  return {
    driver,
    used,
    sent,
    transport,
    guest: transport.shared.guest,
    [Symbol.asyncDispose]: () => dev.close(),
  };
}
