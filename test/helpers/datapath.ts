// Scenarios of a real kernel's data path that are about rings: what is done to the ring, in the
// words of `test/conformance/data/datapath.jsonl`, which has what the kernel did. All are transmit
// queues of a vsock device.

import { readFileSync } from "node:fs";
import { loadRings, type RingKind } from "#dist/ring/load.js";
import { RingTables } from "#dist/ring/tables.js";
import { VQ_DEVICE, VQ_LAST_AVAIL } from "#dist/spec/ring-state.js";
import {
  VIRTQ_DESC_F_INDIRECT as INDIRECT,
  VIRTQ_DESC_F_NEXT as NEXT,
  VIRTQ_AVAIL_F_NO_INTERRUPT,
  VIRTQ_RING_ELEMENTS,
  VIRTQ_RING_IDX,
  VIRTQ_DESC_F_WRITE as WRITE,
} from "#dist/spec/virtio-ring.js";
import { VsockTx } from "../conformance/vsock-tx.js";
import { endOf } from "./broken-chains.js";
import type { RawDesc } from "./raw-ring.js";
import { makeMemory, RingFixture, type RingShape } from "./ring-fixture.js";

/** Values by the names of the records. */
export type Seen = Record<string, string | number>;

/** A record as it stands in the file. */
export interface DatapathRecord {
  id: string;
  /** Its name. */
  setup: string;
  observed: Seen;
}

/** All records that have a scenario here. */
export function readDatapath(): DatapathRecord[] {
  const file = new URL("../conformance/data/datapath.jsonl", import.meta.url);
  return readFileSync(file, "utf8")
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as DatapathRecord)
    .filter(({ id }) => Object.hasOwn(SCENARIOS, id));
}

const HEADER_BYTES = 44;
/** No region has it. */
const UNMAPPED = 0xdead_0000n;
/** A device-readable packet: `len` bytes of the data. */
const packet = (f: RingFixture, more: Partial<RawDesc> = {}): RawDesc => ({
  addr: f.guestOf(f.data + 1024),
  len: HEADER_BYTES,
  flags: 0,
  ...more,
});

/** A ring that the kernel would work on, and the device behind it. */
export class Lab {
  readonly f: RingFixture;
  readonly start: (position: number) => void;
  readonly seen: Seen = {};
  readonly #device: VsockTx;

  /** Starts the ring; `base` is where both indices begin. */
  constructor(kind: RingKind, { base = 0, pages = 16, ...shape }: LabShape) {
    const memory = makeMemory(true, pages);
    this.f = new RingFixture(memory, { linux: true, ...shape });
    const ring = loadRings(memory, kind).device(this.f.device.vq);
    this.#device = new VsockTx(ring, new RingTables(memory, ring.vq));
    this.start = (position) => ring.start(position);
    this.f.availIdx = this.f.usedIdx = base;
    this.start(base);
    for (let i = 0; i < this.f.num; i++) this.f.writeDesc(i, packet(this.f));
  }

  get lastAvail(): number {
    return this.f.word("device", VQ_LAST_AVAIL);
  }

  /** Writes the indirect table that lies at the data's first byte. */
  table(...entries: RawDesc[]): void {
    entries.forEach((entry, i) => {
      this.f.writeDescAt(this.f.data + 16 * i, entry);
    });
  }

  /** Makes descriptor 0 name that table, as `len` bytes. */
  indirect(len: number, more: Partial<RawDesc> = {}): void {
    this.f.writeDesc(0, { addr: this.f.guestOf(this.f.data), len, flags: INDIRECT, ...more });
  }

  /** Kicks; what can be seen then is noted, each name after `name`. */
  kick(name: string): void {
    const { errors, calls } = this.#device.kick();
    Object.assign(this.seen, {
      [`${name}_used_idx`]: this.f.usedIdx,
      [`${name}_last_avail`]: this.lastAvail,
      [`${name}_err_signals`]: errors,
      [`${name}_err`]: errors,
      [`${name}_call_signals`]: calls,
      [`${name}_call`]: calls,
      [`${name}_used_flags`]: this.f.usedFlags,
      [`${name}_avail_event`]: this.f.availEvent,
    });
  }

