import type { Scene, Seen } from "../machine/index.js";
import { kickRepairNext, VsockRig } from "../machine/vsock-rig.js";

export function run({ main }: Scene): Seen {
  const rig = new VsockRig(main);
  return kickRepairNext(rig, 9);
}
