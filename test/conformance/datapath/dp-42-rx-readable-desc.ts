import type { Scene, Seen } from "../machine/index.js";
import { VsockRig } from "../machine/vsock-rig.js";

export function run({ main }: Scene): Seen {
  const rig = new VsockRig(main, { rxBuffers: 0 });
  const { rx } = rig;
  rig.postRx(0, 512, 0);
  rig.postRx(1, 512);
  rig.sendRequest();
  rig.kick();
  const seen: Seen = {
    rx_used_idx: rx.usedIdx,
    rx_err: rx.err.read(),
    rx_last_avail: rig.lastAvail(0),
  };
  rig.sendRequest();
  rig.kick();
  return { ...seen, rx_used_idx_2: rx.usedIdx, rx_used0_id: rx.usedEntry(0).id };
}
