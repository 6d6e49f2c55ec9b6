import type { Scene, Seen } from "../machine/index.js";
import { kickRepairNext, VsockRig } from "../machine/vsock-rig.js";

export function run({ main }: Scene): Seen {
  const rig = new VsockRig(main);
  rig.setTx({ addr: rig.packet(), len: 20 });
  return kickRepairNext(rig);
}
