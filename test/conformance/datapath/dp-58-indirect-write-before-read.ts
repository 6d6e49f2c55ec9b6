import type { Scene, Seen } from "../machine/index.js";
import {
  HEADER_BYTES,
  INDIRECT,
  kickRepairNext,
  NEXT,
  VsockRig,
  WITH_INDIRECT,
  WRITE,
} from "../machine/vsock-rig.js";

export function run({ main }: Scene): Seen {
  const rig = new VsockRig(main, { features: WITH_INDIRECT });
  const table = rig.alloc(64);
  const first = { addr: rig.alloc(64), len: 64, flags: WRITE | NEXT, next: 1 };
  rig.tx.setDesc(0, first, table);
  rig.tx.setDesc(1, { addr: rig.packet(), len: HEADER_BYTES }, table);
  rig.setTx({ addr: table, len: 32, flags: INDIRECT });
  return kickRepairNext(rig);
}
