import type { Scene, Seen } from "../machine/index.js";
import { VsockRig } from "../machine/vsock-rig.js";

export function run({ main }: Scene): Seen {
  const rig = new VsockRig(main, { num: 1024, rxBuffers: 0 });
  rig.tx.add(600); // as they lie there they are from a CID of nobody's
  return rig.kickAndSee("tx");
}
