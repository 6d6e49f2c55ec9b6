// Scenarios of a real kernel's data path that are about rings: what is done to the ring, in the
// words of `test/conformance/data/datapath.jsonl`, which has what the kernel did. All are transmit
// queues of a vsock device.

import { readFileSync } from "node:fs";
import {
  VIRTQ_DESC_F_INDIRECT as INDIRECT,
  VIRTQ_DESC_F_NEXT as NEXT,
  VIRTQ_AVAIL_F_NO_INTERRUPT,
  VIRTQ_DESC_F_WRITE as WRITE,
} from "#dist/spec/virtio-ring.js";
import type { Lab, LabShape, Seen } from "./datapath-lab.js";

/** A record as it stands in the file. */
export interface DatapathRecord {
  id: string;
  /** Its name. */
  setup: string;
  observed: Seen;
}

/** All records that are kept here, for scenarios of this file and of others. */
export function readDatapath(): DatapathRecord[] {
  const file = new URL("../conformance/data/datapath.jsonl", import.meta.url);
  return readFileSync(file, "utf8")
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as DatapathRecord);
}

/** No region has it. */
const UNMAPPED = 0xdead_0000n;

/** What is done to a ring. */
export interface Scenario<L extends Lab = Lab> {
  shape?: LabShape;
  run: (lab: L) => void | Promise<void>;
  /** Names of values that are not seen here. */
  leftOut?: string[];
}

/** A scenario that writes a ring whose head 0 is offered, then kicks and repairs. */
function repairable(write: (lab: Lab) => void, shape: LabShape = {}): Scenario {
  const run = (lab: Lab) => {
    write(lab);
    lab.f.offer(0);
    return lab.kickAndRepair();
  };
  return { shape, run };
}

const INDIRECT_SHAPE: LabShape = { indirect: true };

