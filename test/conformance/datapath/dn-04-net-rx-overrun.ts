import type { Scene, Seen } from "../machine/index.js";
import { NetRig } from "../machine/net-rig.js";

export function run({ main }: Scene): Seen {
  const rig = new NetRig(main);
  rig.postRx(0, 40);
  return { setup: rig.setup, sendto: rig.sendto(100), ...rig.seen("rx", 0) };
}
