import type { Scene, Seen } from "../machine/index.js";
import { VsockRig } from "../machine/vsock-rig.js";

export function run({ main }: Scene): Seen {
  const rig = new VsockRig(main);
  rig.sendRequest();
  main.munmap(rig.tx.desc, 4096);
  return rig.kickAndSee("tx");
}