/** By id. */
export const SCENARIOS: Record<string, Scenario> = {
  "dp-03-chain-split-header": {
    run: async (lab) => {
      lab.chain(20, 24);
      await lab.send("tx");
    },
  },
  "dp-04-indirect-ok": {
    shape: INDIRECT_SHAPE,
    run: async (lab) => {
      lab.table(lab.packet({ to: 20, flags: NEXT, next: 1 }), lab.packet({ from: 20 }));
      lab.indirect(32);
      await lab.send("tx");
    },
  },
  "dp-07-loop-two": repairable((lab) => {
    lab.f.writeDesc(0, lab.packet({ flags: NEXT, next: 1 }));
    lab.f.writeDesc(1, lab.packet({ flags: NEXT, next: 0 }));
  }),
  "dp-08-loop-self": repairable((lab) => lab.f.writeDesc(0, lab.packet({ flags: NEXT, next: 0 }))),
  "dp-10-indirect-len-mod16": repairable((lab) => {
    lab.table(lab.packet());
    lab.indirect(30);
  }, INDIRECT_SHAPE),
  "dp-11-indirect-len-0": repairable((lab) => {
    lab.table(lab.packet());
    lab.indirect(0);
  }, INDIRECT_SHAPE),
  "dp-13-indirect-unmapped": repairable(
    (lab) => lab.indirect(16, { addr: UNMAPPED }),
    INDIRECT_SHAPE,
  ),
  "dp-14-avail-jump-gt-num": {
    shape: { srcCid: 99 },
    run: async (lab) => {
      for (let slot = 0; slot < 8; slot++) lab.f.setAvailHead(slot, slot);
      lab.f.availIdx = 9;
      await lab.kickAndRepair();
    },
  },
  "dp-16-write-before-read": repairable((lab) => {
    lab.f.writeDesc(0, lab.packet({ flags: WRITE | NEXT, next: 1 }));
  }),
  "dp-17-tx-writable": repairable((lab) => lab.f.writeDesc(0, lab.packet({ flags: WRITE }))),
  "dp-19-short-header": repairable((lab) => lab.f.writeDesc(0, lab.packet({ to: 20 }))),
  "dp-21-too-big": repairable((lab) => lab.f.writeDesc(0, lab.packet({ len: 65536 + 45 })), {
    dataBytes: 80_000,
  }),
  "dp-22-addr-unmapped": repairable((lab) => lab.f.writeDesc(0, lab.packet({ addr: UNMAPPED }))),
  "dp-23-cross-region-ok": {
    shape: { more: [{ bytes: 256 }] },
    run: async (lab) => {
      const addr = lab.regionEnd - 20n;
      lab.putPacket(addr);
      lab.f.writeDesc(0, lab.packet({ addr }));
      await lab.send("tx");
    },
    leftOut: ["set_mem_two_adjacent"],
  },
  "dp-31-no-interrupt-flag": {
    run: async (lab) => {
      lab.f.availFlags = VIRTQ_AVAIL_F_NO_INTERRUPT;
      await lab.send("tx");
      lab.f.availFlags = 0;
      await lab.send("tx2");
    },
  },
  "dp-31b-no-interrupt-with-event-idx": {
    shape: { eventIdx: true },
    run: async (lab) => {
      lab.f.availFlags = VIRTQ_AVAIL_F_NO_INTERRUPT;
      await lab.send("tx", 0, 0);
    },
  },
  "dp-33-event-idx": {
    shape: { eventIdx: true, num: 16, rxBuffers: 14 },
    run: async (lab) => {
      await lab.send("p1", 0, 1000);
      await lab.send("p2", 1);
      await lab.send("p3", 2, 2);
      await lab.send("p4", 3);
      lab.f.offer(4);
      lab.f.offer(5);
      await lab.send("p7", 6, 6);
      lab.f.offer(7);
      await lab.send("p9", 8, 9);
    },
  },
  "dp-35-event-idx-wrap": {
    shape: { eventIdx: true, num: 16, base: 65533, rxBuffers: 12 },
    run: async (lab) => {
      let errors = 0;
      for (const i of [0, 1, 2, 3]) {
        await lab.send(`p${i}`, i, 0);
        errors += Number(lab.seen[`p${i}_err`]);
      }
      lab.seen.last_avail = lab.lastAvail;
      lab.seen.err_signals = errors;
    },
  },
  "dp-36-index-wrap": {
    shape: { base: 65534, rxBuffers: 6 },
    run: async (lab) => {
      for (const head of [0, 1, 2]) lab.f.offer(head);
      await lab.send("tx", 3);
      const slots = Array.from({ length: 8 }, (_, slot) => lab.f.usedElem(slot));
      lab.seen.slot6_id = slots[6]?.[0] ?? -1;
    },
    leftOut: ["used_ring_slot_of_first"],
  },
  "dp-37-base-vs-used-idx": {
    shape: { base: 5 },
    run: async (lab) => {
      lab.f.usedIdx = 0;
      await lab.start(5);
      await lab.send("tx");
      lab.seen.used_ring0_id = lab.f.usedElem(0)[0];
      lab.seen.used_ring5_len = lab.f.usedElem(5)[1];
    },
    leftOut: ["running"],
  },
  "dp-50-stop-start": {
    run: async (lab) => {
      await lab.send("tx");
      lab.seen.used_1 = lab.f.usedIdx;
      await lab.stop();
      lab.seen.base_stopped = lab.lastAvail;
      lab.f.offer(1);
      lab.seen.used_stopped = lab.f.usedIdx;
      await lab.start(lab.lastAvail);
      lab.seen.used_restarted = lab.f.usedIdx;
      await lab.kick("again");
      lab.seen.used_restarted_kick = lab.f.usedIdx;
      lab.seen.base_end = lab.lastAvail;
    },
    leftOut: ["stop", "start", "set_num_stopped"],
  },
  "dp-53-chain-eq-num": {
    run: async (lab) => {
      lab.chain(5, 5, 5, 5, 6, 6, 6, 6);
      await lab.send("tx");
    },
  },
  "dp-54-indirect-plus-next": repairable((lab) => {
    lab.table(lab.packet({ to: 20 }));
    lab.indirect(16, { flags: INDIRECT | NEXT, next: 1 });
    lab.f.writeDesc(1, lab.packet({ from: 20 }));
  }, INDIRECT_SHAPE),
  "dp-55-indirect-next-skips": repairable((lab) => {
    lab.table(
      lab.packet({ to: 20, flags: NEXT, next: 2 }),
      lab.packet({ addr: UNMAPPED, flags: NEXT, next: 2 }),
      lab.packet({ from: 20 }),
    );
    lab.indirect(48);
  }, INDIRECT_SHAPE),
  "dp-55c-indirect-runs-off": repairable((lab) => {
    lab.table(
      lab.packet({ to: 20, flags: NEXT, next: 1 }),
      lab.packet({ from: 20, flags: NEXT, next: 2 }),
    );
    lab.indirect(32);
  }, INDIRECT_SHAPE),
  "dp-58-indirect-write-before-read": repairable((lab) => {
    lab.table(lab.packet({ flags: WRITE | NEXT, next: 1 }), lab.packet());
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
  "dp-60-zero-length-tail": repairable((lab) => {
    lab.f.writeDesc(0, lab.packet({ flags: NEXT, next: 1 }));
    lab.f.writeDesc(1, lab.packet({ len: 0 }));
  }),
  "dp-61-num-1": {
    shape: { num: 1, rxBuffers: 1 },
    run: (lab) => lab.send("p1"),
    leftOut: ["used_idx", "last_avail", "err_signals", "call_signals", "used_flags"]
      .flatMap(
        (name) => [`p2_${name}`, `p3_${name}`], // the device waits for room for its replies
      )
      .concat("rx_used_idx_2"),
  },
  "dp-62-weight": {
    shape: { num: 1024, burst: 128, rxBuffers: 0, srcCid: 99 },
    run: async (lab) => {
      for (let i = 0; i < 600; i++) lab.f.offer(i);
      await lab.kick("tx");
    },
  },
  "dp-63-tx-extra-writable": repairable((lab) => {
    lab.f.writeDesc(0, lab.packet({ flags: NEXT, next: 1 }));
    lab.f.writeDesc(1, lab.packet({ flags: WRITE }));
  }),
  "dp-65-addr-wrap": repairable((lab) => {
    lab.f.writeDesc(0, lab.packet({ addr: 0xffff_ffff_ffff_fff0n }));
  }),
  "dp-68-good-bad-good": {
    run: async (lab) => {
      for (const head of [0, 100]) lab.f.offer(head);
      await lab.send("tx", 2);
      lab.f.setAvailHead(1, 1);
      await lab.kick("fixed");
    },
  },
  "dp-69-avail-backwards": {
    run: async (lab) => {
      await lab.send("p1");
      lab.f.availIdx = 0;
      await lab.kick("back");
    },
  },
  "dp-72-kthread-parity": {
    run: async (lab) => {
      await lab.send("tx");
      await lab.send("bad", 100);
    },
    leftOut: ["kthread_mode", "running"],
  },
  "dp-74-live-changes": {
    run: async (lab) => {
      await lab.send("tx");
      lab.f.usedIdx = 77;
      await lab.send("tx2", 1);
      lab.seen.used_idx = lab.f.usedIdx;
    },
    leftOut: [
      ...["set_call", "old_call", "new_call", "set_kick", "used_after_old_kick"],
      ...["used_after_new_kick", "unset_kick", "used_after_unset_kick"],
    ],
  },
};
