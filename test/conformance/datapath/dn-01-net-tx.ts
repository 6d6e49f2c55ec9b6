import type { Scene, Seen } from "../machine/index.js";
import { NetRig, textOf } from "../machine/net-rig.js";
import { threadNamed } from "../task-fields.js";

export function run({ main }: Scene): Seen {
  const rig = new NetRig(main);
  rig.setGood(0);
  rig.tx.publish(0);
  const seen = rig.kickAndSee("tx");
  const [frame = new Uint8Array(0)] = rig.wire;
  const { id, len } = rig.tx.usedEntry(0);
  return {
    setup: rig.setup,
    ...seen,
    tx_used0_id: id,
    tx_used0_len: len,
    wire_len: frame.length,
    wire_text: textOf(frame),
    has_worker: threadNamed(main, "vhost-") !== undefined,
  };
}
