import type { Scene, Seen } from "../machine/index.js";
import { HEADER_BYTES, kickRepairNext, NEXT, VsockRig, WRITE } from "../machine/vsock-rig.js";

export function run({ main }: Scene): Seen {
  const rig = new VsockRig(main);
  const first = { addr: rig.packet(), len: HEADER_BYTES, flags: NEXT, next: 1 };
  rig.setTx(first, { addr: rig.alloc(64), len: 64, flags: WRITE });
  return kickRepairNext(rig);
}
