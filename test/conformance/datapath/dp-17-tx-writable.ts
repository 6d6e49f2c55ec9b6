import type { Scene, Seen } from "../machine/index.js";
import { HEADER_BYTES, kickRepairNext, VsockRig, WRITE } from "../machine/vsock-rig.js";

export function run({ main }: Scene): Seen {
  const rig = new VsockRig(main);
  rig.setTx({ addr: rig.packet(), len: HEADER_BYTES, flags: WRITE });
  return kickRepairNext(rig);
}
