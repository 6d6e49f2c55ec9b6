import type { Scene, Seen } from "../machine/index.js";
import { VsockRig } from "../machine/vsock-rig.js";

export function run({ main }: Scene): Seen {
  const rig = new VsockRig(main, { rxBuffers: 6 });
  rig.sendRequest();
  const seen = rig.kickAndSee("p1");
  rig.tx.availIdx = 0;
  return { ...seen, ...rig.kickAndSee("back") };
}
