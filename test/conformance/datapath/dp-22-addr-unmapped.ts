import type { Scene, Seen } from "../machine/index.js";
import { HEADER_BYTES, kickRepairNext, UNMAPPED, VsockRig } from "../machine/vsock-rig.js";

export function run({ main }: Scene): Seen {
  const rig = new VsockRig(main);
  rig.setTx({ addr: UNMAPPED, len: HEADER_BYTES });
  return kickRepairNext(rig);
}
