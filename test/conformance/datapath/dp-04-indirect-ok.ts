import type { Scene, Seen } from "../machine/index.js";
import { INDIRECT, NEXT, VsockRig, WITH_INDIRECT } from "../machine/vsock-rig.js";

export function run({ main }: Scene): Seen {
  const rig = new VsockRig(main, { features: WITH_INDIRECT });
  const addr = rig.packet();
  const table = rig.alloc(64);
  rig.tx.setDesc(0, { addr, len: 20, flags: NEXT, next: 1 }, table);
  rig.tx.setDesc(1, { addr: addr + 20, len: 24 }, table);
  rig.setTx({ addr: table, len: 32, flags: INDIRECT });
  rig.tx.publish(0);
  return { ...rig.kickAndSee("tx"), rx_used_idx: rig.rx.usedIdx };
}
