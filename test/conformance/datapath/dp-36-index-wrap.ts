import type { Scene, Seen } from "../machine/index.js";
import { VsockRig } from "../machine/vsock-rig.js";

export function run({ main }: Scene): Seen {
  const rig = new VsockRig(main, { base: 65534, rxBuffers: 6 });
  for (let i = 0; i < 4; i++) rig.sendRequest(i);
  const seen = rig.kickAndSee("tx");
  const slot = 65534 % rig.tx.num;
  return {
    ...seen,
    used_ring_slot_of_first: slot,
    slot6_id: rig.tx.usedEntry(slot).id,
    rx_used_idx: rig.rx.usedIdx,
  };
}
