import type { Scene, Seen } from "../machine/index.js";
import { VsockRig } from "../machine/vsock-rig.js";

export function run({ main }: Scene): Seen {
  const rig = new VsockRig(main, { rxBuffers: 6 });
  const { tx } = rig;
  rig.sendRequest();
  main.sleep(0.1);
  rig.lastAvail();
  const used_no_kick = tx.usedIdx;
  const write0 = tx.kick.write(0n);
  rig.lastAvail();
  const used_after_write0 = tx.usedIdx;
  rig.kick();
  return { used_no_kick, write0, used_after_write0, used_after_kick: tx.usedIdx };
}
