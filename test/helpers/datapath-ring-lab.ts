// The ring alone, with the consumer that the records were made with.

import { loadRings, type RingKind } from "#dist/ring/load.js";
import { RingTables } from "#dist/ring/tables.js";
import { VQ_DEVICE, VQ_LAST_AVAIL } from "#dist/spec/ring-state.js";
import { VIRTQ_RING_ELEMENTS, VIRTQ_RING_IDX } from "#dist/spec/virtio-ring.js";
import { VsockTx } from "../conformance/vsock-tx.js";
import { endOf } from "./broken-chains.js";
import type { Scenario } from "./datapath.js";
import { Lab, type LabShape, type Seen, type Signs } from "./datapath-lab.js";
import { makeMemory, RingFixture } from "./ring-fixture.js";

export class RingLab extends Lab {
  readonly f: RingFixture;
  readonly #start: (position: number) => void;
  readonly #device: VsockTx;

  /** Starts the ring. */
  constructor(kind: RingKind, { base = 0, pages = 16, ...shape }: LabShape) {
    super();
    const memory = makeMemory(true, pages);
    this.f = new RingFixture(memory, { linux: true, ...shape });
    const ring = loadRings(memory, kind).device(this.f.device.vq);
    this.#device = new VsockTx(ring, new RingTables(memory, ring.vq));
    this.#start = (position) => ring.start(position);
    this.f.availIdx = this.f.usedIdx = base;
    this.#start(base);
    for (let i = 0; i < this.f.num; i++) this.f.writeDesc(i, this.packet());
  }

  get lastAvail(): number {
    return this.f.word("device", VQ_LAST_AVAIL);
  }

  get regionEnd(): bigint {
    return endOf(this.f, 0);
  }

  guestOf(linear: number): bigint {
    return this.f.guestOf(linear);
  }

  /** Nothing: lengths alone are looked at. */
  putPacket(): void {}

  async kickDevice(): Promise<Signs> {
    return this.#device.kick();
  }

  /** Nothing: it is not kicked meanwhile. */
  async stop(): Promise<void> {}

  async start(position: number): Promise<void> {
    this.#start(position);
  }

  more(): Seen {
    return {};
  }
}

/** Scenarios that reach into the ring's state block. */
export const RING_SCENARIOS: Record<string, Scenario<RingLab>> = {
  "dp-73-addr-change-running": {
    run: async (lab) => {
      const { f } = lab;
      await lab.send("old");
      const moved = f.data + 2048;
      f.setWord("device", VQ_DEVICE, moved);
      await lab.send("new");
      const usedIdx = f.view.getUint16(moved + VIRTQ_RING_IDX, true);
      lab.seen["new_used_idx(continues_from_last_used)"] = usedIdx;
      lab.seen.new_used_ring_slot1_id = f.view.getUint32(moved + VIRTQ_RING_ELEMENTS + 8, true);
    },
    leftOut: ["set_addr_running"],
  },
};
