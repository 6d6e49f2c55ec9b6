import type { Scene, Seen } from "../machine/index.js";
import { VsockRig } from "../machine/vsock-rig.js";

export function run({ main }: Scene): Seen {
  const rig = new VsockRig(main, { isRunning: false });
  const { tx } = rig;
  tx.availIdx = 5;
  rig.must("VHOST_SET_VRING_BASE", { index: 1, num: 5 });
  const running = rig.ioctl("VHOST_VSOCK_SET_RUNNING", 1);
  rig.sendRequest();
  return {
    running,
    ...rig.kickAndSee("tx"),
    used_ring0_id: tx.usedEntry(0).id,
    used_ring5_len: tx.usedEntry(5).len,
  };
}
