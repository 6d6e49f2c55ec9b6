import type { Scene, Seen } from "../machine/index.js";
import { VsockRig } from "../machine/vsock-rig.js";

export function run({ main }: Scene): Seen {
  const rig = new VsockRig(main);
  rig.sendRequest();
  main.mprotectRead(rig.tx.used, 4096);
  return { ...rig.kickAndSee("tx"), rx_used_idx: rig.rx.usedIdx };
}
