import type { Scene, Seen } from "../machine/index.js";
import { VsockRig } from "../machine/vsock-rig.js";

export function run({ main }: Scene): Seen {
  const rig = new VsockRig(main, { num: 1, rxBuffers: 1 });
  rig.sendRequest();
  const seen: Seen = { ...rig.kickAndSee("p1"), rx_used_idx: rig.rx.usedIdx };
  rig.sendRequest();
  Object.assign(seen, rig.kickAndSee("p2"), { rx_used_idx_2: rig.rx.usedIdx });
  rig.sendRequest();
  return { ...seen, ...rig.kickAndSee("p3") };
}
