import type { Scene, Seen } from "../machine/index.js";
import { HEADER_BYTES, kickRepairNext, VsockRig } from "../machine/vsock-rig.js";

export function run({ main }: Scene): Seen {
  const rig = new VsockRig(main);
  const len = 65536 + HEADER_BYTES + 1;
  rig.setTx({ addr: rig.packet({}, rig.alloc(len)), len });
  return kickRepairNext(rig);
}
