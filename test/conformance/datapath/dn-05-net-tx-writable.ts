import type { Scene, Seen } from "../machine/index.js";
import { kickRepairNext, NetRig } from "../machine/net-rig.js";
import { WRITE } from "../machine/vsock-rig.js";

export function run({ main }: Scene): Seen {
  const rig = new NetRig(main);
  rig.tx.setDesc(0, { addr: rig.packet(new Uint8Array(60)), len: 72, flags: WRITE });
  return kickRepairNext(rig);
}
