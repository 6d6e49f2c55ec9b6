import type { Scene, Seen } from "../machine/index.js";
import { VsockRig, WITH_EVENT_IDX } from "../machine/vsock-rig.js";

export function run({ main }: Scene): Seen {
  const options = { features: WITH_EVENT_IDX, num: 16, base: 65533, rxBuffers: 12 };
  const rig = new VsockRig(main, options);
  const { tx } = rig;
  tx.usedEvent = 0;
  const seen: Seen = {};
  for (const name of ["p0", "p1", "p2", "p3"]) {
    rig.sendRequest();
    rig.kick();
    seen[`${name}_used_idx`] = tx.usedIdx;
    seen[`${name}_call`] = tx.call.read();
    seen[`${name}_avail_event`] = tx.availEvent;
  }
  return { ...seen, last_avail: rig.lastAvail(), err_signals: tx.err.read() };
}