  /** Offers a packet in descriptor `head` and kicks. */
  send(name: string, head = 0, usedEvent?: number): void {
    if (usedEvent !== undefined) this.f.usedEvent = usedEvent;
    this.f.offer(head);
    this.kick(name);
  }

  /** What most records do once the ring is written: kick, kick again, repair, one more. */
  kickAndRepair(): void {
    this.kick("kick1");
    this.kick("kick2");
    this.f.writeDesc(2, packet(this.f));
    for (let slot = 0; slot < this.f.num; slot++) this.f.setAvailHead(slot, 2);
    this.kick("repaired");
    this.send("next", 2);
    this.seen.used0_id = this.f.usedElem(0)[0];
  }
}

/** A ring's shape; index both sides begin at, pages of memory. */
type LabShape = Partial<RingShape> & { base?: number; pages?: number };

/** What is done to a ring. */
export interface Scenario {
  shape?: LabShape;
  run: (lab: Lab) => void;
  /** Names of values that are not the ring's. */
  leftOut?: string[];
}

/** A scenario that writes a ring whose head 0 is offered, then kicks and repairs. */
function repairable(write: (lab: Lab) => void, shape: LabShape = {}): Scenario {
  const run = (lab: Lab): void => {
    write(lab);
    lab.f.offer(0);
    lab.kickAndRepair();
  };
  return { shape, run };
}

const INDIRECT_SHAPE: LabShape = { indirect: true };

