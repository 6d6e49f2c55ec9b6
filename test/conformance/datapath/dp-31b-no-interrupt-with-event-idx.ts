import type { Scene, Seen } from "../machine/index.js";
import { VsockRig, WITH_EVENT_IDX } from "../machine/vsock-rig.js";

export function run({ main }: Scene): Seen {
  const rig = new VsockRig(main, { features: WITH_EVENT_IDX });
  rig.tx.availFlags = 1;
  rig.tx.usedEvent = 0;
  rig.sendRequest();
  return rig.kickAndSee("tx");
}
