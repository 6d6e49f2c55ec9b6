import type { Scene, Seen } from "../machine/index.js";
import { VsockRig } from "../machine/vsock-rig.js";

export function run({ main }: Scene): Seen {
  const rig = new VsockRig(main, { rxBuffers: 0 });
  const { rx, tx } = rig;
  rig.sendRequest();
  rig.kick();
  const seen: Seen = {
    tx_used_idx: tx.usedIdx,
    rx_used_idx: rx.usedIdx,
    rx_used_flags: rx.usedFlags,
  };
  rig.postRx(0, 512);
  rig.lastAvail();
  seen.rx_used_idx_posted_no_kick = rx.usedIdx;
  rig.kick(rx);
  return { ...seen, rx_used_idx_after_kick: rx.usedIdx };
}
