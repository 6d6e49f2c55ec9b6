import type { Scene, Seen } from "../machine/index.js";
import { kickRepairNext, NetRig } from "../machine/net-rig.js";

export function run({ main }: Scene): Seen {
  const rig = new NetRig(main);
  rig.tx.setDesc(0, { addr: rig.packet(new Uint8Array(60)), len: 8 });
  return kickRepairNext(rig);
}
