import type { Scene, Seen } from "../machine/index.js";
import { VsockRig } from "../machine/vsock-rig.js";

export function run({ main }: Scene): Seen {
  const rig = new VsockRig(main);
  rig.tx.availFlags = 1;
  rig.sendRequest();
  const seen = rig.kickAndSee("tx");
  rig.tx.availFlags = 0;
  rig.sendRequest();
  return { ...seen, ...rig.kickAndSee("tx2") };
}