/** By id. */
export const SCENARIOS: Record<string, Scenario> = {
  "dp-03-chain-split-header": {
    run: (lab) => {
      lab.f.writeDesc(0, packet(lab.f, { len: 20, flags: NEXT, next: 1 }));
      lab.f.writeDesc(1, packet(lab.f, { len: 24 }));
      lab.send("tx");
    },
  },
  "dp-04-indirect-ok": {
    shape: INDIRECT_SHAPE,
    run: (lab) => {
      lab.table(
        packet(lab.f, { len: 20, flags: NEXT, next: 1 }),
        packet(lab.f, { len: 24, flags: 0 }),
      );
      lab.indirect(32);
      lab.send("tx");
    },
  },
  "dp-07-loop-two": repairable(({ f }) => {
    f.writeDesc(0, packet(f, { flags: NEXT, next: 1 }));
    f.writeDesc(1, packet(f, { flags: NEXT, next: 0 }));
  }),
  "dp-08-loop-self": repairable(({ f }) => f.writeDesc(0, packet(f, { flags: NEXT, next: 0 }))),
  "dp-10-indirect-len-mod16": repairable((lab) => {
    lab.table(packet(lab.f));
    lab.indirect(30);
  }, INDIRECT_SHAPE),
  "dp-11-indirect-len-0": repairable((lab) => {
    lab.table(packet(lab.f));
    lab.indirect(0);
  }, INDIRECT_SHAPE),
  "dp-13-indirect-unmapped": repairable(
    (lab) => lab.indirect(16, { addr: UNMAPPED }),
    INDIRECT_SHAPE,
  ),
  "dp-14-avail-jump-gt-num": {
    run: (lab) => {
      for (let slot = 0; slot < 8; slot++) lab.f.setAvailHead(slot, slot);
      lab.f.availIdx = 9;
      lab.kickAndRepair();
    },
  },
  "dp-16-write-before-read": repairable(({ f }) => {
    f.writeDesc(0, packet(f, { flags: WRITE | NEXT, next: 1 }));
  }),
  "dp-17-tx-writable": repairable(({ f }) => f.writeDesc(0, packet(f, { flags: WRITE }))),
  "dp-19-short-header": repairable(({ f }) => f.writeDesc(0, packet(f, { len: 20 }))),
  "dp-21-too-big": repairable(({ f }) => f.writeDesc(0, packet(f, { len: 65536 + 45 })), {
    dataBytes: 80_000,
  }),
  "dp-22-addr-unmapped": repairable(({ f }) => f.writeDesc(0, packet(f, { addr: UNMAPPED }))),
  "dp-23-cross-region-ok": {
    shape: { more: [{ bytes: 256 }] },
    run: (lab) => {
      lab.f.writeDesc(0, packet(lab.f, { addr: endOf(lab.f, 0) - 20n }));
      lab.send("tx");
    },
    leftOut: ["set_mem_two_adjacent"],
  },
  "dp-31-no-interrupt-flag": {
    run: (lab) => {
      lab.f.availFlags = VIRTQ_AVAIL_F_NO_INTERRUPT;
      lab.send("tx");
      lab.f.availFlags = 0;
      lab.send("tx2");
    },
  },
  "dp-31b-no-interrupt-with-event-idx": {
    shape: { eventIdx: true },
    run: (lab) => {
      lab.f.availFlags = VIRTQ_AVAIL_F_NO_INTERRUPT;
      lab.send("tx", 0, 0);
    },
  },
  "dp-33-event-idx": {
    shape: { eventIdx: true, num: 16 },
    run: (lab) => {
      lab.send("p1", 0, 1000);
      lab.send("p2", 1);
      lab.send("p3", 2, 2);
      lab.send("p4", 3);
      lab.f.offer(4);
      lab.f.offer(5);
      lab.send("p7", 6, 6);
      lab.f.offer(7);
      lab.send("p9", 8, 9);
    },
  },
  "dp-35-event-idx-wrap": {
    shape: { eventIdx: true, num: 16, base: 65533 },
    run: (lab) => {
      let errors = 0;
      for (const i of [0, 1, 2, 3]) {
        lab.send(`p${i}`, i, 0);
        errors += Number(lab.seen[`p${i}_err`]);
      }
      lab.seen.last_avail = lab.lastAvail;
      lab.seen.err_signals = errors;
    },
  },
  "dp-36-index-wrap": {
    shape: { base: 65534 },
    run: (lab) => {
      for (const head of [0, 1, 2]) lab.f.offer(head);
      lab.send("tx", 3);
      const slots = Array.from({ length: 8 }, (_, slot) => lab.f.usedElem(slot));
      lab.seen.slot6_id = slots[6]?.[0] ?? -1;
    },
    leftOut: ["used_ring_slot_of_first"],
  },
  "dp-37-base-vs-used-idx": {
    shape: { base: 5 },
    run: (lab) => {
      lab.f.usedIdx = 0;
      lab.start(5);
      lab.send("tx");
      lab.seen.used_ring0_id = lab.f.usedElem(0)[0];
      lab.seen.used_ring5_len = lab.f.usedElem(5)[1];
    },
    leftOut: ["running"],
  },
  "dp-50-stop-start": {
    run: (lab) => {
      lab.send("tx");
      lab.seen.used_1 = lab.f.usedIdx;
      lab.seen.base_stopped = lab.lastAvail;
      lab.f.offer(1);
      lab.seen.used_stopped = lab.f.usedIdx;
      lab.start(lab.lastAvail);
      lab.seen.used_restarted = lab.f.usedIdx;
      lab.kick("again");
      lab.seen.used_restarted_kick = lab.f.usedIdx;
      lab.seen.base_end = lab.lastAvail;
    },
    leftOut: ["stop", "start", "set_num_stopped"],
  },
  "dp-53-chain-eq-num": {
    run: (lab) => {
      for (let i = 0; i < 8; i++) {
        const next = (i + 1) % 8;
        lab.f.writeDesc(i, packet(lab.f, { len: i < 4 ? 5 : 6, flags: i < 7 ? NEXT : 0, next }));
      }
      lab.send("tx");
    },
  },
  "dp-54-indirect-plus-next": repairable((lab) => {
    lab.table(packet(lab.f, { len: 20 }));
    lab.indirect(16, { flags: INDIRECT | NEXT, next: 1 });
    lab.f.writeDesc(1, packet(lab.f, { len: 24 }));
  }, INDIRECT_SHAPE),
  "dp-55-indirect-next-skips": repairable((lab) => {
    lab.table(
      packet(lab.f, { len: 20, flags: NEXT, next: 2 }),
      packet(lab.f, { addr: UNMAPPED, flags: NEXT, next: 2 }),
      packet(lab.f, { len: 24 }),
    );
    lab.indirect(48);
  }, INDIRECT_SHAPE),
  "dp-55c-indirect-runs-off": repairable((lab) => {
    lab.table(
      packet(lab.f, { len: 20, flags: NEXT, next: 1 }),
      packet(lab.f, { len: 24, flags: NEXT, next: 2 }),
    );
    lab.indirect(32);
  }, INDIRECT_SHAPE),
  "dp-58-indirect-write-before-read": repairable((lab) => {
    lab.table(packet(lab.f, { flags: WRITE | NEXT, next: 1 }), packet(lab.f));
    lab.indirect(32);
  }, INDIRECT_SHAPE),
  "dp-59-indirect-too-long": {
    ...repairable((lab) => lab.indirect(16 * 65537), {
      ...INDIRECT_SHAPE,
      dataBytes: 16 * 65538,
      pages: 32,
    }),
    leftOut: ["set_mem"],
  },
  "dp-60-zero-length-tail": repairable(({ f }) => {
    f.writeDesc(0, packet(f, { flags: NEXT, next: 1 }));
    f.writeDesc(1, packet(f, { len: 0 }));
  }),
  "dp-61-num-1": {
    shape: { num: 1 },
    run: (lab) => lab.send("p1"),
    leftOut: ["used_idx", "last_avail", "err_signals", "call_signals", "used_flags"].flatMap(
      (name) => [`p2_${name}`, `p3_${name}`], // the device waits for room for its replies
    ),
  },
  "dp-62-weight": {
    shape: { num: 1024, burst: 128 },
    run: (lab) => {
      for (let i = 0; i < 600; i++) lab.f.offer(i);
      lab.kick("tx");
    },
  },
  "dp-63-tx-extra-writable": repairable(({ f }) => {
    f.writeDesc(0, packet(f, { flags: NEXT, next: 1 }));
    f.writeDesc(1, packet(f, { flags: WRITE }));
  }),
  "dp-65-addr-wrap": repairable(({ f }) => {
    f.writeDesc(0, packet(f, { addr: 0xffff_ffff_ffff_fff0n }));
  }),
  "dp-68-good-bad-good": {
    run: (lab) => {
      for (const head of [0, 100]) lab.f.offer(head);
      lab.send("tx", 2);
      lab.f.setAvailHead(1, 1);
      lab.kick("fixed");
    },
  },
  "dp-69-avail-backwards": {
    run: (lab) => {
      lab.send("p1");
      lab.f.availIdx = 0;
      lab.kick("back");
    },
  },
  "dp-72-kthread-parity": {
    run: (lab) => {
      lab.send("tx");
      lab.send("bad", 100);
    },
    leftOut: ["kthread_mode", "running"],
  },
  "dp-73-addr-change-running": {
    run: (lab) => {
      const { f } = lab;
      lab.send("old");
      const moved = f.data + 2048;
      f.setWord("device", VQ_DEVICE, moved);
      lab.send("new");
      const usedIdx = f.view.getUint16(moved + VIRTQ_RING_IDX, true);
      lab.seen["new_used_idx(continues_from_last_used)"] = usedIdx;
      lab.seen.new_used_ring_slot1_id = f.view.getUint32(moved + VIRTQ_RING_ELEMENTS + 8, true);
    },
    leftOut: ["set_addr_running"],
  },
  "dp-74-live-changes": {
    run: (lab) => {
      lab.send("tx");
      lab.f.usedIdx = 77;
      lab.send("tx2", 1);
      lab.seen.used_idx = lab.f.usedIdx;
    },
    leftOut: [
      ...["set_call", "old_call", "new_call", "set_kick", "used_after_old_kick"],
      ...["used_after_new_kick", "unset_kick", "used_after_unset_kick"],
    ],
  },
};
