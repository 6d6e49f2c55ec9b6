import type { Scene, Seen } from "../machine/index.js";
import { HEADER_BYTES, kickRepairNext, NEXT, VsockRig } from "../machine/vsock-rig.js";

export function run({ main }: Scene): Seen {
  const rig = new VsockRig(main);
  const addr = rig.packet();
  const first = { addr, len: HEADER_BYTES, flags: NEXT, next: 1 };
  rig.setTx(first, { ...first, next: 0 });
  return kickRepairNext(rig);
}
