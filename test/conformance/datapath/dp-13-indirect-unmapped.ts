import type { Scene, Seen } from "../machine/index.js";
import {
  INDIRECT,
  kickRepairNext,
  UNMAPPED,
  VsockRig,
  WITH_INDIRECT,
} from "../machine/vsock-rig.js";

export function run({ main }: Scene): Seen {
  const rig = new VsockRig(main, { features: WITH_INDIRECT });
  rig.setTx({ addr: UNMAPPED, len: 32, flags: INDIRECT });
  return kickRepairNext(rig);
}
