import type { Scene, Seen } from "../machine/index.js";
import { NetRig } from "../machine/net-rig.js";

export function run({ main }: Scene): Seen {
  const rig = new NetRig(main);
  rig.postRx(0, 512, 0);
  rig.postRx(1, 512);
  rig.sendto(60);
  const seen = rig.seen("rx", 0);
  rig.kick(rig.rx);
  return {
    setup: rig.setup,
    ...seen,
    ...rig.seen("rx2", 0),
    used0_id: rig.rx.usedEntry(0).id,
  };
}
