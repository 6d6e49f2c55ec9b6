import type { Scene, Seen } from "../machine/index.js";
import { kickRepairNext, NetRig } from "../machine/net-rig.js";
import { NEXT } from "../machine/vsock-rig.js";

export function run({ main }: Scene): Seen {
  const rig = new NetRig(main);
  const addr = rig.packet(new Uint8Array(60));
  rig.tx.setDesc(0, { addr, len: 72, flags: NEXT, next: 1 });
  rig.tx.setDesc(1, { addr, len: 72, flags: NEXT, next: 0 });
  return kickRepairNext(rig);
}
