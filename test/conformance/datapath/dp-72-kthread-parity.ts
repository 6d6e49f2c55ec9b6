import type { Scene, Seen } from "../machine/index.js";
import { VsockRig } from "../machine/vsock-rig.js";

export function run({ main }: Scene): Seen {
  const rig = new VsockRig(main, { forkFromOwner: 0 });
  rig.sendRequest();
  const seen = rig.kickAndSee("tx");
  const rx_used_idx = rig.rx.usedIdx;
  rig.tx.publish(99);
  const both = { kthread_mode: "OK", running: "OK" }; // or there were no rig
  return { ...both, ...seen, rx_used_idx, ...rig.kickAndSee("bad") };
}
