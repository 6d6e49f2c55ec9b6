import type { Scene, Seen } from "../machine/index.js";
import { HEADER_BYTES, kickRepairNext, VsockRig } from "../machine/vsock-rig.js";

export function run({ main }: Scene): Seen {
  const rig = new VsockRig(main);
  rig.setTx({ addr: 0xffff_ffff_ffff_fff0n, len: HEADER_BYTES });
  return kickRepairNext(rig);
}
