import { wholeMemory } from "../machine/descriptors.js";
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
  const len = 16 * 65537;
  const table = rig.alloc(len);
  const set_mem = rig.ioctl("VHOST_SET_MEM_TABLE", { regions: [wholeMemory(rig.memory)] });
  rig.tx.setDesc(0, { addr: rig.packet(), len: HEADER_BYTES }, table);
  rig.setTx({ addr: table, len, flags: INDIRECT });
  return { set_mem, ...kickRepairNext(rig) };
}
