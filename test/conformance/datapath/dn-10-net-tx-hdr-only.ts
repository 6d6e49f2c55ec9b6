import type { Scene, Seen } from "../machine/index.js";
import { kickRepairNext, NET_HEADER_BYTES, NetRig } from "../machine/net-rig.js";

export function run({ main }: Scene): Seen {
  const rig = new NetRig(main);
  rig.tx.setDesc(0, { addr: rig.packet(new Uint8Array(60)), len: NET_HEADER_BYTES });
  return kickRepairNext(rig);
}
