import type { Scene, Seen } from "../machine/index.js";
import { VsockRig } from "../machine/vsock-rig.js";

export function run({ main }: Scene): Seen {
  const rig = new VsockRig(main, { rxBuffers: 6 });
  const { tx } = rig;
  rig.sendRequest(0);
  tx.publish(200);
  rig.sendRequest(1);
  const seen = rig.kickAndSee("tx");
  tx.setSlot(1, 0);
  return { ...seen, ...rig.kickAndSee("fixed") };
}
