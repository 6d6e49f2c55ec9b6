import type { Scene, Seen } from "../machine/index.js";
import {
  HEADER_BYTES,
  INDIRECT,
  kickRepairNext,
  VsockRig,
  WITH_INDIRECT,
} from "../machine/vsock-rig.js";

export function run({ main }: Scene): Seen {
  const rig = new VsockRig(main, { features: WITH_INDIRECT });
  const table = rig.alloc(64);
  rig.tx.setDesc(0, { addr: rig.packet(), len: HEADER_BYTES }, table);
  rig.setTx({ addr: table, len: 0, flags: INDIRECT });
  return kickRepairNext(rig);
}
