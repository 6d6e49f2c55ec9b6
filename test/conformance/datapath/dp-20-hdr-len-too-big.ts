import type { Scene, Seen } from "../machine/index.js";
import { HEADER_BYTES, kickRepairNext, VsockRig } from "../machine/vsock-rig.js";

export function run({ main }: Scene): Seen {
  const rig = new VsockRig(main);
  rig.setTx({ addr: rig.packet({ len: 100 }), len: HEADER_BYTES });
  return kickRepairNext(rig);
}
