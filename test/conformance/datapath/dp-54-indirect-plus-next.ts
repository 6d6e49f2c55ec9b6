import type { Scene, Seen } from "../machine/index.js";
import { INDIRECT, kickRepairNext, NEXT, VsockRig, WITH_INDIRECT } from "../machine/vsock-rig.js";

export function run({ main }: Scene): Seen {
  const rig = new VsockRig(main, { features: WITH_INDIRECT });
  const addr = rig.packet();
  const table = rig.alloc(64);
  rig.tx.setDesc(0, { addr, len: 20 }, table);
  const first = { addr: table, len: 16, flags: INDIRECT | NEXT, next: 1 };
  rig.setTx(first, { addr: addr + 20, len: 24 });
  return kickRepairNext(rig);
}
