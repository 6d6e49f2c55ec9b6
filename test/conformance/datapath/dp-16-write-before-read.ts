import type { Scene, Seen } from "../machine/index.js";
import { HEADER_BYTES, kickRepairNext, NEXT, VsockRig, WRITE } from "../machine/vsock-rig.js";

export function run({ main }: Scene): Seen {
  const rig = new VsockRig(main);
  const first = { addr: rig.alloc(HEADER_BYTES), len: HEADER_BYTES, flags: WRITE | NEXT, next: 1 };
  rig.setTx(first, { addr: rig.packet(), len: HEADER_BYTES });
  return kickRepairNext(rig);
}
