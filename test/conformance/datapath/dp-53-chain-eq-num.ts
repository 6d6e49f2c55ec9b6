import type { Scene, Seen } from "../machine/index.js";
import { NEXT, VsockRig } from "../machine/vsock-rig.js";

export function run({ main }: Scene): Seen {
  const rig = new VsockRig(main);
  const addr = rig.packet();
  const descs = [8, 8, 4, 4, 8, 4, 4, 4].map((len, index, all) => {
    const from = all.slice(0, index).reduce((sum, one) => sum + one, 0);
    const isLast = index === all.length - 1;
    return { addr: addr + from, len, flags: isLast ? 0 : NEXT, next: index + 1 };
  });
  rig.setTx(...descs);
  rig.tx.publish(0);
  return { ...rig.kickAndSee("tx"), rx_used_idx: rig.rx.usedIdx };
}
